//! Connections that containers make: a SYN that comes out of the TUN waits until the host's own
//! connection to the same destination stands, and is then written back into the TUN, where the rules
//! hand it to a transparent listener. So the container sees what the host saw: a connection, a
//! refusal, no route, or nothing.

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, getsockname, socket};
use nix::sys::uio::writev;

use super::epoll::{Kind, Poll, Token};
use super::flow;
use super::flows::Flows;
use super::log::Seldom;
use super::packet::{Key, RST, Tcp, Unreachable};
use super::policy::{Destination, Owner, Policy};
use super::vnet;
use crate::sys::sockets;

/// Connections taken from a listener before something else has its turn.
const BATCH: usize = 64;

/// A container that still waits repeats its SYN, the first time after a second, and each time after
/// about as long as it had waited until then. Without one for twice that long and this, it has given
/// up, and so does the host's side.
const PATIENCE: Duration = Duration::from_secs(4);

/// Connections of one container that may wait at once: a port scan has that many, and a destination that
/// swallows everything must not cost as many sockets of the host's as there can be connections.
const MOST_WAITING: usize = 4096;

/// Bytes of the longest SYN, which is kept until the host's side stands: any of Ethernet's size, with data
/// of TCP Fast Open too.
const LONGEST_SYN: usize = vnet::HEADER + 1500;

/// A container's connection.
#[derive(Debug)]
struct Connection {
    key: Key,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The host's side connects; or it has, and the container's is about to be there.
    Waiting(Box<Waiting>),
    Joined,
}

#[derive(Debug)]
struct Waiting {
    /// As it was read, with the TUN's header; empty: it was written back.
    syn: Vec<u8>,
    first: Instant,
    last: Instant,
}

impl Waiting {
    fn is_given_up(&self, now: Instant) -> bool {
        now.duration_since(self.last) > PATIENCE + 2 * self.last.duration_since(self.first)
    }
}

/// The containers' connections to the outside.
#[derive(Debug)]
pub struct Outbound {
    tun: OwnedFd,
    listeners: Vec<OwnedFd>,
    flows: Flows<Connection>,
    by_key: HashMap<Key, u32>,
    /// Connections that wait, and when to look whether somebody still does; in the order of time.
    checks: VecDeque<(Instant, Key)>,
    full: Seldom,
    failed: Seldom,
}

impl Outbound {
    /// Takes connections of `listeners` from now on; `tun` is to write to; `most`: connections at once.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub fn new(tun: OwnedFd, listeners: Vec<OwnedFd>, poll: Rc<Poll>, most: usize) -> Result<Self> {
        for (index, listener) in (0..).zip(&listeners) {
            poll.add(listener, Token { kind: Kind::Listener, generation: 0, index }, EpollFlags::EPOLLIN)?;
        }
        Ok(Self {
            tun,
            listeners,
            flows: Flows::new(poll, most),
            by_key: HashMap::new(),
            checks: VecDeque::new(),
            full: Seldom::default(),
            failed: Seldom::default(),
        })
    }

    /// A packet of TCP; `whole`: the same with the TUN's header before it.
    pub fn packet(&mut self, policy: &Policy, tcp: &Tcp, whole: &[u8]) {
        if tcp.is_syn() {
            self.syn(policy, tcp, whole);
        } else if tcp.flags & RST == 0 {
            // Of a flow that is no more: the uplink before this one was killed.
            self.answer(tcp.reset());
        }
    }

    fn syn(&mut self, policy: &Policy, tcp: &Tcp, whole: &[u8]) {
        let index = self.by_key.get(&tcp.key).copied();
        let known = index.and_then(|index| self.flows.tag(index));
        if let Some(Connection { state: State::Waiting(waiting), .. }) = known {
            // Repeated, which says that somebody still waits.
            waiting.last = Instant::now();
            if waiting.syn.is_empty() {
                let _ = nix::unistd::write(&self.tun, whole);
            }
        } else if index.is_some_and(|index| self.flows.is_alive(index)) {
            // The kernel has the connection, and knows what to answer.
            let _ = nix::unistd::write(&self.tun, whole);
        } else {
            self.forget_ended();
            self.open(policy, tcp, whole);
        }
    }

    fn open(&mut self, policy: &Policy, tcp: &Tcp, whole: &[u8]) {
        let key = tcp.key;
        let owner = policy.owner(key.source);
        let (Some(owner), Destination::Host(address)) = (owner, policy.destination(key.source, key.destination)) else {
            self.answer(tcp.reset());
            return;
        };
        if whole.len() > LONGEST_SYN {
            // A client whose data was too much repeats it without: RFC 7413, 4.1.3.
            return;
        }
        if self.flows.begun(owner) >= MOST_WAITING {
            self.full.say(|| format!("a container has {MOST_WAITING} connections that nobody answers: it has to wait"));
            return;
        }
        if self.flows.is_full(owner) {
            let most = self.flows.most();
            self.full.say(|| {
                format!(
                    "a container has too many connections (of {most} for all): new ones wait until others end; \
                     more are possible with a higher limit of open files (ulimit -Hn)"
                )
            });
            return;
        }
        match dial((address, key.destination_port).into()) {
            Ok(outside) => {
                let now = Instant::now();
                let waiting = Box::new(Waiting { syn: whole.to_vec(), first: now, last: now });
                let connection = Connection { key, state: State::Waiting(waiting) };
                match self.flows.begin(outside, owner, connection) {
                    Ok(index) => {
                        self.by_key.insert(key, index);
                        self.checks.push_back((now + PATIENCE, key));
                    }
                    Err(e) => self.failed.say(|| format!("cannot wait for a connection: {}", e.desc())),
                }
            }
            Err(e) => self.refuse(tcp, whole, e),
        }
    }

    /// Tells the container why there is no connection.
    fn refuse(&mut self, tcp: &Tcp, whole: &[u8], why: Errno) {
        let packet = whole.get(vnet::HEADER..).unwrap_or_default();
        let answer = match why {
            // It would have heard nothing either.
            Errno::ETIMEDOUT => return,
            // The next SYN may find something free.
            Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM | Errno::EADDRNOTAVAIL => {
                self.failed.say(|| format!("cannot connect for a container: {}", why.desc()));
                return;
            }
            Errno::ENETUNREACH | Errno::EAFNOSUPPORT => tcp.unreachable(packet, Unreachable::Network),
            Errno::EHOSTUNREACH | Errno::EHOSTDOWN => tcp.unreachable(packet, Unreachable::Host),
            Errno::EACCES | Errno::EPERM => tcp.unreachable(packet, Unreachable::Prohibited),
            _ => tcp.reset(),
        };
        self.answer(answer);
    }

    fn answer(&self, packet: Option<Vec<u8>>) {
        if let Some(packet) = packet {
            let header = vnet::Header::default().to_bytes();
            // A TUN that takes no packet is full, as a wire may be.
            let _ = writev(&self.tun, &[IoSlice::new(&header), IoSlice::new(&packet)]);
        }
    }

    /// A flow's socket is ready.
    pub fn ready(&mut self, token: Token, events: EpollFlags) {
        let Some((connection, outcome)) = self.flows.ready(token, events) else { return };
        let State::Waiting(waiting) = &mut connection.state else { return };
        let syn = match outcome {
            // Written back already, and the destination speaks first.
            Ok(()) if !events.contains(EpollFlags::EPOLLOUT) || waiting.syn.is_empty() => return,
            _ => std::mem::take(&mut waiting.syn),
        };
        let returned = match outcome {
            Ok(()) => nix::unistd::write(&self.tun, &syn).map(drop),
            Err(why) => {
                // Without a SYN the destination has ended it before the container knew of it.
                if let Some(tcp) = Tcp::parse(syn.get(vnet::HEADER..).unwrap_or_default()) {
                    self.refuse(&tcp, &syn, why);
                }
                Err(why)
            }
        };
        if returned.is_err() {
            self.flows.reset(token.index);
            self.forget_ended();
        }
    }

    /// Connections wait at a listener.
    pub fn accept(&mut self, index: u32) {
        for _ in 0..BATCH {
            let Some(listener) = self.listeners.get(index as usize) else { return };
            let inside = match sockets::accept(listener.as_fd()) {
                Ok(Some((inside, source))) => (inside, source),
                Ok(None) => return,
                Err(e) => {
                    self.failed.say(|| format!("cannot take a container's connection: {}", e.desc()));
                    return;
                }
            };
            self.take(inside.0, inside.1);
        }
    }

    fn take(&mut self, inside: OwnedFd, source: SocketAddr) {
        let own = getsockname::<SockaddrStorage>(inside.as_raw_fd()).ok().and_then(|own| sockets::to_std(&own));
        let index = own.and_then(|destination| {
            let key = Key {
                source: source.ip(),
                destination: destination.ip(),
                source_port: source.port(),
                destination_port: destination.port(),
            };
            self.by_key.get(&key).copied()
        });
        let Some(index) = index else { return flow::abort(&inside) };
        match self.flows.tag(index).map(|connection| &mut connection.state) {
            Some(state @ State::Waiting(_)) => *state = State::Joined,
            _ => return flow::abort(&inside),
        }
        if let Err(e) = self.flows.complete(index, inside) {
            self.failed.say(|| format!("cannot join a container's connection: {}", e.desc()));
            self.flows.reset(index);
            self.forget_ended();
        }
    }

    /// Whether [`Outbound::work`] has something to do.
    pub fn has_work(&self) -> bool {
        self.flows.has_work()
    }

    /// Copies for a while.
    pub fn work(&mut self) {
        self.flows.work();
        self.forget_ended();
    }

    /// The owner's container is gone.
    pub fn leave(&mut self, owner: Owner) {
        self.flows.leave(owner);
        self.forget_ended();
    }

    /// The owner has registered anew: connections of addresses that it has no longer are cut.
    pub fn cut(&mut self, owner: Owner, policy: &Policy) {
        self.flows.cut(owner, |connection| policy.owner(connection.key.source) != Some(owner));
        self.forget_ended();
    }

    /// Flows of containers that are gone, which still pass on what they sent.
    pub fn leaving(&self) -> usize {
        self.flows.leaving()
    }

    /// When [`Outbound::expire`] wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        let check = self.checks.front().map(|(at, _)| *at);
        check.into_iter().chain(self.flows.deadline()).min()
    }

    /// Gives up what nobody waits for any more.
    pub fn expire(&mut self, now: Instant) {
        self.flows.expire(now);
        self.forget_ended();
        while self.checks.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.checks.pop_front() else { break };
            let Some(index) = self.by_key.get(&key).copied() else { continue };
            match self.flows.tag(index).map(|connection| &connection.state) {
                Some(State::Waiting(waiting)) => {
                    if waiting.is_given_up(now) {
                        self.flows.reset(index);
                        self.forget_ended();
                    } else {
                        self.checks.push_back((now + PATIENCE, key));
                    }
                }
                Some(State::Joined) | None => {}
            }
        }
    }

    fn forget_ended(&mut self) {
        for connection in self.flows.ended() {
            self.by_key.remove(&connection.key);
        }
    }
}

/// A socket of the host's that connects.
fn dial(to: SocketAddr) -> nix::Result<OwnedFd> {
    let family = match to.ip() {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let outside = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    flow::prepare(&outside)?;
    match connect(outside.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(outside),
        Err(e) => Err(e),
    }
}
