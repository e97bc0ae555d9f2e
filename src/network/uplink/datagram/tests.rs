//! The whole over sockets of the host's loopback: a pair of sockets plays the TUN.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::epoll::EpollEvent;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};

use super::*;
use crate::network::Protocol;
use crate::network::space::Space;
use crate::network::uplink::policy::Registration;
use crate::store::Id;

const CONTAINER: &str = "10.0.0.2";
const CONTAINER6: &str = "fd00::2";

struct Stage {
    datagrams: Datagrams,
    policy: Policy,
    poll: Rc<Poll>,
    tun: OwnedFd,
}

/// A packet as the container gets it.
#[derive(Debug)]
struct Got {
    header: vnet::Header,
    bytes: Vec<u8>,
}

impl Got {
    fn packet(&self) -> Packet<'_> {
        Packet::parse(&self.bytes).unwrap()
    }

    /// Source, destination, payload.
    fn udp(&self) -> (SocketAddr, SocketAddr, &[u8]) {
        let packet = self.packet();
        let (from, to, data) = packet::udp(packet.payload).unwrap();
        assert_eq!(packet.protocol, UDP);
        (SocketAddr::new(packet.source, from), SocketAddr::new(packet.destination, to), data)
    }

    /// Type and code, and what is quoted; the message's checksum is right.
    fn error(&self) -> (u8, u8, &[u8]) {
        let packet = self.packet();
        assert!(packet.is_sound() && matches!(packet.protocol, ICMP | ICMPV6));
        (packet.payload[0], packet.payload[1], &packet.payload[HEAD..])
    }
}

impl Stage {
    /// With a TUN, and a container that may reach the host's loopback as [`HOST`].
    fn new(limits: Limits) -> Self {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let (tun, ours) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let poll = Rc::new(Poll::new().unwrap());
        let elsewhere = Space::Apart(std::fs::File::open("/proc/self/ns/net").unwrap().into());
        let inside = Rc::new(Inside::new(elsewhere));
        let datagrams = Datagrams::new(Some(ours), poll.clone(), inside, limits);
        let mut policy = Policy::default();
        let addresses = [CONTAINER, "10.0.0.3", CONTAINER6].map(|address| address.parse().unwrap()).to_vec();
        policy.register(Owner(1), &Registration { container: Id::random().unwrap(), addresses, host_loopback: true });
        Self { datagrams, policy, poll, tun }
    }

    fn give(&mut self, bytes: &[u8]) {
        self.datagrams.packet(&self.policy, vnet::Header::default(), bytes);
        self.datagrams.flush();
    }

    /// Lets the loop turn until nothing has happened for a while.
    fn turn(&mut self) {
        let mut events = vec![EpollEvent::empty(); 16];
        loop {
            let ready: Vec<_> = self.poll.wait(&mut events, Some(Duration::from_millis(50))).unwrap().collect();
            if ready.is_empty() {
                return;
            }
            for (token, events) in ready {
                self.datagrams.ready(&self.policy, token, events);
            }
        }
    }

    fn got(&mut self) -> Vec<Got> {
        self.turn();
        let mut all = Vec::new();
        let mut buffer = vec![0; 70000];
        while let Ok(length) = recv(self.tun.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            let (header, packet) = vnet::Header::split(&mut buffer[..length]).unwrap();
            all.push(Got { header, bytes: packet.to_vec() });
        }
        all
    }

    fn got_one(&mut self) -> Got {
        let mut all = self.got();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }
}

const FEW: Limits = Limits { each: 8, all: 12 };

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// An IP packet of a container's, whole.
fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = inward::quote(from, to, protocol, payload, 0);
    if from.is_ipv4() {
        bytes[6] = 0x40;
    }
    bytes
}

fn udp(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Vec<u8> {
    // No checksum, which IPv4 allows.
    let quoted = quote_udp(from, to, data, data.len());
    let transport = quoted[quoted.len() - data.len() - HEAD..].to_vec();
    ip(from.ip(), to.ip(), UDP, &transport)
}

fn server() -> (UdpSocket, SocketAddr) {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let seen = SocketAddr::new(IpAddr::V4(HOST), server.local_addr().unwrap().port());
    (server, seen)
}

#[test]
fn out_and_back_by_the_name_that_the_container_knows() {
    let mut stage = Stage::new(FEW);
    let (server, seen) = server();
    let from = address("10.0.0.2:5000");
    stage.give(&udp(from, seen, b"question"));
    let mut buffer = [0; 100];
    let (length, client) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"question");
    server.send_to(b"answer", client).unwrap();
    server.send_to(b"", client).unwrap();
    let got = stage.got();
    assert_eq!(got[0].udp(), (seen, from, &b"answer"[..]));
    assert_eq!(got[1].udp(), (seen, from, &b""[..]));
    // The checksum that the kernel will complete counts the pseudo header.
    assert_eq!((got[0].header.flags, got[0].header.checksum_start), (vnet::NEEDS_CHECKSUM, 20));
    let sum = checksum::Sum::pseudo(seen.ip(), from.ip(), UDP, HEAD + 6).partial();
    assert_eq!(got[0].packet().payload[6..8], sum);
    // Someone to whom it never spoke is not heard, whoever he is.
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"hello", client).unwrap();
    assert!(stage.got().is_empty());
    // The same port speaks to another peer from the same port of the host's.
    let (other, seen) = self::server();
    stage.give(&udp(from, seen, b"me again"));
    assert_eq!(other.recv_from(&mut buffer).unwrap().1.port(), client.port());
}

#[test]
fn rows_go_through_as_rows() {
    let mut stage = Stage::new(FEW);
    let (server, seen) = server();
    let from = address("10.0.0.2:5000");
    for length in [1000, 1000, 1000, 10] {
        stage.datagrams.packet(&stage.policy, vnet::Header::default(), &udp(from, seen, &vec![1; length]));
    }
    assert!(stage.datagrams.deadline().unwrap() <= Instant::now(), "something waits");
    stage.datagrams.flush();
    let mut buffer = [0; 2000];
    let mut client = None;
    for length in [1000, 1000, 1000, 10] {
        let (received, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(received, length);
        client = Some(from);
    }
    for length in [700, 700, 300, 700] {
        server.send_to(&vec![2; length], client.unwrap()).unwrap();
    }
    let got = stage.got();
    let shapes = got.iter().map(|got| (got.header.segment_kind, got.header.segment, got.udp().2.len()));
    assert_eq!(shapes.collect::<Vec<_>>(), [(vnet::SEGMENT_UDP, 700, 1700), (vnet::SEGMENT_NONE, 0, 700)]);
    // And a row of the container's own making.
    let header = vnet::Header { segment_kind: vnet::SEGMENT_UDP, segment: 400, ..vnet::Header::default() };
    stage.datagrams.packet(&stage.policy, header, &udp(from, seen, &[3; 900]));
    stage.datagrams.flush();
    for length in [400, 400, 100] {
        assert_eq!(server.recv(&mut buffer).unwrap(), length);
    }
}

#[test]
fn long_datagrams_both_ways() {
    let mut stage = Stage::new(FEW);
    let (server, seen) = server();
    let from = address("10.0.0.2:5000");
    let data: Vec<u8> = (0..60000u32).map(|n| n.to_le_bytes()[0]).collect();
    let whole = udp(from, seen, &data);
    let payload = &whole[20..];
    for (piece, offset) in payload.chunks(1480).zip((0u16..).step_by(185)) {
        let mut bytes = ip(from.ip(), seen.ip(), UDP, piece);
        let more = if usize::from(offset) * 8 + piece.len() < payload.len() { 0x2000 } else { 0 };
        bytes[6..8].copy_from_slice(&(offset | more).to_be_bytes());
        stage.give(&bytes);
    }
    let mut buffer = vec![0; 65536];
    let (length, client) = server.recv_from(&mut buffer).unwrap();
    assert!(buffer[..length] == data);
    server.send_to(&data, client).unwrap();
    let got = stage.got_one();
    assert!(got.udp() == (seen, from, &data[..]));
    assert!(!got.packet().uncut, "the namespace's kernel cuts it for the container");
}

#[test]
fn what_cannot_be_delivered_is_told() {
    let mut stage = Stage::new(FEW);
    let from = address("10.0.0.2:5000");
    let quotes = |got: &Got, sent: &[u8]| {
        let (kind, code, quoted) = got.error();
        assert_eq!((&quoted[12..20], &quoted[20..24]), (&sent[12..20], &sent[20..24]), "addresses and ports");
        assert_eq!(got.packet().destination, from.ip());
        (kind, code)
    };
    // Nobody listens there.
    let closed = SocketAddr::new(HOST.into(), server().1.port());
    let sent = udp(from, closed, b"anyone?");
    stage.give(&sent);
    let got = stage.got_one();
    assert_eq!(quotes(&got, &sent), (3, 3));
    assert_eq!(got.packet().source, closed.ip());
    // Not to be reached.
    let sent = udp(from, address("127.0.0.1:53"), b"let me in");
    stage.give(&sent);
    assert_eq!(quotes(&stage.got_one(), &sent), (3, 13));
    // SCTP.
    stage.give(&ip(from.ip(), HOST.into(), 132, &[0; 12]));
    assert_eq!(stage.got_one().error().0, 3);
    // IPv6 alike.
    let (from, to): (IpAddr, IpAddr) = (CONTAINER6.parse().unwrap(), "2001:db8::1".parse().unwrap());
    stage.give(&ip(from, to, 132, &[0; 12]));
    assert_eq!(stage.got_one().error().0, 4);
    stage.give(&ip(from, "::1".parse().unwrap(), 132, &[0; 12]));
    assert_eq!(stage.got_one().error().0, 1);
    // About errors nothing is told, nor about what was for everybody, nor to who has no address.
    stage.give(&ip(address("10.0.0.2:0").ip(), address("127.0.0.1:0").ip(), ICMP, &[3, 3, 0, 0, 0, 0, 0, 0]));
    stage.give(&udp(address("10.0.0.2:68"), address("255.255.255.255:67"), b"an address?"));
    stage.give(&udp(address("0.0.0.0:68"), address("192.0.2.1:67"), b"an address?"));
    stage.give(&udp(address("10.0.0.2:5353"), address("224.0.0.251:5353"), b"who is there?"));
    assert!(stage.got().is_empty());
    assert_eq!(stage.datagrams.flows.len(), 1);
}

#[test]
fn echo_is_answered_or_honestly_refused() {
    let mut stage = Stage::new(FEW);
    let mut echo = [8, 0, 0, 0, 0x12, 0x34, 0, 7, b'x', b'y'];
    let mut sum = checksum::Sum::default();
    sum.add(&echo);
    echo[2..4].copy_from_slice(&sum.finish());
    stage.give(&ip(address("10.0.0.2:0").ip(), HOST.into(), ICMP, &echo));
    let got = stage.got_one();
    if may_ping().is_ok() {
        let packet = got.packet();
        assert!(packet.is_sound());
        assert_eq!((packet.source, packet.payload[0]), (HOST.into(), 0));
        assert_eq!(packet.payload[4..], echo[4..]);
    } else {
        assert_eq!(got.error().0, 3);
        assert_eq!(got.error().1, 13);
    }
    // A wrong checksum is not mended.
    echo[9] = b'z';
    stage.give(&ip(address("10.0.0.2:0").ip(), HOST.into(), ICMP, &echo));
    assert!(stage.got().is_empty());
}

#[test]
fn a_flood_evicts_only_its_own() {
    let mut stage = Stage::new(FEW);
    let (server, seen) = server();
    let quiet = address("10.0.0.3:7");
    stage.give(&udp(quiet, seen, b"hello"));
    let client = server.recv_from(&mut [0; 9]).unwrap().1;
    for port in 1000..1500 {
        stage.give(&udp(SocketAddr::new(address("10.0.0.2:0").ip(), port), seen, b"flood"));
    }
    assert_eq!(stage.datagrams.flows.len(), FEW.each + 1);
    server.send_to(b"still there?", client).unwrap();
    assert_eq!(stage.got_one().udp().1, quiet);
    let later = Instant::now() + Duration::from_secs(200);
    while stage.datagrams.deadline().is_some_and(|deadline| deadline <= later) {
        stage.datagrams.expire(later);
    }
    assert_eq!((stage.datagrams.flows.len(), stage.datagrams.deadline()), (0, None));
    // And all of a container's go with it.
    stage.give(&udp(quiet, seen, b"hello"));
    stage.datagrams.forget(Owner(1), &stage.policy);
    assert_eq!(stage.datagrams.flows.len(), 0);
}

fn port(socket: &UdpSocket) -> Published {
    let address = socket.local_addr().unwrap();
    Published { host: address.ip(), host_port: address.port(), container_port: 53, protocol: Protocol::Udp }
}

#[test]
fn published_ports_through_the_tun() {
    let mut stage = Stage::new(FEW);
    for (host, target) in [("127.0.0.1:0", "10.0.0.2:53"), ("[::1]:0", "10.0.0.2:53"), ("[::1]:0", "[fd00::2]:53")] {
        let listener = UdpSocket::bind(host).unwrap();
        let (published, at) = (port(&listener), listener.local_addr().unwrap());
        let target = address(target);
        // The monitor keeps a duplicate.
        let kept = listener.try_clone().unwrap();
        stage.datagrams.publish(Owner(1), published, listener.into(), target, true).unwrap();
        let client = UdpSocket::bind(host).unwrap();
        client.connect(at).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        client.send(b"question").unwrap();
        let got = stage.got_one();
        let (seen, to, data) = got.udp();
        assert_eq!((to, data), (target, &b"question"[..]));
        assert!(!seen.ip().is_loopback() && seen.is_ipv4() == target.is_ipv4());
        let mut answer = udp(target, seen, b"answer");
        if target.is_ipv6() {
            let mut sum = checksum::Sum::pseudo(target.ip(), seen.ip(), UDP, answer.len() - 40);
            sum.add(&answer[40..]);
            answer[46..48].copy_from_slice(&sum.finish_udp());
        }
        stage.give(&answer);
        let mut buffer = [0; 9];
        assert_eq!(client.recv(&mut buffer).unwrap(), 6, "a connected socket takes it from its peer only");
        stage.datagrams.unpublish(Owner(1), &published);
        client.send(b"still there?").unwrap();
        assert!(stage.got().is_empty());
        drop(kept);
    }
}

#[test]
fn published_ports_through_sockets() {
    let poll = Rc::new(Poll::new().unwrap());
    let inside = Rc::new(Inside::new(Space::Here));
    let mut datagrams = Datagrams::new(None, poll.clone(), inside, FEW);
    let container = UdpSocket::bind("127.0.0.1:0").unwrap();
    let listener = UdpSocket::bind("[::1]:0").unwrap();
    let (published, at) = (port(&listener), listener.local_addr().unwrap());
    datagrams.publish(Owner(1), published, listener.into(), container.local_addr().unwrap(), true).unwrap();
    let mut clients = Vec::new();
    for number in 0..20u8 {
        let client = UdpSocket::bind("[::1]:0").unwrap();
        client.connect(at).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        client.send(&[number; 3]).unwrap();
        clients.push(client);
    }
    let mut events = vec![EpollEvent::empty(); 16];
    let mut turn = |datagrams: &mut Datagrams| {
        let ready: Vec<_> = poll.wait(&mut events, Some(Duration::from_millis(100))).unwrap().collect();
        for (token, events) in ready {
            datagrams.ready(&Policy::default(), token, events);
        }
    };
    turn(&mut datagrams);
    let mut buffer = [0; 9];
    for _ in 0..clients.len() {
        let (length, from) = container.recv_from(&mut buffer).unwrap();
        container.send_to(&buffer[..length], from).unwrap();
    }
    for _ in 0..3 {
        turn(&mut datagrams);
    }
    // Those that were used least have made room.
    let served = clients.iter().zip(0..).skip(clients.len() - FEW.each);
    for (client, number) in served {
        assert_eq!(client.recv(&mut buffer).unwrap(), 3);
        assert_eq!(buffer[0], number);
    }
    // With its owner all ends.
    datagrams.forget(Owner(1), &Policy::default());
    clients[19].send(b"more").unwrap();
    turn(&mut datagrams);
    container.set_nonblocking(true).unwrap();
    assert!(container.recv(&mut buffer).is_err());
    datagrams.expire(Instant::now() + Duration::from_secs(31));
    assert_eq!(datagrams.deadline(), None);
}

/// Runs `body` in a network namespace of its own, whose loopback interface has `addresses`, an MTU of
/// 1400, and may be pinged through.
fn apart(addresses: [IpAddr; 2], body: impl FnOnce() + Send + 'static) {
    use crate::network::netlink::{Message as Netlink, Socket, flags};
    use nix::sched::{CloneFlags, unshare};
    let stage = move || {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
            assert!(std::env::var_os("CTR_MUST_RUN").is_none(), "no network namespace: {errno}");
            return;
        }
        crate::sys::interface::raise_loopback().unwrap();
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
        let mut route = Socket::route().unwrap();
        for address in addresses {
            let (family, length, octets) = match address {
                IpAddr::V4(v4) => (2, 32, v4.octets().to_vec()),
                IpAddr::V6(v6) => (10, 128, v6.octets().to_vec()),
            };
            // struct ifaddrmsg, with IFA_F_NODAD; IFA_LOCAL and IFA_ADDRESS.
            let mut message = Netlink::new(libc::RTM_NEWADDR, flags::CREATE, &[family, length, 2, 0, 1, 0, 0, 0]);
            message.put(2, &octets).put(1, &octets);
            route.request(message).unwrap();
        }
        // struct ifinfomsg.
        let mut message = Netlink::new(libc::RTM_NEWLINK, 0, &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        message.put_u32(libc::IFLA_MTU, 1400);
        route.request(message).unwrap();
        body();
    };
    std::thread::spawn(stage).join().unwrap();
}

#[test]
fn both_families_over_a_narrow_path() {
    let outside: [IpAddr; 2] = ["198.51.100.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    apart(outside, move || {
        for (address, container, head) in [(outside[0], CONTAINER, 20), (outside[1], CONTAINER6, 40)] {
            let mut stage = Stage::new(FEW);
            let from = SocketAddr::new(container.parse().unwrap(), 5000);
            let server = UdpSocket::bind((address, 0)).unwrap();
            let to = server.local_addr().unwrap();
            let sound = |from: SocketAddr, to: SocketAddr, data: &[u8]| {
                let mut bytes = udp(from, to, data);
                let mut sum = checksum::Sum::pseudo(from.ip(), to.ip(), UDP, bytes.len() - head);
                sum.add(&bytes[head..]);
                bytes[head + 6..head + 8].copy_from_slice(&sum.finish_udp());
                bytes
            };
            // A datagram and its answer, which is cut for IPv6 only, by us.
            stage.give(&sound(from, to, &[1; 1000]));
            let mut buffer = vec![0; 70000];
            let (length, client) = server.recv_from(&mut buffer).unwrap();
            assert_eq!(length, 1000);
            let long: Vec<u8> = (0..50_000u32).map(|n| n.to_le_bytes()[1]).collect();
            server.send_to(&long, client).unwrap();
            let got = stage.got();
            if address.is_ipv4() {
                assert_eq!((got.len(), got[0].udp().2), (1, &long[..]));
            } else {
                assert!(got.iter().all(|got| got.bytes.len() <= MTU_MIN));
                let mut fragments = Fragments::default();
                let add = |got: &Got| {
                    let packet = got.packet();
                    fragments.add(&packet, packet.fragment.unwrap(), Instant::now())
                };
                let whole = got.iter().filter_map(add).last().unwrap();
                assert!(whole.packet().is_sound() && whole.payload[HEAD..] == long);
            }
            // What is too long for the path, and must not be cut, is told with the path's MTU.
            let sent = sound(from, to, &[2; 1440]);
            stage.give(&sent);
            let got = stage.got_one();
            let (kind, code, quoted) = got.error();
            assert_eq!((kind, code), if address.is_ipv4() { (3, 4) } else { (2, 0) });
            assert_eq!(got.packet().payload[4..8], 1400u32.to_be_bytes());
            assert_eq!(quoted[head..head + 4], sent[head..head + 4], "the ports");
            assert_eq!((got.packet().source, got.packet().destination), (to.ip(), from.ip()));
            // What might have been cut on its way to the TUN arrives all the same.
            server.set_nonblocking(true).unwrap();
            assert_eq!(server.recv(&mut buffer).ok(), address.is_ipv6().then_some(1440));
            // A closed port.
            drop(server);
            stage.give(&sound(from, to, b"gone?"));
            let got = stage.got_one();
            assert_eq!((got.error().0, got.error().1), if address.is_ipv4() { (3, 3) } else { (1, 4) });
            // Echo.
            let (kind, reply) = if address.is_ipv4() { (8, 0) } else { (128, 129) };
            let mut echo = [kind, 0, 0, 0, 0x12, 0x34, 0, 7, b'x', b'y'];
            let protocol = if address.is_ipv4() { ICMP } else { ICMPV6 };
            let mut sum = checksum::Sum::default();
            if !address.is_ipv4() {
                sum = checksum::Sum::pseudo(from.ip(), address, protocol, echo.len());
            }
            sum.add(&echo);
            echo[2..4].copy_from_slice(&sum.finish());
            stage.give(&ip(from.ip(), address, protocol, &echo));
            let got = stage.got_one();
            assert!(got.packet().is_sound());
            assert_eq!((got.packet().payload[0], &got.packet().payload[4..]), (reply, &echo[4..]));
        }
    });
}

/// Numbers that look random and are the same each time: xorshift.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(below).unwrap()).unwrap()
    }
}

#[test]
fn nothing_that_a_container_sends_is_fatal() {
    let mut stage = Stage::new(FEW);
    let mut dice = Dice(0x1234_5678_9abc_def1);
    let (_server, seen) = server();
    let v6: (IpAddr, IpAddr) = (CONTAINER6.parse().unwrap(), "2001:db8::1".parse().unwrap());
    let seeds = [
        udp(address("10.0.0.2:5000"), seen, &[7; 60]),
        ip(address("10.0.0.2:0").ip(), HOST.into(), ICMP, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]),
        ip(v6.0, v6.1, 44, &[UDP, 0, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8]),
        ip(v6.0, v6.1, 0, &[60, 0, 0, 0, 0, 0, 0, 0, UDP, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 8, 0, 0]),
        ip(v6.0, v6.1, ICMPV6, &[2; 70]),
    ];
    for round in 0..20_000 {
        let mut bytes = seeds[dice.roll(seeds.len())].clone();
        for _ in 0..dice.roll(6) {
            let at = dice.roll(bytes.len());
            bytes[at] = u8::try_from(dice.roll(256)).unwrap();
        }
        // To strangers nothing is sent from tests.
        match bytes[0] >> 4 {
            4 => bytes[16..20].copy_from_slice(&HOST.octets()),
            _ if bytes.len() >= 40 => bytes[24..28].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]),
            _ => {}
        }
        bytes.truncate(dice.roll(bytes.len()) + 1);
        if round % 3 == 0 {
            // Whole, but for what was changed above.
            bytes.resize(bytes.len() + dice.roll(64), 5);
            let length = u16::try_from(bytes.len()).unwrap();
            let (at, value) = if bytes[0] >> 4 == 4 { (2, length) } else { (4, length.saturating_sub(40)) };
            if let Some(two) = bytes.get_mut(at..at + 2) {
                two.copy_from_slice(&value.to_be_bytes());
            }
        }
        let number = |dice: &mut Dice| u16::try_from(dice.roll(65536)).unwrap();
        let header = vnet::Header {
            flags: u8::try_from(dice.roll(4)).unwrap(),
            segment_kind: u8::try_from(dice.roll(8)).unwrap(),
            headers: number(&mut dice),
            segment: number(&mut dice),
            checksum_start: number(&mut dice),
            checksum_offset: number(&mut dice),
        };
        stage.datagrams.packet(&stage.policy, header, &bytes);
        stage.datagrams.refuse(&bytes, Refusal::Network);
        if round % 500 == 0 {
            stage.got();
        }
    }
    assert!(stage.datagrams.flows.len() <= FEW.all);
}
