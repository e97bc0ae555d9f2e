//! The way outside, and what must not be reached by it.

use std::time::{Duration, Instant};

use super::{connects, endpoint, is_cut_off, netns, pings, waits};
use crate::support::dns::{A, Answer, NameServer, dig};
use crate::support::world::{FAR, FAR6, HERE, HERE6, NEIGHBOUR, RESOLVER};
use crate::support::{Netns, Sandbox, netns::ip, on_machine, until};

/// A connection is refused when nobody listens: at once, as on the host.
#[track_caller]
fn is_refused(cx: &Sandbox, container: &str, host: &str, port: u16) {
    let begin = Instant::now();
    let ran = connects(cx, container, host, port);
    assert!(ran.code != 0 && ran.err().contains("Connection refused"), "{ran}");
    assert!(begin.elapsed() < Duration::from_secs(15), "refused after {:?}", begin.elapsed());
}

on_machine!(over_ipv4, |cx, world| {
    cx.busybox();
    let _server = world.outside.greets((FAR, 7000));
    let _echo = world.outside.echoes((FAR, 7001));
    NameServer::start(&world.outside, (RESOLVER, 53), &[("far.test", FAR)]);
    cx.ctr("network create net").succeeds();
    for network in ["bridge", "net"] {
        waits(cx, "box", &format!("--network {network}"));
        // They see the machine, not the container.
        connects(cx, "box", FAR, 7000).prints(&format!("hello {HERE}\n"));
        connects(cx, "box", "far.test", 7000).prints(&format!("hello {HERE}\n"));
        let inside = netns(cx, "box");
        assert_eq!(inside.asks((FAR, 7001), "ping").unwrap(), format!("{HERE} ping"));
        let large = "x".repeat(20_000);
        assert_eq!(inside.asks((FAR, 7001), &large).unwrap().len(), large.len() + HERE.len() + 1);
        is_refused(cx, "box", FAR, 7009);
        // A port unreachable comes back for UDP, of which the kernel sends so many a second for all tests.
        until("the port is refused", || {
            inside.asks((FAR, 7009), "x").unwrap_err().kind() == std::io::ErrorKind::ConnectionRefused
        });
        assert!(pings(cx, "box", FAR) && pings(cx, "box", NEIGHBOUR));
        cx.ctr("rm -f box").succeeds();
    }
});

on_machine!(over_ipv6, |cx, world| {
    cx.busybox();
    let _server = world.outside.greets((FAR6, 7000));
    let _echo = world.outside.echoes((FAR6, 7001));
    cx.ctr("network create --ipv6 net").succeeds();
    waits(cx, "box", "--network net");
    connects(cx, "box", FAR6, 7000).prints(&format!("hello {HERE6}\n"));
    assert_eq!(netns(cx, "box").asks((FAR6, 7001), "ping").unwrap(), format!("{HERE6} ping"));
    is_refused(cx, "box", FAR6, 7009);
    assert!(pings(cx, "box", FAR6));
});

on_machine!(a_megabyte_there_and_back, |cx, world| {
    cx.busybox();
    let listener = world.outside.inside(|| std::net::TcpListener::bind((FAR, 7000)).unwrap());
    // Half-closed by the client first: what was sent comes back, all of it.
    let _server = crate::support::netns::Service::start(listener, |mut stream, _| {
        use std::io::{Read, Write};
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    waits(cx, "box", "");
    let sums = netns(cx, "box").inside(|| {
        use std::io::{Read, Write};
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1] ^ n.to_le_bytes()[0]).collect();
        let mut stream = std::net::TcpStream::connect((FAR, 7000)).unwrap();
        stream.write_all(&sent).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        back == sent
    });
    assert!(sums, "it came back changed");
});

on_machine!(of_an_internal_network, |cx, world| {
    cx.busybox();
    let _server = world.outside.greets((FAR, 7000));
    let _echo = world.outside.echoes((FAR, 7001));
    cx.ctr("network create --internal --ipv6 inside").succeeds();
    waits(cx, "one", "--network inside");
    waits(cx, "two", "--network inside");
    assert!(pings(cx, "one", "two"));
    for route in ["", "exec one ip route add default via GATEWAY"] {
        // Nor with a route of its own making.
        if !route.is_empty() {
            cx.ctr("rm -f one").succeeds();
            waits(cx, "one", "--network inside --cap-add NET_ADMIN");
            let gateway = endpoint(cx, "one", "inside", "IPAddress");
            let gateway = format!("{}.1", gateway.rsplit_once('.').unwrap().0);
            cx.ctr(&route.replace("GATEWAY", &gateway));
        }
        let ran = cx.ctr(&format!("exec one nc -w 2 {FAR} 7000"));
        assert!(ran.code != 0 && ran.stdout.is_empty(), "{ran}");
        assert!(is_cut_off(cx, "one", FAR) && is_cut_off(cx, "one", NEIGHBOUR));
        assert!(netns(cx, "one").asks((FAR, 7001), "x").is_err());
    }
    // On a second network that leads outside there is a way.
    cx.ctr("network create net").succeeds();
    waits(cx, "three", "--network inside --network net");
    connects(cx, "three", FAR, 7000).prints(&format!("hello {HERE}\n"));
    assert!(pings(cx, "three", "two"));
});

on_machine!(the_hosts_loopback, |cx, world| {
    cx.busybox();
    let loopback = Netns::here().greets("127.0.0.1:7000");
    let all = Netns::here().greets("0.0.0.0:7001");
    waits(cx, "box", "");
    let gateway = endpoint(cx, "box", "bridge", "Gateway");
    for host in ["127.0.0.1", HERE, &gateway, "host.docker.internal", "169.254.1.2", "0.0.0.0", "127.0.0.2"] {
        let ran = cx.ctr(&format!("exec box nc -w 2 {host} 7000"));
        assert!(ran.code != 0 && ran.stdout.is_empty(), "{ran}");
    }
    // A route of its own making is no way there either.
    waits(cx, "admin", "--cap-add NET_ADMIN");
    for line in ["ip addr del 127.0.0.1/8 dev lo", &format!("ip route add 127.0.0.0/8 via {gateway} dev eth0")] {
        cx.ctr(&format!("exec admin {line}"));
    }
    let ran = cx.ctr("exec admin nc -w 2 127.0.0.1 7000");
    assert!(ran.code != 0 && ran.stdout.is_empty(), "{ran}");
    // What the host offers to all, it offers to its containers.
    assert!(connects(cx, "box", "host.docker.internal", 7001).succeeds().starts_with("hello "));
    assert!(connects(cx, "box", "host.containers.internal", 7001).succeeds().starts_with("hello "));
    waits(cx, "asked", "--host-loopback -p 7002:80 --cap-add NET_ADMIN");
    let asks = || assert!(connects(cx, "asked", "host.docker.internal", 7000).succeeds().starts_with("hello "));
    asks();
    assert!(connects(cx, "asked", "host.docker.internal", 7001).succeeds().starts_with("hello "));
    // That name alone, and nobody else.
    assert_ne!(connects(cx, "asked", "127.0.0.1", 7000).code, 0);
    is_refused(cx, "box", "host.docker.internal", 7000);
    if cx.is_root() {
        let nft = |words: &str| {
            let ran = std::process::Command::new("nft").args(words.split(' ')).output().unwrap();
            String::from_utf8(ran.stdout).unwrap()
        };
        // A machine beside this one that says that it is the container has no way.
        let own = endpoint(cx, "asked", "bridge", "IPAddress");
        assert!(nft("list set inet ctr loopback").contains(&format!("{own} . {gateway}")));
        world.outside.ip(&format!("addr add {own}/32 dev lo"));
        world.outside.ip(&format!("route add {gateway}/32 via {HERE} src {own}"));
        let address = format!("{gateway}:7000").parse().unwrap();
        let patience = Duration::from_secs(1);
        let taken = world.outside.inside(move || std::net::TcpStream::connect_timeout(&address, patience).is_ok());
        assert!(!taken);
        // Rules that somebody flushed come back with its own.
        nft("flush ruleset");
        cx.ctr("network doctor --repair");
        asks();
        // Whoever has its address next does not go on with what it began.
        let heard = Netns::here().inside(|| std::net::UdpSocket::bind("127.0.0.1:7003").unwrap());
        heard.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let says = |name: &str| {
            let (from, to) = (format!("{own}:4444"), format!("{gateway}:7003"));
            let say = move || std::net::UdpSocket::bind(from).and_then(|socket| socket.send_to(b"x", to));
            netns(cx, name).inside(say).unwrap();
            heard.recv(&mut [0; 8]).is_ok()
        };
        assert!(says("asked"));
        cx.ctr("rm -f asked").prints("asked\n");
        assert!(!nft("list set inet ctr loopback").contains("elements"));
        waits(cx, "next", "");
        assert_eq!(endpoint(cx, "next", "bridge", "IPAddress"), own);
        assert!(!says("next"));
    }
    if !cx.is_root() {
        waits(cx, "named", "--add-host me:host-gateway");
        assert!(connects(cx, "named", "me", 7000).succeeds().starts_with("hello "));
        // The others still have no way.
        is_refused(cx, "box", "host.docker.internal", 7000);
    }
    drop((loopback, all));
});

on_machine!(routes_that_change, |cx, world| {
    cx.busybox();
    let _server = world.outside.greets((FAR, 7000));
    ip("route del default");
    waits(cx, "box", "");
    let begin = Instant::now();
    let ran = connects(cx, "box", FAR, 7000);
    assert!(ran.code != 0 && begin.elapsed() < Duration::from_secs(15), "{:?}\n{ran}", begin.elapsed());
    ip(&format!("route add default via {NEIGHBOUR}"));
    connects(cx, "box", FAR, 7000).prints(&format!("hello {HERE}\n"));
    // A VPN comes up: another way, with an address of its own.
    let vpn = Netns::new();
    vpn.cable("tun9", "eth0");
    for line in ["addr add 203.0.113.2/24 dev tun9", "link set tun9 up", "route add 198.51.100.0/24 via 203.0.113.1"] {
        ip(line);
    }
    for line in ["addr add 203.0.113.1/24 dev eth0", "link set eth0 up", &format!("addr add {FAR}/32 dev lo")] {
        vpn.ip(line);
    }
    let _other = vpn.greets((FAR, 7000));
    until("the VPN is used", || connects(cx, "box", FAR, 7000).out() == "hello 203.0.113.2\n");
    ip("link del tun9");
    until("the VPN is not used", || connects(cx, "box", FAR, 7000).out() == format!("hello {HERE}\n"));
});

on_machine!(a_name_and_then_its_address, |cx, world| {
    cx.busybox();
    let _server = world.outside.greets((FAR, 80));
    NameServer::start(&world.outside, (RESOLVER, 53), &[("web.far.test", FAR)]);
    waits(cx, "box", "");
    assert_eq!(dig(&netns(cx, "box"), "web.far.test", A), Answer::of(&[FAR]));
    let all: Vec<_> = (0..40).map(|_| cx.spawn("exec box nc -w 10 web.far.test 80")).collect();
    for running in all {
        running.wait().prints(&format!("hello {HERE}\n"));
    }
});
