//! From inside a container, by its root: whose packets it cannot send, and whom it cannot reach.

use super::{address, endpoint, is_cut_off, monitor, netns, pings, serves, waits};
use crate::support::dns::{A, Answer, dig, query, raw};
use crate::support::world::{FAR, HERE};
use crate::support::{Netns, Sandbox, Who, account, base, both, on_machine};

/// Three neighbours, of whom one may change its interface.
fn neighbours(cx: &Sandbox) -> [String; 3] {
    cx.busybox();
    cx.ctr("network create --ipv6 --subnet fd00:98::/64 --subnet 10.98.0.0/24 net").succeeds();
    waits(cx, "victim", "--network net");
    waits(cx, "friend", "--network net");
    waits(cx, "evil", "--network net --cap-add NET_ADMIN");
    ["victim", "friend", "evil"].map(|name| address(cx, name, "net"))
}

both!(another_ones_address, |cx| {
    let [victim, friend, _] = neighbours(cx);
    assert!(pings(cx, "evil", &friend) && pings(cx, "friend", &victim));
    for source in [&victim, "10.98.0.1", "10.98.0.200", "198.51.100.9"] {
        cx.ctr(&format!("exec evil ip addr add {source}/32 dev eth0")).prints("");
        let ran = cx.ctr(&format!("exec evil ping -c 2 -W 1 -I {source} {friend}"));
        assert_ne!(ran.code, 0, "{ran}");
        // Whom it says that it is, its neighbours do not believe.
        cx.ctr(&format!("exec evil arping -q -U -c 3 -I eth0 -s {source} {source}"));
        cx.ctr(&format!("exec evil arping -q -A -c 3 -I eth0 -s {source} {friend}"));
        cx.ctr(&format!("exec evil ip addr del {source}/32 dev eth0")).prints("");
    }
    let mac = endpoint(cx, "victim", "net", "MacAddress");
    let known = cx.ctr("exec friend ip neigh").succeeds();
    let line = known.lines().find(|line| line.starts_with(&format!("{victim} "))).unwrap_or_default();
    assert!(line.contains(&mac), "{known}");
    assert!(pings(cx, "friend", &victim));
    // IPv6 as well.
    let victim6 = endpoint(cx, "victim", "net", "GlobalIPv6Address");
    let friend6 = endpoint(cx, "friend", "net", "GlobalIPv6Address");
    assert!(pings(cx, "evil", &friend6));
    for source in [&*victim6, "fd00:98::200"] {
        cx.ctr(&format!("exec evil ip -6 addr add {source}/128 dev eth0 nodad"));
        let ran = cx.ctr(&format!("exec evil ping -c 2 -W 1 -I {source} {friend6}"));
        assert_ne!(ran.code, 0, "{ran}");
        cx.ctr(&format!("exec evil ip -6 addr del {source}/128 dev eth0"));
    }
    assert!(pings(cx, "evil", &friend) && pings(cx, "friend", &victim6));
});

both!(another_ones_hardware_address, |cx| {
    let [victim, friend, _] = neighbours(cx);
    let mac = endpoint(cx, "victim", "net", "MacAddress");
    for mac in [&*mac, "02:99:99:99:99:99"] {
        for line in ["ip link set eth0 down", &format!("ip link set eth0 address {mac}"), "ip link set eth0 up"] {
            cx.ctr(&format!("exec evil {line}")).prints("");
        }
        assert!(is_cut_off(cx, "evil", &friend), "with the address {mac}");
        assert!(pings(cx, "friend", &victim), "the victim is cut off");
    }
});

on_machine!(sources_that_nobody_gave_it, |cx, world| {
    let [.., evil] = neighbours(cx);
    let _echo = world.outside.echoes((FAR, 7001));
    assert!(pings(cx, "evil", FAR));
    for source in [HERE, "203.0.113.77"] {
        cx.ctr(&format!("exec evil ip addr add {source}/32 dev eth0")).prints("");
        let ran = cx.ctr(&format!("exec evil ping -c 1 -W 1 -I {source} {FAR}"));
        assert_ne!(ran.code, 0, "{ran}");
        let answer = netns(cx, "evil").inside(|| {
            let socket = std::net::UdpSocket::bind((source, 0)).unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
            let _ = socket.send_to(b"x", (FAR, 7001));
            socket.recv(&mut [0; 100])
        });
        assert!(answer.is_err(), "{source}");
        cx.ctr(&format!("exec evil ip addr del {source}/32 dev eth0")).prints("");
    }
    assert!(pings(cx, "evil", FAR) && !evil.is_empty());
});

on_machine!(another_users_containers, |cx, _world| {
    if cx.is_root() {
        // Root's bridges are the machine's own: whoever is on it reaches them.
        return;
    }
    let other = Sandbox::new(Who::User, &cx.account);
    for (cx, subnet) in [(cx, "10.99.1.0/24"), (&other, "10.99.2.0/24")] {
        cx.busybox();
        cx.ctr(&format!("network create --subnet {subnet} net")).succeeds();
        serves(cx, "box", "--network net");
    }
    cx.ctr("exec box timeout 5 wget -q -O - http://10.99.1.2/").prints("works\n");
    other.ctr("exec box timeout 5 wget -q -O - http://10.99.2.2/").prints("works\n");
    for (cx, foreign) in [(cx, "10.99.2.2"), (&other, "10.99.1.2")] {
        let ran = cx.ctr(&format!("exec box timeout 2 wget -q -O - http://{foreign}/"));
        assert!(ran.code != 0 && ran.stdout.is_empty(), "{ran}");
        assert!(is_cut_off(cx, "box", foreign));
    }
    other.finish();
});

on_machine!(roots_containers_behind_its_bridges, |cx, _world| {
    if cx.is_root() {
        return;
    }
    cx.busybox();
    serves(cx, "own", "");
    let root = Sandbox::new(Who::Root, &account(Who::Root).unwrap());
    let reaches = |url: &str| cx.ctr(&format!("exec own timeout 3 wget -q -O - http://{url}/")).code == 0;
    // The user's container was there first: networks come, and go.
    for _ in 0..2 {
        root.ctr("network create --internal --subnet 10.99.7.0/24 inner").succeeds();
        root.ctr("network create --ipv6 --subnet 10.99.8.0/24 --subnet fd00:99::/64 --ip-range 10.99.8.64/26 outer")
            .succeeds();
        serves(&root, "inner", "--network inner");
        serves(&root, "outer", "--network outer -p 8099:80");
        for foreign in [&*address(&root, "inner", "inner"), &address(&root, "outer", "outer"), "10.99.8.2"] {
            assert!(!reaches(foreign), "{foreign}");
            assert!(is_cut_off(cx, "own", foreign), "{foreign}");
        }
        assert!(!reaches(&format!("[{}]", endpoint(&root, "outer", "outer", "GlobalIPv6Address"))));
        let echo = address(&root, "outer", "outer");
        let _echo = netns(&root, "outer").echoes((&*echo, 7001));
        let answer = netns(cx, "own").inside(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
            let _ = socket.send_to(b"x", (&*echo, 7001));
            socket.recv(&mut [0; 100])
        });
        assert!(answer.is_err());
        // What root published is for everybody who reaches the machine.
        assert!(reaches(&format!("{HERE}:8099")) && reaches("host.docker.internal:8099"));
        root.ctr("rm -f inner outer").succeeds();
        root.ctr("network rm inner outer").succeeds();
    }
    root.finish();
});

on_machine!(packets_that_are_no_questions, |cx, _world| {
    cx.busybox();
    cx.ctr("network create net").succeeds();
    waits(cx, "one", "--network net");
    waits(cx, "evil", "--network net");
    let pid = monitor(cx, "evil");
    let inside = netns(cx, "evil");
    let expected = Answer::of(&[&address(cx, "one", "net")]);
    assert_eq!(dig(&inside, "one", A), expected);
    let good = query("one", A);
    let mut bad: Vec<Vec<u8>> = vec![
        Vec::new(),
        vec![0],
        vec![0xff; 12],
        vec![0; 512],
        vec![0xff; 65_000],
        good[..good.len() - 1].to_vec(),
        // A name that points at itself, and one with a label longer than the packet.
        [&good[..12], &[0xc0, 12, 0, 1, 0, 1]].concat(),
        [&good[..12], &[63, b'a', 0, 0, 1, 0, 1]].concat(),
        [&good[..12], &[1, b'a'].repeat(200), &[0, 0, 1, 0, 1]].concat(),
        // An answer, for a question.
        [&good[..2], &[0x81], &good[3..]].concat(),
        // A thousand questions in a packet of one; an operation that there is not.
        [&good[..4], &[3, 232], &good[6..]].concat(),
        [&good[..2], &[0x79], &good[3..]].concat(),
    ];
    // And the good one with every byte changed.
    for at in 0..good.len() {
        for value in [0, 0x3f, 0x80, 0xc0, 0xff] {
            let mut packet = good.clone();
            packet[at] = value;
            bad.push(packet);
        }
    }
    inside.inside(|| {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for packet in &bad {
            let _ = socket.send_to(packet, "127.0.0.11:53");
        }
        // TCP: lengths that lie, and connections that say nothing.
        let mut idle = Vec::new();
        for packet in &bad {
            use std::io::Write;
            let Ok(mut stream) = std::net::TcpStream::connect("127.0.0.11:53") else { continue };
            let _ = stream.write_all(&[0x7f, 0xff]).and_then(|()| stream.write_all(&packet[..packet.len().min(600)]));
            if idle.len() < 60 {
                idle.push(stream);
            }
        }
        // A flood, faster than anybody reads.
        for _ in 0..20_000 {
            let _ = socket.send_to(&good, "127.0.0.11:53");
        }
        for _ in 0..2000 {
            let _ = socket.send_to(&query("nobody.far.test", A), "127.0.0.11:53");
        }
    });
    crate::support::until("it answers again", || raw(&inside, &good).is_ok());
    assert_eq!(dig(&inside, "one", A), expected);
    assert_eq!(monitor(cx, "evil"), pid);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim();
    assert!(memory.split(' ').next().unwrap().parse::<u64>().unwrap() < 64_000, "the monitor has {memory}");
    cx.ctr("exec evil true").prints("");
});

on_machine!(the_engines_own_sockets, |cx, _world| {
    // The resolver of another container, and the doors of the uplink, are no addresses.
    cx.busybox();
    waits(cx, "one", "");
    waits(cx, "evil", "--cap-add NET_ADMIN");
    let listening = |of: &Netns| of.inside(|| crate::support::netns::run("ss", "-Hlntu"));
    let host = listening(&Netns::here());
    assert_eq!(host, "", "the host got listeners");
    let one = address(cx, "one", "bridge");
    for line in listening(&netns(cx, "one")).lines() {
        let local = line.split_whitespace().nth(4).unwrap();
        assert!(local.starts_with("127.0.0.11:"), "{line}");
        let port = local.rsplit(':').next().unwrap();
        let ran = cx.ctr(&format!("exec evil nc -w 2 {one} {port}"));
        assert_ne!(ran.code, 0, "{ran}");
    }
    let text = cx.ctr("exec evil cat /proc/net/unix").succeeds();
    assert!(!text.contains(base().to_str().unwrap()), "{text}");
});
