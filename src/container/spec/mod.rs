//! From what the user asked for to what the runtime is told: the OCI runtime spec of a container,
//! made anew at each start, because it depends on this machine as it is now.
//!
//! Called by the monitor. One file for each part: [`mounts`], [`capabilities`], [`devices`],
//! [`resources`], and [`files`] for the hosts and resolv.conf that the container is shown.

pub mod capabilities;
mod devices;
pub mod files;
pub mod mounts;
pub(crate) mod resources;
pub mod timezone;

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Result;
use oci_spec::runtime::{
    Linux, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType,
    PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder, User,
};

use crate::container::config::{ContainerConfig, HostConfig, RootFs};
use crate::container::spec::files::Names;
use crate::container::{secret, state};
use crate::error::Failure;
use crate::runtime::{self, Further, Maker};
use crate::store::{Store, record};
use crate::userns::{self, IdMap};

/// Docker's default search path (moby, `oci/defaults.go`).
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a process of a container that runs unconfined could learn from or do to the host: Docker's
/// list (moby, `oci/defaults.go`).
pub const MASKED_PATHS: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Likewise.
pub const READONLY_PATHS: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A container's spec, and what of it the OCI's format has no place for.
#[derive(Debug)]
pub struct Blueprint {
    pub spec: Spec,
    pub root: runtime::Root,
    /// `user[:group]` as the user or the image has it; it is looked up inside the root.
    pub user: Option<String>,
    /// The image's `VOLUME`s: directories that are there, whether a layer has them or not.
    pub directories: Vec<PathBuf>,
    pub secrets: Vec<runtime::Secret>,
    /// `--group-add`.
    pub groups: Vec<String>,
    pub init: bool,
    /// All but the descriptors.
    pub further: Further,
}

/// Builds it, and writes the files that it mounts into the container's directory; `names`: what its
/// network is.
///
/// # Errors
/// What the user asked for contradicts this machine: a device or a bind mount's source that does
/// not exist, a capability that the kernel does not know.
pub fn build(store: &Store, container: &ContainerConfig, names: &Names) -> Result<Blueprint> {
    let host = &container.host_config;
    let linux = linux(store, container)?;
    let mut spec = SpecBuilder::default()
        .version("1.2.0")
        .root(RootBuilder::default().path("rootfs").readonly(host.readonly_rootfs).build()?)
        .process(process(store, container)?)
        .mounts(mounts::all(store, container, names)?)
        .annotations(host.annotations.clone().into_iter().collect::<HashMap<_, _>>())
        .linux(linux)
        .build()?;
    // The builder has a name of its own.
    spec.set_hostname(None);
    if host.uts_mode != "host" {
        spec.set_hostname(Some(hostname(container).to_owned()));
        if !container.config.domainname.is_empty() {
            spec.set_domainname(Some(container.config.domainname.clone()));
        }
    }
    Ok(Blueprint {
        spec,
        root: root(store, container),
        // Root too is looked up, for the groups that the image puts it into.
        user: Some(container.config.user.clone()).filter(|user| !user.is_empty()).or(Some("0".to_owned())),
        directories: container.config.volumes.keys().map(PathBuf::from).collect(),
        secrets: secret::files(store, container)?,
        groups: host.group_add.clone(),
        init: host.init.unwrap_or(false),
        further: Further {
            maker: maker(host),
            passwd: host.extras.passwd_entries.clone(),
            group: host.extras.group_entries.clone(),
            descriptors: Vec::new(),
        },
    })
}

/// Who mounts the root: to a container of other ids than ours, our folders are closed.
fn maker(host: &HostConfig) -> Maker {
    match &host.ids {
        None => Maker::Itself,
        Some(ids) if userns::is_host_root() && !ids.is_identity() => Maker::CallerMapped,
        Some(_) => Maker::Caller,
    }
}

/// Whether the container has a user namespace of its own.
#[must_use]
pub fn has_own_users(host: &HostConfig) -> bool {
    host.ids.is_some() || (!userns::is_host_root() && host.userns_mode != "host")
}

/// The container's own name for itself.
#[must_use]
pub fn hostname(container: &ContainerConfig) -> &str {
    if container.config.hostname.is_empty() { container.id.short() } else { &container.config.hostname }
}

fn root(store: &Store, container: &ContainerConfig) -> runtime::Root {
    match &container.root {
        RootFs::Directory { path } => runtime::Root::Directory(PathBuf::from(path)),
        RootFs::Image { layers, .. } => {
            let directory = store.container(&container.id);
            runtime::Root::Overlay {
                lower: layers.iter().map(|layer| store.layers().join(layer)).collect(),
                upper: directory.join("upper"),
                work: directory.join("work"),
                // What is thrown away at its end need not survive a power loss.
                volatile: container.host_config.auto_remove,
            }
        }
    }
}

/// The process alone, for one that joins the container later: nothing is written, and nothing that only
/// the container's start has to do with is looked at.
///
/// # Errors
/// As [`build`].
pub fn process(store: &Store, container: &ContainerConfig) -> Result<Process> {
    let (config, host) = (&container.config, &container.host_config);
    let cwd = if config.working_dir.is_empty() { "/" } else { &config.working_dir };
    let mut user = User::default();
    user.set_umask(host.extras.umask);
    let mut process = ProcessBuilder::default()
        .terminal(config.tty)
        .user(user)
        .args(container.argv())
        .env(environment(store, container)?)
        .cwd(cwd)
        .capabilities(capabilities::sets(host)?)
        .rlimits(rlimits(container)?)
        .no_new_privileges(host.security_opt.iter().any(|o| matches!(option(o), ("no-new-privileges", "" | "true"))))
        .build()?;
    if host.oom_score_adj != 0 {
        process.set_oom_score_adj(Some(host.oom_score_adj));
    }
    for security in &host.security_opt {
        if let ("apparmor", profile) = option(security) {
            process.set_apparmor_profile(Some(profile.to_owned()).filter(|p| p != "unconfined"));
        }
    }
    Ok(process)
}

/// `name=value` or `name:value`, both of which Docker accepts in `--security-opt`.
fn option(text: &str) -> (&str, &str) {
    text.split_once(['=', ':']).unwrap_or((text, ""))
}

/// What the container asked for on top of what every process has.
fn environment(store: &Store, container: &ContainerConfig) -> Result<Vec<String>> {
    let config = &container.config;
    let has = |name: &str| config.env.iter().any(|e| e.split('=').next() == Some(name));
    let mut env = Vec::with_capacity(config.env.len() + 3);
    if !has("PATH") {
        env.push(PATH.to_owned());
    }
    if !has("HOSTNAME") {
        env.push(format!("HOSTNAME={}", hostname(container)));
    }
    if config.tty && !has("TERM") {
        env.push("TERM=xterm".to_owned());
    }
    // A name alone took a variable away.
    env.extend(config.env.iter().filter(|variable| variable.contains('=')).cloned());
    for secret in secret::variables(store, container)? {
        let name = secret.split('=').next();
        env.retain(|other| other.split('=').next() != name);
        env.push(secret);
    }
    Ok(env)
}

fn rlimits(container: &ContainerConfig) -> Result<Vec<PosixRlimit>> {
    let limits = &container.host_config.resources.ulimits;
    limits
        .iter()
        .map(|limit| {
            let name = format!("RLIMIT_{}", limit.name.to_ascii_uppercase());
            let typ: PosixRlimitType =
                name.parse().map_err(|_| Failure::new(format!("invalid ulimit type: {}", limit.name)))?;
            // -1, all bits set, is RLIM_INFINITY.
            let (soft, hard) = (limit.soft.cast_unsigned(), limit.hard.cast_unsigned());
            Ok(PosixRlimitBuilder::default().typ(typ).soft(soft).hard(hard).build()?)
        })
        .collect()
}

/// Whether its user namespace is the machine's first: mknod(2) is refused in all others.
fn may_make_devices(host: &HostConfig) -> bool {
    userns::is_host_root() && !has_own_users(host)
}

fn linux(store: &Store, container: &ContainerConfig) -> Result<Linux> {
    let host = &container.host_config;
    let own_users = has_own_users(host);
    // The default has namespaces, masked paths and resources of its own: each is set here.
    let mut linux = Linux::default();
    let shared = Shared::of(store, container)?;
    linux.set_namespaces(Some(namespaces(container, own_users, &shared)?));
    if own_users && shared.users().is_none() {
        let (uids, gids) = match &host.ids {
            Some(ids) => (ids.uid_map.clone(), ids.gid_map.clone()),
            None => userns::same_ids(),
        };
        linux.set_uid_mappings(Some(mappings(&uids)?)).set_gid_mappings(Some(mappings(&gids)?));
    }
    linux.set_sysctl(Some(sysctls(container, !may_make_devices(host))));
    linux.set_resources(Some(resources::of(host)?));
    linux.set_devices(Some(if may_make_devices(host) { devices::of(host)? } else { Vec::new() }));
    linux.set_seccomp(None);
    let (masked, read_only) = hidden_paths(host);
    linux.set_masked_paths(Some(masked));
    linux.set_readonly_paths(Some(read_only));
    linux.set_rootfs_propagation(mounts::root_propagation(host).map(str::to_owned));
    Ok(linux)
}

/// The paths that are masked, and those that are read-only.
#[must_use]
pub fn hidden_paths(host: &HostConfig) -> (Vec<String>, Vec<String>) {
    let paths = |asked: &Option<Vec<String>>, default: &[&str]| match asked {
        Some(paths) => paths.clone(),
        None if host.privileged => Vec::new(),
        None => default.iter().map(|&path| path.to_owned()).collect(),
    };
    (paths(&host.masked_paths, MASKED_PATHS), paths(&host.readonly_paths, READONLY_PATHS))
}

/// Namespaces that are there already, as their files.
#[derive(Debug, Default)]
struct Shared {
    network: Option<PathBuf>,
    pid: Option<PathBuf>,
    ipc: Option<PathBuf>,
    /// A process of a container that one of them is of; its user namespace owns it, and so is shared
    /// too.
    owner: Option<i32>,
}

impl Shared {
    fn of(store: &Store, container: &ContainerConfig) -> Result<Self> {
        let host = &container.host_config;
        let mut shared = Self::default();
        if let Some(path) = host.network_mode.strip_prefix("ns:") {
            shared.network = Some(PathBuf::from(path));
        }
        let modes = [
            (&host.network_mode, "network", "net", &mut shared.network),
            (&host.pid_mode, "PID", "pid", &mut shared.pid),
            (&host.ipc_mode, "IPC", "ipc", &mut shared.ipc),
        ];
        for (mode, kind, file, place) in modes {
            let Some(id) = mode.strip_prefix("container:") else { continue };
            let pid = first_process(store, id, kind)?;
            // A user namespace is one container's, and so must all be that it owns.
            if has_own_users(host) && shared.owner.is_some_and(|other| !has_same_users(other, pid)) {
                return Err(Failure::new(format!(
                    "cannot join {kind} of container {id}: its user namespace is another"
                ))
                .hint("an ordinary user's container can join the namespaces of one other container only")
                .into());
            }
            shared.owner = Some(pid);
            *place = Some(PathBuf::from(format!("/proc/{pid}/ns/{file}")));
        }
        Ok(shared)
    }

    /// The user namespace of what is shared.
    fn users(&self) -> Option<PathBuf> {
        self.owner.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/user")))
    }
}

fn has_same_users(one: i32, other: i32) -> bool {
    let namespace = |pid| std::fs::read_link(format!("/proc/{pid}/ns/user")).ok();
    one == other || (namespace(one).is_some() && namespace(one) == namespace(other))
}

/// The first process of another container, which runs.
pub(crate) fn first_process(store: &Store, id: &str, kind: &str) -> Result<i32> {
    let other = id.parse().ok().filter(|other| state::is_alive(store, other));
    let process = other.map(|other| record::read::<state::Process>(&store.container(&other).join(state::PROCESS)));
    match process.transpose()?.flatten() {
        Some(process) => Ok(process.pid),
        None => Err(Failure::new(format!("cannot join {kind} of a non running container: {id}"))
            .hint("start that one first: ctr start, and look at ctr ps -a")
            .into()),
    }
}

fn namespaces(container: &ContainerConfig, own_users: bool, shared: &Shared) -> Result<Vec<LinuxNamespace>> {
    let host = &container.host_config;
    let wanted = [
        (LinuxNamespaceType::User, own_users, shared.users()),
        (LinuxNamespaceType::Mount, true, None),
        (LinuxNamespaceType::Pid, host.pid_mode != "host", shared.pid.clone()),
        (LinuxNamespaceType::Network, host.network_mode != "host", shared.network.clone()),
        (LinuxNamespaceType::Ipc, host.ipc_mode != "host", shared.ipc.clone()),
        (LinuxNamespaceType::Uts, host.uts_mode != "host", None),
        (LinuxNamespaceType::Cgroup, host.cgroupns_mode != "host", None),
    ];
    wanted
        .into_iter()
        .filter(|(_, wanted, _)| *wanted)
        .map(|(typ, _, path)| {
            let builder = LinuxNamespaceBuilder::default().typ(typ);
            let builder = match path {
                Some(path) => builder.path(path),
                None => builder,
            };
            Ok(builder.build()?)
        })
        .collect()
}

fn mappings(maps: &[IdMap]) -> Result<Vec<LinuxIdMapping>> {
    maps.iter()
        .map(|m| {
            let builder = LinuxIdMappingBuilder::default().container_id(m.inside).host_id(m.outside);
            Ok(builder.size(m.count).build()?)
        })
        .collect()
}

/// Whether the network namespace is the container's own.
#[must_use]
pub fn has_own_network(host: &HostConfig) -> bool {
    host.network_mode != "host" && !host.network_mode.starts_with("container:") && !host.network_mode.starts_with("ns:")
}

/// What the user asked for, on top of Docker's own (moby, `daemon/oci_linux.go`): ports below 1024
/// and ping need no capability in a network namespace of one's own.
fn sysctls(container: &ContainerConfig, has_few_ids: bool) -> HashMap<String, String> {
    let host = &container.host_config;
    let mut sysctls = HashMap::new();
    if has_own_network(host) {
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        // The range's end must be a mapped group, so a user namespace cannot have all of them.
        if !has_few_ids {
            sysctls.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
        }
    }
    sysctls.extend(host.sysctls.clone());
    sysctls
}
