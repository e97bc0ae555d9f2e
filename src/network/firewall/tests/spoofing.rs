use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket};

use super::bed::{Net, PATIENCE};
use super::lab::{Lab, seen, serve, shut};
use crate::network::firewall::{MemberRules, add_member, remove_member, unload_all};

#[test]
fn nobody_speaks_for_another() {
    let Some(lab) = Lab::new() else { return };
    for net in [&lab.neighbour, &lab.host] {
        serve(net, 80);
    }
    lab.load(&[]);
    let a = lab.members()[0].clone();
    assert_eq!(seen(&lab.a, "172.30.1.3:80"), "172.30.1.2");

    // An address that it was not given, also asked for by ARP and by neighbour solicitation.
    lab.a.ip("addr add 172.30.1.99/24 dev eth0");
    lab.a.ip("route add 172.30.1.3 dev eth0 src 172.30.1.99");
    lab.a.ip("route add 172.30.1.1 dev eth0 src 172.30.1.99");
    lab.a.ip("addr add fd30:1::99/64 dev eth0 nodad");
    lab.a.ip("route add fd30:1::3 dev eth0 src fd30:1::99");
    for net in [&lab.a, &lab.neighbour, &lab.host] {
        net.ip("neigh flush all");
    }
    for to in ["172.30.1.3:80", "172.30.1.1:80", "[fd30:1::3]:80"] {
        assert!(shut(&lab.a, to), "to {to}");
    }
    for net in [&lab.neighbour, &lab.host] {
        let learned = net.run("ip", &["neigh"]);
        assert!(!learned.contains("172.30.1.99 ") && !learned.contains("fd30:1::99 "), "{learned}");
    }
    // Nor does it answer for one.
    assert!(shut(&lab.neighbour, "172.30.1.99:1"));
    let asked = lab.neighbour.run("ip", &["neigh", "show", "172.30.1.99"]);
    assert!(!asked.contains("lladdr"), "{asked}");

    // Without the rules all of that works: the test can fail.
    lab.here(unload_all).unwrap();
    lab.a.ip("neigh flush all");
    assert_eq!(seen(&lab.a, "172.30.1.3:80"), "172.30.1.99");
    assert_eq!(seen(&lab.a, "[fd30:1::3]:80"), "fd30:1::99");
    lab.load(&[]);

    // Its own address from another MAC.
    lab.a.ip("route del 172.30.1.3 dev eth0");
    lab.a.ip("addr del 172.30.1.99/24 dev eth0");
    assert_eq!(seen(&lab.a, "172.30.1.3:80"), "172.30.1.2");
    lab.a.ip("link set eth0 address 02:00:00:00:00:ee");
    assert!(shut(&lab.a, "172.30.1.3:80"));
    lab.a.ip("link set eth0 address 02:00:00:00:00:0a");

    // Who has left cannot send; it comes back with another address.
    lab.here(|space| remove_member(space, &a)).unwrap();
    lab.here(|space| remove_member(space, &a)).unwrap();
    let moved = MemberRules { ipv4: Some([172, 30, 1, 7].into()), ipv6: None, ..a };
    lab.here(|space| add_member(space, &moved)).unwrap();
    assert!(shut(&lab.a, "172.30.1.3:80"));
    lab.a.ip("addr add 172.30.1.7/24 dev eth0");
    lab.a.ip("route add 172.30.1.3 dev eth0 src 172.30.1.7");
    assert_eq!(seen(&lab.a, "172.30.1.3:80"), "172.30.1.7");
}

/// An UDP packet to port 53 with any source, as a raw socket sends it.
fn forged(net: &Net, from: [u8; 4], to: [u8; 4]) {
    let mut packet = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend([from, to].concat());
    packet.extend([0x30, 0x39, 0, 53, 0, 12, 0, 0]);
    packet.extend(b"fake");
    net.inside(|| {
        let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).unwrap();
        let to = SockaddrIn::from(SocketAddrV4::new(to.into(), 53));
        sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::empty()).unwrap();
    });
}

#[test]
fn forged_packets_are_dropped() {
    let Some(lab) = Lab::new() else { return };
    lab.load(&[]);
    let victim = lab.neighbour.inside(|| UdpSocket::bind("0.0.0.0:53")).unwrap();
    victim.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let arrives = |from| {
        forged(&lab.a, from, [172, 30, 1, 3]);
        victim.recv_from(&mut [0; 8]).map(|(_, from)| from.ip().to_string()).ok()
    };
    assert_eq!(arrives([172, 30, 1, 2]).as_deref(), Some("172.30.1.2"));
    for from in [[172, 30, 1, 1], [172, 30, 1, 99], [198, 51, 100, 2], [0, 0, 0, 0]] {
        // The kernel puts an address of its own in place of none.
        assert_eq!(arrives(from).as_deref(), (from == [0; 4]).then_some("172.30.1.2"), "{from:?}");
    }
    lab.here(unload_all).unwrap();
    assert_eq!(arrives([172, 30, 1, 99]).as_deref(), Some("172.30.1.99"), "the test can fail");
}

#[test]
fn an_address_that_is_taken_is_noticed() {
    let Some(lab) = Lab::new() else { return };
    lab.load(&[]);
    lab.neighbour.ip("addr add fd30:1::2/64 dev eth0");
    let start = Instant::now();
    while !lab.neighbour.run("ip", &["-6", "addr", "show", "dev", "eth0"]).contains("dadfailed") {
        assert!(start.elapsed() < PATIENCE, "nobody said that fd30:1::2 is taken");
        std::thread::sleep(Duration::from_millis(50));
    }
}
