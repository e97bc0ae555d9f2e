//! What Docker's types are beyond what their JSON shows, by the names of their members.

use super::value::{Nil, Value, text};

/// The members of Docker's objects that are maps.
pub const MAPS: [&str; 21] = [
    "Annotations",
    "Attributes",
    "AuxiliaryAddresses",
    "Containers",
    "Data",
    "Details",
    "DriverOpts",
    "ExposedPorts",
    "IndexConfigs",
    "Labels",
    "LogOpts",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Runtimes",
    "Status",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// The members that point to something, or to nothing.
pub const POINTERS: [&str; 12] = [
    "Health",
    "Healthcheck",
    "IPAMConfig",
    "Init",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "RegistryConfig",
    "SizeRootFs",
    "SizeRw",
    "StopTimeout",
    "Rate",
];

pub type Optional = (&'static str, &'static str, fn() -> Value);

/// What Docker's types have and its JSON leaves out while it is empty: the object's name and the
/// field's.
pub const OPTIONAL: [Optional; 43] = [
    ("", "SizeRw", || Value::Nil(Nil::Pointer)),
    ("", "SizeRootFs", || Value::Nil(Nil::Pointer)),
    ("State", "Health", || Value::Nil(Nil::Pointer)),
    ("Config", "Healthcheck", || Value::Nil(Nil::Pointer)),
    ("Config", "StopTimeout", || Value::Nil(Nil::Pointer)),
    ("Config", "StopSignal", || text("")),
    ("Config", "ExposedPorts", || Value::Nil(Nil::Map)),
    ("Config", "Volumes", || Value::Nil(Nil::Map)),
    ("Config", "Labels", || Value::Nil(Nil::Map)),
    ("Config", "Shell", || Value::Nil(Nil::List)),
    ("Config", "NetworkDisabled", || Value::Bool(false)),
    ("HostConfig", "Init", || Value::Nil(Nil::Pointer)),
    ("HostConfig", "Mounts", || Value::Nil(Nil::List)),
    ("HostConfig", "Tmpfs", || Value::Nil(Nil::Map)),
    ("HostConfig", "Sysctls", || Value::Nil(Nil::Map)),
    ("HostConfig", "StorageOpt", || Value::Nil(Nil::Map)),
    ("HostConfig", "Annotations", || Value::Nil(Nil::Map)),
    ("HostConfig", "Runtime", || text("")),
    ("Mounts", "Name", || text("")),
    ("Mounts", "Driver", || text("")),
    ("Mounts", "Type", || text("")),
    // A method of Docker's.
    ("version", "ServerOK", || Value::Bool(true)),
    ("Server", "Experimental", || Value::Bool(false)),
    ("info", "SystemStatus", || Value::Nil(Nil::List)),
    ("info", "KernelMemory", || Value::Bool(false)),
    ("info", "KernelMemoryTCP", || Value::Bool(false)),
    ("info", "DefaultAddressPools", || Value::Nil(Nil::List)),
    ("info", "FirewallBackend", || Value::Nil(Nil::Pointer)),
    ("info", "DiscoveredDevices", || Value::Nil(Nil::List)),
    ("info", "ProductLicense", || text("")),
    ("info", "Containerd", || Value::Nil(Nil::Pointer)),
    ("info", "UserName", || text("")),
    ("info", "ServerErrors", || Value::Nil(Nil::List)),
    ("info", "ClientErrors", || Value::Nil(Nil::List)),
    ("Swarm", "Nodes", || Value::Int(0)),
    ("Swarm", "Managers", || Value::Int(0)),
    ("Swarm", "Cluster", || Value::Nil(Nil::Pointer)),
    ("Swarm", "Warnings", || Value::Nil(Nil::List)),
    ("ClientInfo", "Platform", || Value::Nil(Nil::Pointer)),
    ("ClientInfo", "APIVersion", || text("")),
    ("ContainerdCommit", "Expected", || text("")),
    ("RuncCommit", "Expected", || text("")),
    ("InitCommit", "Expected", || text("")),
];

/// The members that [`OPTIONAL`] and what is a map go by.
pub const OWN: [&str; 11] = [
    "State",
    "HostConfig",
    "Config",
    "Mounts",
    "LogConfig",
    "Server",
    "Swarm",
    "ClientInfo",
    "ContainerdCommit",
    "RuncCommit",
    "InitCommit",
];

/// Go's names of fields whose names in JSON are others.
pub const ALIASES: [(&str, &str); 15] = [
    ("ID", "Id"),
    ("DNS", "Dns"),
    ("DNSOptions", "DnsOptions"),
    ("DNSSearch", "DnsSearch"),
    ("CPUShares", "CpuShares"),
    ("NanoCPUs", "NanoCpus"),
    ("CPUPeriod", "CpuPeriod"),
    ("CPUQuota", "CpuQuota"),
    ("CPUCount", "CpuCount"),
    ("CPUPercent", "CpuPercent"),
    ("HTTPProxy", "HttpProxy"),
    ("HTTPSProxy", "HttpsProxy"),
    ("APIVersion", "ApiVersion"),
    ("CPUCfsPeriod", "CpuCfsPeriod"),
    ("CPUCfsQuota", "CpuCfsQuota"),
];
