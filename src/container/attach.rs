//! A client joined to a running container's streams: the terminal made raw and restored, its size,
//! detach keys, signals passed on.

use anyhow::{Result, bail};

use crate::monitor::{Connection, Streams};

/// How a session behaves.
#[derive(Debug, Clone, Default)]
pub struct Attach {
    pub streams: Streams,
    /// The container has a terminal.
    pub tty: bool,
    /// As `--detach-keys` has them (`ctrl-p,ctrl-q`).
    pub detach_keys: Option<String>,
    /// Pass signals on to the container's process.
    pub sig_proxy: bool,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The container's process ended with this exit code.
    Exited(u8),
    /// The user left; the container goes on.
    Detached,
}

/// Carries bytes until the container ends or the user leaves.
pub fn session(_connection: Connection, _attach: &Attach) -> Result<Outcome> {
    bail!("attach::session is not built yet")
}
