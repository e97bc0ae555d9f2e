use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use super::bed::{Net, PATIENCE, able};
use crate::network::firewall::dns::{RESOLVER, dns_redirect};

/// A resolver that says it is one; `0`: the kernel chooses the port.
fn resolver(net: &Net, address: Ipv4Addr, port: u16, says: &'static [u8]) -> u16 {
    let udp = net.inside(|| UdpSocket::bind((address, port))).unwrap();
    let port = udp.local_addr().unwrap().port();
    let tcp = net.inside(|| TcpListener::bind((address, port))).unwrap();
    thread::spawn(move || {
        let mut room = [0; 512];
        while let Ok((_, from)) = udp.recv_from(&mut room) {
            udp.send_to(says, from).unwrap();
        }
    });
    thread::spawn(move || {
        while let Ok((mut stream, _)) = tcp.accept() {
            stream.write_all(says).unwrap();
        }
    });
    port
}

/// What is answered over UDP and TCP; the answer must come from where the question went.
fn ask(net: &Net, address: Ipv4Addr) -> [Vec<u8>; 2] {
    let to = SocketAddr::from((address, 53));
    net.inside(|| {
        let mut room = [0; 512];
        let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
        udp.connect(to).unwrap();
        udp.set_read_timeout(Some(PATIENCE)).unwrap();
        udp.send(b"who are you").unwrap();
        let length = udp.recv(&mut room).expect("an answer over UDP");
        let mut tcp = TcpStream::connect_timeout(&to, PATIENCE).expect("a connection");
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).unwrap();
        [room[..length].to_vec(), answer]
    })
}

#[test]
fn names_are_asked_of_the_resolver_whoever_has_port_53() {
    if !able(&["ip"]) {
        return;
    }
    let net = Net::new();
    let port = resolver(&net, RESOLVER, 0, b"ctr");
    dns_redirect(&mut net.netfilter(), port).unwrap();
    assert_eq!(ask(&net, RESOLVER), [b"ctr", b"ctr"]);
    // The container's own: every address but the resolver's.
    resolver(&net, Ipv4Addr::UNSPECIFIED, 53, b"own");
    assert_eq!(ask(&net, RESOLVER), [b"ctr", b"ctr"]);
    assert_eq!(ask(&net, Ipv4Addr::LOCALHOST), [b"own", b"own"]);
    // A monitor that begins anew has another port.
    let port = resolver(&net, RESOLVER, 0, b"new");
    dns_redirect(&mut net.netfilter(), port).unwrap();
    assert_eq!(ask(&net, RESOLVER), [b"new", b"new"]);
}

#[test]
fn a_container_that_tracks_connections_finds_them_whole() {
    if !able(&["ip", "nft"]) {
        return;
    }
    let net = Net::new();
    net.nft(
        "table inet own { chain in { type filter hook input priority 0; ct state invalid drop; ct state established \
         accept; tcp flags & (syn|ack) == syn accept; meta l4proto udp accept; drop; }
         chain nat { type nat hook output priority -100; ip daddr 10.9.9.9 dnat to 127.0.0.1; }
         chain out { type filter hook output priority 0; ct state invalid drop; } }",
    );
    let port = resolver(&net, RESOLVER, 0, b"ctr");
    dns_redirect(&mut net.netfilter(), port).unwrap();
    assert_eq!(ask(&net, RESOLVER), [b"ctr", b"ctr"]);
}

#[test]
fn nft_reads_the_redirection() {
    if !able(&["ip", "nft"]) {
        return;
    }
    let net = Net::new();
    dns_redirect(&mut net.netfilter(), 4053).unwrap();
    let rules = net.rules();
    for wanted in [
        "comment \"names are asked of ctr\"",
        "type filter hook output priority raw; policy accept;",
        "ip daddr != 127.0.0.11 accept",
        "udp dport 53 udp dport set 4053",
        "tcp dport 53 tcp dport set 4053",
        "ip saddr != 127.0.0.11 accept",
        "udp sport 4053 udp sport set 53",
        "tcp sport 4053 tcp sport set 53",
    ] {
        assert!(rules.iter().any(|r| r == wanted), "{wanted}: {rules:#?}");
    }
}
