use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use super::bed::{Net, PATIENCE, able};
use crate::network::firewall::{MARK, uplink_rules};
use crate::sys::sockets::set_int;

#[test]
fn nft_reads_the_rules_of_the_uplink() {
    if !able(&["ip", "nft"]) {
        return;
    }
    let net = Net::new();
    uplink_rules(&net.space(), "tun0", 4001, Some(4002)).unwrap();
    uplink_rules(&net.space(), "tun0", 4004, Some(4006)).unwrap();
    let wanted = [
        "table inet ctr-uplink {",
        "comment \"connections of containers to the outside\"",
        "chain prerouting {",
        "type filter hook prerouting priority mangle; policy accept;",
        "tcp flags != syn / syn,ack socket transparent 1 meta mark set 0x00000001 accept",
        "iifname != \"tun0\" accept",
        "meta nfproto ipv4 tcp flags syn / syn,ack meta mark set 0x00000001 tproxy ip to 127.0.0.1:4004 accept",
        "meta nfproto ipv6 tcp flags syn / syn,ack meta mark set 0x00000001 tproxy ip6 to [::1]:4006 accept",
    ];
    assert_eq!(net.rules()[..wanted.len()], wanted);
}

/// A veth stands for the TUN: what comes out of it are SYNs for somebody far away.
#[test]
fn connections_to_anybody_come_to_the_listener() {
    if !able(&["ip", "nft"]) {
        return;
    }
    let (space, client) = (Net::new(), Net::new());
    space.join("tun0", &client, "eth0");
    space.ip("addr add 10.0.0.1/24 dev tun0");
    space.ip("addr add fd00::1/64 dev tun0 nodad");
    client.ip("addr add 10.0.0.2/24 dev eth0");
    client.ip("addr add fd00::2/64 dev eth0 nodad");
    client.ip("route add default via 10.0.0.1");
    client.ip("route add default via fd00::1");
    for family in ["-4", "-6"] {
        space.ip(&format!("{family} rule add fwmark {MARK} lookup 100"));
        space.ip(&format!("{family} route add local default dev lo table 100"));
    }
    space.sysctl("ipv4/tcp_early_demux", "0");
    let listeners = [("127.0.0.1:0", libc::SOL_IP, libc::IP_TRANSPARENT), ("[::1]:0", libc::SOL_IPV6, 75)];
    let listeners = listeners.map(|(address, level, option)| {
        let listener = space.inside(|| TcpListener::bind(address)).unwrap();
        set_int(listener.as_fd(), level, option, 1).unwrap();
        listener
    });
    let [port4, port6] = [0, 1].map(|n| listeners[n].local_addr().unwrap().port());
    uplink_rules(&space.space(), "tun0", port4, Some(port6)).unwrap();
    for (listener, to) in listeners.iter().zip(["203.0.113.9:80", "[2001:db8:9::9]:80"]) {
        let to: SocketAddr = to.parse().unwrap();
        let mut sent = client.inside(|| TcpStream::connect_timeout(&to, PATIENCE)).expect("a connection");
        let (mut accepted, from) = listener.accept().unwrap();
        assert_eq!(accepted.local_addr().unwrap(), to, "it has the name of the destination");
        assert_eq!(from, sent.local_addr().unwrap());
        let mut room = [0; 4];
        sent.write_all(b"ping").unwrap();
        accepted.read_exact(&mut room).unwrap();
        accepted.write_all(b"pong").unwrap();
        sent.read_exact(&mut room).unwrap();
        assert_eq!(&room, b"pong");
    }
    // Nothing else on the TUN is touched.
    uplink_rules(&space.space(), "tun1", port4, Some(port6)).unwrap();
    let to = SocketAddr::from(([203, 0, 113, 9], 81));
    assert!(client.inside(|| TcpStream::connect_timeout(&to, Duration::from_millis(200))).is_err());
}
