//! The uplink's process from its first instruction to its last. Its main thread stays in the host's
//! network namespace; it serves monitors and what containers send. The other one
//! ([`ports`](super::ports)) is in the containers'.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{dup2_stdin, setsid};

use super::datagram::{Datagrams, Limits};
use super::epoll::{Kind, Poll, Token};
use super::fence::Fence;
use super::flows;
use super::inside::Inside;
use super::packet::Tcp;
use super::policy::{Owner, Policy};
use super::ports::Ports;
use super::protocol::{self, Reply, Request, Target, VERSION};
use super::tcp::Outbound;
use super::{log, tun, vnet};
use crate::error;
use crate::network::Protocol;
use crate::network::space::Space;
use crate::runtime::cgroup;
use crate::store::Lock;
use crate::sys::process::{Fork, exit_now, fork};
use crate::sys::{descriptors, memory, seqpacket};

/// What the uplink is called with as its first argument, and is seen as by ps.
pub const NAME: &str = "ctr-uplink";

/// Packets read before something else has its turn.
const BATCH: usize = 64;

/// Room for the longest packet.
const ROOM: usize = vnet::HEADER + 65536;

/// The uplink's main function. Its standard input is the connection of the monitor that started it,
/// its standard error the log.
#[must_use]
pub fn run(_arguments: Vec<OsString>) -> ExitCode {
    match begin() {
        Ok(mut uplink) => match uplink.serve() {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                log::say(&error::message(&e));
                ExitCode::FAILURE
            }
        },
        Err(_) => ExitCode::FAILURE,
    }
}

/// Leaves the process that started it, and gets ready; that one is told how it went.
fn begin() -> Result<Uplink> {
    // The containers' processes must not look into this one: prctl(2), PR_SET_DUMPABLE.
    nix::sys::prctl::set_dumpable(false)?;
    nix::sys::prctl::set_name(c"ctr-uplink")?;
    descriptors::close_all_but(&[])?;
    // The monitor waits for its own children only, and this one outlives it.
    if let Fork::Parent(_) = fork()? {
        exit_now(0);
    }
    setsid()?;
    let first = descriptors::duplicate_above(descriptors::by_number(0), 3)?;
    dup2_stdin(File::open("/dev/null")?)?;
    let prepared = Uplink::prepare(&first);
    let reply = match &prepared {
        Ok(_) => Reply::Done,
        Err(e) => Reply::Failed { message: error::message(e), hint: error::hint(e).map(str::to_owned) },
    };
    let _ = protocol::send(&first, &reply, &[]);
    let mut uplink = prepared?;
    uplink.welcome(first, true)?;
    // Whoever started this has its first request ready.
    uplink.serve_client(1);
    if let Err(e) = cgroup::leave_for_own_scope(&format!("uplink-{}", std::process::id())) {
        log::say(&format!("stays in the first container's cgroup: {}", error::message(&e)));
    }
    memory::release();
    Ok(uplink)
}

/// A monitor's connection.
struct Client {
    socket: OwnedFd,
    owner: Owner,
    /// It has said its first word.
    known: bool,
}

struct Uplink {
    poll: Rc<Poll>,
    door: OwnedFd,
    directory: PathBuf,
    name: String,
    policy: Policy,
    /// By the index of their tokens, which is the low part of the owner's number.
    clients: HashMap<u32, Client>,
    owners: u64,
    /// Where containers are in another network namespace.
    out: Option<Out>,
    fence: Option<Fence>,
    datagrams: Datagrams,
    ports: Ports,
    /// Held at the end. Last, so that everything else is gone when the next uplink starts.
    lock: Option<Lock>,
}

/// What comes out of the TUN.
struct Out {
    packets: OwnedFd,
    buffer: Box<[u8]>,
    tcp: Outbound,
}

impl Uplink {
    /// `first`: the connection of who started this process.
    fn prepare(first: &OwnedFd) -> Result<Self> {
        let Some((request, fds)) = protocol::receive::<Request>(first, true)? else { bail!("nobody says what to do") };
        let Request::Begin { version: _, directory, name } = request else { bail!("the first word was {request:?}") };
        let mut fds = fds.into_iter();
        let door = fds.next().context("no socket to listen at")?;
        let space = fds.next().map_or(Space::Here, Space::Apart);
        let files = raise_descriptors()?;
        let limits = Limits::of(files);
        let inside = Inside::new(space);
        // First, while there are few descriptors that its threads must close.
        let ports = Ports::start(&inside, flows::most(files))?;
        let poll = Rc::new(Poll::new()?);
        poll.add(&door, Token::only(Kind::Door), EpollFlags::EPOLLIN)?;
        // What datagrams may take, connections leave: both are descriptors of this thread's.
        let most = flows::most(files.saturating_sub(2 * limits.all));
        let out = if inside.is_apart() { Some(Out::open(&inside, &poll, most)?) } else { None };
        let mut policy = Policy::default();
        let fence = if inside.is_apart() { Some(Fence::watch(&poll, &mut policy)?) } else { None };
        let tun = out.as_ref().map(|out| out.packets.try_clone()).transpose()?;
        let datagrams = Datagrams::new(tun, poll.clone(), Rc::new(inside), limits);
        let clients = HashMap::new();
        Ok(Self { poll, door, directory, name, policy, clients, owners: 0, out, fence, datagrams, ports, lock: None })
    }

    /// The whole life.
    fn serve(&mut self) -> Result<()> {
        let mut events = vec![EpollEvent::empty(); 256];
        let poll = self.poll.clone();
        loop {
            let ready = poll.wait(&mut events, self.time())?;
            // Before any packet of the same time.
            let is_told = || ready.clone().any(|(token, _)| token.kind == Kind::Fence);
            if let Some(fence) = self.fence.as_mut().filter(|fence| fence.is_stale() || is_told()) {
                fence.follow(&mut self.policy);
            }
            for (token, events) in ready {
                match (token.kind, &mut self.out) {
                    (Kind::Door, _) => self.answer_door()?,
                    (Kind::Client, _) => self.serve_client(token.index),
                    (Kind::Tun, Some(out)) => out.read(&self.policy, &mut self.datagrams)?,
                    (Kind::Listener, Some(out)) => out.tcp.accept(token.index),
                    (Kind::Inside | Kind::Outside, Some(out)) => out.tcp.ready(token, events),
                    (Kind::Datagram, _) => self.datagrams.ready(&self.policy, token, events),
                    _ => {}
                }
            }
            if let Some(out) = &mut self.out {
                out.tcp.work();
                out.tcp.expire(Instant::now());
            }
            if self.datagrams.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
                self.datagrams.expire(Instant::now());
            }
            if self.clients.is_empty() && self.is_done() && self.leave()? {
                return Ok(());
            }
        }
    }

    fn time(&self) -> Option<Duration> {
        if self.out.as_ref().is_some_and(|out| out.tcp.has_work()) {
            return Some(Duration::ZERO);
        }
        let deadline = self.out.as_ref().and_then(|out| out.tcp.deadline());
        let time = deadline
            .into_iter()
            .chain(self.datagrams.deadline())
            .min()
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Without clients there is an end to come to, which the other thread does not announce.
        let soon = self.clients.is_empty().then_some(Duration::from_millis(20));
        time.into_iter().chain(soon).min()
    }

    /// Whether all that containers sent before they left has been passed on.
    fn is_done(&self) -> bool {
        self.out.as_ref().is_none_or(|out| out.tcp.leaving() == 0) && !self.ports.is_leaving()
    }

    /// Ends, if nobody is about to come. Who comes holds the lock.
    fn leave(&mut self) -> Result<bool> {
        let Ok(Some(lock)) = Lock::try_exclusive(&self.directory) else {
            // The directory is gone with the storage root, or somebody is at it.
            return Ok(!self.directory.exists());
        };
        self.answer_door()?;
        if !self.clients.is_empty() {
            return Ok(false);
        }
        let _ = fs::remove_file(self.directory.join(&self.name));
        self.lock = Some(lock);
        Ok(true)
    }

    fn answer_door(&mut self) -> Result<()> {
        loop {
            match seqpacket::accept(self.door.as_fd()) {
                Ok(Some(socket)) => self.welcome(socket, false)?,
                Ok(None) => return Ok(()),
                Err(e) => {
                    log::say(&format!("cannot take a monitor's connection: {}", e.desc()));
                    // It stays ready: not again at once.
                    std::thread::sleep(Duration::from_millis(10));
                    return Ok(());
                }
            }
        }
    }

    fn welcome(&mut self, socket: OwnedFd, known: bool) -> Result<()> {
        self.owners += 1;
        let index = u32::try_from(self.owners & u64::from(u32::MAX))?;
        self.poll.add(&socket, Token { kind: Kind::Client, generation: 0, index }, EpollFlags::EPOLLIN)?;
        self.clients.insert(index, Client { socket, owner: Owner(self.owners), known });
        Ok(())
    }

    fn serve_client(&mut self, index: u32) {
        let Some(client) = self.clients.get(&index) else { return };
        let owner = client.owner;
        let outcome = match protocol::receive::<Request>(&client.socket, false) {
            Err(Errno::EAGAIN) => return,
            Ok(Some((request, fds))) => self.obey(index, request, fds),
            // Gone, or not one of ours.
            Ok(None) | Err(_) => {
                self.clients.remove(&index);
                self.policy.forget(owner);
                if let Some(out) = &mut self.out {
                    out.tcp.leave(owner);
                }
                self.ports.leave(owner);
                self.datagrams.forget(owner, &self.policy);
                return;
            }
        };
        let reply = match outcome {
            Ok(()) => Reply::Done,
            Err(e) => Reply::Failed { message: error::message(&e), hint: error::hint(&e).map(str::to_owned) },
        };
        if let Some(client) = self.clients.get(&index) {
            let _ = protocol::send(&client.socket, &reply, &[]);
        }
    }

    fn obey(&mut self, index: u32, request: Request, fds: Vec<OwnedFd>) -> Result<()> {
        let client = self.clients.get_mut(&index).context("no such client")?;
        let owner = client.owner;
        match request {
            Request::Hello { version } if version == VERSION => client.known = true,
            Request::Hello { version } | Request::Begin { version, .. } => {
                return Err(error::Failure::new(format!("the uplink speaks version {VERSION}, not {version}"))
                    .hint("it is of another version of ctr; stop the containers that use it, all that are on a network")
                    .into());
            }
            _ if !client.known => bail!("no word of greeting"),
            Request::Register(registration) => {
                self.policy.register(owner, &registration);
                if let Some(out) = &mut self.out {
                    out.tcp.cut(owner, &self.policy);
                }
            }
            Request::Publish(targets) => {
                if targets.len() != fds.len() {
                    bail!("{} ports and {} sockets", targets.len(), fds.len());
                }
                for (target, socket) in targets.into_iter().zip(fds) {
                    match target.published.protocol {
                        Protocol::Tcp => self.ports.publish(owner, target, &socket)?,
                        Protocol::Udp => {
                            let Target { published, target, keep_source } = target;
                            self.datagrams.publish(owner, published, socket, target, keep_source)?;
                        }
                        protocol @ Protocol::Sctp => bail!("cannot relay ports of {protocol:?}"),
                    }
                }
            }
            Request::Unpublish(all) => {
                let (datagrams, connections): (Vec<_>, Vec<_>) =
                    all.into_iter().partition(|published| published.protocol == Protocol::Udp);
                for published in &datagrams {
                    self.datagrams.unpublish(owner, published);
                }
                self.ports.unpublish(owner, connections);
            }
        }
        Ok(())
    }
}

impl Out {
    fn open(inside: &Inside, poll: &Rc<Poll>, most: usize) -> Result<Self> {
        let tun = tun::open(inside.space())?;
        poll.add(&tun.packets, Token::only(Kind::Tun), EpollFlags::EPOLLIN)?;
        let tcp = Outbound::new(tun.packets.try_clone()?, tun.listeners, poll.clone(), most)?;
        // Pages of it come into being as packets need them.
        Ok(Self { packets: tun.packets, buffer: vec![0; ROOM].into_boxed_slice(), tcp })
    }

    /// Reads packets for a while.
    fn read(&mut self, policy: &Policy, datagrams: &mut Datagrams) -> Result<()> {
        for _ in 0..BATCH {
            let length = match nix::unistd::read(&self.packets, &mut self.buffer) {
                Ok(length) => length,
                Err(Errno::EAGAIN | Errno::EINTR) => break,
                // EBADFD: somebody in the namespace has removed the TUN. A new uplink makes it anew.
                Err(e) => return Err(e).with_context(|| format!("read from {}", tun::NAME)),
            };
            let Some(packet) = self.buffer.get(vnet::HEADER..length) else { continue };
            if let Some(tcp) = Tcp::parse(packet) {
                self.tcp.packet(policy, &tcp, &self.buffer[..length]);
            } else if let Some((header, packet)) = vnet::Header::split(&mut self.buffer[..length]) {
                datagrams.packet(policy, header, packet);
            }
        }
        datagrams.flush();
        Ok(())
    }
}

/// Allows this process as many descriptors as it may have, and says how many.
fn raise_descriptors() -> Result<usize> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(usize::try_from(most)?)
}
