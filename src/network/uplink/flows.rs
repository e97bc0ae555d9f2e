//! The flows of a thread, and whose turn it is.
//!
//! All share one buffer; nothing is kept for a flow beyond what its sockets hold,
//! but what a socket did not take at once, and from then on no more is taken from the other than this
//! one has room for. So 1,000 idle flows are their sockets and little else.
//!
//! Both sockets are waited for once and for all, edge-triggered: epoll(7). What is known to be ready
//! is remembered here, and flows with something to do stand in a queue from which each gets a turn of
//! bounded length.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;

use super::epoll::{Kind, Poll, Token};
use super::flow::{Broken, End, Flow, Turn, abort, failure_of};
use super::policy::Owner;

/// Bytes that are copied at once, and at most in one turn of a flow in each direction.
const BUFFER: usize = 1 << 20;

/// Turns between two looks at what else is ready.
const TURNS: usize = 32;

/// How many flows a thread may have that has so many descriptors of its own: two each, with some
/// kept back for everything else.
pub fn most(descriptors: usize) -> usize {
    descriptors.saturating_sub(1024.min(descriptors / 4)) / 2
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    flow: Option<Flow<T>>,
}

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
        let flow = Flow::begin(outside, owner, tag);
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
            if flow.got_on() {
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

fn earlier(look: Option<Instant>, other: Instant) -> Option<Instant> {
    look.into_iter().chain([other]).min()
}

fn flow_events() -> EpollFlags {
    EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLPRI | EpollFlags::EPOLLET
}
