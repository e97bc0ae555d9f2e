//! `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname` as the container sees them, written into its
//! directory at each start.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::container::config::{ContainerConfig, HostConfig};
use crate::container::spec::hostname;
use crate::store::Store;

/// Writes the three files; returns each with the place where it is mounted.
pub fn write(store: &Store, container: &ContainerConfig) -> Result<Vec<(PathBuf, &'static str)>> {
    let directory = store.container(&container.id);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let shares_network = container.host_config.network_mode == "host";
    let host_hosts = if shares_network { read("/etc/hosts") } else { String::new() };
    let files = [
        ("hosts", "/etc/hosts", hosts(container, &host_hosts)),
        (
            "resolv.conf",
            "/etc/resolv.conf",
            resolv_conf(&container.host_config, &read("/etc/resolv.conf"), shares_network),
        ),
        ("hostname", "/etc/hostname", format!("{}\n", hostname(container))),
    ];
    files.into_iter().map(|(name, place, text)| put(&directory, name, &text).map(|path| (path, place))).collect()
}

/// In place, not by a rename: a running container's bind mount shows this very file.
fn put(directory: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    fs::write(&path, text).with_context(|| format!("write {path:?}"))?;
    // Readable whatever umask ctr was called with, and by every user of the container.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(&path, mode).with_context(|| format!("set the mode of {path:?}"))?;
    Ok(path)
}

fn hosts(container: &ContainerConfig, host: &str) -> String {
    let mut text = if host.is_empty() {
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n"
            .to_owned()
    } else {
        host.trim_end().to_owned() + "\n"
    };
    for entry in &container.host_config.extra_hosts {
        // `name:address` or `name=address`; an IPv6 address has colons of its own.
        if let Some((name, address)) = entry.split_once(['=', ':']) {
            let _ = writeln!(text, "{}\t{name}", address.trim_matches(['[', ']']));
        }
    }
    if host.is_empty() {
        let name = hostname(container);
        let domain = &container.config.domainname;
        // Without an address of its own the container is to be found on its loopback.
        let _ = match domain.as_str() {
            "" => writeln!(text, "127.0.0.1\t{name}"),
            domain => writeln!(text, "127.0.0.1\t{name}.{domain} {name}"),
        };
    }
    text
}

/// The host's, with what was asked for in its place. Name servers on the host's loopback are out
/// of reach unless the network is shared.
fn resolv_conf(host: &HostConfig, text: &str, shares_network: bool) -> String {
    let value = |line: &str, key: &str| {
        let rest = line.trim().strip_prefix(key)?;
        rest.starts_with([' ', '\t']).then(|| rest.trim().to_owned())
    };
    let of_host = |key: &str| text.lines().filter_map(|line| value(line, key)).collect::<Vec<_>>();
    let mut servers = host.dns.clone();
    if servers.is_empty() {
        let is_loopback = |s: &String| s.starts_with("127.") || s == "::1";
        servers = of_host("nameserver").into_iter().filter(|s| shares_network || !is_loopback(s)).collect();
    }
    let search = match &host.dns_search[..] {
        [] => of_host("search").pop(),
        // `--dns-search .`: none at all.
        [only] if only == "." => None,
        domains => Some(domains.join(" ")),
    };
    let options = match &host.dns_options[..] {
        [] => of_host("options").pop(),
        options => Some(options.join(" ")),
    };
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    for (key, value) in [("search", search), ("options", options)] {
        if let Some(value) = value {
            let _ = writeln!(text, "{key} {value}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str =
        "# made by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch example.org\noptions edns0\n";

    #[test]
    fn a_private_network_cannot_reach_the_hosts_loopback() {
        let text = resolv_conf(&HostConfig::default(), HOST, false);
        assert_eq!(text, "nameserver 192.0.2.1\nsearch example.org\noptions edns0\n");
        assert!(resolv_conf(&HostConfig::default(), HOST, true).starts_with("nameserver 127.0.0.53\n"));
    }

    #[test]
    fn what_is_asked_for_takes_the_place_of_the_hosts() {
        let host = HostConfig {
            dns: vec!["192.0.2.9".into()],
            dns_search: vec![".".into()],
            dns_options: vec!["ndots:2".into(), "rotate".into()],
            ..HostConfig::default()
        };
        assert_eq!(resolv_conf(&host, HOST, false), "nameserver 192.0.2.9\noptions ndots:2 rotate\n");
    }
}
