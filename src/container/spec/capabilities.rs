//! The five capability sets: capabilities(7).

use std::collections::HashSet;

use anyhow::Result;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};

use crate::container::config::HostConfig;
use crate::error::Failure;

/// What a container has unless it asks otherwise: Docker's list (moby, `oci/caps/defaults.go`).
const DEFAULT: &[Capability] = &[
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// The sets of a container's processes. Inheritable and ambient stay empty: a program that a user
/// of the container runs must not gain what its file does not grant (CVE-2022-24769).
pub fn sets(host: &HostConfig) -> Result<LinuxCapabilities> {
    let allowed = allowed(host)?;
    Ok(LinuxCapabilitiesBuilder::default()
        .bounding(allowed.clone())
        .effective(allowed.clone())
        .permitted(allowed)
        .inheritable(Capabilities::new())
        .ambient(Capabilities::new())
        .build()?)
}

/// Docker's order: `ALL` first, then what is dropped, then what is added (moby, `oci/caps/utils.go`).
fn allowed(host: &HostConfig) -> Result<Capabilities> {
    if host.privileged {
        return Ok(all());
    }
    let (added, adds_all) = parse(&host.cap_add)?;
    let (dropped, drops_all) = parse(&host.cap_drop)?;
    let start = if adds_all {
        all()
    } else if drops_all {
        Capabilities::new()
    } else {
        DEFAULT.iter().copied().collect()
    };
    Ok(start.difference(&dropped).chain(&added).copied().collect())
}

/// Names with or without `CAP_`, in any case; and whether `ALL` was among them.
fn parse(names: &[String]) -> Result<(Capabilities, bool)> {
    let mut found = HashSet::new();
    let mut all = false;
    for name in names {
        let upper = name.to_ascii_uppercase();
        let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
        match plain.parse() {
            _ if plain == "ALL" => all = true,
            Ok(capability) => {
                found.insert(capability);
            }
            Err(_) => return Err(Failure::new(format!("invalid capability: {name:?}")).into()),
        }
    }
    Ok((found, all))
}

/// Checks names before a container is made of them.
///
/// # Errors
/// Docker's `invalid capability`.
pub fn check(names: &[String]) -> Result<()> {
    parse(names).map(drop)
}

/// All that this process has itself and so can pass on: a kernel may know fewer than this binary,
/// and root of another engine's container lacks some.
fn all() -> Capabilities {
    let held = caps::read(None, caps::CapSet::Bounding).unwrap_or_default();
    held.into_iter().filter_map(|c| c.to_string().trim_start_matches("CAP_").parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(add: &[&str], drop: &[&str]) -> HostConfig {
        let own = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        HostConfig { cap_add: own(add), cap_drop: own(drop), ..HostConfig::default() }
    }

    #[test]
    fn names_are_added_to_and_dropped_from_the_default() {
        let caps = allowed(&host(&["net_admin"], &["CAP_CHOWN"])).expect("names are right");
        assert!(caps.contains(&Capability::NetAdmin) && !caps.contains(&Capability::Chown));
        assert_eq!(caps.len(), DEFAULT.len());
    }

    #[test]
    fn drop_all_leaves_what_is_added() {
        let caps = allowed(&host(&["chown"], &["ALL"])).expect("names are right");
        assert_eq!(caps, [Capability::Chown].into_iter().collect());
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let error = allowed(&host(&["CAP_FLY"], &[])).expect_err("no such capability");
        assert_eq!(error.to_string(), "invalid capability: \"CAP_FLY\"");
    }
}
