//! The monitor's loop: bytes between the container and its clients, until the container's process
//! ends. One thread, and nothing in it waits but poll(2). [`streams`] moves the bytes, [`serve`] does
//! what clients say.

mod serve;
mod streams;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::monitor::client::{Client, Role};
use crate::monitor::exec::{Further, Session};
use crate::monitor::follow::Followers;
use crate::monitor::input::Input;
use crate::monitor::log::Log;
use crate::monitor::network::{Sandbox, Token};
use crate::monitor::protocol::{Message, PACKET, Stream};
use crate::network::record::Network;
use crate::sys::{memory, pidfd, terminal};

/// After so long without anything to do, memory that only the work before needed is given back.
const IDLE: Duration = Duration::from_secs(1);

/// The same after the start, which needs the most: a container of a moment has ended by then.
const FIRST_IDLE: Duration = Duration::from_millis(100);

/// So long nobody is let in when there is no descriptor for them.
const FULL: Duration = Duration::from_millis(100);

/// Exit code of a container whose time was over, Podman's.
const TIMED_OUT: u8 = 255;

/// How long a guest may take to fetch the end.
const FAREWELL: Duration = Duration::from_secs(5);

/// The monitor's ends of the container's standard streams.
#[derive(Debug)]
pub enum Ends {
    Pipes {
        input: Option<OwnedFd>,
        output: OwnedFd,
        error: OwnedFd,
    },
    /// `reads`: what clients type is for the container.
    Terminal {
        master: OwnedFd,
        reads: bool,
    },
}

/// What ends a container whose monitor is told to end.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    pub signal: i32,
    /// Then it is killed; `None`: never.
    pub patience: Option<Duration>,
}

pub struct Relay {
    process: OwnedFd,
    signals: SignalFd,
    listener: Option<OwnedFd>,
    output: Option<OwnedFd>,
    error: Option<OwnedFd>,
    input: Input,
    /// Standard input ends when a client that has it leaves, or says that its own ended.
    stdin_once: bool,
    terminal: Option<OwnedFd>,
    /// The terminal's other side. While somebody has it open, the master reports no hang-up, which
    /// poll(2) would report again and again until a process of the container opens it next.
    #[allow(dead_code, reason = "held, not read")]
    peer: Option<OwnedFd>,
    log: Log,
    clients: Vec<Client>,
    followers: Followers,
    sessions: Vec<Session>,
    further: Further,
    /// The container's networks, where it has some.
    network: Option<Sandbox>,
    clients_so_far: u64,
    stop: Stop,
    kill_at: Option<Instant>,
    /// When the container's time is over.
    ends_at: Option<Instant>,
    timed_out: bool,
    /// Until then no client is let in: no descriptor is left for one, and the listener would be
    /// readable all the time.
    full_until: Option<Instant>,
    /// When nothing has been done for so long, memory is given back; `None`: it was.
    idle: Option<Duration>,
    buffer: Vec<u8>,
}

/// What poll(2) waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Process,
    Signals,
    Listener,
    Output(Stream),
    Input,
    Client(u64),
    /// Room in a client's pipe.
    Pipe(u64),
    Follower(u64),
    /// A question for a name, a client of a published port, or the uplink's end.
    Network(Token),
    /// A further process's report or its end.
    Session(u64),
    /// The terminal of a further process that nobody looks at any more.
    Forsaken(u64),
}

impl Relay {
    /// # Errors
    /// The kernel gives no descriptor.
    pub fn new(
        process: OwnedFd,
        ends: Ends,
        log: Log,
        (stdin_once, stop): (bool, Stop),
        listener: Option<OwnedFd>,
        further: Further,
    ) -> Result<Self> {
        let (input, output, error, terminal, peer) = match ends {
            Ends::Pipes { input, output, error } => (input, output, Some(error), None, None),
            Ends::Terminal { master, reads } => {
                let peer = terminal::slave_of(master.as_fd()).context("open the container's terminal")?;
                let input = if reads { Some(master.try_clone()?) } else { None };
                (input, master.try_clone()?, None, Some(master), Some(peer))
            }
        };
        for end in [input.as_ref(), Some(&output), error.as_ref()].into_iter().flatten() {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(Self {
            process,
            signals: signals()?,
            listener,
            output: Some(output),
            error,
            input: Input::new(input),
            stdin_once: stdin_once && terminal.is_none(),
            terminal,
            peer,
            log,
            clients: Vec::new(),
            followers: Followers::default(),
            sessions: Vec::new(),
            further,
            network: None,
            clients_so_far: 0,
            stop,
            kill_at: None,
            ends_at: None,
            timed_out: false,
            full_until: None,
            idle: Some(FIRST_IDLE),
            buffer: vec![0; PACKET],
        })
    }

    /// The container's standard input, where it is a pipe.
    pub fn input(&self) -> Option<BorrowedFd<'_>> {
        self.input.end().filter(|_| self.terminal.is_none())
    }

    /// Kills the container's process.
    pub fn kill(&self) {
        // It may have ended in this moment.
        let _ = pidfd::signal(self.process.as_fd(), libc::SIGKILL);
    }

    /// Kills the container's process when it has run for so long.
    pub fn limit(&mut self, time: Duration) {
        // A time past what a clock can show never comes.
        self.ends_at = Instant::now().checked_add(time);
    }

    /// Serves the container's networks from now on.
    pub fn serve_network(&mut self, network: Option<Sandbox>) {
        self.network = network;
    }

    /// Gives back all that the container's networks took: addresses, ports, the namespace itself.
    /// Returns which they were.
    pub fn leave_network(&mut self) -> Vec<Network> {
        self.network.take().map(|sandbox| sandbox.networks()).unwrap_or_default()
    }

    /// Joins a client; `pipe`: standard output goes there.
    pub fn join(&mut self, socket: OwnedFd, role: Role, pipe: Option<OwnedFd>) {
        self.clients_so_far += 1;
        self.clients.push(Client::new(self.clients_so_far, socket, role).with_pipe(pipe));
    }

    /// Carries bytes until the container's process ends. Returns its exit code, 128 and the signal's
    /// number where one ended it.
    ///
    /// # Errors
    /// poll(2) or waitid(2) fail, which they do not.
    pub fn run(&mut self) -> Result<u8> {
        loop {
            for (source, events) in self.wait()? {
                match source {
                    Source::Process => {
                        let code = pidfd::reap(self.process.as_fd()).context("wait for the container's process")?;
                        return Ok(if self.timed_out { TIMED_OUT } else { code });
                    }
                    Source::Signals => self.told(),
                    Source::Listener => self.welcome(),
                    Source::Output(stream) => drop(self.forward(stream)),
                    Source::Input => self.feed(),
                    Source::Client(number) => self.serve(number, events),
                    Source::Pipe(number) => {
                        if let Some(client) = self.clients.iter_mut().find(|c| c.number == number) {
                            client.room();
                        }
                    }
                    Source::Follower(number) => self.followers.listen(number),
                    Source::Network(token) => {
                        if let Some(network) = &mut self.network {
                            network.ready(token);
                        }
                    }
                    Source::Session(number) => self.attend(number),
                    Source::Forsaken(number) => self.discard(number),
                }
            }
            self.part();
        }
    }

    /// Tells every client the exit code, and waits until each has fetched all that is left for it or
    /// is gone.
    ///
    /// # Errors
    /// As [`Relay::run`].
    pub fn farewell(&mut self, code: u8) -> Result<()> {
        self.listener = None;
        let leave = Instant::now() + FAREWELL;
        loop {
            for client in &mut self.clients {
                // The word comes behind the last byte.
                if client.close_pipe() && !client.told {
                    client.told = true;
                    if client.role != Role::Exec {
                        client.send(&Message::Exit { code });
                    }
                }
            }
            self.clients.retain(|c| (c.is_waiting() || !c.told) && !c.gone);
            let now = Instant::now();
            if now >= leave {
                self.clients.retain(|c| matches!(c.role, Role::Foreground(_)));
            }
            if self.clients.is_empty() {
                return Ok(());
            }
            let mut polls = Vec::new();
            for client in &self.clients {
                if client.is_waiting() {
                    polls.push(PollFd::new(client.socket(), PollFlags::POLLOUT));
                }
                polls.extend(client.wants_room().map(|room| PollFd::new(room, PollFlags::POLLOUT)));
            }
            let guests = self.clients.iter().any(|c| !matches!(c.role, Role::Foreground(_)));
            wait_for(&mut polls, guests.then_some(leave))?;
            for client in &mut self.clients {
                client.room();
                if client.is_waiting() {
                    client.flush();
                }
            }
        }
    }

    /// Everything that is ready.
    fn wait(&mut self) -> Result<Vec<(Source, PollFlags)>> {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            self.kill();
        }
        if self.ends_at.is_some_and(|at| at <= now) {
            self.ends_at = None;
            self.timed_out = true;
            self.kill();
        }
        self.full_until = self.full_until.filter(|until| *until > now);
        if let Some(network) = &mut self.network {
            network.expire(now);
        }
        let mut held = [false; 2];
        for client in &mut self.clients {
            held[0] |= client.holds_back(Stream::Output, now);
            held[1] |= client.holds_back(Stream::Error, now);
        }
        if self.followers.hold_back(now) {
            held = [true; 2];
        }
        let mut sources = Vec::with_capacity(8);
        let mut polls = Vec::with_capacity(8);
        let mut add = |source, fd, events| {
            sources.push(source);
            polls.push(PollFd::new(fd, events));
        };
        // Before the process's end: what it wrote last should be read in the usual way.
        if let Some(fd) = self.output.as_ref().filter(|_| !held[0]) {
            add(Source::Output(Stream::Output), fd.as_fd(), PollFlags::POLLIN);
        }
        if let Some(fd) = self.error.as_ref().filter(|_| !held[1]) {
            add(Source::Output(Stream::Error), fd.as_fd(), PollFlags::POLLIN);
        }
        if let Some(fd) = self.input.wants_room() {
            add(Source::Input, fd, PollFlags::POLLOUT);
        }
        add(Source::Signals, self.signals.as_fd(), PollFlags::POLLIN);
        if let Some(listener) = self.listener.as_ref().filter(|_| self.full_until.is_none()) {
            add(Source::Listener, listener.as_fd(), PollFlags::POLLIN);
        }
        for client in &self.clients {
            let room = if client.is_waiting() { PollFlags::POLLOUT } else { PollFlags::empty() };
            add(Source::Client(client.number), client.socket(), PollFlags::POLLIN | room);
            if let Some(room) = client.wants_room() {
                add(Source::Pipe(client.number), room, PollFlags::POLLOUT);
            }
        }
        for follower in self.followers.iter() {
            add(Source::Follower(follower.number), follower.socket(), PollFlags::POLLIN);
        }
        for session in &self.sessions {
            add(Source::Session(session.client), session.report(), PollFlags::POLLIN);
            if let Some(terminal) = session.forsaken() {
                add(Source::Forsaken(session.client), terminal, PollFlags::POLLIN);
            }
        }
        for (token, fd, events) in self.network.iter().flat_map(Sandbox::descriptors) {
            add(Source::Network(token), fd, events);
        }
        add(Source::Process, self.process.as_fd(), PollFlags::POLLIN);
        let idle = self.idle.map(|idle| now + idle);
        let wakes = self.clients.iter().filter_map(Client::patience_ends);
        let wakes = wakes.chain(self.followers.patience_ends(now));
        let wake = wakes.chain(self.kill_at).chain(self.ends_at).chain(self.full_until).chain(idle);
        let wake = wake.chain(self.network.as_ref().and_then(Sandbox::deadline)).min();
        let is_quiet = wait_for(&mut polls, wake)? == 0;
        let ready: Vec<_> = sources
            .into_iter()
            .zip(&polls)
            .filter_map(|(source, poll)| {
                let events = poll.revents()?;
                (!events.is_empty()).then_some((source, events))
            })
            .collect();
        if idle.is_some_and(|idle| is_quiet && idle <= Instant::now()) {
            if let Some(network) = &mut self.network {
                network.rest();
            }
            self.log.rest();
            memory::release();
            self.idle = None;
        } else if !is_quiet {
            // What was not given back yet after the start is so at the first rest.
            self.idle = self.idle.or(Some(IDLE));
        }
        Ok(ready)
    }

    /// The monitor itself was sent a signal: by systemd that stops the unit it is in, or by hand.
    fn told(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            // It has no terminal whose end could concern it.
            if info.ssi_signo == Signal::SIGHUP as u32 {
                continue;
            }
            let _ = pidfd::signal(self.process.as_fd(), self.stop.signal);
            if self.kill_at.is_none() {
                self.kill_at = self.stop.patience.map(|patience| Instant::now() + patience);
            }
        }
    }
}

/// The signals that a monitor acts on, blocked and readable.
fn signals() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

fn wait_for(polls: &mut [PollFd<'_>], until: Option<Instant>) -> Result<i32> {
    let timeout = match until {
        None => PollTimeout::NONE,
        Some(at) => {
            // Rounded up, so that the moment has come when poll returns.
            let left = at.saturating_duration_since(Instant::now()).as_millis() + 1;
            PollTimeout::try_from(i32::try_from(left).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
        }
    };
    match poll(polls, timeout) {
        Ok(ready) => Ok(ready),
        Err(Errno::EINTR) => Ok(0),
        Err(e) => Err(e).context("poll"),
    }
}
