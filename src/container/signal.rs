//! Signals by name and number, and sending one to a container.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::container::state::{self, Process};
use crate::error::Failure;
use crate::store::{Id, Store, record};
use crate::sys::pidfd;

/// `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+1`: signal(7).
///
/// # Errors
/// `invalid signal: X`, Docker's.
pub fn parse(text: &str) -> Result<i32> {
    let invalid = || Failure::new(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=libc::SIGRTMAX()).contains(&number) { Ok(number) } else { Err(invalid().into()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let number = offset.strip_prefix('+').map_or(Ok(0), str::parse::<i32>).unwrap_or(-1);
        // Docker counts from the kernel's first one that C libraries leave to programs.
        return Some(libc::SIGRTMIN() + number)
            .filter(|n| number >= 0 && *n <= libc::SIGRTMAX() && (offset.is_empty() || offset.starts_with('+')))
            .ok_or_else(|| invalid().into());
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        let number = offset.strip_prefix('-').map_or(Ok(0), str::parse::<i32>).unwrap_or(-1);
        return Some(libc::SIGRTMAX() - number)
            .filter(|n| number >= 0 && *n >= libc::SIGRTMIN() && (offset.is_empty() || offset.starts_with('-')))
            .ok_or_else(|| invalid().into());
    }
    let name = match name {
        "CLD" => "CHLD",
        "POLL" => "IO",
        "IOT" => "ABRT",
        name => name,
    };
    format!("SIG{name}").parse::<Signal>().map(|signal| signal as i32).map_err(|_| invalid().into())
}

/// The first process of a container that runs.
#[derive(Debug)]
pub struct Running {
    pub process: Process,
    /// Readable once it has ended.
    pub pidfd: OwnedFd,
}

impl Running {
    /// `None`: it does not run, or has ended and its monitor is about to write so.
    ///
    /// # Errors
    /// Its record cannot be read.
    pub fn find(store: &Store, id: &Id) -> Result<Option<Self>> {
        if !state::is_alive(store, id) {
            return Ok(None);
        }
        let path = store.container(id).join(state::PROCESS);
        let Some(process) = record::read::<Process>(&path)? else { return Ok(None) };
        let pid = Pid::from_raw(process.pid);
        let pidfd = match pidfd::open(pid) {
            Ok(pidfd) => pidfd,
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("open process {pid}")),
        };
        // The number was not given to another process before the descriptor held it.
        if pidfd::start_time(pid) != Some(process.start_time) {
            return Ok(None);
        }
        Ok(Some(Self { process, pidfd }))
    }

    /// Sends it; that the process has just ended is no error.
    ///
    /// # Errors
    /// As `pidfd_send_signal(2)`: not permitted.
    pub fn send(&self, signal: i32) -> nix::Result<()> {
        match pidfd::signal(self.pidfd.as_fd(), signal) {
            Err(Errno::ESRCH) => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("TERM", 15),
            ("sigkill", 9),
            ("SIGHUP", 1),
            ("9", 9),
            ("RTMIN", libc::SIGRTMIN()),
            ("SIGRTMIN+3", libc::SIGRTMIN() + 3),
            ("RTMAX-1", libc::SIGRTMAX() - 1),
            ("SIGCLD", 17),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for text in ["FOO", "0", "-1", "65", "", "SIG", "RTMIN-1", "RTMIN+99", "RTMIN3"] {
            assert_eq!(parse(text).unwrap_err().to_string(), format!("invalid signal: {text}"));
        }
    }
}
