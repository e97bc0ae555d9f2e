//! What the user asked for, complete: written once when the container is made, and all that its
//! monitor needs to start it, today or after the next reboot. It holds no path of the moment.
//!
//! `Config` and `HostConfig` have the names and types of Docker's API (v1.48, "Inspect a
//! container"), so `inspect` prints them as they are.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::container::secret::Given;
use crate::network::Rate;
use crate::network::mac::Mac;
use crate::store::Id;
use crate::store::record::Record;
use crate::userns::IdMap;

/// `containers/<id>/config.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    pub id: Id,
    /// RFC 3339 with nanoseconds, UTC.
    pub created: jiff::Timestamp,
    pub root: RootFs,
    pub config: Config,
    pub host_config: HostConfig,
    /// What was wanted of each network, in the order of the command line. What `network connect` and
    /// its like changed since is in [`super::network::Wish`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// Its secrets, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Given>,
}

/// `containers/<id>/resources.json`, once `update` has changed the limits: all of them.
impl Record for Resources {
    const VERSION: u32 = 1;
}

impl Record for ContainerConfig {
    const VERSION: u32 = 1;
}

/// What the container's root is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", tag = "Type")]
pub enum RootFs {
    /// An overlay of an image's layers below `upper/`.
    Image {
        /// The image's id: `sha256:` and the digest of its configuration.
        id: String,
        /// Names below `layers/`, topmost first, as `overlay`'s `lowerdir` has them. One that begins
        /// with a slash is a directory of the host's: `--rootfs DIR:O`, whose `id` is empty.
        layers: Vec<String>,
    },
    /// `--rootfs DIR`: a directory used as it is.
    Directory { path: String },
}

impl RootFs {
    /// The directories that it is made of, topmost first, below `layers/` unless they begin with a
    /// slash.
    #[must_use]
    pub fn directories(&self) -> &[String] {
        match self {
            Self::Image { layers, .. } => layers,
            Self::Directory { path } => std::slice::from_ref(path),
        }
    }
}

/// The part that could run on any machine. Image and command line are merged into it already.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// Empty: the short id.
    pub hostname: String,
    pub domainname: String,
    /// `user[:group]` by name or number; empty: root.
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    /// `80/tcp` and so on, from the image and `--expose`.
    pub exposed_ports: BTreeMap<String, Empty>,
    pub tty: bool,
    pub open_stdin: bool,
    /// Standard input ends when the first attached client leaves.
    pub stdin_once: bool,
    /// `NAME=value`, later ones winning, each name once.
    pub env: Vec<String>,
    pub cmd: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    /// The name that the user wrote.
    pub image: String,
    pub volumes: BTreeMap<String, Empty>,
    pub working_dir: String,
    pub labels: BTreeMap<String, String>,
    /// A name or a number; `None`: SIGTERM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Seconds; `None`: 10; negative: wait without an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
}

/// JSON's `{}`, which Docker uses for the members of a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// The part that concerns this machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `HOST:CONTAINER[:OPTIONS]` as given to `-v`, the host path made absolute.
    pub binds: Vec<String>,
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    pub log_config: LogConfig,
    /// `bridge`, the name or id of a network, `host`, `none`, `container:ID`, `ns:PATH` or `pasta`;
    /// empty or `default`: `bridge`. [`super::network::Mode`] takes it apart.
    pub network_mode: String,
    /// `80/tcp` and so on to what leads there.
    pub port_bindings: PortBindings,
    /// Every exposed port is published on one that the host has free.
    pub publish_all_ports: bool,
    /// `CONTAINER:ALIAS` as given to `--link`, on the default network.
    pub links: Vec<String>,
    /// `host.docker.internal` leads to the host's loopback too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub host_loopback: bool,
    pub auto_remove: bool,
    pub console_size: [u16; 2],
    pub annotations: BTreeMap<String, String>,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    /// `private` or `host`; empty: private.
    pub cgroupns_mode: String,
    pub extra_hosts: Vec<String>,
    pub dns: Vec<String>,
    pub dns_options: Vec<String>,
    pub dns_search: Vec<String>,
    pub group_add: Vec<String>,
    /// `private`, `shareable`, `none`, `host` or `container:ID`; empty: private.
    pub ipc_mode: String,
    pub cgroup_parent: String,
    pub oom_score_adj: i32,
    /// `host`, `container:ID` or empty.
    pub pid_mode: String,
    pub privileged: bool,
    pub readonly_rootfs: bool,
    /// As given to `--security-opt`, a seccomp profile read in (`seccomp={…}`).
    pub security_opt: Vec<String>,
    /// Container path to options (`size=64m,mode=1777`).
    pub tmpfs: BTreeMap<String, String>,
    /// `host` or empty.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// `host`, `keep-id` and so on as given to `--userns`, or empty; what came of it is in `ids`.
    pub userns_mode: String,
    /// Bytes; 0: 64 MiB.
    pub shm_size: u64,
    pub sysctls: BTreeMap<String, String>,
    #[serde(flatten)]
    pub resources: Resources,
    pub mounts: Vec<Mount>,
    /// `None`: Docker's list; `Some([])`: none (`--privileged`, `systempaths=unconfined`).
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
    /// `--init`: ctr's own init is the container's first process.
    pub init: Option<bool>,
    /// The container's ids in the namespace that its monitor is in; `None`: the same ones.
    #[serde(rename = "IDMappings", skip_serializing_if = "Option::is_none")]
    pub ids: Option<Ids>,
    /// What the flags of Podman's ask for, which Docker's API has no names for.
    #[serde(skip_serializing_if = "Extras::is_none")]
    pub extras: Extras,
}

/// The maps of the container's user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ids {
    pub uid_map: Vec<IdMap>,
    pub gid_map: Vec<IdMap>,
}

/// See [`HostConfig::extras`]. Empty or 0: not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Extras {
    /// `local`, or a name below /usr/share/zoneinfo.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub timezone: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Seconds after its start at which the container is killed.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: u64,
    /// Where the number of its first process is written.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pid_file: String,
    /// Lines that its passwd and group files are to have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub passwd_entries: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group_entries: Vec<String>,
    /// It has its image's /etc/hosts, and /etc/hostname.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_hosts: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_hostname: bool,
    /// What its /etc/hosts begins with: a file of the host's, `image`, or `none`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hosts_file: String,
    /// Options of its /proc (`hidepid=2`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub proc_options: String,
    /// It may write to its cgroups.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub writable_cgroups: bool,
}

impl Extras {
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What cgroups and rlimits bound. 0 or empty: not asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Resources {
    pub cpu_shares: u64,
    /// Bytes.
    pub memory: i64,
    /// Billionths of a processor (`--cpus`).
    pub nano_cpus: i64,
    pub blkio_weight: u16,
    pub blkio_weight_device: Vec<WeightDevice>,
    pub blkio_device_read_bps: Vec<ThrottleDevice>,
    pub blkio_device_write_bps: Vec<ThrottleDevice>,
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: Vec<ThrottleDevice>,
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: Vec<ThrottleDevice>,
    /// Microseconds.
    pub cpu_period: u64,
    pub cpu_quota: i64,
    pub cpu_realtime_period: u64,
    pub cpu_realtime_runtime: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub devices: Vec<Device>,
    /// `c 1:3 rwm` and so on.
    pub device_cgroup_rules: Vec<String>,
    pub memory_reservation: i64,
    /// Bytes of memory and swap together; -1: unlimited.
    pub memory_swap: i64,
    /// 0 to 100; `None`: the kernel's.
    pub memory_swappiness: Option<i64>,
    pub oom_kill_disable: Option<bool>,
    /// `None` or 0: unlimited, as is -1.
    pub pids_limit: Option<i64>,
    pub ulimits: Vec<Ulimit>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct WeightDevice {
    pub path: String,
    pub weight: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ThrottleDevice {
    pub path: String,
    /// Bytes or operations a second.
    pub rate: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Device {
    pub path_on_host: String,
    pub path_in_container: String,
    pub cgroup_permissions: String,
}

/// `-1`: unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ulimit {
    /// `nofile`, without `RLIMIT_`.
    pub name: String,
    pub hard: i64,
    pub soft: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LogConfig {
    pub r#type: String,
    pub config: BTreeMap<String, String>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { r#type: "json-file".into(), config: BTreeMap::new() }
    }
}

/// `--mount`, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mount {
    /// `bind` or `tmpfs`.
    pub r#type: String,
    pub source: String,
    pub target: String,
    pub read_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BindOptions {
    /// `rprivate` and so on; empty: `rprivate`.
    pub propagation: String,
    pub non_recursive: bool,
    pub create_mountpoint: bool,
    pub read_only_non_recursive: bool,
    pub read_only_force_recursive: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TmpfsOptions {
    pub size_bytes: u64,
    pub mode: u32,
}

/// Ports of the container, `80/tcp` and so on, to the host's that lead to them.
pub type PortBindings = BTreeMap<String, Vec<PortBinding>>;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// Empty: every address.
    pub host_ip: String,
    /// Empty or 0: any that is free; `8000-8010`: any of these that is free.
    pub host_port: String,
}

impl PortBinding {
    /// Whether this one, as given to `--publish-rm`, means `other`: without an address on all of them,
    /// without a port on all of the host's.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let is = |given: &str, its: &str| given.is_empty() || given == its;
        is(&self.host_ip, &other.host_ip) && is(&self.host_port, &other.host_port)
    }
}

/// What is wanted of a network, as `--network name=…,ip=…` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Endpoint {
    /// Name or id as given.
    pub network: String,
    /// Further names that the container is found by there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<Ipv4Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<Ipv6Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<Mac>,
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Vec::is_empty")]
    pub link_local_ips: Vec<IpAddr>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_opts: BTreeMap<String, String>,
    /// The network with the highest is the container's way outside.
    pub gw_priority: i64,
    /// What the interface is called in the container; `None`: `eth0` and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_name: Option<String>,
    /// `CONTAINER:ALIAS`: names for other containers that only this one resolves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    #[serde(skip_serializing_if = "Rate::is_none")]
    pub rate: Rate,
}

impl Endpoint {
    /// Nothing wanted but to be there.
    #[must_use]
    pub fn on(network: impl Into<String>) -> Self {
        Self { network: network.into(), ..Self::default() }
    }
}

impl HostConfig {
    /// Whether the container may reach what listens on the host's loopback: asked for by
    /// `--host-loopback`, or by a name for the host itself (`--add-host NAME:host-gateway`).
    #[must_use]
    pub fn reaches_loopback(&self) -> bool {
        self.host_loopback || self.extra_hosts.iter().any(|entry| entry.ends_with(":host-gateway"))
    }
}

impl ContainerConfig {
    /// The words that are run: the entry point, then the command.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        let parts = [&self.config.entrypoint, &self.config.cmd];
        parts.into_iter().flatten().flatten().cloned().collect()
    }
}
