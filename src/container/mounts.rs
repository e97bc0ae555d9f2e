//! A container's mounts as they are shown and filtered by: what `-v` and `--mount` asked for. Those of
//! `--tmpfs` are only in `HostConfig`, as with Docker.

use crate::container::bind::Bind;
use crate::container::config::ContainerConfig;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// `bind` or `tmpfs`.
    pub kind: String,
    /// Empty for tmpfs.
    pub source: String,
    pub target: String,
    /// As written behind `-v`.
    pub mode: String,
    pub read_only: bool,
    pub propagation: String,
}

/// In the order in which they were asked for, `-v` first.
#[must_use]
pub fn of(config: &ContainerConfig) -> Vec<Shown> {
    let binds = config.host_config.binds.iter().filter_map(|text| Bind::parse(text).ok()).map(|bind| Shown {
        kind: "bind".into(),
        mode: bind.options.join(","),
        read_only: bind.has("ro"),
        propagation: bind.propagation().to_owned(),
        source: bind.source,
        target: bind.target,
    });
    let mounts = config.host_config.mounts.iter().map(|mount| {
        let propagation = mount.bind_options.as_ref().map(|bind| bind.propagation.as_str());
        let propagation = propagation.filter(|p| !p.is_empty()).unwrap_or("rprivate");
        Shown {
            kind: mount.r#type.clone(),
            source: mount.source.clone(),
            target: mount.target.clone(),
            mode: String::new(),
            read_only: mount.read_only,
            propagation: if mount.r#type == "bind" { propagation.to_owned() } else { String::new() },
        }
    });
    binds.chain(mounts).collect()
}
