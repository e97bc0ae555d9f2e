//! What the machine and the user have set up for other tools of the field, read as those do. It says
//! what is configured and does nothing about it; asked by `registry` and `image`.
//!
//! - [`credentials`]: who we are to a registry; kept for `login`, with credential helpers
//! - [`registries`]: `registries.conf`: mirrors, other locations, what is blocked, short names
//! - [`certificates`]: folders with the certificates of registries
//! - [`policy`]: `policy.json`: which images are accepted
//! - [`proxies`]: `HTTP_PROXY` and its relatives

pub mod certificates;
pub mod credentials;
pub mod policy;
pub mod proxies;
pub mod registries;

use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};

pub use self::credentials::Credentials;

/// Bytes of a file that people write.
const MAX_TEXT: u64 = 16 << 20;

/// A variable of the environment that is set to something.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// A file or folder of the user's own below `containers/`, as the containers tools have it.
fn own(name: &str) -> Option<PathBuf> {
    let config = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")))?;
    Some(config.join("containers").join(name))
}

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// `--config`: the folder of Docker's own file from here on. The first call counts.
pub fn use_folder(folder: &Path) {
    let _ = FOLDER.set(folder.to_owned());
}

/// The folder of Docker's own file.
fn docker() -> Option<PathBuf> {
    let given = FOLDER.get().cloned();
    given.or_else(|| variable("DOCKER_CONFIG")).or_else(|| Some(variable("HOME")?.join(".docker")))
}

fn read_text(path: &Path) -> Result<Option<String>> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        std::fs::File::open(path)?.take(MAX_TEXT + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_TEXT { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
    };
    match read() {
        Ok(text) => Ok(Some(text)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e).with_context(|| format!("read {path:?}")),
    }
}

/// A domain without its port and brackets.
pub(crate) fn host(domain: &str) -> &str {
    if let Some(rest) = domain.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    domain.split(':').next().unwrap_or(domain)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a host is reached from this machine alone, or from the cable it hangs on: loopback, and the
/// link-local addresses by which a cloud's machine asks for its own keys.
pub(crate) fn is_of_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_near = |address: IpAddr| match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_near)
}

/// Whether a host is an address in a network such as `10.0.0.0/8`.
fn in_network(host: &str, network: &str) -> bool {
    let Some((base, bits)) = network.split_once('/') else { return false };
    let number = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    match (host.parse().map(number), base.parse().map(number), bits.parse::<u32>()) {
        (Ok((host, width)), Ok((base, other)), Ok(bits)) if width == other && bits <= width => {
            bits == 0 || (host ^ base) >> (128 - bits) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_insecure() {
        for (domain, is) in [
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("localhost.example.com", false),
            ("128.0.0.1", false),
        ] {
            assert_eq!(is_loopback(host(domain)), is, "{domain}");
        }
    }

    #[test]
    fn networks_are_compared_by_their_bits() {
        assert!(in_network("10.1.2.3", "10.0.0.0/8"));
        assert!(!in_network("11.1.2.3", "10.0.0.0/8"));
        assert!(in_network("fd00::1", "fd00::/16"));
        assert!(in_network("1.2.3.4", "0.0.0.0/0"));
        assert!(!in_network("host", "10.0.0.0/8") && !in_network("10.0.0.1", "10.0.0.0/99"));
    }
}
