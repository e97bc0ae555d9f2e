//! What a container may do: capabilities, security options, namespaces that it shares.

use anyhow::{Context, Result};

use super::bad;
use crate::cli::complete::Kind;
use crate::container::{ids, spec};
use crate::error::{Failure, exit};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Isolation")]
pub struct SecurityOptions {
    /// Give all capabilities, all devices, and no confinement
    #[arg(long)]
    privileged: bool,
    /// Capabilities to add (NET_ADMIN, ALL)
    #[arg(long, value_name = "list", add = Kind::Capabilities)]
    cap_add: Vec<String>,
    /// Capabilities to take away (NET_RAW, ALL)
    #[arg(long, value_name = "list", add = Kind::Capabilities)]
    cap_drop: Vec<String>,
    /// seccomp=FILE|unconfined, no-new-privileges, apparmor=…, label=…, systempaths=unconfined,
    /// mask=PATHS, unmask=PATHS|ALL, proc-opts=…, writable-cgroups
    #[arg(long, value_name = "option", add = Kind::Words(&["apparmor=", "label=", "mask=", "no-new-privileges",
        "proc-opts=", "seccomp=unconfined", "systempaths=unconfined", "unmask=", "writable-cgroups"]))]
    security_opt: Vec<String>,
    /// User namespace: host, keep-id[:uid=,gid=,size=], auto[:size=,uidmapping=,gidmapping=], nomap
    #[arg(long, value_name = "mode", add = Kind::Words(&["auto", "host", "keep-id", "nomap"]))]
    userns: Option<String>,
    /// Process namespace: host, container:NAME, or a new one
    #[arg(long, value_name = "mode", add = Kind::Modes(&["host"]))]
    pid: Option<String>,
    /// Shared memory and semaphores: private, shareable, none, host, container:NAME
    #[arg(long, value_name = "mode", add = Kind::Modes(&["host", "none", "private", "shareable"]))]
    ipc: Option<String>,
    /// Host name: host, or its own
    #[arg(long, value_name = "mode", add = Kind::Words(&["host"]))]
    uts: Option<String>,
    /// View of the cgroups: private, host
    #[arg(long, value_name = "mode", add = Kind::Words(&["host", "private"]))]
    cgroupns: Option<String>,
    /// Kernel parameters of the container's namespaces (net.ipv4.ip_forward=1)
    #[arg(long, value_name = "name=value", value_parser = sysctl)]
    sysctl: Vec<(String, String)>,
}

/// What came of [`SecurityOptions`], in the fields of `HostConfig`.
pub struct Checked {
    pub privileged: bool,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub security_opt: Vec<String>,
    pub userns_mode: String,
    pub pid_mode: String,
    pub ipc_mode: String,
    pub uts_mode: String,
    pub cgroupns_mode: String,
    pub sysctls: Vec<(String, String)>,
    /// As in `HostConfig`.
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
    pub proc_options: String,
    pub writable_cgroups: bool,
}

impl SecurityOptions {
    /// # Errors
    /// Unknown capabilities, modes and options; a seccomp profile that cannot be read.
    pub fn check(self) -> Result<Checked> {
        let mut security_opt = Vec::new();
        let mut paths = SystemPaths { open: self.privileged, ..SystemPaths::default() };
        let (mut proc_options, mut writable_cgroups) = (String::new(), false);
        for text in &self.security_opt {
            match SecurityOpt::parse(text)? {
                SecurityOpt::OpenSystemPaths => paths.open = true,
                SecurityOpt::Mask(list) => paths.masked.extend(list),
                SecurityOpt::Unmask(list) => paths.unmasked.extend(list),
                SecurityOpt::ProcOptions(options) => proc_options = options,
                SecurityOpt::WritableCgroups(yes) => writable_cgroups = yes,
                SecurityOpt::NewPrivileges(may) => {
                    security_opt.retain(|option| option != NO_NEW_PRIVILEGES);
                    security_opt.extend((!may).then(|| NO_NEW_PRIVILEGES.to_owned()));
                }
                SecurityOpt::Kept(option) => security_opt.push(option),
                SecurityOpt::Nothing => {}
            }
        }
        let (masked_paths, readonly_paths) = paths.lists();
        let pid_mode = mode("pid", "PID", self.pid, &["host"])?;
        let ipc_mode = mode("ipc", "IPC", self.ipc, &["private", "shareable", "none", "host"])?;
        let uts_mode = mode("uts", "UTS", self.uts, &["host"])?;
        for (name, _) in &self.sysctl {
            // A parameter of a namespace that is the host's would be the host's.
            if ipc_mode == "host" && !name.starts_with("net.") {
                return bad(format!("sysctl {name:?} not allowed in host ipc namespace"));
            }
        }
        Ok(Checked {
            privileged: self.privileged,
            cap_add: capabilities("CapAdd", &self.cap_add)?,
            cap_drop: capabilities("CapDrop", &self.cap_drop)?,
            security_opt,
            userns_mode: userns(self.userns.unwrap_or_default())?,
            pid_mode,
            ipc_mode,
            uts_mode,
            cgroupns_mode: mode("cgroupns", "CGROUP", self.cgroupns, &["private", "host"])?,
            sysctls: self.sysctl,
            masked_paths,
            readonly_paths,
            proc_options,
            writable_cgroups,
        })
    }
}

fn mode(option: &str, kind: &str, value: Option<String>, known: &[&str]) -> Result<String> {
    let value = value.unwrap_or_default();
    if value.is_empty() || known.contains(&value.as_str()) {
        return Ok(value);
    }
    match value.strip_prefix("container:") {
        Some(name) if !name.is_empty() && matches!(option, "pid" | "ipc") => Ok(value),
        _ => bad(format!("--{option}: invalid {kind} mode")),
    }
}

fn userns(text: String) -> Result<String> {
    text.parse::<ids::Mode>()?;
    Ok(text)
}

/// What `mask` and `unmask` make of the lists of paths that are hidden or read-only.
#[derive(Debug, Default)]
struct SystemPaths {
    open: bool,
    masked: Vec<String>,
    unmasked: Vec<String>,
}

impl SystemPaths {
    /// Hidden and read-only ones, for `HostConfig`.
    fn lists(self) -> (Option<Vec<String>>, Option<Vec<String>>) {
        if !self.open && self.masked.is_empty() && self.unmasked.is_empty() {
            return (None, None);
        }
        let kept = |paths: &[&str]| -> Vec<String> {
            if self.open {
                return Vec::new();
            }
            let is_kept = |path: &&&str| !self.unmasked.iter().any(|pattern| glob(pattern, path));
            paths.iter().filter(is_kept).map(|&path| path.to_owned()).collect()
        };
        let mut masked = kept(spec::MASKED_PATHS);
        let readonly = kept(spec::READONLY_PATHS);
        masked.extend(self.masked);
        (Some(masked), Some(readonly))
    }
}

/// A shell's pattern (`*`, `?`), in which neither stands for a slash.
fn glob(pattern: &str, path: &str) -> bool {
    let mut letters = pattern.chars();
    match letters.next() {
        None => path.is_empty(),
        Some('*') => {
            let end = path.find('/').unwrap_or(path.len());
            (0..=end).filter_map(|at| path.get(at..)).any(|rest| glob(letters.as_str(), rest))
        }
        Some(c) => {
            let mut others = path.chars();
            let same = others.next().is_some_and(|other| other == c || (c == '?' && other != '/'));
            same && glob(letters.as_str(), others.as_str())
        }
    }
}

/// Names with `CAP_`, in capitals, each once; `ALL` as it is.
fn capabilities(field: &str, given: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for name in given.iter().flat_map(|list| list.split(',')) {
        let upper = name.trim().to_ascii_uppercase();
        let full = match upper.as_str() {
            "ALL" => upper,
            _ if upper.starts_with("CAP_") => upper,
            _ => format!("CAP_{upper}"),
        };
        if full != "ALL" && full.parse::<caps::Capability>().is_err() {
            return bad(format!("invalid {field}: unknown capability: {full:?}"));
        }
        if !all.contains(&full) {
            all.push(full);
        }
    }
    // Docker's order.
    all.sort_by(|a, b| (a != "ALL", a).cmp(&(b != "ALL", b)));
    Ok(all)
}

/// As `HostConfig.SecurityOpt` has it.
const NO_NEW_PRIVILEGES: &str = "no-new-privileges";

#[derive(Debug, PartialEq, Eq)]
enum SecurityOpt {
    OpenSystemPaths,
    Mask(Vec<String>),
    Unmask(Vec<String>),
    ProcOptions(String),
    WritableCgroups(bool),
    /// The last one counts.
    NewPrivileges(bool),
    /// For `HostConfig.SecurityOpt`, as `name=value`.
    Kept(String),
    Nothing,
}

impl SecurityOpt {
    fn parse(text: &str) -> Result<Self> {
        // Docker took a colon before it took the equals sign, and takes it still.
        let (name, value) = match text.split_once('=').or_else(|| text.split_once(':')) {
            Some((name, value)) => (name, value),
            None if text == "no-new-privileges" => (text, "true"),
            None if text == "writable-cgroups" => (text, "true"),
            None => return bad(format!("Invalid --security-opt: {text:?}")),
        };
        let paths = |value: &str| -> Result<Vec<String>> {
            let paths: Vec<String> = value.split(':').map(str::to_owned).collect();
            if paths.iter().all(|path| path.starts_with('/')) {
                return Ok(paths);
            }
            bad(format!("invalid --security-opt: {text:?}: paths begin with a slash"))
        };
        Ok(match (name, value) {
            ("no-new-privileges", value) => match super::boolean(value) {
                Ok(none) => Self::NewPrivileges(!none),
                Err(_) => return bad(format!("invalid --security-opt: {text:?}")),
            },
            ("systempaths", "unconfined") => Self::OpenSystemPaths,
            ("unmask", value) if value.eq_ignore_ascii_case("all") => Self::OpenSystemPaths,
            ("seccomp", "builtin") => Self::Nothing,
            ("seccomp", "unconfined") => Self::Kept("seccomp=unconfined".into()),
            ("seccomp", file) => Self::Kept(format!("seccomp={}", profile(file)?)),
            ("apparmor" | "label", value) => Self::Kept(format!("{name}={value}")),
            ("mask", value) => Self::Mask(paths(value)?),
            ("unmask", value) => Self::Unmask(paths(value)?),
            ("proc-opts", value) if !value.is_empty() => Self::ProcOptions(value.to_owned()),
            ("writable-cgroups", value) => match super::boolean(value) {
                Ok(yes) => Self::WritableCgroups(yes),
                Err(_) => return bad(format!("invalid --security-opt: {text:?}")),
            },
            ("credentialspec", _) => return bad("--security-opt credentialspec is for containers of Windows"),
            _ => return bad(format!("invalid --security-opt: {text:?}")),
        })
    }
}

/// A seccomp profile's JSON on one line.
fn profile(file: &str) -> Result<String> {
    let failed = |what: &str| Failure::new(format!("{what} seccomp profile ({file}) failed")).exit(exit::ENGINE);
    let opened = std::fs::read(file).with_context(|| format!("open {file}"));
    let text = opened.map_err(|e| failed("opening").source(e))?;
    let json: serde_json::Value = serde_json::from_slice(&text).map_err(|e| failed("parsing").source(e))?;
    Ok(json.to_string())
}

/// `name=value`, of a parameter that has a namespace.
fn sysctl(text: &str) -> Result<(String, String), String> {
    const KERNEL: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let not_allowed = || format!("sysctl '{text}' is not allowed");
    let (name, value) = text.split_once('=').ok_or_else(not_allowed)?;
    // A path in disguise would leave the namespaced part of /proc/sys.
    let is_plain = name.split('.').all(|word| !word.is_empty() && !word.contains("/.."));
    let namespaced = KERNEL.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.");
    if namespaced && is_plain { Ok((name.to_owned(), value.to_owned())) } else { Err(not_allowed()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_one_spelling() {
        let given = ["net_admin".to_owned(), "CAP_SYS_TIME,NET_ADMIN".to_owned(), "all".to_owned()];
        assert_eq!(capabilities("CapAdd", &given).unwrap(), ["ALL", "CAP_NET_ADMIN", "CAP_SYS_TIME"]);
        let message = capabilities("CapDrop", &["foo".to_owned()]).unwrap_err().to_string();
        assert_eq!(message, "invalid CapDrop: unknown capability: \"CAP_FOO\"");
    }

    #[test]
    fn security_options() {
        let kept = |text: &str| SecurityOpt::Kept(text.into());
        let cases = [
            ("no-new-privileges", SecurityOpt::NewPrivileges(false)),
            ("no-new-privileges:true", SecurityOpt::NewPrivileges(false)),
            ("no-new-privileges=false", SecurityOpt::NewPrivileges(true)),
            ("seccomp=unconfined", kept("seccomp=unconfined")),
            ("seccomp:unconfined", kept("seccomp=unconfined")),
            ("label:disable", kept("label=disable")),
            ("apparmor=x", kept("apparmor=x")),
            ("systempaths=unconfined", SecurityOpt::OpenSystemPaths),
        ];
        for (text, expected) in cases {
            assert_eq!(SecurityOpt::parse(text).unwrap(), expected, "{text}");
        }
        assert_eq!(SecurityOpt::parse("foo").unwrap_err().to_string(), "Invalid --security-opt: \"foo\"");
        assert!(SecurityOpt::parse("seccomp=/none").unwrap_err().to_string().starts_with("opening seccomp profile"));
    }

    #[test]
    fn sysctls_have_namespaces() {
        assert_eq!(sysctl("net.core.somaxconn=5"), Ok(("net.core.somaxconn".into(), "5".into())));
        assert_eq!(sysctl("kernel.panic=1"), Err("sysctl 'kernel.panic=1' is not allowed".into()));
        assert!(sysctl("net../../kernel/panic=1").is_err());
        assert!(sysctl("a").is_err());
    }

    #[test]
    fn modes() {
        assert_eq!(mode("pid", "PID", Some("host".into()), &["host"]).unwrap(), "host");
        let message = |mode: Result<String>| mode.unwrap_err().to_string();
        assert_eq!(message(mode("pid", "PID", Some("x".into()), &["host"])), "--pid: invalid PID mode");
        assert_eq!(mode("ipc", "IPC", Some("container:x".into()), &["host"]).unwrap(), "container:x");
        assert_eq!(message(mode("uts", "UTS", Some("container:x".into()), &["host"])), "--uts: invalid UTS mode");
    }

    #[test]
    fn hidden_paths_are_a_list_to_be_changed() {
        let lists = |masked: &[&str], unmasked: &[&str]| {
            let own = |list: &[&str]| list.iter().map(|&path| path.to_owned()).collect();
            SystemPaths { open: false, masked: own(masked), unmasked: own(unmasked) }.lists()
        };
        assert_eq!(lists(&[], &[]), (None, None));
        let (masked, readonly) = lists(&["/etc/x"], &["/proc/*"]);
        assert_eq!(masked.unwrap(), ["/sys/devices/virtual/powercap", "/sys/firmware", "/etc/x"]);
        assert_eq!(readonly.unwrap(), [""; 0]);
        for (pattern, path, is) in [
            ("/proc/*", "/proc/kcore", true),
            ("/proc/*", "/proc/a/b", false),
            ("/*/a*", "/proc/asound", true),
            ("/proc/k?ys", "/proc/keys", true),
            ("/proc", "/proc/keys", false),
            ("/proc*", "/proc", true),
        ] {
            assert_eq!(glob(pattern, path), is, "{pattern} {path}");
        }
    }
}
