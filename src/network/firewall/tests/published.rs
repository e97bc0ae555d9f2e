use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::bed::{Net, PATIENCE};
use super::lab::{Lab, seen, serve, shut};
use crate::network::firewall::{Publication, load_all, publish, serves, unpublish};
use crate::network::space::Space;
use crate::network::{Protocol, Published};

fn port(protocol: Protocol, host: &str, to: &str) -> Publication {
    let (host, to): (SocketAddr, SocketAddr) = (host.parse().unwrap(), to.parse().unwrap());
    (Published { host: host.ip(), host_port: host.port(), container_port: to.port(), protocol }, to)
}

fn tcp(host: &str, to: &str) -> Publication {
    port(Protocol::Tcp, host, to)
}

#[test]
fn ports_lead_to_containers() {
    let Some(lab) = Lab::new() else { return };
    lab.bridged_packets_pass(false);
    leads(&lab);
}

#[test]
fn ports_lead_to_containers_where_bridged_packets_pass() {
    let Some(lab) = Lab::new() else { return };
    lab.bridged_packets_pass(true);
    leads(&lab);
}

fn leads(lab: &Lab) {
    for net in [&lab.a, &lab.inner] {
        serve(net, 80);
    }
    lab.load(&[tcp("0.0.0.0:8080", "172.30.1.2:80"), tcp("0.0.0.0:8083", "172.30.3.2:80")]);
    let further = [
        tcp("127.0.0.1:8081", "172.30.1.2:80"),
        tcp("198.51.100.1:8082", "172.30.1.2:80"),
        tcp("[::]:8080", "[fd30:1::2]:80"),
        tcp("[::1]:8081", "[fd30:1::2]:80"),
    ];
    lab.here(|space| publish(space, &further)).unwrap();

    assert_eq!(seen(&lab.outside, "198.51.100.1:8080"), "198.51.100.2", "the client's address is kept");
    assert_eq!(seen(&lab.outside, "198.51.100.1:8082"), "198.51.100.2");
    assert_eq!(seen(&lab.outside, "[2001:db8::1]:8080"), "2001:db8::2");
    assert!(shut(&lab.outside, "198.51.100.1:8081"), "for this machine only");
    assert!(shut(&lab.outside, "198.51.100.1:8083"), "into an internal network");
    assert!(shut(&lab.outside, "172.30.1.2:80"), "past the published port");

    assert_eq!(seen(&lab.host, "127.0.0.1:8080"), "172.30.1.1");
    assert_eq!(seen(&lab.host, "127.0.0.1:8081"), "172.30.1.1");
    assert_eq!(seen(&lab.host, "198.51.100.1:8080"), "198.51.100.1");
    assert_eq!(seen(&lab.host, "[2001:db8::1]:8080"), "2001:db8::1");
    assert!(shut(&lab.host, "127.0.0.1:8082"), "for one address only");

    assert_eq!(seen(&lab.a, "198.51.100.1:8080"), "172.30.1.1", "itself");
    assert_eq!(seen(&lab.neighbour, "198.51.100.1:8080"), "172.30.1.1", "its neighbour");
    assert_eq!(seen(&lab.neighbour, "[2001:db8::1]:8080"), "fd30:1::1", "its neighbour");
    assert_eq!(seen(&lab.b, "198.51.100.1:8080"), "172.30.2.2", "from another network");
    assert_eq!(seen(&lab.b, "172.30.2.1:8080"), "172.30.2.2", "through its own gateway");
    assert!(shut(&lab.inner, "172.30.3.1:8080"), "out of an internal network");

    lab.here(|space| unpublish(space, &further)).unwrap();
    lab.here(|space| unpublish(space, &further)).unwrap();
    assert!(shut(&lab.outside, "198.51.100.1:8082"));
    assert_eq!(seen(&lab.outside, "198.51.100.1:8080"), "198.51.100.2");
}

#[test]
fn what_the_kernel_cannot_lead_is_known() {
    let here = |host: &str, to: &str| {
        let (from, to) = tcp(host, to);
        serves(&Space::Here, &from, to)
    };
    assert!(here("0.0.0.0:80", "172.30.1.2:80") && here("[::]:80", "[fd30::2]:80"));
    assert!(!here("[::]:80", "172.30.1.2:80") && !here("[::1]:80", "[fd30::2]:80"));
}

/// CVE-2020-8558: `route_localnet` opens the machine's loopback addresses to the bridge.
#[test]
fn containers_do_not_reach_the_loopback_addresses_of_the_machine() {
    let Some(lab) = Lab::new() else { return };
    let server = lab.host.inside(|| UdpSocket::bind("127.0.0.1:9000")).unwrap();
    server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    lab.load(&[]);
    lab.a.ip("route flush table local dev lo");
    lab.a.ip("route add 127.0.0.0/8 via 172.30.1.1 src 172.30.1.2");
    let client = lab.a.inside(|| UdpSocket::bind("172.30.1.2:0")).unwrap();
    client.send_to(b"hello", "127.0.0.1:9000").unwrap();
    assert!(server.recv(&mut [0; 8]).is_err());
    // Without the rule it arrives: the test can fail.
    lab.host.nft("flush chain inet ctr early");
    client.send_to(b"hello", "127.0.0.1:9000").unwrap();
    server.recv(&mut [0; 8]).unwrap();
}

/// A machine beside this one sends to 127.0.0.1 by its cable: moby's issue 45610.
#[test]
fn neighbours_do_not_reach_ports_that_are_published_on_loopback() {
    let Some(lab) = Lab::new() else { return };
    let server = lab.a.inside(|| UdpSocket::bind("172.30.1.2:53")).unwrap();
    lab.load(&[port(Protocol::Udp, "127.0.0.1:5353", "172.30.1.2:53")]);
    lab.outside.ip("route flush table local dev lo");
    lab.outside.ip("route add 127.0.0.0/8 via 198.51.100.1 src 198.51.100.2");
    let arrives = |from: &Net, source: &str| {
        let client = from.inside(|| UdpSocket::bind(source)).unwrap();
        client.send_to(b"hello", "127.0.0.1:5353").unwrap();
        server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        server.recv(&mut [0; 8]).is_ok()
    };
    assert!(!arrives(&lab.outside, "198.51.100.2:4000"));
    assert!(arrives(&lab.host, "127.0.0.1:0"));
    // Without the rule it arrives: the test can fail.
    lab.host.nft("flush chain inet ctr arriving");
    lab.host.nft("add rule inet ctr arriving fib daddr type local jump published");
    assert!(arrives(&lab.outside, "198.51.100.2:4001"));
}

#[test]
fn a_client_that_keeps_sending_is_led_anew() {
    let Some(lab) = Lab::new() else { return };
    lab.load(&[]);
    let server = lab.a.inside(|| UdpSocket::bind("172.30.1.2:53")).unwrap();
    let other = lab.neighbour.inside(|| UdpSocket::bind("172.30.1.3:53")).unwrap();
    let client = lab.outside.inside(|| UdpSocket::bind("198.51.100.2:4000")).unwrap();
    for socket in [&server, &other] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let arrives = |at: &UdpSocket, text: &str| {
        client.send_to(text.as_bytes(), "198.51.100.1:5353").unwrap();
        let mut room = [0; 64];
        let (length, from) = at.recv_from(&mut room).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!((&room[..length], from.to_string().as_str()), (text.as_bytes(), "198.51.100.2:4000"));
    };
    client.send_to(b"too early", "198.51.100.1:5353").unwrap();
    let first = [port(Protocol::Udp, "0.0.0.0:5353", "172.30.1.2:53")];
    lab.here(|space| publish(space, &first)).unwrap();
    arrives(&server, "now");
    // The monitor was killed, and the next container has the port: nothing was taken away.
    let second = [port(Protocol::Udp, "0.0.0.0:5353", "172.30.1.3:53")];
    lab.here(|space| publish(space, &second)).unwrap();
    arrives(&other, "elsewhere");
    lab.here(|space| unpublish(space, &second)).unwrap();
    client.send_to(b"too late", "198.51.100.1:5353").unwrap();
    other.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(other.recv(&mut [0; 64]).is_err());
}

#[test]
fn a_thousand_ports_are_one_batch() {
    let Some(lab) = Lab::new() else { return };
    serve(&lab.a, 80);
    lab.load(&[]);
    let many: Vec<Publication> = (20_000..30_000).map(|n| tcp(&format!("0.0.0.0:{n}"), "172.30.1.2:80")).collect();
    for ports in [&many[..1000], &many] {
        let start = Instant::now();
        lab.here(|space| publish(space, ports)).unwrap();
        assert!(start.elapsed() < Duration::from_secs(1), "{} ports: {:?}", ports.len(), start.elapsed());
    }
    assert_eq!(seen(&lab.outside, "198.51.100.1:20999"), "198.51.100.2");
    assert_eq!(seen(&lab.outside, "198.51.100.1:29999"), "198.51.100.2");
    lab.here(|space| unpublish(space, &many)).unwrap();
    assert!(shut(&lab.outside, "198.51.100.1:20999"));
    lab.here(|space| load_all(space, || Ok(lab.all(&many)))).unwrap();
    assert_eq!(seen(&lab.outside, "198.51.100.1:25000"), "198.51.100.2");
}
