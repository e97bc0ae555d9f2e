//! `ctr info`.

use std::fs;
use std::path::Path;

use anyhow::Result;
use nix::sys::utsname::uname;
use serde_json::{Value, json};

use crate::cli::output::{template, units};
use crate::cli::{Globals, Run, output, version};
use crate::container::list::{self, Status};
use crate::image::index::Index;
use crate::runtime::cgroup;
use crate::store::Store;
use crate::userns;

/// Show what ctr found on this machine
#[derive(Debug, clap::Parser)]
pub struct Info {
    /// json, or a Go template
    #[arg(short, long, value_name = "format")]
    format: Option<String>,
}

impl Run for Info {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let known = known(&store)?;
        let text = match self.format.as_deref().filter(|format| !format.is_empty()) {
            Some(source) => template::render(source, &known)?,
            None => plain(&known),
        };
        output::print(&text);
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
    Ok(json!({
        "ID": "",
        "Containers": containers.len(),
        "ContainersRunning": count(Status::Running),
        "ContainersPaused": 0,
        "ContainersStopped": count(Status::Created) + count(Status::Exited),
        "Images": images.len(),
        "Driver": "overlay",
        "DockerRootDir": store.root().to_string_lossy(),
        "RunRoot": store.run().to_string_lossy(),
        "LoggingDriver": "json-file",
        "Plugins": { "Log": ["journald", "json-file", "local", "none"], "Network": ["host", "none"] },
        "CgroupDriver": cgroups.driver,
        "CgroupVersion": if cgroups.version == 0 { "none".to_owned() } else { cgroups.version.to_string() },
        "SecurityOptions": security,
        "Rootless": rootless,
        "KernelVersion": system.release().to_string_lossy(),
        "OperatingSystem": operating_system(),
        "OSType": "linux",
        "Architecture": system.machine().to_string_lossy(),
        "Platform": format!("linux/{}", version::architecture()),
        "NCPU": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "MemTotal": memory(),
        "Name": system.nodename().to_string_lossy(),
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "DefaultRuntime": "ctr",
        "IndexServerAddress": "https://index.docker.io/v1/",
        "Warnings": null,
    }))
}

/// os-release(5).
fn operating_system() -> String {
    let read = |path| fs::read_to_string(path).ok();
    let text = read("/etc/os-release").or_else(|| read("/usr/lib/os-release")).unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or("Linux", |name| name.trim_matches('"')).to_owned()
}

/// Bytes: proc_meminfo(5).
fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() * 1024
}

fn plain(known: &Value) -> String {
    let show = |name: &str| match &known[name] {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    let lines = [
        ("Containers", show("Containers")),
        (" Running", show("ContainersRunning")),
        (" Stopped", show("ContainersStopped")),
        ("Images", show("Images")),
        ("Version", show("ServerVersion")),
        ("Storage driver", show("Driver")),
        ("Storage root", show("DockerRootDir")),
        ("Run root", show("RunRoot")),
        ("Rootless", show("Rootless")),
        ("Cgroup driver", show("CgroupDriver")),
        ("Cgroup version", show("CgroupVersion")),
        ("Security options", show("SecurityOptions")),
        ("Kernel version", show("KernelVersion")),
        ("Operating system", show("OperatingSystem")),
        ("Architecture", show("Architecture")),
        ("CPUs", show("NCPU")),
        ("Total memory", units::binary_size(known["MemTotal"].as_u64().unwrap_or_default())),
        ("Name", show("Name")),
    ];
    lines.each_ref().map(|(name, value)| format!("{name}: {value}\n")).concat()
}
