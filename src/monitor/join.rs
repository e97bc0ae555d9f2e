//! From a request for a further process to that process, in the child that the monitor forked for it.

use std::os::fd::OwnedFd;

use anyhow::{Result, bail};
use nix::unistd::Pid;

use crate::container::exec::Request;
use crate::runtime::Process;
use crate::store::{Id, Store};

/// Makes it, as a child of the caller's.
///
/// # Errors
/// What the client is told.
pub fn join(
    _store: &Store,
    _id: &Id,
    _init: Pid,
    _request: &Request,
    _streams: Option<[OwnedFd; 3]>,
) -> Result<Process> {
    bail!("exec is not built yet")
}
