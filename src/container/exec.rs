//! A further process in a running container.
//!
//! The monitor makes it, for a client whose only part is to carry bytes. The process gets pipes that
//! were made for it, or a terminal of the container's own, never our own descriptors: those would
//! give a container our terminal (TIOCSTI) or, through /proc/self/fd, a file of the host's to open
//! anew.

use std::fs::File;
use std::io::{stderr, stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, read};
use serde::{Deserialize, Serialize};

use crate::container::attach::{self, Console, Detach, Outcome, Output, Told};
use crate::error::{self, Failure, exit};
use crate::monitor::protocol::{self, CHUNK, Message, PACKET, VERSION};
use crate::monitor::{self, to_error};
use crate::store::{Id, Store};
use crate::sys::{seqpacket, terminal};

/// What `ctr exec` asks for.
#[derive(Debug, Default)]
pub struct Exec {
    pub argv: Vec<String>,
    /// `NAME=value`, added to the container's own.
    pub env: Vec<String>,
    /// `user[:group]`; `None`: the container's.
    pub user: Option<String>,
    pub workdir: Option<String>,
    pub tty: bool,
    pub interactive: bool,
    pub detach: bool,
    pub privileged: bool,
    pub detach_keys: Option<String>,
    /// What the process gets beside its standard streams, by the numbers that it finds them under.
    pub descriptors: Vec<(i32, OwnedFd)>,
}

/// What the monitor is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    pub argv: Vec<String>,
    pub env: Vec<String>,
    pub user: Option<String>,
    pub workdir: Option<String>,
    pub tty: bool,
    /// Rows and columns of the terminal.
    pub size: (u16, u16),
    pub detach: bool,
    pub privileged: bool,
    /// The numbers that the process finds further descriptors under, which come behind its streams.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub descriptors: Vec<i32>,
}

/// Runs it and returns how it ended; at once, with `Detached`, for `detach`.
///
/// # Errors
/// `container <id> is not running`; what kept the process from running, with Docker's exit code.
pub fn run(store: &Store, id: &Id, exec: &Exec) -> Result<Outcome> {
    let keys = Detach::parse(exec.detach_keys.as_deref())?;
    let socket = monitor::dial(store, id)?;
    let request = Request {
        argv: exec.argv.clone(),
        env: exec.env.clone(),
        user: exec.user.clone(),
        workdir: exec.workdir.clone(),
        tty: exec.tty,
        size: attach::size().filter(|_| exec.tty).unwrap_or_default(),
        detach: exec.detach,
        privileged: exec.privileged,
        descriptors: exec.descriptors.iter().map(|(number, _)| *number).collect(),
    };
    let further: Vec<_> = exec.descriptors.iter().map(|(_, fd)| fd.as_fd()).collect();
    let request = serde_json::to_vec(&request)?;
    if request.len() > CHUNK {
        return Err(Failure::new("the command and its environment are too long").exit(exit::NOT_EXECUTABLE).into());
    }
    let message = Message::Exec { version: VERSION, request: &request };
    let gone = |_| monitor::not_running(id);
    if exec.detach {
        message.send_with(socket.as_fd(), &further, true).map_err(gone)?;
        first_word(&socket, id)?;
        return Ok(Outcome::Detached);
    }
    if exec.tty {
        message.send_with(socket.as_fd(), &further, true).map_err(gone)?;
        let master = first_word(&socket, id)?.context("the monitor gave no terminal")?;
        let raw = exec.interactive && attach::is_terminal();
        let console = Console::open(raw, false)?;
        return Session {
            input: if exec.interactive { Some(Output::own(master.try_clone()?)?) } else { None },
            streams: [Some((master.try_clone()?, Output::new(stdout())?)), None],
            terminal: Some(master),
            keys: raw.then_some(keys),
            socket,
            console,
            outcome: None,
        }
        .run();
    }
    let (input, stdin) = if exec.interactive {
        let (theirs, ours) = pipe2(OFlag::O_CLOEXEC)?;
        (Some(Output::own(ours)?), theirs)
    } else {
        (None, File::open("/dev/null").context("open \"/dev/null\"")?.into())
    };
    let ((output, stdout_end), (error, stderr_end)) = (pipe2(OFlag::O_CLOEXEC)?, pipe2(OFlag::O_CLOEXEC)?);
    attach::widen(&output);
    let descriptors = [&[stdin.as_fd(), stdout_end.as_fd(), stderr_end.as_fd()], &further[..]].concat();
    message.send_with(socket.as_fd(), &descriptors, true).map_err(gone)?;
    drop((stdin, stdout_end, stderr_end));
    first_word(&socket, id)?;
    let streams = [Some((output, Output::new(stdout())?)), Some((error, Output::new(stderr())?))];
    for (end, _) in streams.iter().flatten() {
        fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let console = Console::open(false, false)?;
    Session { socket, console, input, streams, terminal: None, keys: None, outcome: None }.run()
}

/// Waits until the process runs. Returns its terminal's master, where it has one.
fn first_word(socket: &OwnedFd, id: &Id) -> Result<Option<OwnedFd>> {
    let mut buffer = vec![0; PACKET];
    let word = protocol::receive(socket.as_fd(), &mut buffer, |message, fds| match message {
        Message::Started { .. } => Ok(fds.into_iter().next()),
        Message::Failed(failed) => Err(refused(&to_error(failed))),
        other => Err(anyhow::anyhow!("the monitor's first word was {other:?}")),
    })?;
    // The container ended in this moment.
    word.unwrap_or_else(|| Err(monitor::not_running(id)))
}

/// A process that could not be made: Docker has 127 for a program that is not found and 126 for all
/// else, the engine's own failures too, since the container itself runs.
fn refused(error: &anyhow::Error) -> anyhow::Error {
    let code = error::exit_code(error).filter(|code| *code == exit::NOT_FOUND).unwrap_or(exit::NOT_EXECUTABLE);
    let failure = Failure::new(error::message(error)).exit(code);
    match error::hint(error) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
    .into()
}

struct Session {
    socket: OwnedFd,
    console: Console,
    /// Where standard input goes; `None`: it has ended, or was not asked for.
    input: Option<Output>,
    /// Where standard output and error come from, and go to; `None`: it has ended.
    streams: [Option<(OwnedFd, Output)>; 2],
    terminal: Option<OwnedFd>,
    keys: Option<Detach>,
    /// How it ended; what it wrote may still be on its way.
    outcome: Option<u8>,
}

const STREAMS: [&str; 2] = ["output", "error"];

/// What poll(2) waits for.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Monitor,
    Typed,
    Input,
    From(usize),
    To(usize),
}

impl Session {
    fn run(mut self) -> Result<Outcome> {
        let mut buffer = vec![0; CHUNK];
        loop {
            if let Some(code) = self.outcome {
                // What is left in the pipes; a process that it left behind may write to them for ever.
                let written = self.streams.iter().flatten().all(|(_, output)| output.wants_room().is_none());
                if written && !self.forward(0, &mut buffer)? & !self.forward(1, &mut buffer)? {
                    return Ok(Outcome::Exited(code));
                }
            }
            for source in self.wait()? {
                match source {
                    Source::Signals => self.told(),
                    Source::Monitor => self.listen(&mut buffer)?,
                    Source::Typed => {
                        if self.read_input(&mut buffer) {
                            let _ = Message::Detach.send(self.socket.as_fd());
                            return Ok(Outcome::Detached);
                        }
                    }
                    Source::Input => {
                        if self.input.as_mut().is_some_and(|input| input.flush().is_err()) {
                            self.input = None;
                        }
                    }
                    Source::From(at) => drop(self.forward(at, &mut buffer)?),
                    Source::To(at) => self.flush(at)?,
                }
            }
        }
    }

    /// Everything that is ready.
    fn wait(&self) -> Result<Vec<Source>> {
        let stdin = stdin();
        let (mut sources, mut polls) = (Vec::with_capacity(8), Vec::with_capacity(8));
        let mut add = |source, fd, events| {
            sources.push(source);
            polls.push(PollFd::new(fd, events));
        };
        add(Source::Signals, self.console.signals(), PollFlags::POLLIN);
        for (at, (from, to)) in self.streams.iter().enumerate().filter_map(|(at, s)| Some((at, s.as_ref()?))) {
            match to.wants_room() {
                Some(room) => add(Source::To(at), room, PollFlags::POLLOUT),
                None => add(Source::From(at), from.as_fd(), PollFlags::POLLIN),
            }
        }
        if self.outcome.is_none() {
            add(Source::Monitor, self.socket.as_fd(), PollFlags::POLLIN);
            if let Some(input) = &self.input {
                match input.wants_room() {
                    Some(room) => add(Source::Input, room, PollFlags::POLLOUT),
                    None => add(Source::Typed, stdin.as_fd(), PollFlags::POLLIN),
                }
            }
        }
        match poll(&mut polls, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e).context("poll"),
        }
        let ready = sources.into_iter().zip(&polls).filter(|(_, poll)| poll.any().unwrap_or(false));
        Ok(ready.map(|(source, _)| source).collect())
    }

    fn told(&self) {
        while let Some(told) = self.console.next() {
            if let (Told::Resized, Some(terminal), Some((rows, columns))) = (told, &self.terminal, attach::size()) {
                // A size that the kernel refuses leaves the old one.
                let _ = terminal::set_size(terminal.as_fd(), rows, columns);
            }
        }
    }

    fn listen(&mut self, buffer: &mut [u8]) -> Result<()> {
        let (length, _) = seqpacket::receive(self.socket.as_fd(), buffer, true)?;
        match Message::parse(&buffer[..length]) {
            Some(Message::Exit { code }) => self.outcome = Some(code),
            Some(Message::Failed(failed)) => return Err(to_error(failed)),
            None if length == 0 => {
                let failure = Failure::new("the container's monitor was killed, and the container with it");
                return Err(failure.exit(exit::ENGINE).into());
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads one piece of output and writes it to ours. Returns whether there was any.
    fn forward(&mut self, at: usize, buffer: &mut [u8]) -> Result<bool> {
        let Some((from, to)) = &mut self.streams[at] else { return Ok(false) };
        match to.draw(from.as_fd(), buffer) {
            Ok(1..) => Ok(true),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(to.wants_room().is_some()),
            Ok(0) => {
                self.streams[at] = None;
                Ok(false)
            }
            Err(e) => Err(attach::cannot_write(STREAMS[at], e)),
        }
    }

    fn flush(&mut self, at: usize) -> Result<()> {
        let Some((_, to)) = &mut self.streams[at] else { return Ok(()) };
        to.flush().map(drop).map_err(|e| attach::cannot_write(STREAMS[at], e))
    }

    /// Passes on what was typed. Returns whether the user left.
    fn read_input(&mut self, buffer: &mut [u8]) -> bool {
        let Some(input) = &mut self.input else { return false };
        let Some(keys) = &mut self.keys else {
            // The end, or a terminal that is gone. A pipe's reader is told by closing it.
            if !matches!(input.draw(stdin().as_fd(), buffer), Ok(1..) | Err(Errno::EAGAIN | Errno::EINTR)) {
                self.input = None;
            }
            return false;
        };
        let length = match read(stdin(), buffer) {
            Ok(length) if length > 0 => length,
            Err(Errno::EINTR | Errno::EAGAIN) => return false,
            _ => {
                self.input = None;
                return false;
            }
        };
        let typed = keys.pass(&buffer[..length]);
        if input.push(&typed.bytes).is_err() {
            // It reads no more.
            self.input = None;
        }
        typed.detached
    }
}
