//! All of an ordinary user's traffic that is not TCP: what containers send comes as packets out of
//! the TUN, leaves by sockets of the host's, and what these receive is written into the TUN as packets.
//! And published ports of UDP, root's too.
//!
//! Called by the uplink's loop in the thread that is in the host's network namespace. Nothing waits,
//! nothing fails: what cannot be delivered is dropped, or its sender told by ICMP as a router would.
//! Containers are hostile: no length in a packet is believed, and each has its own share of flows,
//! clients and fragments, so that a flood costs only who sends it.
//!
//! Multicast and broadcast stay in the namespace. ICMP goes out as echo requests only, since that is all
//! that the kernel lets an ordinary user send; whether it does is told by [`may_ping`].

mod checksum;
mod flow;
mod fragments;
mod icmp;
mod inward;
mod outbox;
mod packet;
mod published;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;

use self::flow::{Budget, Flow, Key};
use self::fragments::Fragments;
use self::icmp::Message;
use self::inward::{Inward, LONGEST, MTU, MTU_MIN, SEGMENTS, Way};
use self::outbox::{Outbox, Route, Via};
use self::packet::{HEAD, ICMP, ICMPV6, Packet, TCP, UDP};
use self::published::{Client, Ports, Session};
use self::table::{Place, Table};
use super::epoll::{Kind, Poll, Token};
use super::inside::Inside;
use super::policy::{Destination, HOST, Owner, Policy};
use super::vnet;
use crate::network::Published;
use crate::sys::datagrams::{self, BATCH, Batch};

pub use self::flow::may_ping;
pub use self::icmp::Refusal;
pub use self::table::Limits;

/// What is taken from one socket before others get their turn: batches, and errors.
const TURN: usize = 4;

/// What a token's index is of: its upper two bits.
const FLOW: u32 = 0;
const LISTENER: u32 = 1 << 30;
const SESSION: u32 = 2 << 30;
const INDEX: u32 = LISTENER - 1;

/// The user's flows of datagrams.
#[derive(Debug)]
pub struct Datagrams {
    poll: Rc<Poll>,
    /// `None`: there is no TUN, and only published ports are relayed.
    inward: Option<Inward>,
    flows: Table<Key, Flow>,
    budget: Budget,
    fragments: Fragments,
    ports: Ports,
    outbox: Outbox,
    batch: Batch,
    /// Containers behind networks of IPv6 that are narrower than usual, and what these carry.
    narrow: HashMap<IpAddr, usize>,
}

impl Datagrams {
    /// `tun`: with `IFF_VNET_HDR` and not blocking; it is only written to. `None` where containers do not
    /// need the uplink to get outside. `poll` is the calling thread's; its events of [`Kind::Datagram`]
    /// are for [`Datagrams::ready`]. `inside` makes sockets where the bridges are.
    pub fn new(tun: Option<OwnedFd>, poll: Rc<Poll>, inside: Rc<Inside>, limits: Limits) -> Self {
        Self {
            poll,
            ports: Ports::new(inside, limits),
            inward: tun.map(Inward::new),
            flows: Table::new(limits),
            budget: Budget::default(),
            fragments: Fragments::default(),
            outbox: Outbox::default(),
            batch: Batch::default(),
            narrow: HashMap::new(),
        }
    }

    /// Takes a packet that came out of the TUN, all but TCP. What it says may wait for
    /// [`Datagrams::flush`].
    pub fn packet(&mut self, policy: &Policy, header: vnet::Header, packet: &[u8]) {
        let Some(packet) = Packet::parse(packet) else { return };
        if !is_unicast(packet.destination) || !is_unicast(packet.source) {
            return;
        }
        let now = Instant::now();
        let Some(fragment) = packet.fragment else { return self.take(policy, header, &packet, now) };
        if policy.owner(packet.source).is_none() {
            return;
        }
        if let Some(whole) = self.fragments.add(&packet, fragment, now) {
            let mut packet = whole.packet();
            if packet.source.is_ipv6() {
                let Some(inner) = packet::skip_extensions(packet.protocol, packet.payload) else { return };
                (packet.protocol, packet.payload) = inner;
            }
            self.take(policy, vnet::Header::default(), &packet, now);
        }
    }

    /// A packet that is whole.
    fn take(&mut self, policy: &Policy, header: vnet::Header, packet: &Packet<'_>, now: Instant) {
        let icmp = if packet.source.is_ipv4() { ICMP } else { ICMPV6 };
        let known = packet.protocol == UDP || packet.protocol == icmp;
        if known && header.flags & (vnet::NEEDS_CHECKSUM | vnet::CHECKSUM_VALID) == 0 && !packet.is_sound() {
            return;
        }
        match packet.protocol {
            UDP => self.take_udp(policy, header, packet, now),
            protocol if protocol == icmp => self.take_icmp(policy, packet, now),
            TCP => {}
            _ => {
                let refusal = match policy.destination(packet.source, packet.destination) {
                    Destination::Host(_) => Refusal::Protocol,
                    Destination::Refused => Refusal::Prohibited,
                };
                self.tell(packet, refusal);
            }
        }
    }

    fn take_udp(&mut self, policy: &Policy, header: vnet::Header, packet: &Packet<'_>, now: Instant) {
        let Some((from, to, data)) = packet::udp(packet.payload) else { return };
        let source = SocketAddr::new(packet.source, from);
        let seen = SocketAddr::new(packet.destination, to);
        let segment = if header.segment_kind == vnet::SEGMENT_UDP { usize::from(header.segment) } else { 0 };
        if let Some(route) = self.ports.answer(source, seen, now) {
            return self.post(route, data, segment);
        }
        let key = Key { kind: flow::Kind::Udp, source };
        let Some((place, peer)) = self.flow(policy, key, seen, packet, now) else { return };
        self.post(Route { via: Via::Flow(place), to: peer, from: None }, data, segment);
    }

    fn take_icmp(&mut self, policy: &Policy, packet: &Packet<'_>, now: Instant) {
        let Some(&[kind, code, _, _, i0, i1, ..]) = packet.payload.first_chunk::<HEAD>() else { return };
        match (packet.source.is_ipv4(), kind, code) {
            (true, icmp::ECHO_REQUEST, 0) | (false, icmp::V6_ECHO_REQUEST, 0) => {}
            // Of the kernel's own, not of another container's.
            (false, icmp::V6_PACKET_TOO_BIG, _) if policy.owner(packet.source).is_none() => {
                return self.take_too_big(policy, packet.payload);
            }
            _ => return,
        }
        let source = SocketAddr::new(packet.source, u16::from_be_bytes([i0, i1]));
        let seen = SocketAddr::new(packet.destination, 0);
        let key = Key { kind: flow::Kind::Echo, source };
        let Some((place, peer)) = self.flow(policy, key, seen, packet, now) else { return };
        let Some(flow) = self.flows.get(place) else { return };
        // The kernel puts its own identifier into it, by which it finds the socket for the reply.
        let send = || datagrams::send(flow.socket(), packet.payload, Some(&peer), None, 0);
        // The first failure may be what came back for an earlier one.
        if let Err(errno) = send().or_else(|_| send()) {
            if errno == Errno::EMSGSIZE && peer.is_ipv6() {
                flow::send_cut(flow.socket(), packet.payload, &peer);
            }
            if let Some(refusal) = Refusal::of(errno) {
                self.tell(packet, refusal);
            }
            self.take_troubles(place, Some(peer), now);
        }
    }

    /// The namespace's kernel could not pass on what we wrote: a network's MTU is below the usual one.
    fn take_too_big(&mut self, policy: &Policy, message: &[u8]) {
        // MTU; what it was about: its destination is the container.
        let (Some(&[m0, m1, m2, m3]), Some(to)) = (
            message.get(4..).and_then(|rest| rest.first_chunk()),
            message.get(HEAD + 24..).and_then(|rest| rest.first_chunk::<16>()),
        ) else {
            return;
        };
        let (mtu, to) = (u32::from_be_bytes([m0, m1, m2, m3]) as usize, IpAddr::from(*to));
        if policy.owner(to).is_some() {
            self.narrow.insert(to, mtu.clamp(MTU_MIN, MTU));
        }
    }

    /// The flow of a container's port, made if it is new, ready to send like `packet`; and the address
    /// that `seen` is on the host. Otherwise the container is told why not.
    fn flow(
        &mut self,
        policy: &Policy,
        key: Key,
        seen: SocketAddr,
        packet: &Packet<'_>,
        now: Instant,
    ) -> Option<(Place, SocketAddr)> {
        let found = self.flows.find(&key);
        // To ask for the host's own address is dear; a flow keeps the answer.
        let to_host = seen.ip() == HOST;
        let known = found.and_then(|place| self.flows.get(place)?.host).filter(|_| to_host);
        let asked = known.map_or_else(|| policy.destination(packet.source, packet.destination), Destination::Host);
        let owner = policy.owner(packet.source);
        let (Destination::Host(address), Some(owner)) = (asked, owner) else {
            self.tell(packet, Refusal::Prohibited);
            return None;
        };
        let place = match found {
            Some(place) => place,
            None => match self.open(key, owner, now) {
                Ok(place) => place,
                Err(errno) => {
                    if let Some(refusal) = Refusal::of(errno) {
                        self.tell(packet, refusal);
                    }
                    return None;
                }
            },
        };
        self.flows.touch(place, false, now);
        if self.flows.get(place)?.differs(packet) {
            if self.outbox.route().is_some_and(|route| route.via == Via::Flow(place)) {
                self.flush();
            }
            self.flows.get_mut(place)?.adapt(packet);
        }
        let flow = self.flows.get_mut(place)?;
        let peer = SocketAddr::new(address, seen.port());
        flow.peers.note(peer, seen, now);
        if to_host {
            flow.host = Some(address);
        }
        Some((place, peer))
    }

    fn open(&mut self, key: Key, owner: Owner, now: Instant) -> nix::Result<Place> {
        let container = key.source.ip();
        while let Some(place) = self.flows.surplus(container) {
            self.close(place);
        }
        let flow = match Flow::open(key.kind, container.is_ipv4(), owner, &self.budget) {
            Err(Errno::EMFILE | Errno::ENFILE) => {
                // Less than the limits allow: what is used least makes room.
                let place = self.flows.least().ok_or(Errno::EMFILE)?;
                self.close(place);
                Flow::open(key.kind, container.is_ipv4(), owner, &self.budget)?
            }
            opened => opened?,
        };
        let place = self.flows.next();
        self.poll.add(flow.socket(), token(FLOW, place), EpollFlags::EPOLLIN)?;
        Ok(self.flows.insert(key, container, flow, now))
    }

    fn close(&mut self, place: Place) {
        if self.outbox.route().is_some_and(|route| route.via == Via::Flow(place)) {
            self.flush();
        }
        self.flows.remove(place);
    }

    /// Puts a datagram into the outbox.
    fn post(&mut self, route: Route, data: &[u8], segment: usize) {
        if !self.outbox.add(route, data, segment) {
            self.flush();
            self.outbox.add(route, data, segment);
        }
    }

    /// Sends what waits. To be called when there is nothing more to read from the TUN for now.
    pub fn flush(&mut self) {
        let Some(route) = self.outbox.route() else { return };
        let socket = match route.via {
            Via::Flow(place) => self.flows.get(place).map(Flow::socket),
            Via::Listener(index) => self.ports.socket(index),
        };
        let Some(socket) = socket else { return self.outbox.clear() };
        let mut refused = None;
        // Of a row it is enough to hear once why it was not sent.
        self.outbox.send(socket, |datagram, errno| {
            refused.get_or_insert((datagram.len(), errno));
            if errno == Errno::EMSGSIZE && route.to.is_ipv6() && matches!(route.via, Via::Flow(_)) {
                flow::send_cut(socket, datagram, &route.to);
            }
        });
        let (Some((length, errno)), Via::Flow(place)) = (refused, route.via) else { return };
        let now = Instant::now();
        if let (Some(refusal), Some(key)) = (Refusal::of(errno), self.flows.key(place))
            && let Some(seen) = self.flows.get_mut(place).and_then(|flow| flow.peers.seen(route.to, now))
        {
            let quoted = quote_udp(key.source, seen, &[], length);
            self.error(seen.ip(), key.source.ip(), refusal.message(seen.is_ipv4()), &quoted);
        }
        self.take_troubles(place, Some(route.to), now);
    }

    /// Something that was registered under this token is ready.
    pub fn ready(&mut self, policy: &Policy, token: Token, events: EpollFlags) {
        let place = Place { index: token.index & INDEX, generation: token.generation };
        let now = Instant::now();
        match token.index & !INDEX {
            FLOW => {
                self.receive(place, now);
                if events.contains(EpollFlags::EPOLLERR) {
                    self.take_troubles(place, None, now);
                }
            }
            LISTENER => self.receive_from_clients(policy, place.index, now),
            _ => self.receive_for_client(place, now),
        }
    }

    /// From the peers of a flow.
    fn receive(&mut self, place: Place, now: Instant) {
        let Some(key) = self.flows.key(place) else { return };
        let Some(inward) = &mut self.inward else { return };
        let mtu = self.narrow.get(&key.source.ip()).copied().unwrap_or(MTU);
        for _ in 0..TURN {
            let Some(flow) = self.flows.get_mut(place) else { return };
            let Ok(count) = self.batch.receive(flow.socket()) else { return };
            let mut index = 0;
            let mut answered = false;
            while let Some(row) = Row::next(&self.batch, &mut index, count) {
                let Some(from) = flow.peers.seen(row.from, now) else { continue };
                answered = true;
                let way = Way { from, to: key.source, class: row.class, mtu };
                match key.kind {
                    flow::Kind::Udp => inward.udp(&way, row.segment, row.pieces()),
                    flow::Kind::Echo => {
                        for reply in row.pieces() {
                            let mut reply = reply.to_vec();
                            let Some(identifier) = reply.get_mut(4..6) else { continue };
                            identifier.copy_from_slice(&key.source.port().to_be_bytes());
                            if matches!(reply[0], icmp::ECHO_REPLY | icmp::V6_ECHO_REPLY) {
                                inward.icmp(&way, &mut reply);
                            }
                        }
                    }
                }
            }
            if answered {
                self.flows.touch(place, true, now);
            }
            if count < BATCH {
                return;
            }
        }
    }

    /// Passes on to the container what came back for what its flow sent. `refused`: where to the kernel has
    /// just refused to send; its own word about that does not say the port.
    fn take_troubles(&mut self, place: Place, refused: Option<SocketAddr>, now: Instant) {
        let mut buffer = [0; 512];
        for _ in 0..TURN * BATCH {
            let (Some(key), Some(flow)) = (self.flows.key(place), self.flows.get_mut(place)) else { return };
            let Ok(trouble) = datagrams::trouble(flow.socket(), &mut buffer) else { return };
            let Some(message) = Message::of(&trouble, key.source.is_ipv4()) else { continue };
            let local = refused.filter(|_| trouble.origin == libc::SO_EE_ORIGIN_LOCAL);
            let Some(destination) = local.or(trouble.destination) else { continue };
            let Some(seen) = flow.peers.seen(destination, now) else { continue };
            // The peer itself is known by the name the container has for it, a router on the way by its own.
            let offender = trouble.offender.filter(|who| *who != destination.ip() && !who.is_loopback());
            let data = &buffer[..trouble.length];
            let quoted = match key.kind {
                flow::Kind::Udp => quote_udp(key.source, seen, data, data.len()),
                flow::Kind::Echo => {
                    // As it was, but for the identifier.
                    let mut echo = data.to_vec();
                    echo.resize(echo.len().max(HEAD), 0);
                    echo[0] = if seen.is_ipv4() { icmp::ECHO_REQUEST } else { icmp::V6_ECHO_REQUEST };
                    echo[4..6].copy_from_slice(&key.source.port().to_be_bytes());
                    let protocol = if seen.is_ipv4() { ICMP } else { ICMPV6 };
                    inward::quote(key.source.ip(), seen.ip(), protocol, &echo, 0)
                }
            };
            self.error(offender.unwrap_or(seen.ip()), key.source.ip(), message, &quoted);
        }
    }

    /// From the host's side of a published port.
    fn receive_from_clients(&mut self, policy: &Policy, listener: u32, now: Instant) {
        for _ in 0..TURN {
            let Some(socket) = self.ports.socket(listener) else { return };
            let Ok(count) = self.batch.receive(socket) else { return };
            let mut index = 0;
            while let Some(row) = Row::next(&self.batch, &mut index, count) {
                let client = Client { listener, from: row.from, local: row.local };
                let Some((place, new)) = self.ports.session(client, policy, now) else { continue };
                match self.ports.get(place) {
                    Some(Session::Packets { target, seen, .. }) => {
                        let mtu = self.narrow.get(&target.ip()).copied().unwrap_or(MTU);
                        let way = Way { from: *seen, to: *target, class: row.class, mtu };
                        if let Some(inward) = &mut self.inward {
                            inward.udp(&way, row.segment, row.pieces());
                        }
                    }
                    Some(Session::Socket { socket, .. }) => {
                        if new && self.poll.add(socket, token(SESSION, place), EpollFlags::EPOLLIN).is_err() {
                            self.ports.close(place);
                            continue;
                        }
                        for piece in row.pieces() {
                            // Whoever of a row cannot be sent as one is sent alone.
                            let _ = datagrams::send(socket.as_fd(), piece, None, None, row.segment).or_else(|_| {
                                let each = if row.segment == 0 { piece.len() } else { row.segment }.max(1);
                                piece
                                    .chunks(each)
                                    .try_for_each(|one| datagrams::send(socket.as_fd(), one, None, None, 0))
                            });
                        }
                    }
                    None => {}
                }
            }
            if count < BATCH {
                return;
            }
        }
    }

    /// From the container's side of a client's socket.
    fn receive_for_client(&mut self, place: Place, now: Instant) {
        for _ in 0..TURN {
            let Some(Session::Socket { socket, .. }) = self.ports.get(place) else { return };
            // An error is the container's refusal, which a socket cannot pass on to the client.
            let Ok(count) = self.batch.receive(socket.as_fd()) else { return };
            let Some(route) = self.ports.answered(place, now) else { return };
            let mut index = 0;
            while let Some(row) = Row::next(&self.batch, &mut index, count) {
                for piece in row.pieces() {
                    if !self.outbox.add(route, piece, row.segment) {
                        let Via::Listener(index) = route.via else { return };
                        let Some(socket) = self.ports.socket(index) else { return };
                        self.outbox.send(socket, |_, _| {});
                        self.outbox.add(route, piece, row.segment);
                    }
                }
            }
            self.flush();
            if count < BATCH {
                return;
            }
        }
    }

    /// The host's UDP socket `socket`, bound to `published`, leads to `target` from now on. `keep_source`:
    /// the container has a default route, and sees clients by their own address where that means
    /// something there. In root's [`Space`](crate::network::space::Space) it makes no difference.
    ///
    /// # Errors
    /// The socket is none of UDP, or cannot be waited for.
    pub fn publish(
        &mut self,
        owner: Owner,
        published: Published,
        socket: OwnedFd,
        target: SocketAddr,
        keep_source: bool,
    ) -> Result<()> {
        let index = self.ports.add(owner, published, socket, target, keep_source)?;
        let place = Place { index, generation: 0 };
        let socket = self.ports.socket(index).context("find the socket of a published port")?;
        let added = self.poll.add(socket, token(LISTENER, place), EpollFlags::EPOLLIN);
        if added.is_err() {
            self.ports.withdraw(owner, &published);
        }
        added.context("wait for a published port")
    }

    /// The monitors have duplicates of these sockets, so that closing ours changes nothing for epoll(7).
    fn unwatch(&self, sockets: &[OwnedFd]) {
        for socket in sockets {
            let _ = self.poll.remove(socket);
        }
    }

    /// Publishes a port no more, and ends what goes through it.
    pub fn unpublish(&mut self, owner: Owner, published: &Published) {
        self.flush();
        let withdrawn = self.ports.withdraw(owner, published);
        self.unwatch(&withdrawn);
    }

    /// Ends all that is of this owner's containers.
    pub fn forget(&mut self, owner: Owner, policy: &Policy) {
        self.flush();
        let withdrawn = self.ports.forget(owner);
        self.unwatch(&withdrawn);
        for place in self.flows.select(|_, flow| flow.owner == owner) {
            self.close(place);
        }
        self.narrow.retain(|address, _| policy.owner(*address).is_some_and(|other| other != owner));
    }

    /// When [`Datagrams::expire`] is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        let waits = self.outbox.route().map(|_| Instant::now());
        let deadlines = [waits, self.flows.deadline(), self.ports.deadline(), self.fragments.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Forgets what was idle for too long.
    pub fn expire(&mut self, now: Instant) {
        self.flush();
        self.fragments.expire(now);
        for place in self.flows.expired(now) {
            self.close(place);
        }
        self.ports.expire(now);
    }

    /// Tells the sender of a packet, of any protocol, why it is not delivered.
    pub fn refuse(&mut self, packet: &[u8], refusal: Refusal) {
        if let Some(packet) = Packet::parse(packet)
            && packet.fragment.is_none_or(|fragment| fragment.offset == 0)
            && is_unicast(packet.destination)
            && is_unicast(packet.source)
        {
            self.tell(&packet, refusal);
        }
    }

    fn tell(&mut self, packet: &Packet<'_>, refusal: Refusal) {
        let message = refusal.message(packet.source.is_ipv4());
        if packet.raw.is_empty() {
            let (source, destination) = (packet.source, packet.destination);
            let quoted = inward::quote(source, destination, packet.protocol, packet.payload, 0);
            self.error(destination, source, message, &quoted);
        } else {
            self.error(packet.destination, packet.source, message, packet.raw);
        }
    }

    fn error(&mut self, from: IpAddr, to: IpAddr, message: Message, quoted: &[u8]) {
        if let Some(inward) = &mut self.inward {
            inward.error(from, to, message, quoted);
        }
    }
}

/// What arrived one after the other from one peer and can be written as one packet.
struct Row<'b> {
    from: SocketAddr,
    local: Option<IpAddr>,
    class: u8,
    /// Length of each datagram but the last; 0: there is one.
    segment: usize,
    pieces: [&'b [u8]; BATCH],
    count: usize,
}

impl<'b> Row<'b> {
    /// The row that begins at `index` of the `count` datagrams of a batch; `index` moves behind it.
    fn next(batch: &'b Batch, index: &mut usize, count: usize) -> Option<Self> {
        let first = loop {
            if *index >= count {
                return None;
            }
            *index += 1;
            if let Some(arrival) = batch.get(*index - 1) {
                break arrival;
            }
        };
        let mut row = Row {
            from: first.from,
            local: first.local,
            class: first.class,
            segment: if first.segment == 0 { first.bytes.len() } else { first.segment },
            pieces: [&[]; BATCH],
            count: 1,
        };
        row.pieces[0] = first.bytes;
        let mut length = first.bytes.len();
        while *index < count && row.segment > 0 && length.is_multiple_of(row.segment) {
            let Some(next) = batch.get(*index) else { break };
            let one = if next.segment == 0 { next.bytes.len() } else { next.segment };
            let alike = (next.from, next.local, next.class) == (row.from, row.local, row.class);
            let fits = one == row.segment || (one < row.segment && one == next.bytes.len() && one > 0);
            length += next.bytes.len();
            if !alike || !fits || length > LONGEST || length.div_ceil(row.segment) > SEGMENTS {
                break;
            }
            row.pieces[row.count] = next.bytes;
            row.count += 1;
            *index += 1;
        }
        Some(row)
    }

    fn pieces(&self) -> &[&'b [u8]] {
        &self.pieces[..self.count]
    }
}

/// The token of a socket. Listeners are all of one generation: their sockets are asked without harm.
fn token(of: u32, place: Place) -> Token {
    Token { kind: Kind::Datagram, generation: place.generation, index: of | (place.index & INDEX) }
}

/// Whether it may be one end of a conversation of two.
fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_multicast() || v4.is_broadcast() || v4.is_unspecified()),
        IpAddr::V6(v6) => !(v6.is_multicast() || v6.is_unspecified()),
    }
}

/// The beginning of a datagram that a container sent, to be quoted to it. `length`: of its payload.
fn quote_udp(source: SocketAddr, destination: SocketAddr, data: &[u8], length: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD + data.len());
    head.extend_from_slice(&source.port().to_be_bytes());
    head.extend_from_slice(&destination.port().to_be_bytes());
    head.extend_from_slice(&u16::try_from(HEAD + length).unwrap_or(u16::MAX).to_be_bytes());
    head.extend_from_slice(&[0, 0]);
    head.extend_from_slice(data);
    inward::quote(source.ip(), destination.ip(), UDP, &head, length - data.len())
}
