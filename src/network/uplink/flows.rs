//! Flows: a container's connection and the host's, joined. Bytes, the end of either direction, and
//! resets go from each to the other.
//!
//! All flows of a thread share one buffer; nothing is kept for a flow beyond what its sockets hold,
//! but what a socket did not take at once, and from then on no more is taken from the other than this
//! one has room for. So 1,000 idle flows are their sockets and little else.
//!
//! Both sockets are waited for once and for all, edge-triggered: epoll(7). What is known to be ready
//! is remembered here, and flows with something to do stand in a queue from which each gets a turn of
//! bounded length.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{self, MsgFlags, setsockopt, sockopt};

use super::epoll::{Kind, Poll, Token};
use super::policy::Owner;
use crate::sys::sockets;

/// Bytes that are copied at once, and at most in one turn of a flow in each direction.
const BUFFER: usize = 1 << 20;

/// Turns between two looks at what else is ready.
const TURNS: usize = 32;

/// After how long without a byte a flow whose container has left is cut, when there are some that the
/// other side does not take.
const GRACE: Duration = Duration::from_secs(2);

/// And when there are none: the last ones may still be between the two namespaces.
const SETTLE: Duration = Duration::from_millis(100);

/// How many flows a thread may have that has so many descriptors of its own: two each, with some
/// kept back for everything else.
pub fn most(descriptors: usize) -> usize {
    descriptors.saturating_sub(1024.min(descriptors / 4)) / 2
}

/// One of a flow's two sockets, and what is known of it.
#[derive(Debug)]
struct End {
    socket: OwnedFd,
    readable: bool,
    writable: bool,
    /// The peer's end was announced, or urgent data: a read of less than was asked for does not mean
    /// that nothing more is there.
    read_on: bool,
}

impl End {
    fn new(socket: OwnedFd) -> Self {
        Self { socket, readable: false, writable: false, read_on: false }
    }

    fn note(&mut self, events: EpollFlags) {
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

#[derive(Debug)]
struct Flow<T> {
    /// Towards the container. `None`: not yet.
    inside: Option<End>,
    outside: End,
    /// From the container.
    up: Way,
    /// To it.
    down: Way,
    owner: Owner,
    tag: T,
    queued: bool,
    /// The container has left, and this is cut then, unless something goes through. What was sent is
    /// still delivered.
    left: Option<Instant>,
    /// Something went through since the last look at those that are left.
    moved: bool,
    /// Bytes that the kernel had for the other side then.
    unsent: i32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    flow: Option<Flow<T>>,
}

/// What became of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Nothing more can be done until something is ready.
    Waits,
    /// It was long enough for once.
    Again,
}

/// A socket failed: both are reset.
struct Broken;

/// How many flows an owner has.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    all: usize,
    /// Those that have no socket towards the container yet.
    begun: usize,
}

/// The flows of one thread. `T`: what its owner knows of a flow.
#[derive(Debug)]
pub struct Flows<T> {
    poll: Rc<Poll>,
    most: usize,
    count: usize,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    queue: VecDeque<u32>,
    buffer: Box<[u8]>,
    ended: Vec<T>,
    per_owner: HashMap<Owner, Count>,
    /// Flows that are [`Flow::left`], and when they are looked at next.
    leaving: usize,
    look: Option<Instant>,
}

impl<T> Flows<T> {
    /// `most`: how many there may be at once.
    pub fn new(poll: Rc<Poll>, most: usize) -> Self {
        Self {
            poll,
            most,
            count: 0,
            slots: Vec::new(),
            free: Vec::new(),
            queue: VecDeque::new(),
            // Pages of it come into being as they are used.
            buffer: vec![0; BUFFER].into_boxed_slice(),
            ended: Vec::new(),
            per_owner: HashMap::new(),
            leaving: 0,
            look: None,
        }
    }

    /// The most there may be.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Whether another flow of this owner's would be too many. One container gets at most three
    /// quarters of what there is.
    pub fn is_full(&self, owner: Owner) -> bool {
        let own = self.per_owner.get(&owner).copied().unwrap_or_default();
        self.count >= self.most || own.all >= self.most / 4 * 3
    }

    /// How many of the owner's flows were begun and are not complete.
    pub fn begun(&self, owner: Owner) -> usize {
        self.per_owner.get(&owner).map_or(0, |count| count.begun)
    }

    /// A flow whose sockets are there, connected or connecting. Returns its index.
    ///
    /// # Errors
    /// As epoll_ctl(2); the sockets are closed then.
    pub fn join(&mut self, inside: OwnedFd, outside: OwnedFd, owner: Owner, tag: T) -> nix::Result<u32> {
        let index = self.begin(outside, owner, tag)?;
        self.complete(index, inside).inspect_err(|_| drop(self.take(index)))?;
        Ok(index)
    }

    /// A flow that has only its socket towards the host yet: [`Flows::ready`] says when that is.
    ///
    /// # Errors
    /// As [`Flows::join`].
    pub fn begin(&mut self, outside: OwnedFd, owner: Owner, tag: T) -> nix::Result<u32> {
        let index = match self.free.last() {
            Some(index) => *index,
            None => u32::try_from(self.slots.len()).map_err(|_| Errno::EMFILE)?,
        };
        let generation = self.slots.get(index as usize).map_or(0, |slot| slot.generation);
        self.poll.add(&outside, Token { kind: Kind::Outside, generation, index }, flow_events())?;
        let flow = Flow {
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
        };
        match self.free.pop() {
            Some(_) => self.slots[index as usize].flow = Some(flow),
            None => self.slots.push(Slot { generation, flow: Some(flow) }),
        }
        self.count += 1;
        let own = self.per_owner.entry(owner).or_default();
        (own.all, own.begun) = (own.all + 1, own.begun + 1);
        Ok(index)
    }

    /// Gives a flow that was begun its socket towards the container.
    ///
    /// # Errors
    /// As [`Flows::join`]; there is no such flow.
    pub fn complete(&mut self, index: u32, inside: OwnedFd) -> nix::Result<()> {
        let slot = self.slots.get_mut(index as usize).ok_or(Errno::ENOENT)?;
        let flow = slot.flow.as_mut().ok_or(Errno::ENOENT)?;
        self.poll.add(&inside, Token { kind: Kind::Inside, generation: slot.generation, index }, flow_events())?;
        if flow.inside.replace(End::new(inside)).is_none()
            && let Some(own) = self.per_owner.get_mut(&flow.owner)
        {
            own.begun -= 1;
        }
        Ok(())
    }

    /// Notes what a socket is ready for. For a flow that has only one, that one's tag and its failure
    /// are returned: it is connected, or cannot be.
    pub fn ready(&mut self, token: Token, events: EpollFlags) -> Option<(&mut T, Result<(), Errno>)> {
        let slot = self.slots.get_mut(token.index as usize)?;
        if slot.generation & 0xff_ffff != token.generation {
            return None;
        }
        let flow = slot.flow.as_mut()?;
        match (token.kind, &mut flow.inside) {
            (Kind::Inside, Some(inside)) => inside.note(events),
            _ => flow.outside.note(events),
        }
        if flow.inside.is_none() {
            let failure = if events.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) {
                failure_of(flow.outside.socket.as_fd())
            } else {
                Ok(())
            };
            return Some((&mut flow.tag, failure));
        }
        if !flow.queued {
            flow.queued = true;
            self.queue.push_back(token.index);
        }
        None
    }

    /// What is known of a flow.
    pub fn tag(&mut self, index: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize)?.flow.as_mut().map(|flow| &mut flow.tag)
    }

    /// Whether this flow still goes on: its end may have come and not been told yet.
    pub fn is_alive(&mut self, index: u32) -> bool {
        let Some(flow) = self.slots.get_mut(index as usize).and_then(|slot| slot.flow.as_mut()) else { return false };
        if let Some(inside) = &mut flow.inside {
            inside.readable = true;
        }
        match flow.turn(&mut self.buffer) {
            Err(Broken) => self.reset(index),
            Ok(_) if flow.is_over() => self.end(index),
            Ok(_) => return true,
        }
        false
    }

    /// Whether a flow waits for its turn.
    pub fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Gives flows that wait for it a turn.
    pub fn work(&mut self) {
        for _ in 0..TURNS {
            let Some(index) = self.queue.pop_front() else { break };
            // A flow that ended was still in the queue, and another may have its index.
            let Some(flow) = self.slots.get_mut(index as usize).and_then(|slot| slot.flow.as_mut()) else { continue };
            flow.queued = false;
            match flow.turn(&mut self.buffer) {
                Err(Broken) => self.reset(index),
                Ok(_) if flow.is_over() => self.end(index),
                Ok(Turn::Waits) => {}
                Ok(Turn::Again) => {
                    flow.queued = true;
                    self.queue.push_back(index);
                }
            }
        }
        if self.queue.is_empty() && self.queue.capacity() > 4096 {
            self.queue = VecDeque::new();
        }
    }

    /// The tags of flows that have ended since this was last asked.
    pub fn ended(&mut self) -> impl Iterator<Item = T> {
        self.ended.drain(..)
    }

    /// Ends a flow, resetting what is connected.
    pub fn reset(&mut self, index: u32) {
        if let Some(flow) = self.take(index) {
            abort(&flow.outside.socket);
            if let Some(inside) = &flow.inside {
                abort(&inside.socket);
            }
            self.ended.push(flow.tag);
        }
    }

    /// The owner's container has left: nothing more goes to it, and what it had sent goes on to where
    /// it was sent to.
    pub fn leave(&mut self, owner: Owner) {
        let now = Instant::now();
        for index in 0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX) {
            let Some(flow) = &mut self.slots[index as usize].flow else { continue };
            if flow.owner != owner || flow.left.is_some() {
                continue;
            }
            flow.left = Some(now);
            self.leaving += 1;
            let Some(inside) = &mut flow.inside else {
                self.reset(index);
                continue;
            };
            // What says so may be among the events that are about to be looked at.
            inside.readable = true;
            match flow.turn(&mut self.buffer) {
                Ok(_) if flow.is_over() => self.end(index),
                Ok(turn) => {
                    self.look = earlier(self.look, flow.wait(now));
                    if turn == Turn::Again && !flow.queued {
                        flow.queued = true;
                        self.queue.push_back(index);
                    }
                }
                Err(Broken) => self.reset(index),
            }
        }
    }

    /// Resets those flows of an owner's whose tag says so.
    pub fn cut(&mut self, owner: Owner, which: impl Fn(&T) -> bool) {
        for index in 0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX) {
            let flow = self.slots[index as usize].flow.as_ref();
            if flow.is_some_and(|flow| flow.owner == owner && which(&flow.tag)) {
                self.reset(index);
            }
        }
    }

    /// Flows of containers that have left.
    pub fn leaving(&self) -> usize {
        self.leaving
    }

    /// When [`Flows::expire`] wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.look
    }

    /// Cuts what is left and stands still.
    pub fn expire(&mut self, now: Instant) {
        if self.look.is_none_or(|look| now < look) {
            return;
        }
        let mut look = None;
        for index in 0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX) {
            let Some(flow) = &mut self.slots[index as usize].flow else { continue };
            let Some(end) = flow.left else { continue };
            // A reset would throw away what the kernel has for a slow reader.
            if std::mem::take(&mut flow.moved) || sockets::unsent(flow.outside.socket.as_fd()) < flow.unsent {
                look = earlier(look, flow.wait(now));
            } else if end <= now {
                self.reset(index);
            } else {
                look = earlier(look, end);
            }
        }
        self.look = look;
    }

    /// Both sockets are closed; what they hold still goes out.
    fn end(&mut self, index: u32) {
        if let Some(flow) = self.take(index) {
            // Nobody is there who could take the rest.
            if let (Some(_), Some(inside)) = (flow.left, &flow.inside) {
                abort(&inside.socket);
            }
            self.ended.push(flow.tag);
        }
    }

    fn take(&mut self, index: u32) -> Option<Flow<T>> {
        let slot = self.slots.get_mut(index as usize)?;
        let flow = slot.flow.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        self.count -= 1;
        self.leaving -= usize::from(flow.left.is_some());
        if let Some(own) = self.per_owner.get_mut(&flow.owner) {
            own.all -= 1;
            own.begun -= usize::from(flow.inside.is_none());
            if own.all == 0 {
                self.per_owner.remove(&flow.owner);
            }
        }
        Some(flow)
    }
}

impl<T> Flow<T> {
    /// Copies what can be, in both directions.
    fn turn(&mut self, buffer: &mut [u8]) -> Result<Turn, Broken> {
        let Some(inside) = &mut self.inside else { return Ok(Turn::Waits) };
        let up = self.up.copy(inside, &mut self.outside, buffer, &mut self.moved)?;
        if self.left.is_some() {
            return Ok(up);
        }
        let down = self.down.copy(&mut self.outside, inside, buffer, &mut self.moved)?;
        Ok(if up == Turn::Waits { down } else { up })
    }

    fn is_over(&self) -> bool {
        self.up.over && (self.down.over || self.left.is_some())
    }

    /// Until when this waits for something to go through, now that the container has left.
    fn wait(&mut self, now: Instant) -> Instant {
        self.unsent = sockets::unsent(self.outside.socket.as_fd());
        let readable = self.inside.as_ref().is_some_and(|inside| inside.readable);
        let has_more = readable || !self.up.rest.is_empty() || self.unsent > 0;
        let end = now + if has_more { GRACE } else { SETTLE };
        *self.left.insert(end)
    }
}

fn earlier(look: Option<Instant>, other: Instant) -> Option<Instant> {
    look.into_iter().chain([other]).min()
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

fn flow_events() -> EpollFlags {
    EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLPRI | EpollFlags::EPOLLET
}

/// Why a socket's connect(2) failed.
fn failure_of(socket: BorrowedFd<'_>) -> Result<(), Errno> {
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
