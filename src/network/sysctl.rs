//! Settings below `/proc/sys/net` of the network namespace that the calling thread is in: the files
//! are those of whoever opens them.

use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result};

/// Sets `net.<name>`, given with slashes (`ipv4/ip_forward`), unless it is so already: where
/// `/proc/sys` is read-only, what an administrator has set in advance is enough.
///
/// # Errors
/// It is not there, or may not be written.
pub fn set(name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{name}");
    if fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).with_context(|| format!("set net.{} to {value}", name.replace('/', ".")))
}

/// The settings of one interface, `net.ipv4.conf.IFNAME.log_martians=1` and more of them behind commas:
/// names for [`set`], and values.
///
/// # Errors
/// Docker's sentence: one that is another interface's, or no interface's.
pub fn of_interface(text: &str, interface: &str) -> Result<Vec<(String, String)>, String> {
    let one = |setting: &str| {
        let (name, value) = setting.trim().split_once('=')?;
        let ["net", family @ ("ipv4" | "ipv6" | "mpls"), group, "IFNAME", last] =
            name.split('.').collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        };
        (is_word(group) && is_word(last)).then(|| (format!("{family}/{group}/{interface}/{last}"), value.to_owned()))
    };
    let each = text.split(',').map(|setting| {
        one(setting).ok_or_else(|| {
            format!(
                "unrecognised network interface sysctl '{setting}'; represent 'net.X.Y.ethN.Z=V' as \
                 'net.X.Y.IFNAME.Z=V'"
            )
        })
    });
    each.collect()
}

/// [`set`] for what not every kernel has: IPv6 may be switched off, and then wants no setting.
///
/// # Errors
/// It may not be written.
pub fn set_if_there(name: &str, value: &str) -> Result<()> {
    match set(name, value) {
        Err(e) if e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::NotFound) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_an_interface() {
        let found = of_interface("net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.neigh.IFNAME.gc_stale_time=9", "eth3");
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            found.unwrap(),
            [own("ipv4/conf/eth3/log_martians", "1"), own("ipv6/neigh/eth3/gc_stale_time", "9")]
        );
        for wrong in [
            "",
            "net.ipv4.conf.eth0.log_martians=1",
            "net.ipv4.conf.IFNAME.log_martians",
            "net.core.IFNAME.x.y=1",
            "net.ipv4.conf.IFNAME./../../x=1",
            "kernel.ipv4.conf.IFNAME.x=1",
        ] {
            assert!(of_interface(wrong, "eth0").unwrap_err().contains("IFNAME"), "{wrong}");
        }
    }
}
