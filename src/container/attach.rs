//! A client joined to a running container's streams: the terminal made raw and restored, its size,
//! detach keys, signals passed on.

mod console;
mod keys;
mod output;

use std::io::{stderr, stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::read;

use crate::error::{self, Failure, exit};
use crate::monitor::protocol::{CHUNK, Message, PACKET, Stream, WINDOW};
use crate::monitor::{Connection, Streams, to_error};
use crate::sys::seqpacket;

use console::broken_pipe;
pub(crate) use console::{Console, Told};
pub use console::{hold_signals, is_terminal, release_signals, size};
pub(crate) use keys::Detach;
pub(crate) use output::{Output, output_pipe, widen};

/// How a session behaves.
#[derive(Debug, Clone, Default)]
pub struct Attach {
    pub streams: Streams,
    /// The container has a terminal.
    pub tty: bool,
    /// As `--detach-keys` has them (`ctrl-p,ctrl-q`).
    pub detach_keys: Option<String>,
    /// Pass signals on to the container's process, unless the keys that raise them are passed on
    /// themselves.
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
///
/// A reader of our output that is gone ends this process by SIGPIPE, as it would `docker`.
///
/// # Errors
/// The monitor was killed; our output cannot be written (the container goes on then).
pub fn session(connection: Connection, attach: &Attach) -> Result<Outcome> {
    let keys = Detach::parse(attach.detach_keys.as_deref())?;
    let raw = attach.tty && attach.streams.stdin && is_terminal();
    let console = Console::open(raw, attach.sig_proxy && !raw)?;
    let session = Session {
        socket: connection.socket,
        pages: connection.output,
        pipe: connection.input.filter(|_| attach.streams.stdin && !raw).map(Output::own).transpose()?,
        console,
        keys: raw.then_some(keys),
        reading: attach.streams.stdin,
        credit: WINDOW,
        output: Output::new(stdout())?,
        error: Output::new(stderr())?,
        buffer: vec![0; PACKET],
        exited: None,
        endings: 0,
    };
    if attach.tty {
        // Programs draw anew when the size changes: one that was attached to shows itself so.
        if let (None, Some((rows, columns))) = (connection.pid, size()) {
            session.tell(&Message::Resize { rows, columns: columns.saturating_add(1) });
        }
        session.resize();
    }
    session.run()
}

struct Session {
    socket: OwnedFd,
    /// Where standard output comes from, if not over the socket; `None`: it does, or has ended.
    pages: Option<OwnedFd>,
    /// The container's standard input, if it is written to directly.
    pipe: Option<Output>,
    console: Console,
    /// For a terminal whose keys go to the container.
    keys: Option<Detach>,
    /// Standard input has not ended.
    reading: bool,
    /// Bytes of input that may still be sent.
    credit: i64,
    output: Output,
    error: Output,
    buffer: Vec<u8>,
    exited: Option<u8>,
    /// So many SIGINT and SIGTERM were passed on.
    endings: u8,
}

impl Session {
    fn run(mut self) -> Result<Outcome> {
        let input = stdin();
        loop {
            let all_written = self.output.wants_room().is_none() && self.error.wants_room().is_none();
            if let Some(code) = self.exited.filter(|_| all_written) {
                // All of it was in the pipe before the monitor said so.
                if !self.draw()? {
                    return Ok(Outcome::Exited(code));
                }
                continue;
            }
            let mut polls = vec![PollFd::new(self.console.signals(), PollFlags::POLLIN)];
            let mut places = [None; 6];
            let mut add = |place: usize, fd, events| {
                places[place] = Some(polls.len());
                polls.push(PollFd::new(fd, events));
            };
            if self.exited.is_none() {
                add(0, self.socket.as_fd(), PollFlags::POLLIN);
            }
            if self.reading && self.exited.is_none() {
                match self.pipe.as_ref().map(|pipe| (pipe.as_fd(), pipe.wants_room())) {
                    Some((_, Some(room))) => add(4, room, PollFlags::POLLOUT),
                    // Nothing but the reader's leaving.
                    Some((pipe, None)) => {
                        add(4, pipe, PollFlags::empty());
                        add(1, input.as_fd(), PollFlags::POLLIN);
                    }
                    None if self.credit > 0 => add(1, input.as_fd(), PollFlags::POLLIN),
                    None => {}
                }
            }
            if let Some(pages) = self.pages.as_ref().filter(|_| self.output.wants_room().is_none()) {
                add(5, pages.as_fd(), PollFlags::POLLIN);
            }
            for (place, output) in [(2, &self.output), (3, &self.error)] {
                if let Some(fd) = output.wants_room() {
                    add(place, fd, PollFlags::POLLOUT);
                }
            }
            match poll(&mut polls, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(e).context("poll"),
            }
            let is_ready = |at: usize| polls[at].any().unwrap_or(false);
            let signalled = is_ready(0);
            let [word, typed, output, error, pipe, pages] = places.map(|place| place.is_some_and(is_ready));
            if signalled {
                self.told()?;
            }
            if output {
                self.written(Stream::Output, Output::flush)?;
            }
            if error {
                self.written(Stream::Error, Output::flush)?;
            }
            if pages {
                self.draw()?;
            }
            if word {
                self.listen()?;
            }
            if pipe && self.pipe.as_mut().is_some_and(|pipe| pipe.flush().is_err() || pipe.is_broken()) {
                self.close_input();
            }
            if typed && self.read_input() {
                return Ok(Outcome::Detached);
            }
        }
    }

    /// Tells the monitor. One that is gone is noticed when it is listened to.
    fn tell(&self, message: &Message<'_>) {
        let _ = message.send(self.socket.as_fd());
    }

    fn resize(&self) {
        if let Some((rows, columns)) = size() {
            self.tell(&Message::Resize { rows, columns });
        }
    }

    /// As Docker's client, it leaves when it was told to end for the third time.
    fn told(&mut self) -> Result<()> {
        while let Some(told) = self.console.next() {
            match told {
                Told::Resized => self.resize(),
                Told::Pass(number) => {
                    self.tell(&Message::Signal { number });
                    self.endings += u8::from(matches!(number, libc::SIGINT | libc::SIGTERM));
                    if self.endings >= 3 {
                        return Err(Failure::new("got 3 SIGTERM/SIGINTs, forcefully exiting").exit(1).into());
                    }
                }
            }
        }
        Ok(())
    }

    /// Does what the monitor says.
    fn listen(&mut self) -> Result<()> {
        let (length, _) = seqpacket::receive(self.socket.as_fd(), &mut self.buffer, true)?;
        let buffer = std::mem::take(&mut self.buffer);
        match Message::parse(&buffer[..length]) {
            Some(Message::Bytes { stream, bytes }) => self.written(stream, |output| output.push(bytes))?,
            Some(Message::Taken { stream: Stream::Input, count }) => self.credit += i64::from(count),
            Some(Message::InputEnd) => self.close_input(),
            Some(Message::Notice(text)) => error::warn(text),
            Some(Message::Exit { code }) => self.exited = Some(code),
            Some(Message::Failed(failed)) => return Err(to_error(failed)),
            // Of a later version.
            Some(_) => {}
            None if length > 0 => {}
            None => {
                let failure = Failure::new("the container's monitor was killed, and the container with it");
                return Err(failure.exit(exit::ENGINE).into());
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Writes to a stream of ours, and lets the monitor send as much again.
    fn written(&mut self, stream: Stream, write: impl FnOnce(&mut Output) -> nix::Result<usize>) -> Result<()> {
        let (output, name) = match stream {
            Stream::Error => (&mut self.error, "error"),
            _ => (&mut self.output, "output"),
        };
        let count = match write(output) {
            Ok(count) => count,
            Err(e) => return Err(cannot_write(name, e)),
        };
        if count > 0 && self.exited.is_none() {
            self.tell(&Message::Taken { stream, count: u32::try_from(count)? });
        }
        Ok(())
    }

    /// Passes on what is in the pipe. Returns whether there was anything.
    fn draw(&mut self) -> Result<bool> {
        let Some(pages) = &self.pages else { return Ok(false) };
        match self.output.draw(pages.as_fd(), &mut self.buffer) {
            Ok(0) => {
                self.pages = None;
                Ok(false)
            }
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(self.output.wants_room().is_some()),
            Err(e) => Err(cannot_write("output", e)),
        }
    }

    /// Sends what was typed. Returns whether the user left.
    fn read_input(&mut self) -> bool {
        if let Some(pipe) = &mut self.pipe {
            match pipe.draw(stdin().as_fd(), &mut self.buffer) {
                Ok(1..) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(Errno::EPIPE) => self.close_input(),
                // EIO: the terminal is gone.
                Ok(0) | Err(_) => self.end_input(),
            }
            return false;
        }
        // Keys that were held back come on top of what is read.
        let most = if self.keys.is_some() { CHUNK / 2 } else { CHUNK };
        let length = match read(stdin(), &mut self.buffer[..most]) {
            Ok(length) if length > 0 => length,
            Err(Errno::EINTR | Errno::EAGAIN) => return false,
            // EIO: the terminal is gone.
            _ => {
                self.end_input();
                return false;
            }
        };
        let mut bytes = &self.buffer[..length];
        let typed;
        let mut detached = false;
        if let Some(keys) = &mut self.keys {
            typed = keys.pass(bytes);
            bytes = &typed.bytes;
            detached = typed.detached;
        }
        if !bytes.is_empty() {
            self.credit -= i64::try_from(bytes.len()).unwrap_or(i64::MAX);
            self.tell(&Message::Bytes { stream: Stream::Input, bytes });
        }
        detached
    }

    fn end_input(&mut self) {
        self.reading = false;
        self.pipe = None;
        self.tell(&Message::InputEnd);
    }

    /// The container reads no more: who writes to us is told so, as a pipe would.
    fn close_input(&mut self) {
        self.reading = false;
        self.pipe = None;
        if self.keys.is_none()
            && let Ok(null) = std::fs::File::open("/dev/null")
        {
            // Not closed: the number would be given to the next file that is opened.
            let _ = nix::unistd::dup2_stdin(&null);
        }
    }
}

/// Our standard output or error cannot be written to; a reader that is gone ends this process here.
pub(crate) fn cannot_write(stream: &str, error: Errno) -> anyhow::Error {
    if error == Errno::EPIPE {
        broken_pipe();
    }
    Failure::new(format!("write to standard {stream}")).source(error).exit(exit::ENGINE).into()
}
