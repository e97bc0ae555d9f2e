//! One client of a monitor, as the monitor sees it.
//!
//! Who may hold the container back? The client that started it in the foreground may, for as long
//! as it likes: `ctr run x | less` is a pipe, where a reader that stops stops the writer and no byte
//! is ever lost; it ends with that client. A client that attached later is a guest: it holds the
//! container back for [`PATIENCE`] at most, so that a burst arrives whole; one that takes nothing for
//! longer is passed over, and told how much it missed when it reads again. The log has it all.
//!
//! The one in the foreground may have given a pipe for standard output ([`Pipe`]).

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice, tee};
use nix::unistd::write;

use crate::monitor::Streams;
use crate::monitor::protocol::{Message, Stream, WINDOW};
use crate::sys::seqpacket;

/// How long a guest may hold the container back.
pub const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Client {
    /// Tells it from every other client that this monitor ever had.
    pub number: u64,
    socket: OwnedFd,
    pub role: Role,
    /// What may still be sent of standard output and error.
    credit: [i64; 2],
    /// Since when it has held the container back.
    held_since: Option<Instant>,
    /// Bytes that it missed while it was passed over.
    missed: Option<u64>,
    /// Packets that the socket had no room for. Small: credit bounds what is sent.
    waiting: VecDeque<Vec<u8>>,
    /// Where standard output goes instead of the socket.
    pipe: Option<Pipe>,
    /// The last word was said.
    pub told: bool,
    pub gone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Has not said what it wants.
    New,
    /// Started the container in the foreground.
    Foreground(Streams),
    /// Attached later.
    Guest(Streams),
    /// Wants a further process, or has one.
    Exec,
}

impl Client {
    pub fn new(number: u64, socket: OwnedFd, role: Role) -> Self {
        let credit = [WINDOW; 2];
        Self {
            number,
            socket,
            role,
            credit,
            held_since: None,
            missed: None,
            waiting: VecDeque::new(),
            pipe: None,
            told: false,
            gone: false,
        }
    }

    /// Sends standard output into a pipe from now on.
    #[must_use]
    pub fn with_pipe(mut self, pipe: Option<OwnedFd>) -> Self {
        self.pipe = pipe.map(Pipe::new);
        self
    }

    /// The pipe, where standard output is taken page by page at present.
    pub fn pipe(&mut self) -> Option<&mut Pipe> {
        self.pipe.as_mut().filter(|pipe| pipe.takes_pages())
    }

    /// What to wait for until there is room in the pipe.
    pub fn wants_room(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().and_then(Pipe::wants_room)
    }

    /// There is room in the pipe.
    pub fn room(&mut self) {
        if let Some(pipe) = &mut self.pipe
            && pipe.flush().is_err()
        {
            self.lose_pipe();
        }
    }

    /// Nobody reads the pipe any more: who did has left, or is about to be told by us what its own
    /// reader's leaving is called.
    pub fn lose_pipe(&mut self) {
        self.pipe = None;
        if let Role::Foreground(streams) | Role::Guest(streams) = &mut self.role {
            streams.stdout = false;
        }
    }

    /// From now on all output is copied, however much there is: nothing holds the container back, it
    /// has ended.
    pub fn gather(&mut self) {
        if let Some(pipe) = &mut self.pipe {
            pipe.gathers = true;
        }
    }

    /// All is in the pipe, and it is closed. Returns whether that is so.
    pub fn close_pipe(&mut self) -> bool {
        if self.pipe.as_ref().is_some_and(|pipe| pipe.rest.is_empty()) {
            self.pipe = None;
        }
        self.pipe.is_none()
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Whether it is joined to the stream.
    pub fn has(&self, stream: Stream) -> bool {
        match (self.role, stream) {
            (Role::Foreground(s) | Role::Guest(s), Stream::Input) => s.stdin,
            (Role::Foreground(s) | Role::Guest(s), Stream::Output) => s.stdout,
            (Role::Foreground(s) | Role::Guest(s), Stream::Error) => s.stderr,
            _ => false,
        }
    }

    /// Whether packets wait for room in the socket.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether nothing more of the stream may be read because of this client; a guest that does so
    /// for too long is passed over from now on.
    pub fn holds_back(&mut self, stream: Stream, now: Instant) -> bool {
        if let Some(pipe) = self.pipe.as_ref().filter(|_| stream == Stream::Output) {
            return pipe.full;
        }
        if !self.has(stream) || self.missed.is_some() || self.credit[slot(stream)] > 0 {
            return false;
        }
        let since = *self.held_since.get_or_insert(now);
        if matches!(self.role, Role::Guest(_)) && now.duration_since(since) >= PATIENCE {
            self.missed = Some(0);
            return false;
        }
        true
    }

    /// When [`Client::holds_back`] will answer otherwise.
    pub fn patience_ends(&self) -> Option<Instant> {
        match self.role {
            Role::Guest(_) if self.missed.is_none() => self.held_since.map(|since| since + PATIENCE),
            _ => None,
        }
    }

    /// Sends output of the container, if it is joined to that stream and keeps up.
    pub fn output(&mut self, stream: Stream, bytes: &[u8]) {
        if !self.has(stream) {
            return;
        }
        if let Some(pipe) = self.pipe.as_mut().filter(|_| stream == Stream::Output) {
            if pipe.push(bytes).is_err() {
                self.lose_pipe();
            }
            return;
        }
        if let Some(missed) = &mut self.missed {
            *missed += bytes.len() as u64;
            return;
        }
        self.credit[slot(stream)] -= i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        self.send(&Message::Bytes { stream, bytes });
    }

    /// It has passed on so many bytes of output.
    pub fn taken(&mut self, stream: Stream, count: u32) {
        if stream == Stream::Input {
            return;
        }
        let credit = &mut self.credit[slot(stream)];
        *credit = (*credit + i64::from(count)).min(WINDOW);
        self.held_since = None;
        // Not before it has caught up: what follows the gap should not be the next gap.
        if let Some(missed) = self.missed.filter(|_| self.credit == [WINDOW; 2]) {
            self.missed = None;
            if missed > 0 {
                let text = format!("{missed} bytes of output were left out here, since this reader stood still");
                self.send(&Message::Notice(&text));
            }
        }
    }

    /// Sends a message without waiting for room.
    pub fn send(&mut self, message: &Message<'_>) {
        self.send_with(message, &[]);
    }

    /// Sends a message with descriptors; those are not kept for later: only first words have some.
    pub fn send_with(&mut self, message: &Message<'_>, fds: &[BorrowedFd<'_>]) {
        if self.gone {
            return;
        }
        if self.is_waiting() {
            self.waiting.push_back(message.to_packet());
            return;
        }
        match message.send_with(self.socket.as_fd(), fds, false) {
            Ok(()) => {}
            Err(Errno::EAGAIN) => self.waiting.push_back(message.to_packet()),
            Err(_) => self.gone = true,
        }
    }

    /// There is room in the socket.
    pub fn flush(&mut self) {
        while let Some(packet) = self.waiting.front() {
            match seqpacket::send(self.socket.as_fd(), &[packet, &[]], &[], false) {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(Errno::EAGAIN) => return,
                Err(_) => {
                    self.gone = true;
                    self.waiting.clear();
                }
            }
        }
        self.waiting = VecDeque::new();
    }
}

/// A pipe that the client reads. The container's output goes into it page by page, without being
/// copied: splice(2), or tee(2) where somebody else wants it too.
#[derive(Debug)]
pub struct Pipe {
    /// Does not block.
    end: OwnedFd,
    full: bool,
    /// Only bytes that are copied go in.
    gathers: bool,
    /// What there was no room for.
    rest: Vec<u8>,
}

impl Pipe {
    fn new(end: OwnedFd) -> Self {
        Self { end, full: false, gathers: false, rest: Vec::new() }
    }

    fn takes_pages(&self) -> bool {
        !self.full && !self.gathers && self.rest.is_empty()
    }

    fn wants_room(&self) -> Option<BorrowedFd<'_>> {
        (self.full || !self.rest.is_empty()).then(|| self.end.as_fd())
    }

    /// Takes what a pipe holds, up to `most` bytes; with `leave`, that stays there too.
    ///
    /// # Errors
    /// `EAGAIN`: there is no room. Otherwise nobody reads it.
    pub fn take(&mut self, from: BorrowedFd<'_>, most: usize, leave: bool) -> nix::Result<usize> {
        let taken = if leave {
            tee(from, &self.end, most, SpliceFFlags::SPLICE_F_NONBLOCK)
        } else {
            splice(from, None, &self.end, None, most, SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE)
        };
        self.full = taken == Err(Errno::EAGAIN);
        taken
    }

    /// Copies bytes into it; what there is no room for is kept.
    fn push(&mut self, bytes: &[u8]) -> nix::Result<()> {
        self.rest.extend_from_slice(bytes);
        self.flush()
    }

    fn flush(&mut self) -> nix::Result<()> {
        self.full = false;
        let mut written = 0;
        while written < self.rest.len() {
            match write(&self.end, &self.rest[written..]) {
                Ok(count) => written += count,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    self.full = true;
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        self.rest.drain(..written);
        Ok(())
    }
}

fn slot(stream: Stream) -> usize {
    usize::from(stream == Stream::Error)
}
