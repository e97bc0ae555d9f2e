//! The one process beside each running container.

use std::os::fd::OwnedFd;

use anyhow::{Result, bail};

use crate::container::config::ContainerConfig;
use crate::store::{Id, Store};

/// A client's end of a monitor's socket.
#[derive(Debug)]
pub struct Connection {
    pub socket: OwnedFd,
}

/// Which streams of the container a client is joined to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// Starts a monitor for the container, whose lock the caller holds, and waits until its process
/// runs or could not be run. `streams`: join this client before the first byte of output;
/// `size`: the terminal's rows and columns.
pub fn start(
    _store: &Store,
    _config: &ContainerConfig,
    _streams: Option<Streams>,
    _size: Option<(u16, u16)>,
) -> Result<Connection> {
    bail!("monitor::start is not built yet")
}

/// Joins the monitor of a running container.
pub fn connect(_store: &Store, _id: &Id, _streams: Streams) -> Result<Connection> {
    bail!("monitor::connect is not built yet")
}
