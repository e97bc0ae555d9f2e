//! The members of Docker's objects in Docker's order, each with what is shown where there is
//! nothing: scripts tell `null`, `[]` and a member that is left out from each other. What the
//! tables do not know is ctr's own and stands behind.
//!
//! Source: the types of Docker's API v1.48 and what its daemon fills in; the test in
//! `tests/it/inspect.rs` holds the outcome against `tests/golden/plain.json`.

use serde_json::{Map, Value, json};

/// What stands for a value that is empty or missing.
#[derive(Debug, Clone, Copy)]
pub enum Empty {
    /// Docker's zero of the type: what is there stays, what is not is this.
    Text,
    Number,
    No,
    List,
    Map,
    /// `null`, for what is missing and for empty lists and maps.
    Null,
    /// It is left out.
    Absent,
    /// Docker fills in a word.
    Word(&'static str),
}

use Empty::{Absent, List, No, Null, Number, Text, Word};

/// A container's `HostConfig`.
pub const HOST_CONFIG: &[(&str, Empty)] = &[
    ("Binds", Null),
    ("ContainerIDFile", Text),
    ("LogConfig", Null),
    ("NetworkMode", Text),
    ("PortBindings", Empty::Map),
    ("RestartPolicy", Null),
    ("AutoRemove", No),
    ("VolumeDriver", Text),
    ("VolumesFrom", Null),
    ("ConsoleSize", Null),
    ("Annotations", Absent),
    ("CapAdd", Null),
    ("CapDrop", Null),
    ("CgroupnsMode", Word("private")),
    ("Dns", List),
    ("DnsOptions", List),
    ("DnsSearch", List),
    ("ExtraHosts", Null),
    ("GroupAdd", Null),
    ("IpcMode", Word("private")),
    ("Cgroup", Text),
    ("Links", Null),
    ("OomScoreAdj", Number),
    ("PidMode", Text),
    ("Privileged", No),
    ("PublishAllPorts", No),
    ("ReadonlyRootfs", No),
    ("SecurityOpt", Null),
    ("StorageOpt", Absent),
    ("Tmpfs", Absent),
    ("UTSMode", Text),
    ("UsernsMode", Text),
    ("ShmSize", Number),
    ("Sysctls", Absent),
    ("Runtime", Text),
    ("Isolation", Text),
    ("CpuShares", Number),
    ("Memory", Number),
    ("NanoCpus", Number),
    ("CgroupParent", Text),
    ("BlkioWeight", Number),
    ("BlkioWeightDevice", List),
    ("BlkioDeviceReadBps", List),
    ("BlkioDeviceWriteBps", List),
    ("BlkioDeviceReadIOps", List),
    ("BlkioDeviceWriteIOps", List),
    ("CpuPeriod", Number),
    ("CpuQuota", Number),
    ("CpuRealtimePeriod", Number),
    ("CpuRealtimeRuntime", Number),
    ("CpusetCpus", Text),
    ("CpusetMems", Text),
    ("Devices", List),
    ("DeviceCgroupRules", Null),
    ("DeviceRequests", Null),
    ("MemoryReservation", Number),
    ("MemorySwap", Number),
    ("MemorySwappiness", Null),
    ("OomKillDisable", Null),
    ("PidsLimit", Null),
    ("Ulimits", List),
    ("CpuCount", Number),
    ("CpuPercent", Number),
    ("IOMaximumIOps", Number),
    ("IOMaximumBandwidth", Number),
    ("Mounts", Absent),
    ("MaskedPaths", Null),
    ("ReadonlyPaths", Null),
    ("Init", Absent),
];

/// A container's or an image's `Config`.
pub const CONFIG: &[(&str, Empty)] = &[
    ("Hostname", Text),
    ("Domainname", Text),
    ("User", Text),
    ("AttachStdin", No),
    ("AttachStdout", No),
    ("AttachStderr", No),
    ("ExposedPorts", Absent),
    ("Tty", No),
    ("OpenStdin", No),
    ("StdinOnce", No),
    ("Env", List),
    ("Cmd", Null),
    ("Healthcheck", Absent),
    ("Image", Text),
    ("Volumes", Null),
    ("WorkingDir", Text),
    ("Entrypoint", Null),
    ("OnBuild", Null),
    ("Labels", Empty::Map),
    ("StopSignal", Absent),
    ("StopTimeout", Absent),
    ("Shell", Absent),
];

/// A container's `NetworkSettings`, but `Networks`.
pub const NETWORK_SETTINGS: &[(&str, Empty)] = &[
    ("Bridge", Text),
    ("SandboxID", Text),
    ("SandboxKey", Text),
    ("Ports", Empty::Map),
    ("HairpinMode", No),
    ("LinkLocalIPv6Address", Text),
    ("LinkLocalIPv6PrefixLen", Number),
    ("SecondaryIPAddresses", Null),
    ("SecondaryIPv6Addresses", Null),
    ("EndpointID", Text),
    ("Gateway", Text),
    ("GlobalIPv6Address", Text),
    ("GlobalIPv6PrefixLen", Number),
    ("IPAddress", Text),
    ("IPPrefixLen", Number),
    ("IPv6Gateway", Text),
    ("MacAddress", Text),
    ("Networks", Empty::Map),
];

/// One of the `Networks`.
pub const ENDPOINT: &[(&str, Empty)] = &[
    ("IPAMConfig", Null),
    ("Links", Null),
    ("Aliases", Null),
    ("MacAddress", Text),
    ("DriverOpts", Null),
    ("GwPriority", Number),
    ("NetworkID", Text),
    ("EndpointID", Text),
    ("Gateway", Text),
    ("IPAddress", Text),
    ("IPPrefixLen", Number),
    ("IPv6Gateway", Text),
    ("GlobalIPv6Address", Text),
    ("GlobalIPv6PrefixLen", Number),
    ("DNSNames", Null),
];

/// An object in a table's order and with its empty values.
#[must_use]
pub fn shape(object: Value, table: &[(&str, Empty)]) -> Value {
    let Value::Object(mut object) = object else { return object };
    let mut shaped = Map::with_capacity(object.len() + table.len());
    for (name, empty) in table {
        let found = object.shift_remove(*name).filter(|value| !value.is_null());
        let is_empty = match &found {
            None => true,
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(fields)) => fields.is_empty(),
            Some(Value::String(text)) => text.is_empty(),
            Some(_) => false,
        };
        let value = match (empty, found) {
            (Absent, _) if is_empty => continue,
            (Null, _) if is_empty => Value::Null,
            (Word(word), _) if is_empty => (*word).into(),
            (_, Some(value)) => value,
            (Text, None) => "".into(),
            (Number, None) => 0.into(),
            (No, None) => false.into(),
            (List, None) => json!([]),
            (Empty::Map, None) => json!({}),
            (Null | Absent | Word(_), None) => continue,
        };
        shaped.insert((*name).to_owned(), value);
    }
    shaped.extend(object);
    Value::Object(shaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_what_docker_shows_for_it() {
        let table =
            [("A", Null), ("B", Absent), ("C", List), ("D", Text), ("E", Word("x")), ("F", Empty::Map), ("G", No)];
        let shown = shape(json!({ "Own": 1, "B": {}, "A": [], "E": "" }), &table);
        assert_eq!(shown.to_string(), r#"{"A":null,"C":[],"D":"","E":"x","F":{},"G":false,"Own":1}"#);
        let full = json!({ "A": [1], "B": { "k": "v" }, "C": [2], "D": "d", "E": "e", "F": { "k": 1 }, "G": true });
        assert_eq!(shape(full.clone(), &table).to_string(), full.to_string());
    }
}
