//! `ctr info`.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::Result;
use nix::sys::utsname::uname;
use serde_json::{Value, json};

use crate::cli::output::{template, units};
use crate::cli::{Globals, Run, output, version};
use crate::container::inspect;
use crate::container::list::{self, Status};
use crate::image::index::Index;
use crate::runtime::cgroup;
use crate::store::Store;
use crate::userns;

/// Show what ctr found on this machine
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr info
  ctr info -f '{{.Driver}} {{.CgroupVersion}}'")]
pub struct Info {
    /// json, or a Go template
    #[arg(short, long, value_name = "format")]
    format: Option<String>,
}

impl Run for Info {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let known = known(&store)?;
        if let Some(source) = self.format.as_deref().filter(|format| !format.is_empty()) {
            return template::print(source, "info", &known);
        }
        output::print(&plain(&known));
        for warning in known["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            output::say(warning);
        }
        Ok(0)
    }
}

/// Docker's names ("Get system information", v1.48) where it has them.
fn known(store: &Store) -> Result<Value> {
    let containers = list::all(store, |_, _| {})?;
    let count = |status| containers.iter().filter(|container| container.status() == status).count();
    let mut images: Vec<_> = Index::read(store)?.entries.iter().map(|entry| entry.image.to_string()).collect();
    images.sort_unstable();
    images.dedup();
    let system = uname()?;
    let rootless = !userns::is_host_root();
    let cgroups = cgroup::facts();
    let mut security = vec!["name=seccomp,profile=builtin"];
    if fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.starts_with('Y')) {
        security.insert(0, "name=apparmor");
    }
    if Path::new("/sys/fs/selinux/enforce").exists() {
        security.push("name=selinux");
    }
    if rootless {
        security.push("name=rootless");
    }
    let has = |controller: &str| cgroups.controllers.iter().any(|own| own == controller);
    let environment = |name: &str| {
        let value = [name.to_lowercase(), name.to_uppercase()].into_iter().find_map(|name| std::env::var(name).ok());
        value.unwrap_or_default()
    };
    let warnings: Vec<String> =
        cgroups.without.iter().map(|why| format!("WARNING: No resource limits: {why}")).collect();
    let version = env!("CARGO_PKG_VERSION");
    // In two parts: serde_json's macro goes only so deep.
    let mut known = json!({
        "ID": "",
        "Containers": containers.len(),
        "ContainersRunning": count(Status::Running),
        "ContainersPaused": count(Status::Paused),
        "ContainersStopped": count(Status::Created) + count(Status::Exited),
        "Images": images.len(),
        "Driver": inspect::DRIVER,
        "DriverStatus": [
            ["Backing Filesystem", file_system(store.root())],
            ["Supports d_type", "true"],
            ["Using metacopy", "false"],
            ["userxattr", rootless.to_string()],
        ],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "none", "pasta"],
            "Authorization": null,
            "Log": ["journald", "json-file", "local", "none"],
        },
        "MemoryLimit": has("memory"),
        "SwapLimit": has("memory"),
        "CpuCfsPeriod": has("cpu"),
        "CpuCfsQuota": has("cpu"),
        "CPUShares": has("cpu"),
        "CPUSet": has("cpuset"),
        "PidsLimit": has("pids"),
        "IPv4Forwarding": fs::read("/proc/sys/net/ipv4/ip_forward").is_ok_and(|on| on.starts_with(b"1")),
        "Debug": false,
        "NFd": 0,
        "OomKillDisable": cgroups.version == 1 && has("memory"),
        "NGoroutines": 0,
        "SystemTime": jiff::Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%.f%:z").to_string(),
        "LoggingDriver": "json-file",
        "CgroupDriver": cgroups.driver,
        "CgroupVersion": if cgroups.version == 0 { "none".to_owned() } else { cgroups.version.to_string() },
        "NEventsListener": 0,
        "KernelVersion": system.release().to_string_lossy(),
        "OperatingSystem": of_the_system("PRETTY_NAME").unwrap_or_else(|| "Linux".into()),
        "OSVersion": of_the_system("VERSION_ID").unwrap_or_default(),
    });
    let more = json!({
        "OSType": "linux",
        "Architecture": system.machine().to_string_lossy(),
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": [],
            "IndexConfigs": {
                "docker.io": { "Name": "docker.io", "Mirrors": [], "Secure": true, "Official": true },
            },
            "Mirrors": null,
        },
        "NCPU": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "MemTotal": memory(),
        "GenericResources": null,
        "DockerRootDir": store.root().to_string_lossy(),
        "HttpProxy": environment("http_proxy"),
        "HttpsProxy": environment("https_proxy"),
        "NoProxy": environment("no_proxy"),
        "Name": system.nodename().to_string_lossy(),
        "Labels": [],
        "ExperimentalBuild": false,
        "ServerVersion": version,
        "Runtimes": { "ctr": { "path": "ctr" } },
        "DefaultRuntime": "ctr",
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": false,
            "Error": "",
            "RemoteManagers": null,
        },
        // Containers need no daemon to stay.
        "LiveRestoreEnabled": true,
        "Isolation": "",
        "InitBinary": "ctr-init",
        "ContainerdCommit": { "ID": "" },
        "RuncCommit": { "ID": "" },
        "InitCommit": { "ID": "" },
        "SecurityOptions": security,
        "CDISpecDirs": [],
        "Warnings": if warnings.is_empty() { Value::Null } else { json!(warnings) },
        "ClientInfo": {
            "Debug": false,
            "Version": version,
            "DefaultAPIVersion": version::API,
            "GitCommit": "",
            "GoVersion": "",
            "Os": "linux",
            "Arch": version::architecture(),
            "BuildTime": "",
            "Context": "default",
            "Plugins": [],
            "Warnings": null,
        },
        // Not Docker's.
        "RunRoot": store.run().to_string_lossy(),
        "Rootless": rootless,
        "Platform": format!("linux/{}", version::architecture()),
    });
    if let (Value::Object(known), Value::Object(more)) = (&mut known, more) {
        known.extend(more);
    }
    Ok(known)
}

/// The file system below the storage root, in Docker's names.
fn file_system(root: &Path) -> String {
    let magic = nix::sys::statfs::statfs(root).map_or(0, |fs| fs.filesystem_type().0);
    match magic {
        0xEF53 => "extfs".into(),
        0x5846_5342 => "xfs".into(),
        0x9123_683E => "btrfs".into(),
        0x0102_1994 => "tmpfs".into(),
        0x794C_7630 => "overlayfs".into(),
        0x2FC1_2FC1 => "zfs".into(),
        0xF2F5_2010 => "f2fs".into(),
        0x6969 => "nfs".into(),
        other => format!("{other:#x}"),
    }
}

/// A value of os-release(5).
fn of_the_system(name: &str) -> Option<String> {
    let read = |path| fs::read_to_string(path).ok();
    let text = read("/etc/os-release").or_else(|| read("/usr/lib/os-release"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

/// Bytes: proc_meminfo(5).
fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() * 1024
}

/// Docker's lines, without those that only a daemon has an answer for.
fn plain(known: &Value) -> String {
    let show = |name: &str| match &known[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let words =
        |of: &Value| of.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    let mut text = format!(
        "Client:\n Version:    {}\n Context:    default\n Debug Mode: false\n\nServer:\n",
        show("ServerVersion")
    );
    let mut line = |indent: usize, name: &str, value: &str| {
        text.push_str(&format!("{:indent$}{name}: {value}", "").trim_end().replace('\n', " "));
        text.push('\n');
    };
    line(1, "Containers", &show("Containers"));
    line(2, "Running", &show("ContainersRunning"));
    line(2, "Paused", &show("ContainersPaused"));
    line(2, "Stopped", &show("ContainersStopped"));
    line(1, "Images", &show("Images"));
    line(1, "Server Version", &show("ServerVersion"));
    line(1, "Storage Driver", &show("Driver"));
    for pair in known["DriverStatus"].as_array().into_iter().flatten() {
        line(2, pair[0].as_str().unwrap_or_default(), pair[1].as_str().unwrap_or_default());
    }
    line(1, "Logging Driver", &show("LoggingDriver"));
    line(1, "Cgroup Driver", &show("CgroupDriver"));
    line(1, "Cgroup Version", &show("CgroupVersion"));
    line(1, "Plugins", "");
    for kind in ["Volume", "Network", "Log"] {
        line(2, kind, &words(&known["Plugins"][kind]));
    }
    line(1, "Swarm", "inactive");
    line(1, "Runtimes", "ctr");
    line(1, "Default Runtime", "ctr");
    line(1, "Init Binary", &show("InitBinary"));
    line(1, "Security Options", "");
    // `name=seccomp,profile=builtin`.
    for option in known["SecurityOptions"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let mut parts = option.split(',').filter_map(|part| part.split_once('='));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {}", parts.next().map_or(option, |(_, name)| name));
        for (key, value) in parts {
            let mut letters = key.chars();
            let key: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
            let _ = writeln!(text, "   {key}: {value}");
        }
    }
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, " {name}: {value}");
    };
    line("Kernel Version", &show("KernelVersion"));
    line("Operating System", &show("OperatingSystem"));
    line("OSType", "linux");
    line("Architecture", &show("Architecture"));
    line("CPUs", &show("NCPU"));
    line("Total Memory", &units::binary_size(known["MemTotal"].as_u64().unwrap_or_default()));
    line("Name", &show("Name"));
    line("Docker Root Dir", &show("DockerRootDir"));
    line("Run Root", &show("RunRoot"));
    line("Debug Mode", "false");
    for (proxy, name) in [("HttpProxy", "HTTP Proxy"), ("HttpsProxy", "HTTPS Proxy"), ("NoProxy", "No Proxy")] {
        if known[proxy] != "" {
            line(name, &show(proxy));
        }
    }
    line("Experimental", "false");
    line("Live Restore Enabled", "true");
    text + "\n"
}
