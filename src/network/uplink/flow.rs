//! A flow: a container's connection and the host's, joined. Bytes, the end of either direction, and
//! resets go from each to the other.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{self, MsgFlags, setsockopt, sockopt};

use super::policy::Owner;
use crate::sys::sockets;

/// After how long without a byte a flow whose container has left is cut, when there are some that the
/// other side does not take.
const GRACE: Duration = Duration::from_secs(2);

/// And when there are none: the last ones may still be between the two namespaces.
const SETTLE: Duration = Duration::from_millis(100);

/// One of a flow's two sockets, and what is known of it.
#[derive(Debug)]
pub struct End {
    pub socket: OwnedFd,
    /// There may be something to read, or to learn.
    pub readable: bool,
    writable: bool,
    /// The peer's end was announced, or urgent data: a read of less than was asked for does not mean
    /// that nothing more is there.
    read_on: bool,
}

impl End {
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, readable: false, writable: false, read_on: false }
    }

    /// Notes what epoll(7) says of it.
    pub fn note(&mut self, events: EpollFlags) {
        let broken = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        self.readable |= events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | broken);
        self.writable |= events.intersects(EpollFlags::EPOLLOUT | broken);
        self.read_on |= events.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLPRI | broken);
    }
}

/// One direction of a flow.
#[derive(Debug, Default)]
struct Way {
    /// What was taken from the source and the other did not take.
    rest: Vec<u8>,
    /// The other took less than was there: only as much is taken from the source as it does take.
    full: bool,
    /// The source has ended, and the other was told.
    over: bool,
}

/// Two sockets joined, and what is not yet through. `T`: what its owner knows of it.
#[derive(Debug)]
pub struct Flow<T> {
    /// Towards the container. `None`: not yet.
    pub inside: Option<End>,
    pub outside: End,
    /// From the container.
    up: Way,
    /// To it.
    down: Way,
    pub owner: Owner,
    pub tag: T,
    /// It stands in the queue of those that have something to do.
    pub queued: bool,
    /// The container has left, and this is cut then, unless something goes through. What was sent is
    /// still delivered.
    pub left: Option<Instant>,
    /// Something went through since the last look at those that are left.
    moved: bool,
    /// Bytes that the kernel had for the other side then.
    unsent: i32,
}

/// What became of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing more can be done until something is ready.
    Waits,
    /// It was long enough for once.
    Again,
}

/// A socket failed: both are reset.
pub struct Broken;

impl<T> Flow<T> {
    /// One that has only its socket towards the host yet.
    pub fn begin(outside: OwnedFd, owner: Owner, tag: T) -> Self {
        Self {
            inside: None,
            outside: End::new(outside),
            up: Way::default(),
            down: Way::default(),
            owner,
            tag,
            queued: false,
            left: None,
            moved: false,
            unsent: 0,
        }
    }

    /// Copies what can be, in both directions, at most as much as the buffer holds.
    ///
    /// # Errors
    /// Either socket failed, or was reset.
    pub fn turn(&mut self, buffer: &mut [u8]) -> Result<Turn, Broken> {
        let Some(inside) = &mut self.inside else { return Ok(Turn::Waits) };
        let up = self.up.copy(inside, &mut self.outside, buffer, &mut self.moved)?;
        if self.left.is_some() {
            return Ok(up);
        }
        let down = self.down.copy(&mut self.outside, inside, buffer, &mut self.moved)?;
        Ok(if up == Turn::Waits { down } else { up })
    }

    /// Whether nothing more can come, and all was taken.
    pub fn is_over(&self) -> bool {
        self.up.over && (self.down.over || self.left.is_some())
    }

    /// Whether something went through since [`Flow::wait`] was last asked.
    pub fn got_on(&mut self) -> bool {
        std::mem::take(&mut self.moved) || sockets::unsent(self.outside.socket.as_fd()) < self.unsent
    }

    /// Until when this waits for something to go through, now that the container has left.
    pub fn wait(&mut self, now: Instant) -> Instant {
        self.unsent = sockets::unsent(self.outside.socket.as_fd());
        let readable = self.inside.as_ref().is_some_and(|inside| inside.readable);
        let has_more = readable || !self.up.rest.is_empty() || self.unsent > 0;
        let end = now + if has_more { GRACE } else { SETTLE };
        *self.left.insert(end)
    }
}

impl Way {
    fn copy(&mut self, from: &mut End, to: &mut End, buffer: &mut [u8], moved: &mut bool) -> Result<Turn, Broken> {
        let mut budget = buffer.len();
        while !self.over && to.writable {
            if !self.rest.is_empty() {
                let sent = send(to, &self.rest)?;
                *moved |= sent > 0;
                self.rest.drain(..sent);
                if self.rest.is_empty() {
                    self.rest = Vec::new();
                }
                continue;
            }
            if !from.readable {
                break;
            }
            if budget == 0 {
                return Ok(Turn::Again);
            }
            let flags = if self.full { MsgFlags::MSG_PEEK } else { MsgFlags::empty() };
            let got = match socket::recv(from.socket.as_raw_fd(), &mut buffer[..budget], flags | MsgFlags::MSG_DONTWAIT)
            {
                Ok(0) => {
                    self.over = true;
                    // It may have been shut by a reset that is about to be seen.
                    let _ = socket::shutdown(to.socket.as_raw_fd(), socket::Shutdown::Write);
                    break;
                }
                Ok(got) => got,
                Err(Errno::EAGAIN) => {
                    from.readable = false;
                    break;
                }
                Err(Errno::EINTR) => continue,
                Err(_) => return Err(Broken),
            };
            from.readable = got == budget || from.read_on || self.full;
            let sent = send(to, &buffer[..got])?;
            *moved |= sent > 0;
            budget -= sent;
            if self.full {
                sockets::discard(from.socket.as_fd(), sent).map_err(|_| Broken)?;
            } else {
                self.rest.extend_from_slice(&buffer[sent..got]);
            }
            self.full = sent < got;
        }
        Ok(Turn::Waits)
    }
}

/// How many of the bytes it took.
fn send(to: &mut End, bytes: &[u8]) -> Result<usize, Broken> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    loop {
        match socket::send(to.socket.as_raw_fd(), bytes, flags) {
            Ok(sent) => {
                to.writable = sent == bytes.len();
                return Ok(sent);
            }
            Err(Errno::EAGAIN) => {
                to.writable = false;
                return Ok(0);
            }
            Err(Errno::EINTR) => {}
            Err(_) => return Err(Broken),
        }
    }
}

/// Why a socket's connect(2) failed.
pub fn failure_of(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    match socket::getsockopt(&socket, sockopt::SocketError) {
        Ok(0) => Ok(()),
        Ok(number) => Err(Errno::from_raw(number)),
        Err(e) => Err(e),
    }
}

/// Closing it will send a reset: socket(7), `SO_LINGER` of no time.
pub fn abort(socket: &OwnedFd) {
    let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
    let _ = setsockopt(socket, sockopt::Linger, &at_once);
}

/// What every socket of a flow has, and what a listener's connections inherit from it: bytes go on
/// when they come, urgent ones in their place, and a peer that vanished is noticed some day.
///
/// # Errors
/// As setsockopt(2).
pub fn prepare(socket: &OwnedFd) -> nix::Result<()> {
    setsockopt(socket, sockopt::TcpNoDelay, &true)?;
    setsockopt(socket, sockopt::OobInline, &true)?;
    setsockopt(socket, sockopt::KeepAlive, &true)
}
