//! Further processes of the container, each for a client that asked for it.
//!
//! The joining is done by a child of the monitor's, since it enters the container's namespaces and
//! can fail or wait at any step; the monitor only hears from it, over a socket of the same protocol:
//! `Started` (with the terminal's master, where it has one) or `Failed`, then `Exit`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, read};

use crate::container::exec::Request;
use crate::error::exit;
use crate::monitor::client::Client;
use crate::monitor::network::Sandbox;
use crate::monitor::protocol::Message;
use crate::runtime::Process;
use crate::store::Id;
use crate::sys::process::{Fork, exit_now, fork};
use crate::sys::{self, pidfd, seqpacket};

/// What is done for further processes that only this container's monitor can do.
pub struct Further {
    /// Makes the process of a request, in the forked child and as that child's own child.
    pub join: Box<Join>,
    /// Records an event of the container's: its action, and what is to be said of it.
    pub note: Box<Note>,
    /// Has networks for a container that was started on none: what is asked for, as JSON.
    pub network: Box<Open>,
}

type Join = dyn Fn(&Request, Descriptors) -> Result<Process>;
type Note = dyn Fn(&str, &[(&str, &str)]);
type Open = dyn Fn(&[u8]) -> Result<Sandbox>;

/// What came with a request.
#[derive(Debug)]
pub struct Descriptors {
    /// The process's standard streams; there are none for a terminal.
    pub streams: Option<[OwnedFd; 3]>,
    /// In the order of the request's `descriptors`.
    pub further: Vec<OwnedFd>,
}

/// One further process, or the attempt.
#[derive(Debug)]
pub struct Session {
    /// The client that asked for it.
    pub client: u64,
    report: OwnedFd,
    child: Pid,
    /// The client has a copy of the master too. When both are closed, the process is hung up on.
    terminal: Option<OwnedFd>,
    /// Nobody looks at the terminal any more, and the process shall go on.
    forsaken: bool,
    has_ended: bool,
}

impl Session {
    /// Forks the child that joins the container.
    ///
    /// # Errors
    /// A request that is none, or the kernel has no process to give.
    pub fn start(client: u64, request: &[u8], mut streams: Vec<OwnedFd>, monitor: &Further) -> Result<Self> {
        let request: Request = serde_json::from_slice(request).context("read the request")?;
        // The standard ones come first.
        let first = streams.len().checked_sub(request.descriptors.len()).context("descriptors are missing")?;
        let further = streams.split_off(first);
        let streams = match (request.tty, request.detach, streams.len()) {
            (true, _, 0) => None,
            (false, true, 0) => Some(null_streams()?),
            (false, false, 3) => <[OwnedFd; 3]>::try_from(streams).ok(),
            _ => bail!("the request has the wrong number of streams"),
        };
        let descriptors = Descriptors { streams, further };
        let (report, theirs) = seqpacket::pair()?;
        match fork()? {
            Fork::Child => {
                drop(report);
                exit_now(child(&request, descriptors, &theirs, monitor))
            }
            Fork::Parent(child) => {
                let forsaken = request.tty && request.detach;
                Ok(Self { client, report, child, terminal: None, forsaken, has_ended: false })
            }
        }
    }

    pub fn report(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }

    /// The terminal to read from so that its process can go on writing.
    pub fn forsaken(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().filter(|_| self.forsaken).map(AsFd::as_fd)
    }

    /// The client detached.
    pub fn forsake(&mut self) {
        self.forsaken = true;
    }

    /// The client is gone. Unless it detached, its terminal is hung up.
    pub fn client_left(&mut self) {
        if !self.forsaken {
            self.terminal = None;
        }
    }

    /// Passes the child's report on. Returns whether that was the last one.
    pub fn attend(&mut self, mut client: Option<&mut Client>) -> bool {
        let mut packet = vec![0u8; super::LONGEST_FAILURE + 64];
        let Ok((length, fds)) = seqpacket::receive(self.report.as_fd(), &mut packet, false) else { return false };
        match Message::parse(&packet[..length]) {
            None => {
                // The child is gone, or is about to be: it closes this socket by ending.
                let _ = waitpid(self.child, None);
                if let Some(client) = client.filter(|_| !self.has_ended) {
                    client.send(&Message::Failed(&super::failed(&anyhow::anyhow!(
                        "the process was killed while it was made"
                    ))));
                }
                return true;
            }
            Some(message) => {
                self.has_ended = matches!(message, Message::Exit { .. } | Message::Failed(_));
                if let Some(client) = &mut client {
                    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                    client.send_with(&message, &fds);
                }
            }
        }
        self.terminal = fds.into_iter().next().or(self.terminal.take());
        if client.is_none() {
            // It left while the process was being made.
            self.client_left();
        }
        false
    }

    /// The container's process has ended, and this one with it: its exit code is on its way.
    pub fn container_ended(&mut self, mut client: Option<&mut Client>) {
        let until = Instant::now() + Duration::from_secs(1);
        while !self.has_ended && Instant::now() < until {
            let mut polls = [PollFd::new(self.report.as_fd(), PollFlags::POLLIN)];
            if poll(&mut polls, 100u8).is_ok_and(|ready| ready > 0) && self.attend(client.as_deref_mut()) {
                return;
            }
        }
        if !self.has_ended {
            // It shares the host's processes and no cgroup could be made that it would be in.
            let _ = kill(self.child, Signal::SIGKILL);
            if let Some(client) = client {
                client.send(&Message::Exit { code: exit::KILLED });
            }
        }
        let _ = waitpid(self.child, None);
    }

    /// Reads the forsaken terminal's output away.
    pub fn discard(&mut self, buffer: &mut [u8]) {
        if let Some(terminal) = &self.terminal
            && !matches!(read(terminal, buffer), Ok(1..) | Err(Errno::EAGAIN | Errno::EINTR))
        {
            self.terminal = None;
        }
    }
}

/// The child: makes the process, reports, waits for its end. It must not keep what the monitor has
/// open: its lock says that the monitor lives, its sockets that clients are served.
fn child(request: &Request, descriptors: Descriptors, report: &OwnedFd, monitor: &Further) -> i32 {
    let id = Id::random().map(|id| id.to_string()).unwrap_or_default();
    let note = |action: &str, code: Option<u8>| {
        let code = code.map(|code| code.to_string());
        let mut more = vec![("execID", id.as_str())];
        more.extend(code.as_deref().map(|code| ("exitCode", code)));
        // Docker's form: the command is a part of the action.
        let command = if code.is_none() { format!(": {}", request.argv.join(" ")) } else { String::new() };
        (monitor.note)(&format!("{action}{command}"), &more);
    };
    let outcome = (|| {
        let Descriptors { streams, further } = &descriptors;
        let mut kept: Vec<_> = streams.iter().flatten().chain(further).map(AsFd::as_fd).collect();
        kept.push(report.as_fd());
        sys::descriptors::close_all_but(&kept)?;
        // The monitor's death is the container's.
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        SigSet::all().thread_unblock()?;
        note("exec_create", None);
        let process = (monitor.join)(request, descriptors)?;
        note("exec_start", None);
        Ok(process)
    })();
    let told = match &outcome {
        Ok(Process { pid, terminal, .. }) => {
            let terminal: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
            Message::Started { pid: pid.as_raw() }.send_with(report.as_fd(), &terminal, true)
        }
        Err(e) => {
            let failed = super::failed(e);
            Message::Failed(&failed).send(report.as_fd())
        }
    };
    if let (Ok(Process { pidfd, terminal, .. }), Ok(())) = (outcome, told) {
        // Only those who look at the terminal keep it open.
        drop(terminal);
        let code = pidfd::reap(pidfd.as_fd()).unwrap_or(exit::ENGINE);
        note("exec_die", Some(code));
        // The monitor may be gone.
        let _ = Message::Exit { code }.send(report.as_fd());
    }
    0
}

fn null_streams() -> Result<[OwnedFd; 3]> {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").context("open \"/dev/null\"")?;
    Ok([null.try_clone()?.into(), null.try_clone()?.into(), null.into()])
}
