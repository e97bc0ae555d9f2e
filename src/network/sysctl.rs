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
