//! Published TCP ports: connections to the host's listeners, which the monitors have bound, are made
//! to the containers from inside their network namespace, in a thread that is there. Where containers
//! see a client's address, the socket has it: ip(7), `IP_TRANSPARENT`; the replies come back over the
//! bridge, and the rules deliver them to the socket.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ipnet::IpNet;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, listen, setsockopt, socket, sockopt,
};
use serde::{Deserialize, Serialize};

use super::epoll::{Kind, Poll, Token};
use super::flow;
use super::flows::Flows;
use super::inside::Inside;
use super::log::Seldom;
use super::policy::Owner;
use super::protocol::{self, Reply, Target};
use super::tun::make_transparent;
use crate::network::Published;
use crate::network::link::address;
use crate::network::netlink::Socket;
use crate::sys::{descriptors, seqpacket, sockets};

/// Connections taken from one listener before another has its turn.
const BATCH: usize = 64;

/// When no descriptor is free, connections wait this long for the next look.
const PAUSE: Duration = Duration::from_millis(50);

/// How many connections there may be at least, where the limit of descriptors is not wholly absurd:
/// a machine's usual one (half a million) allows one thread many more, 20,000 does not.
const WANTED: usize = 16_000;

/// Threads at most.
const THREADS: usize = 8;

/// What the main thread tells those that relay. A descriptor comes with `Publish`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Command {
    Publish(Owner, Target),
    Unpublish(Owner, Published),
    /// The container is gone.
    Leave(Owner),
}

/// The threads that relay, as the main thread sees them. They live as long as the process. Usually
/// there is one; each has a table of descriptors of its own, since their number is limited for each
/// table, and every listener is in all of them.
#[derive(Debug)]
pub struct Ports {
    threads: Vec<OwnedFd>,
    leaving: Arc<AtomicUsize>,
}

impl Ports {
    /// Starts the threads. `most`: flows that each may have.
    ///
    /// # Errors
    /// No thread can be made, or it cannot enter the containers' network namespace.
    pub fn start(inside: &Inside, most: usize) -> Result<Self> {
        let leaving = Arc::new(AtomicUsize::new(0));
        let count = WANTED.div_ceil(most.max(1)).min(THREADS);
        let threads = (0..count).map(|_| start(inside, most, leaving.clone())).collect::<Result<_>>()?;
        Ok(Self { threads, leaving })
    }

    /// Relays what comes to `listener` from now on.
    ///
    /// # Errors
    /// The socket is not one that can be waited for.
    pub fn publish(&self, owner: Owner, target: Target, listener: &OwnedFd) -> Result<()> {
        // What connections inherit from it; and with room for a storm of them, whoever bound it.
        flow::prepare(listener)
            .and_then(|()| set_nonblocking(listener))
            .and_then(|()| listen(listener, Backlog::MAXCONN))
            .context("prepare a published port")?;
        self.tell(Command::Publish(owner, target), &[listener.as_fd()]);
        Ok(())
    }

    /// Takes no more connections for them; those that are there stay. Comes back when the ports are let
    /// go. At most as many as one request has: what is told waits in a socket's buffer.
    pub fn unpublish(&self, owner: Owner, published: Vec<Published>) {
        let count = published.len();
        for one in published {
            self.tell(Command::Unpublish(owner, one), &[]);
        }
        // Waited for once all are told: each answer can take a turn of the thread's other work.
        (0..count).for_each(|_| self.await_answers());
    }

    /// The owner's container is gone. Comes back when its ports are let go: whoever comes next may want
    /// them.
    pub fn leave(&self, owner: Owner) {
        // Counted until each thread has looked, so that the process does not end before.
        self.leaving.fetch_add(self.threads.len(), Ordering::AcqRel);
        self.tell(Command::Leave(owner), &[]);
        self.await_answers();
    }

    /// Whether containers that are gone have flows which still pass on what they sent.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire) > 0
    }

    fn tell(&self, command: Command, fds: &[BorrowedFd<'_>]) {
        for thread in &self.threads {
            // It ends with the process only.
            let _ = protocol::send(thread, &command, fds);
        }
    }

    /// Waits until each thread has closed what it was told to. None of them ever waits for this one.
    fn await_answers(&self) {
        for thread in &self.threads {
            let _ = protocol::receive::<Reply>(thread, true);
        }
    }
}

/// Starts a thread; returns the socket that it is told things by.
fn start(inside: &Inside, most: usize, leaving: Arc<AtomicUsize>) -> Result<OwnedFd> {
    let (ours, theirs) = seqpacket::pair()?;
    let (told, outcome) = channel();
    // Both stay open until the thread has told how it went.
    let (socket, namespace) = (descriptors::by_number(theirs.as_raw_fd()), inside.namespace());
    let namespace = namespace.map(|fd| descriptors::by_number(fd.as_raw_fd()));
    let body = move || {
        let relay = (|| {
            let apart = namespace.is_some();
            if let Some(namespace) = namespace {
                setns(namespace, CloneFlags::CLONE_NEWNET).context("enter the network namespace of your containers")?;
            }
            unshare(CloneFlags::CLONE_FILES).context("make a table of descriptors")?;
            let socket = descriptors::duplicate_above(socket, 3)?;
            // Copies of the process's own: a connection would stay open that it closes.
            descriptors::close_all_but(&[socket.as_fd()])?;
            Relay::prepare(socket, apart, most, leaving)
        })();
        match relay {
            Ok(mut relay) => {
                let _ = told.send(Ok(()));
                relay.run();
            }
            Err(e) => drop(told.send(Err(e))),
        }
    };
    thread::Builder::new().name("ctr-ports".into()).stack_size(256 * 1024).spawn(body)?;
    outcome.recv().context("the thread for published ports ended")??;
    Ok(ours)
}

#[derive(Debug)]
struct Listener {
    owner: Owner,
    target: Target,
    socket: OwnedFd,
    queued: bool,
}

struct Relay {
    poll: Rc<Poll>,
    flows: Flows<()>,
    commands: OwnedFd,
    listeners: Vec<(u32, Option<Listener>)>,
    /// Listeners whose queue is not known to be empty.
    waiting: VecDeque<u32>,
    /// No descriptor was free: until then nothing is accepted.
    paused: Option<Instant>,
    /// Containers are in another network namespace than the host's.
    apart: bool,
    /// The networks that this namespace has addresses in: a client that has such an address would be
    /// looked for on the bridge.
    local: Vec<IpNet>,
    /// Leave commands under way, and flows that they left.
    leaving: Arc<AtomicUsize>,
    left: usize,
    full: Seldom,
    failed: Seldom,
}

impl Relay {
    fn prepare(commands: OwnedFd, apart: bool, most: usize, leaving: Arc<AtomicUsize>) -> Result<Self> {
        let poll = Rc::new(Poll::new()?);
        poll.add(&commands, Token::only(Kind::Wake), EpollFlags::EPOLLIN)?;
        Ok(Self {
            flows: Flows::new(poll.clone(), most),
            poll,
            commands,
            listeners: Vec::new(),
            waiting: VecDeque::new(),
            paused: None,
            apart,
            local: Vec::new(),
            leaving,
            left: 0,
            full: Seldom::default(),
            failed: Seldom::default(),
        })
    }

    fn run(&mut self) {
        let mut events = vec![EpollEvent::empty(); 256];
        let poll = self.poll.clone();
        loop {
            let ready = match poll.wait(&mut events, self.time()) {
                Ok(ready) => ready,
                Err(e) => {
                    // Nothing but a lack of memory: epoll_wait(2).
                    self.failed.say(|| format!("cannot wait for published ports: {}", e.desc()));
                    thread::sleep(PAUSE);
                    continue;
                }
            };
            for (token, events) in ready {
                match token.kind {
                    Kind::Wake => {
                        if let Ok(Some((command, fds))) = protocol::receive(&self.commands, false) {
                            self.obey(command, fds);
                        }
                    }
                    Kind::Listener => self.knock(token),
                    _ => drop(self.flows.ready(token, events)),
                }
            }
            self.accept();
            self.flows.work();
            self.flows.expire(Instant::now());
            self.flows.ended().for_each(drop);
            self.count_left();
        }
    }

    /// How long to wait for events.
    fn time(&self) -> Option<Duration> {
        let now = Instant::now();
        if self.flows.has_work() || (self.paused.is_none() && !self.waiting.is_empty()) {
            return Some(Duration::ZERO);
        }
        let deadline = self.paused.into_iter().chain(self.flows.deadline()).min();
        deadline.map(|deadline| deadline.saturating_duration_since(now))
    }

    fn obey(&mut self, command: Command, fds: Vec<OwnedFd>) {
        match command {
            Command::Publish(owner, target) => {
                if let Err(e) = self.publish(owner, target, fds) {
                    self.failed.say(|| format!("cannot publish port {}: {e:#}", target.published.host_port));
                }
            }
            Command::Unpublish(owner, published) => {
                self.close(|listener| listener.owner == owner && listener.target.published == published);
                let _ = protocol::send(&self.commands, &Reply::Done, &[]);
            }
            Command::Leave(owner) => {
                self.close(|listener| listener.owner == owner);
                let _ = protocol::send(&self.commands, &Reply::Done, &[]);
                self.flows.leave(owner);
                self.count_left();
                self.leaving.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    fn publish(&mut self, owner: Owner, target: Target, fds: Vec<OwnedFd>) -> Result<()> {
        let socket = fds.into_iter().next().context("no descriptor is free")?;
        if self.apart {
            self.local = address::all(&mut Socket::route()?)?.into_iter().map(|(_, network)| network).collect();
        }
        let free = self.listeners.iter().position(|(_, listener)| listener.is_none());
        let index = free.unwrap_or_else(|| {
            self.listeners.push((0, None));
            self.listeners.len() - 1
        });
        let slot = &mut self.listeners[index];
        let token = Token { kind: Kind::Listener, generation: slot.0, index: u32::try_from(index)? };
        // Edge-triggered, so that one whose connections must wait does not keep this thread turning.
        self.poll.add(&socket, token, EpollFlags::EPOLLIN | EpollFlags::EPOLLET)?;
        slot.1 = Some(Listener { owner, target, socket, queued: false });
        Ok(())
    }

    fn close(&mut self, which: impl Fn(&Listener) -> bool) {
        for (generation, slot) in &mut self.listeners {
            if let Some(listener) = slot.take_if(|listener| which(listener)) {
                // The monitor has the same socket open still: closing ours would not end the waiting.
                let _ = self.poll.remove(&listener.socket);
                *generation = generation.wrapping_add(1) & 0xff_ffff;
            }
        }
    }

    fn knock(&mut self, token: Token) {
        let Some((generation, Some(listener))) = self.listeners.get_mut(token.index as usize) else { return };
        if *generation == token.generation && !listener.queued {
            listener.queued = true;
            self.waiting.push_back(token.index);
        }
    }

    /// Takes connections, a batch of one listener.
    fn accept(&mut self) {
        if self.paused.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.paused = None;
        let Some(index) = self.waiting.pop_front() else { return };
        for _ in 0..BATCH {
            let Some((_, Some(listener))) = self.listeners.get_mut(index as usize) else { return };
            listener.queued = false;
            let (owner, target) = (listener.owner, listener.target);
            let accepted =
                if self.flows.is_full(owner) { Err(Errno::EMFILE) } else { sockets::accept(listener.socket.as_fd()) };
            match accepted {
                Ok(Some((outside, client))) => self.join(owner, &target, outside, client),
                Ok(None) => return,
                Err(e) => {
                    let most = self.flows.most();
                    self.full.say(|| {
                        let port = target.published.host_port;
                        format!(
                            "connections to port {port} have to wait: {} (at most {most} connections at once; more \
                             with a higher limit of open files, ulimit -Hn)",
                            e.desc()
                        )
                    });
                    self.paused = Some(Instant::now() + PAUSE);
                    break;
                }
            }
        }
        if let Some((_, Some(listener))) = self.listeners.get_mut(index as usize) {
            listener.queued = true;
            self.waiting.push_back(index);
        }
    }

    fn join(&mut self, owner: Owner, target: &Target, outside: OwnedFd, client: SocketAddr) {
        let source = self.source(target, client);
        match dial(target.target, source) {
            Ok(inside) => {
                if let Err(e) = self.flows.join(inside, outside, owner, ()) {
                    self.failed.say(|| format!("cannot join a connection: {}", e.desc()));
                }
            }
            // The container's refusal is the port's: the client is told so.
            Err(e) => {
                flow::abort(&outside);
                if e != Errno::ECONNREFUSED {
                    self.failed.say(|| format!("cannot connect to {}: {}", target.target, e.desc()));
                }
            }
        }
    }

    /// The address that the container sees, where it is the client's.
    fn source(&self, target: &Target, client: SocketAddr) -> Option<SocketAddr> {
        let address = client.ip().to_canonical();
        let is_link_local = match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        let visible = self.apart
            && target.keep_source
            && address.is_ipv4() == target.target.is_ipv4()
            && !(address.is_loopback() || is_link_local)
            && !self.local.iter().any(|network| network.contains(&address));
        visible.then_some(SocketAddr::new(address, client.port()))
    }

    /// Keeps the process alive while something is left to pass on.
    fn count_left(&mut self) {
        let now = self.flows.leaving();
        if now > self.left {
            self.leaving.fetch_add(now - self.left, Ordering::AcqRel);
        } else {
            self.leaving.fetch_sub(self.left - now, Ordering::AcqRel);
        }
        self.left = now;
    }
}

/// A connection to the container, from `source` where that is given.
fn dial(target: SocketAddr, source: Option<SocketAddr>) -> nix::Result<OwnedFd> {
    let Some(mut source) = source else { return connect_from(target, None) };
    match connect_from(target, Some(source)) {
        // The client has a connection to another published port of this container's port.
        Err(Errno::EADDRINUSE | Errno::EADDRNOTAVAIL) if source.port() != 0 => {
            source.set_port(0);
            connect_from(target, Some(source))
        }
        done => done,
    }
}

fn connect_from(target: SocketAddr, source: Option<SocketAddr>) -> nix::Result<OwnedFd> {
    let family = if target.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let inside = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    flow::prepare(&inside)?;
    if let Some(source) = source {
        make_transparent(&inside, target.is_ipv4())
            .map_err(|e| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        // Another connection of the same client may be bound to it: to another port of a container.
        setsockopt(&inside, sockopt::ReuseAddr, &true)?;
        if source.port() == 0 {
            setsockopt(&inside, sockopt::IpBindAddressNoPort, &true)?;
        }
        bind(inside.as_raw_fd(), &SockaddrStorage::from(source))?;
    }
    match connect(inside.as_raw_fd(), &SockaddrStorage::from(target)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(inside),
        Err(e) => Err(e),
    }
}

fn set_nonblocking(socket: &OwnedFd) -> nix::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let now = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
    fcntl(socket, FcntlArg::F_SETFL(now | OFlag::O_NONBLOCK)).map(drop)
}
