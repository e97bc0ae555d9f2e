//! The one process beside each running container. It holds the container's standard streams, writes
//! its log, serves its clients, records its end, and leaves with it.
//!
//! Called by `container` through [`start`] (fork, and wait until the container runs) and [`connect`]
//! (a further client), and by `main` through [`run`] in the new process. Promises: what the container
//! writes is never lost to the client that started it and never blocked by another ([`client`] says
//! how); the log is complete before the end is recorded; and when the monitor dies, the container's
//! processes die with it.
//!
//! The way of a monitor: [`start`] forks; the child leaves the session, enters the user's own user
//! namespace and a mount namespace of its own, and executes this binary again from a read-only mount
//! ([`reexec`](crate::sys::reexec)). From there it is [`run`]: launch, report, [`relay`], record.

mod client;
mod exec;
mod follow;
mod input;
mod join;
pub mod log;
pub mod network;
pub mod protocol;
mod relay;
pub mod run;
mod start;

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use nix::unistd::Pid;

use crate::container::state::{PROCESS, Process};
use crate::error::{self, Failure};
use crate::store::{Id, Store, record};
use crate::sys::seqpacket;

use protocol::{Failed, Message, VERSION};
pub use start::start;

/// The monitor's socket in the container's run directory.
const SOCKET: &str = "attach";

/// A client's end of a monitor's socket.
#[derive(Debug)]
pub struct Connection {
    pub socket: OwnedFd,
    /// The container's first process, where this client started it.
    pub pid: Option<Pid>,
    /// The container's standard output, where it does not come over the socket.
    pub output: Option<OwnedFd>,
    /// The container's standard input, where it need not go over the socket.
    pub input: Option<OwnedFd>,
}

/// Which streams of the container a client is joined to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// Joins the monitor of a running container.
///
/// # Errors
/// `container <id> is not running`, in Docker's words.
pub fn connect(store: &Store, id: &Id, streams: Streams) -> Result<Connection> {
    let socket = dial(store, id)?;
    Message::Attach { version: VERSION, streams }.send(socket.as_fd()).map_err(|_| not_running(id))?;
    Ok(Connection { socket, pid: None, output: None, input: None })
}

/// A connection on which nothing has been said.
pub(crate) fn dial(store: &Store, id: &Id) -> Result<OwnedFd> {
    let process: Option<Process> = record::read(&store.container(id).join(PROCESS))?;
    let process = process.ok_or_else(|| not_running(id))?;
    // The user may have another run directory now than when it was started.
    let directory = Store::at(store.root().to_owned(), process.run).container_run(id);
    seqpacket::connect(&directory, SOCKET).map_err(|e| match e.raw_os_error() {
        Some(libc::ENOENT | libc::ECONNREFUSED) => not_running(id),
        _ => anyhow::Error::new(e).context(format!("connect to the monitor of container {id}")),
    })
}

/// In Docker's words, which scripts look for.
pub(crate) fn not_running(id: &Id) -> anyhow::Error {
    Failure::new(format!("container {id} is not running")).into()
}

/// Bytes that a [`Message::Failed`] may have.
const LONGEST_FAILURE: usize = 16 * 1024;

/// An error as [`Message::Failed`] carries it.
fn failed(e: &anyhow::Error) -> Vec<u8> {
    let mut message = error::message(e);
    let mut end = message.len().min(LONGEST_FAILURE / 8);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    let failed = Failed { message, hint: error::hint(e).map(str::to_owned), exit: error::exit_code(e) };
    // A structure of strings and numbers is always JSON.
    serde_json::to_vec(&failed).unwrap_or_default()
}

/// The same error on the other side of the socket.
pub(crate) fn to_error(failed: &[u8]) -> anyhow::Error {
    let failed: Failed = match serde_json::from_slice(failed).context("the monitor's report is damaged") {
        Ok(failed) => failed,
        Err(e) => return e,
    };
    let mut failure = Failure::new(failed.message);
    if let Some(hint) = failed.hint {
        failure = failure.hint(hint);
    }
    if let Some(code) = failed.exit {
        failure = failure.exit(code);
    }
    failure.into()
}

#[cfg(test)]
mod tests;
