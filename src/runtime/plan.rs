//! A spec, checked: what is wrong with it is said here, before anything is made. What the child
//! gets is plain data in the shapes that the system calls take.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use oci_spec::runtime::{
    Capabilities as CapabilitySet, Linux, LinuxDevice, LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType, Process,
    Spec,
};

use super::{Further, Maker, Root, Stdio, mounts, mounts::Kind, mounts::Mount};
use crate::error::Failure;
use crate::sys::credentials::Sets;

/// All that a container's first process is made from.
#[derive(Debug)]
pub struct Plan {
    pub namespaces: Namespaces,
    /// Contents of uid_map and gid_map, where a user namespace is made.
    pub uid_map: String,
    pub gid_map: String,
    pub root: Root,
    pub maker: Maker,
    /// Lines for etc/passwd and etc/group.
    pub passwd: Vec<String>,
    pub group: Vec<String>,
    pub read_only_root: bool,
    pub directories: Vec<PathBuf>,
    pub secrets: Vec<super::Secret>,
    /// Of the host's whole tree, before anything is mounted.
    pub propagation: MsFlags,
    /// Of the container's, when all is mounted; empty: as it is.
    pub root_propagation: MsFlags,
    /// Overlay keeps its marks in `user.` attributes: this is not the initial user namespace.
    pub user_xattr: bool,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub masked: Vec<PathBuf>,
    pub read_only: Vec<PathBuf>,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    /// Files below /proc/sys and what is written to them.
    pub sysctls: BTreeMap<String, String>,
    /// For the parent to set.
    pub oom_score_adj: Option<i32>,
    pub program: Program,
}

/// The namespaces of the container.
#[derive(Debug)]
pub struct Namespaces {
    /// To be made.
    pub new: CloneFlags,
    /// To be joined, the user namespace first: it gives the right to join the others.
    pub joined: Vec<Joined>,
    /// Lines for timens_offsets; empty: the host's clocks.
    pub time_offsets: String,
}

#[derive(Debug)]
pub struct Joined {
    pub namespace: OwnedFd,
    pub kind: CloneFlags,
    pub path: PathBuf,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub path: PathBuf,
    /// With the type's bits.
    pub mode: u32,
    pub major: u64,
    pub minor: u64,
    pub uid: u32,
    pub gid: u32,
}

/// What a process in the container runs, and as whom. The first process and each `exec` have one.
#[derive(Debug)]
pub struct Program {
    /// Never empty.
    pub argv: Vec<CString>,
    pub env: Vec<CString>,
    /// The value of PATH in `env`.
    pub search: String,
    pub has_home: bool,
    pub cwd: PathBuf,
    pub identity: Identity,
    /// Names or numbers.
    pub groups: Vec<String>,
    pub umask: u32,
    pub capabilities: Capabilities,
    pub no_new_privileges: bool,
    pub limits: Vec<Limit>,
    pub apparmor: Option<String>,
    pub seccomp: Option<Vec<u8>>,
    pub stdio: Stdio,
    /// As in [`Further`].
    pub descriptors: Vec<(i32, OwnedFd)>,
    pub init: bool,
}

#[derive(Debug, Clone)]
pub enum Identity {
    /// `user[:group]`, to be looked up in the container.
    Named(String),
    Ids {
        uid: u32,
        gid: u32,
        groups: Vec<u32>,
    },
}

/// The five sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    pub bounding: u64,
    pub ambient: u64,
    pub sets: Sets,
}

#[derive(Debug, Clone, Copy)]
pub struct Limit {
    pub resource: nix::sys::resource::Resource,
    pub soft: u64,
    pub hard: u64,
    pub name: &'static str,
}

impl Plan {
    /// Checks a launch. Opens the namespaces to join; makes nothing.
    pub fn check(launch: super::Launch) -> Result<Self> {
        let super::Launch { spec, root, user, groups, directories, secrets, stdio, init, cgroup: _, seccomp, further } =
            launch;
        let Further { maker, passwd, group, descriptors } = further;
        refuse_unsupported(&spec)?;
        let default = Linux::default();
        let linux = spec.linux().as_ref().unwrap_or(&default);
        let process = spec.process().as_ref().context("the spec has no process")?;
        let namespaces = Namespaces::check(linux)?;
        let has = |kind| namespaces.own().contains(kind);
        ensure!(namespaces.new.contains(CloneFlags::CLONE_NEWNS), "a container needs a mount namespace of its own");
        let nonempty = |s: &Option<String>| s.clone().filter(|s| !s.is_empty());
        let hostname = nonempty(spec.hostname());
        let domainname = nonempty(spec.domainname());
        ensure!(
            hostname.is_none() && domainname.is_none() || has(CloneFlags::CLONE_NEWUTS),
            "a host name can only be set in a UTS namespace of the container's own"
        );
        let (propagation, root_propagation) = propagation(linux.rootfs_propagation().as_deref())?;
        let new_user = namespaces.new.contains(CloneFlags::CLONE_NEWUSER);
        Ok(Self {
            uid_map: id_map(linux.uid_mappings().as_ref(), new_user)?,
            gid_map: id_map(linux.gid_mappings().as_ref(), new_user)?,
            user_xattr: new_user || has(CloneFlags::CLONE_NEWUSER) || !crate::userns::in_first(),
            root,
            maker,
            passwd,
            group,
            directories,
            secrets,
            read_only_root: spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false),
            propagation,
            root_propagation,
            mounts: spec.mounts().iter().flatten().map(mounts::check).collect::<Result<_>>()?,
            devices: linux.devices().iter().flatten().map(Device::check).collect::<Result<_>>()?,
            masked: paths(linux.masked_paths().as_ref()),
            read_only: paths(linux.readonly_paths().as_ref()),
            hostname,
            domainname,
            sysctls: linux
                .sysctl()
                .iter()
                .flatten()
                .map(|(name, value)| Ok((sysctl_file(name, &has)?, value.clone())))
                .collect::<Result<_>>()?,
            oom_score_adj: process.oom_score_adj(),
            program: Program { descriptors, ..Program::check(process, user, groups, stdio, seccomp, init)? },
            namespaces,
        })
    }
}

impl Plan {
    /// Of the hierarchies of cgroup v1, a namespace of the container's own shows only those in which it
    /// has a cgroup: of the others its root would be the machine's.
    pub fn show_hierarchies(&mut self, names: &[String]) {
        if names.is_empty() || !self.namespaces.new.contains(CloneFlags::CLONE_NEWCGROUP) {
            return;
        }
        for mount in &mut self.mounts {
            if let Kind::Cgroup { only } = &mut mount.kind {
                *only = Some(names.to_vec());
            }
        }
    }
}

impl Namespaces {
    /// Those that are not the host's.
    pub fn own(&self) -> CloneFlags {
        self.joined.iter().fold(self.new, |own, joined| own | joined.kind)
    }

    fn check(linux: &Linux) -> Result<Self> {
        let mut new = CloneFlags::empty();
        let mut joined = Vec::new();
        for namespace in linux.namespaces().iter().flatten() {
            let typ = namespace.typ();
            let kind = CloneFlags::from_bits_retain(typ as i32);
            ensure!(
                !new.contains(kind) && !joined.iter().any(|j: &Joined| j.kind == kind),
                "namespace \"{typ}\" is listed twice"
            );
            match namespace.path() {
                Some(path) if !path.as_os_str().is_empty() => {
                    let file = File::open(path).with_context(|| format!("open namespace {path:?}"))?;
                    joined.push(Joined { namespace: file.into(), kind, path: path.clone() });
                }
                _ => new |= kind,
            }
        }
        joined.sort_by_key(|j| j.kind != CloneFlags::CLONE_NEWUSER);
        let mut time_offsets = String::new();
        for (clock, offset) in linux.time_offsets().iter().flatten() {
            ensure!(matches!(clock.as_str(), "monotonic" | "boottime"), "unknown clock \"{clock}\" in timeOffsets");
            let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
            time_offsets.extend([clock, " ", &seconds.to_string(), " ", &nanoseconds.to_string(), "\n"]);
        }
        let time = CloneFlags::from_bits_retain(LinuxNamespaceType::Time as i32);
        ensure!(time_offsets.is_empty() || new.contains(time), "timeOffsets need a new time namespace");
        Ok(Self { new, joined, time_offsets })
    }
}

impl Program {
    /// Checks what is to run. `user` and `groups` are as in [`super::Launch`].
    pub fn check(
        process: &Process,
        user: Option<String>,
        groups: Vec<String>,
        stdio: Stdio,
        seccomp: Option<Vec<u8>>,
        init: bool,
    ) -> Result<Self> {
        let none = Vec::new();
        let argv = process.args().as_ref().unwrap_or(&none);
        ensure!(!argv.is_empty(), Failure::new("no command specified").exit(crate::error::exit::ENGINE));
        ensure!(!argv[0].is_empty(), Failure::new("exec: \"\": executable file not found in $PATH").exit(127));
        // Later ones win, as in a shell; each name once, at its first place.
        let mut env: Vec<&str> = Vec::new();
        let mut places = HashMap::new();
        for variable in process.env().iter().flatten() {
            let name = variable.split('=').next().unwrap_or_default();
            let place = *places.entry(name).or_insert(env.len());
            if place == env.len() { env.push(variable) } else { env[place] = variable }
        }
        let value = |name: &str| env.iter().find_map(|v| v.strip_prefix(name)?.strip_prefix('='));
        let text = |s: &str| CString::new(s).with_context(|| format!("{s:?} holds a NUL character"));
        let oci = process.user();
        ensure!(process.cwd().is_absolute(), "working directory {:?} is not an absolute path", process.cwd());
        Ok(Self {
            argv: argv.iter().map(|a| text(a)).collect::<Result<_>>()?,
            search: value("PATH").unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").into(),
            has_home: value("HOME").is_some_and(|h| !h.is_empty()),
            env: env.iter().map(|v| text(v)).collect::<Result<_>>()?,
            cwd: process.cwd().clone(),
            identity: user.filter(|u| !u.is_empty()).map_or_else(
                || Identity::Ids {
                    uid: oci.uid(),
                    gid: oci.gid(),
                    groups: oci.additional_gids().clone().unwrap_or_default(),
                },
                Identity::Named,
            ),
            groups,
            umask: oci.umask().unwrap_or(0o022),
            capabilities: Capabilities::check(process)?,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            limits: process.rlimits().iter().flatten().map(Limit::check).collect::<Result<_>>()?,
            apparmor: process.apparmor_profile().clone().filter(|p| !p.is_empty()),
            seccomp,
            stdio,
            descriptors: Vec::new(),
            init,
        })
    }
}

impl Capabilities {
    fn check(process: &Process) -> Result<Self> {
        let Some(asked) = process.capabilities() else { return Ok(Self::default()) };
        Ok(Self {
            bounding: mask(asked.bounding().as_ref())?,
            ambient: mask(asked.ambient().as_ref())?,
            sets: Sets {
                effective: mask(asked.effective().as_ref())?,
                permitted: mask(asked.permitted().as_ref())?,
                inheritable: mask(asked.inheritable().as_ref())?,
            },
        })
    }
}

fn mask(set: Option<&CapabilitySet>) -> Result<u64> {
    set.into_iter().flatten().try_fold(0, |mask, capability| {
        let name = format!("CAP_{capability}");
        let known: caps::Capability = name.parse().with_context(|| format!("unknown capability \"{name}\""))?;
        Ok(mask | known.bitmask())
    })
}

impl Limit {
    fn check(limit: &oci_spec::runtime::PosixRlimit) -> Result<Self> {
        use nix::sys::resource::Resource as R;
        use oci_spec::runtime::PosixRlimitType as T;
        let (resource, name) = match limit.typ() {
            T::RlimitCpu => (R::RLIMIT_CPU, "cpu"),
            T::RlimitFsize => (R::RLIMIT_FSIZE, "fsize"),
            T::RlimitData => (R::RLIMIT_DATA, "data"),
            T::RlimitStack => (R::RLIMIT_STACK, "stack"),
            T::RlimitCore => (R::RLIMIT_CORE, "core"),
            T::RlimitRss => (R::RLIMIT_RSS, "rss"),
            T::RlimitNproc => (R::RLIMIT_NPROC, "nproc"),
            T::RlimitNofile => (R::RLIMIT_NOFILE, "nofile"),
            T::RlimitMemlock => (R::RLIMIT_MEMLOCK, "memlock"),
            T::RlimitAs => (R::RLIMIT_AS, "as"),
            T::RlimitLocks => (R::RLIMIT_LOCKS, "locks"),
            T::RlimitSigpending => (R::RLIMIT_SIGPENDING, "sigpending"),
            T::RlimitMsgqueue => (R::RLIMIT_MSGQUEUE, "msgqueue"),
            T::RlimitNice => (R::RLIMIT_NICE, "nice"),
            T::RlimitRtprio => (R::RLIMIT_RTPRIO, "rtprio"),
            T::RlimitRttime => (R::RLIMIT_RTTIME, "rttime"),
        };
        let (soft, hard) = (limit.soft(), limit.hard());
        ensure!(soft <= hard, "resource limit \"{name}\": soft {soft} is above hard {hard}");
        Ok(Self { resource, soft, hard, name })
    }
}

impl Device {
    fn check(device: &LinuxDevice) -> Result<Self> {
        let path = device.path();
        ensure!(path.is_absolute(), "device {path:?} is not an absolute path");
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
            LinuxDeviceType::B => libc::S_IFBLK,
            LinuxDeviceType::P => libc::S_IFIFO,
            LinuxDeviceType::A => bail!("device {path:?} has no type"),
        };
        let number = |n: i64| u64::try_from(n).with_context(|| format!("device {path:?} has a negative number"));
        Ok(Self {
            path: path.clone(),
            mode: kind | device.file_mode().unwrap_or(0o666) & 0o7777,
            major: number(device.major())?,
            minor: number(device.minor())?,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        })
    }
}

/// What the spec may ask for and this runtime does not do is an error, never ignored.
fn refuse_unsupported(spec: &Spec) -> Result<()> {
    let set = |s: Option<&String>| s.is_some_and(|s| !s.is_empty());
    let process = spec.process().as_ref();
    let linux = spec.linux().as_ref();
    let asked = [
        ("hooks", spec.hooks().as_ref().is_some_and(|h| *h != oci_spec::runtime::Hooks::default())),
        ("process.selinuxLabel", set(process.and_then(|p| p.selinux_label().as_ref()))),
        ("process.ioPriority", process.is_some_and(|p| p.io_priority().is_some())),
        ("process.scheduler", process.is_some_and(|p| p.scheduler().is_some())),
        ("process.execCPUAffinity", process.is_some_and(|p| p.exec_cpu_affinity().is_some())),
        ("linux.mountLabel", set(linux.and_then(|l| l.mount_label().as_ref()))),
        ("linux.personality", linux.is_some_and(|l| l.personality().is_some())),
        ("linux.intelRdt", linux.is_some_and(|l| l.intel_rdt().is_some())),
        ("linux.memoryPolicy", linux.is_some_and(|l| l.memory_policy().is_some())),
        ("linux.netDevices", linux.is_some_and(|l| l.net_devices().as_ref().is_some_and(|d| !d.is_empty()))),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((name, _)) => bail!("\"{name}\" of the spec is not supported yet"),
        None => Ok(()),
    }
}

fn id_map(mappings: Option<&Vec<LinuxIdMapping>>, new_user: bool) -> Result<String> {
    let line = |m: &LinuxIdMapping| format!("{} {} {}", m.container_id(), m.host_id(), m.size());
    let lines: Vec<String> = mappings.into_iter().flatten().map(line).collect();
    ensure!(lines.is_empty() != new_user, "a new user namespace and id mappings need each other");
    Ok(lines.join("\n"))
}

/// What becomes of the host's tree before, and of the container's after.
///
/// Mounts that the host makes later may come in or not, but an unmount should, or the container
/// would keep a file system of the host's busy until the old root is gone; and nothing may go out.
fn propagation(name: Option<&str>) -> Result<(MsFlags, MsFlags)> {
    Ok(match name {
        None | Some("" | "rslave" | "slave") => (MsFlags::MS_SLAVE, MsFlags::empty()),
        Some("private" | "rprivate") => (MsFlags::MS_PRIVATE, MsFlags::empty()),
        Some("shared" | "rshared") => (MsFlags::MS_SLAVE, MsFlags::MS_SHARED),
        Some("unbindable" | "runbindable") => (MsFlags::MS_SLAVE, MsFlags::MS_UNBINDABLE),
        Some(other) => bail!("unknown root file system propagation \"{other}\""),
    })
}

fn paths(list: Option<&Vec<String>>) -> Vec<PathBuf> {
    list.into_iter().flatten().map(PathBuf::from).collect()
}

/// The file below /proc/sys, if the setting belongs to a namespace that the container `has`.
///
/// # Errors
/// Any other setting is the host's own.
fn sysctl_file(name: &str, has: &impl Fn(CloneFlags) -> bool) -> Result<String> {
    // sysctl(8): the first separator says which of the two is one; the other is part of a name.
    let dotted = name.find(['.', '/']).is_none_or(|at| name.as_bytes()[at] == b'.');
    let swap = |c| {
        if c == '.' {
            '/'
        } else if c == '/' {
            '.'
        } else {
            c
        }
    };
    let file: String = if dotted { name.chars().map(swap).collect() } else { name.into() };
    ensure!(
        Path::new(&file).components().all(|c| matches!(c, std::path::Component::Normal(_))) && !file.is_empty(),
        "sysctl \"{name}\" is not a name"
    );
    let ipc = ["kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem"].contains(&file.as_str())
        || file.starts_with("kernel/shm")
        || file.starts_with("fs/mqueue/");
    let needed = if ipc {
        CloneFlags::CLONE_NEWIPC
    } else if file.starts_with("net/") {
        CloneFlags::CLONE_NEWNET
    } else {
        return Err(Failure::new(format!("sysctl \"{name}\" is not in a separate kernel namespace"))
            .hint("only net.*, fs.mqueue.*, kernel.msg*, kernel.sem and kernel.shm* can be set for a container")
            .into());
    };
    if has(needed) {
        return Ok(file);
    }
    let kind = if ipc { "IPC" } else { "network" };
    Err(Failure::new(format!("sysctl \"{name}\" is the host's: the container shares its {kind} namespace")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_of_the_containers_own_namespaces_are_accepted() {
        let net = |kind| kind == CloneFlags::CLONE_NEWNET;
        assert_eq!(sysctl_file("net.ipv4.ip_forward", &net).expect("its own"), "net/ipv4/ip_forward");
        assert_eq!(
            sysctl_file("net/ipv4/conf/eth0.1/forwarding", &net).expect("its own"),
            "net/ipv4/conf/eth0.1/forwarding"
        );
        assert_eq!(
            sysctl_file("net.ipv4.conf.eth0/1.forwarding", &net).expect("its own"),
            "net/ipv4/conf/eth0.1/forwarding"
        );
        for wrong in
            ["kernel.shmmax", "kernel.panic", "vm.swappiness", "net/../kernel/panic", "/net/x", "", "kernel.sem"]
        {
            sysctl_file(wrong, &net).expect_err(wrong);
        }
    }

    #[test]
    fn the_last_of_several_variables_wins() {
        let mut process = Process::default();
        process.set_env(Some(["A=1", "PATH=/x", "A=2", "HOME="].map(String::from).into()));
        let stdio = Stdio::Terminal { rows: 1, columns: 1 };
        let program = Program::check(&process, None, Vec::new(), stdio, None, false).expect("good");
        assert_eq!(program.env, [c"A=2".into(), c"PATH=/x".into(), CString::from(c"HOME=")]);
        assert_eq!(program.search, "/x");
        assert!(!program.has_home);
    }
}
