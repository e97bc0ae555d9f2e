//! The names that a container asks for: `nameserver 127.0.0.11` of its resolv.conf, which is its
//! monitor.
//!
//! [`Resolver`] is a part of the monitor's poll loop. Its sockets are in the container's network
//! namespace, where nobody else reaches them. Names of containers it answers from the members'
//! records of the networks that the container is on ([`names`]), so there is nothing to be told when
//! one comes or goes. All else it carries to a server and back ([`forward`] over UDP, [`stream`] over
//! TCP): the host's, from the host's namespace, where systemd-resolved's 127.0.0.53 and a VPN's server
//! are in reach; or those of `--dns`, from the container's own, as Docker does, because they may be
//! containers. A container on `--internal` networks alone has no server but `--dns`: what it could ask
//! would leave the machine. Nothing is kept of what servers say: the host's resolver does that, and
//! knows when it is stale.
//!
//! What a container can do to its resolver: it has [`MOST_QUESTIONS`] under way and
//! [`MOST_CLIENTS`](stream::MOST_CLIENTS) connections, each for a bounded time; more are told that it
//! fails at once, or wait in the kernel. Memory is bounded by these, and given back at rest.
//!
//! [`message`] is a parser of our own: header, question and the place of the EDNS record are all that
//! a forwarder reads. The crates there are take whole messages apart, allocate for each record and
//! have to follow compression pointers in packets of strangers; what is not done cannot be attacked.

mod forward;
mod message;
mod names;
mod servers;
mod sockets;
mod stream;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::PollFlags;

use crate::network::dns::forward::Question;
use crate::network::dns::message::{IN, LARGE, Malformed, Query, Rcode};
pub use crate::network::dns::names::HOST;
use crate::network::dns::names::Names;
use crate::network::dns::servers::{Host, Servers, Silence};
use crate::network::dns::sockets::Sockets;
use crate::network::dns::stream::Client;
use crate::network::firewall;
use crate::store::{Id, Store};

/// Where a container finds its resolver. Docker's.
pub const ADDRESS: Ipv4Addr = firewall::dns::RESOLVER;

pub use crate::network::dns::servers::PORT;

/// The servers that the host's resolv.conf(5) names, in its order, and those behind systemd-resolved.
#[must_use]
pub fn host_servers() -> Vec<SocketAddr> {
    Host::new().servers(&[]).addresses.clone()
}

/// Questions over UDP that wait for a server at the same time. Each has a descriptor; a process
/// has 1024 where nobody raised it.
const MOST_QUESTIONS: usize = 256;

/// Datagrams that are taken before the loop has its turn again.
const BURST: usize = 64;

/// So long no connection is taken when there is no descriptor for one.
const FULL: Duration = Duration::from_millis(100);

/// Types that transfer a whole zone, in many messages: not what a resolver is for.
const TRANSFERS: [u16; 2] = [251, 252];

/// What a container may know and ask.
#[derive(Debug, Clone)]
pub struct View {
    pub store: Store,
    /// Who asks.
    pub container: Id,
    /// In the order in which it joined them: the first that has a name is the one that answers.
    pub networks: Vec<Joined>,
    /// `--link`: a name that this container alone has for another one on a network of its, and that
    /// one's name or id. Those of a single network are in the container's record as its member.
    pub links: Vec<(String, String)>,
    /// `--dns`; empty: the host's.
    pub servers: Vec<IpAddr>,
    /// `--dns-option`, of which `timeout:`, `attempts:` and `rotate` concern the resolver.
    pub options: Vec<String>,
    /// What `host.docker.internal` is; empty: nothing.
    pub gateways: Vec<IpAddr>,
}

/// A network that the container is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub id: Id,
    pub name: String,
    /// The default network: its members know each other by [`View::links`] alone.
    pub links_only: bool,
    pub internal: bool,
}

impl View {
    /// There is no way outside that a question may take.
    fn is_closed(&self) -> bool {
        self.servers.is_empty() && self.networks.iter().all(|network| network.internal)
    }
}

/// What poll(2) reports about: one of the [`Resolver::descriptors`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    Datagrams,
    Listener,
    /// A server's answer over UDP.
    Question(u64),
    /// A connection of the container's.
    Client(u64),
    /// The connection to a server that its question waits for.
    Server(u64),
}

#[derive(Debug)]
pub struct Resolver {
    view: View,
    names: Names,
    host: Host,
    /// Those of `--dns`; `None`: the host's.
    given: Option<Arc<Servers>>,
    silence: Silence,
    sockets: Sockets,
    datagrams: UdpSocket,
    listener: TcpListener,
    questions: Vec<Question>,
    clients: Vec<Client>,
    /// Numbers for questions and clients.
    count: u64,
    /// Until then no connection is taken: no descriptor was left.
    full_until: Option<Instant>,
    /// For one datagram, and a byte more by which one that is too long is known. Empty at rest.
    buffer: Vec<u8>,
}

/// What becomes of a packet.
enum Outcome {
    Reply(Vec<u8>),
    /// To be sent on, under a number of our own.
    Forward(Vec<u8>),
    Nothing,
}

impl Resolver {
    /// Opens the sockets in the container's network namespace `netns`, which need not have an interface
    /// that is up. They are on a port that the kernel chooses, and nf_tables of that namespace leads
    /// port 53 of [`ADDRESS`] there, so that the container's processes can have port 53 of all
    /// addresses. Where the kernel has no nf_tables, they are on port 53 itself.
    ///
    /// Called from the namespace that servers are asked from.
    ///
    /// # Errors
    /// The namespace cannot be entered, or has no socket for us.
    pub fn open(netns: BorrowedFd<'_>, view: View) -> Result<Self> {
        let (datagrams, listener) = sockets::serving(netns).context("open the sockets of the container's resolver")?;
        let sockets = Sockets::new(netns.try_clone_to_owned()?);
        let mut resolver = Self {
            view,
            names: Names::default(),
            host: Host::new(),
            given: None,
            silence: Silence::default(),
            sockets,
            datagrams,
            listener,
            questions: Vec::new(),
            clients: Vec::new(),
            count: 0,
            full_until: None,
            buffer: Vec::new(),
        };
        resolver.given = given(&resolver.view);
        Ok(resolver)
    }

    /// The container joined or left a network, or has another name for one.
    pub fn set_view(&mut self, view: View) {
        self.given = given(&view);
        self.view = view;
        self.names.forget();
        self.host.forget();
        self.silence.forget();
    }

    pub fn view(&self) -> &View {
        &self.view
    }

    /// What to wait for, each with what [`Resolver::ready`] is told it by.
    pub fn descriptors(&self) -> impl Iterator<Item = (Token, BorrowedFd<'_>, PollFlags)> {
        let listens = self.has_room() && self.full_until.is_none();
        let listener = listens.then(|| (Token::Listener, self.listener.as_fd(), PollFlags::POLLIN));
        let questions = self.questions.iter().map(Question::descriptor);
        let clients = self.clients.iter().map(Client::descriptor);
        let datagrams = (Token::Datagrams, self.datagrams.as_fd(), PollFlags::POLLIN);
        [datagrams].into_iter().chain(listener).chain(questions).chain(clients)
    }

    /// When [`Resolver::expire`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let questions = self.questions.iter().map(|question| question.until);
        questions.chain(self.clients.iter().map(Client::until)).chain(self.full_until).min()
    }

    /// Does what became possible.
    pub fn ready(&mut self, token: Token) {
        self.buffer.resize(LARGE + 1, 0);
        match token {
            Token::Datagrams => self.take_datagrams(),
            Token::Listener => self.accept(),
            Token::Question(number) => self.answered(number),
            Token::Client(number) => self.converse(number),
            Token::Server(number) => self.consult(number),
        }
    }

    /// Ends what has waited long enough.
    pub fn expire(&mut self, now: Instant) {
        self.full_until = self.full_until.filter(|until| *until > now);
        self.expire_questions(now);
        self.expire_clients(now);
    }

    /// Gives back what only work needs. To be called when there was none for a while.
    pub fn rest(&mut self) {
        self.names.forget();
        self.sockets.rest();
        self.buffer = Vec::new();
        if self.questions.is_empty() {
            self.questions = Vec::new();
        }
        if self.clients.is_empty() {
            self.clients = Vec::new();
        }
    }

    fn take_datagrams(&mut self) {
        for _ in 0..BURST {
            let (length, client) = match self.datagrams.recv_from(&mut self.buffer) {
                Ok(received) => received,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let buffer = std::mem::take(&mut self.buffer);
            self.take_datagram(&buffer[..length], client);
            self.buffer = buffer;
        }
    }

    fn take_datagram(&mut self, packet: &[u8], client: SocketAddr) {
        if packet.len() > LARGE {
            return;
        }
        match self.consider(packet, None) {
            Outcome::Reply(reply) => self.reply(&reply, client),
            Outcome::Forward(asked) => self.ask(packet, asked, client),
            Outcome::Nothing => {}
        }
    }

    /// Answers what is known here. `limit`: bytes of the answer; `None`: what the client says that it
    /// takes in a datagram.
    fn consider(&mut self, packet: &[u8], limit: Option<usize>) -> Outcome {
        let query = match Query::parse(packet) {
            Ok(query) => query,
            Err(Malformed::Silent) => return Outcome::Nothing,
            Err(Malformed::Answer(reply)) => return Outcome::Reply(reply),
        };
        if query.is_of_the_future() {
            return Outcome::Reply(query.refuse(Rcode::BadVers));
        }
        let name = query.name.as_deref().filter(|_| query.class == IN);
        if let Some(records) = name.and_then(|name| self.names.look_up(&self.view, name, query.kind)) {
            return Outcome::Reply(query.answer(&records, limit.unwrap_or(query.limit())));
        }
        if self.view.is_closed() || TRANSFERS.contains(&query.kind) {
            return Outcome::Reply(query.refuse(Rcode::Refused));
        }
        let mut id = [0; 2];
        match crate::sys::random(&mut id) {
            Ok(()) => Outcome::Forward(query.forwarded(u16::from_ne_bytes(id))),
            Err(_) => Outcome::Reply(query.refuse(Rcode::ServFail)),
        }
    }

    /// A client that does not fetch its answers loses them.
    fn reply(&self, packet: &[u8], client: SocketAddr) {
        let _ = self.datagrams.send_to(packet, client);
    }

    fn servers(&mut self) -> Arc<Servers> {
        self.given.clone().unwrap_or_else(|| self.host.servers(&self.view.options))
    }

    fn number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }
}

fn given(view: &View) -> Option<Arc<Servers>> {
    let addresses: Vec<_> = view.servers.iter().map(|address| SocketAddr::new(*address, servers::PORT)).collect();
    let options = view.options.iter().map(String::as_str);
    (!addresses.is_empty()).then(|| Arc::new(Servers::new(addresses, options)))
}
