//! Published ports: from the machine itself and from one beside it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use nix::unistd::getpid;

use super::{address, fetch, host_port, monitor, netns, serves, settings, until_serves, waits};
use crate::support::world::{HERE, HERE6, NEIGHBOUR, NEIGHBOUR6};
use crate::support::{Netns, both, on_machine, until};

/// Who the web server says that it was asked by.
#[track_caller]
fn who(from: &Netns, address: &str) -> String {
    let text = fetch(from, address, "/cgi-bin/who").unwrap_or_else(|e| panic!("{address}: {e}"));
    text.trim().trim_matches(['[', ']']).trim_start_matches("::ffff:").to_owned()
}

on_machine!(to_all_addresses, |cx, world| {
    serves(cx, "box", "-p 8080:80");
    let here = Netns::here();
    for address in ["127.0.0.1:8080", "[::1]:8080", &format!("{HERE}:8080"), &format!("[{HERE6}]:8080")] {
        assert_eq!(fetch(&here, address, "/").unwrap(), "works\n", "{address}");
    }
    // Another machine's address is seen inside, as if it stood beside the container.
    assert_eq!(who(&world.outside, &format!("{HERE}:8080")), NEIGHBOUR);
    assert_eq!(fetch(&world.outside, &format!("[{HERE6}]:8080"), "/").unwrap(), "works\n");
    cx.ctr("port box").prints("80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n");
    cx.ctr("port box 80").prints("0.0.0.0:8080\n[::]:8080\n");
    cx.ctr("port box 80/tcp").prints("0.0.0.0:8080\n[::]:8080\n");
    cx.ctr("port box 81").refuses(1, "[..]o public port '81[..]' published for box");
    cx.ctr_args(["ps", "--format", "{{.Ports}}"]).prints("0.0.0.0:8080->80/tcp, [::]:8080->80/tcp\n");
    let ports = settings(cx, "box")["Ports"].clone();
    let expected = serde_json::json!({
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]
    });
    assert_eq!(ports, expected);
    // Stopped, it gives the port back.
    cx.ctr("stop -t 1 box").succeeds();
    TcpListener::bind("0.0.0.0:8080").unwrap();
    cx.ctr_args(["ps", "-a", "--format", "{{.Ports}}"]).prints("\n");
    cx.ctr("start box").succeeds();
    until_serves(cx, "box");
    assert_eq!(who(&world.outside, &format!("{HERE}:8080")), NEIGHBOUR);
});

on_machine!(to_ipv6_containers, |cx, world| {
    cx.ctr("network create --ipv6 net").succeeds();
    serves(cx, "box", "--network net -p 8080:80");
    assert_eq!(who(&world.outside, &format!("{HERE}:8080")), NEIGHBOUR);
    assert_eq!(who(&world.outside, &format!("[{HERE6}]:8080")), NEIGHBOUR6);
    assert_eq!(fetch(&Netns::here(), "[::1]:8080", "/").unwrap(), "works\n");
});

on_machine!(to_one_address, |cx, world| {
    serves(cx, "loop", "-p 127.0.0.1::80");
    let port = host_port(cx, "loop", "80");
    let here = Netns::here();
    cx.ctr("port loop").prints(&format!("80/tcp -> 127.0.0.1:{port}\n"));
    assert_eq!(fetch(&here, &format!("127.0.0.1:{port}"), "/").unwrap(), "works\n");
    assert!(fetch(&here, &format!("{HERE}:{port}"), "/").is_err());
    assert!(fetch(&world.outside, &format!("{HERE}:{port}"), "/").is_err());
    serves(cx, "six", "-p [::1]:8081:80");
    cx.ctr("port six").prints("80/tcp -> [::1]:8081\n");
    assert_eq!(fetch(&here, "[::1]:8081", "/").unwrap(), "works\n");
    assert!(fetch(&here, "127.0.0.1:8081", "/").is_err());
    serves(cx, "own", &format!("-p {HERE}:8082:80"));
    assert_eq!(who(&world.outside, &format!("{HERE}:8082")), NEIGHBOUR);
    assert!(fetch(&here, "127.0.0.1:8082", "/").is_err());
    // The port is free on the others.
    serves(cx, "second", "-p 127.0.0.1:8082:80");
    assert_eq!(fetch(&here, "127.0.0.1:8082", "/").unwrap(), "works\n");
    cx.ctr("run --rm -p 203.0.113.99:80:80 web true").fails_saying(125, "no interface of this machine has the address");
});

on_machine!(ranges_and_many, |cx, world| {
    serves(cx, "box", "-p 9000-9002:80-82 -p 8100-8110:80 -p published=9010,target=80 -p 9011:80");
    cx.ctr("port box 80")
        .prints("0.0.0.0:8100\n0.0.0.0:9000\n0.0.0.0:9010\n0.0.0.0:9011\n[::]:8100\n[::]:9000\n[::]:9010\n[::]:9011\n");
    for port in [9000, 8100, 9010, 9011] {
        assert_eq!(fetch(&world.outside, &format!("{HERE}:{port}"), "/").unwrap(), "works\n");
    }
    // Of a range for one port the next one that is free.
    serves(cx, "next", "-p 8100-8110:80");
    assert_eq!(host_port(cx, "next", "80"), 8101);
    // The image says which it has.
    serves(cx, "all", "-P --expose 99/udp");
    let port = host_port(cx, "all", "80");
    assert_eq!(fetch(&world.outside, &format!("{HERE}:{port}"), "/").unwrap(), "works\n");
    assert!(host_port(cx, "all", "99/udp") > 0);
    // Nobody serves it inside: the client is told so.
    assert!(fetch(&world.outside, &format!("{HERE}:9001"), "/").is_err());
});

on_machine!(a_thousand, |cx, world| {
    let before = crate::support::Sandbox::leftovers(cx).len();
    serves(cx, "box", "-p 20000-20999:20000-20999 -p 8080:80");
    let lines = cx.ctr("port box").succeeds();
    assert_eq!(lines.lines().count(), 2002);
    let processes = || cx.leftovers().iter().filter(|line| line.starts_with("process")).count();
    // The server's child for the last client is one for a moment.
    until("there are few processes", || processes() <= before + 5);
    let status = std::fs::read_to_string(format!("/proc/{}/status", monitor(cx, "box"))).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim();
    let kilobytes: u64 = memory.split(' ').next().unwrap().parse().unwrap();
    assert!(kilobytes < 100_000, "the monitor has {memory}");
    let _echo = netns(cx, "box").echoes("0.0.0.0:20500");
    let _last = netns(cx, "box").greets("0.0.0.0:20999");
    assert_eq!(world.outside.hears((HERE, 20999)).unwrap(), format!("hello {NEIGHBOUR}\n"));
});

on_machine!(a_thousand_with_few_descriptors, |cx, world| {
    // The usual soft limit, which the container's processes are to find as it was.
    cx.busybox();
    let run = "ulimit -Sn 1024; $ctr run -d --init --name box -p 20000-21199:20000-21199 busybox sleep 1000";
    cx.host(run).succeeds();
    cx.ctr("exec box sh -c 'ulimit -n; grep -c files.*1024 /proc/1/limits'").prints("1024\n1\n");
    let _last = netns(cx, "box").greets("0.0.0.0:21199");
    assert_eq!(world.outside.hears((HERE, 21199)).unwrap(), format!("hello {NEIGHBOUR}\n"));
});

on_machine!(on_the_networks_usual_address, |cx, world| {
    cx.ctr("network create --opt com.docker.network.bridge.host_binding_ipv4=127.0.0.1 net").succeeds();
    serves(cx, "box", &format!("--network net -p 8080:80 -p {HERE}:8081:80"));
    cx.ctr("port box 80").prints(&format!("127.0.0.1:8080\n{HERE}:8081\n"));
    assert_eq!(fetch(&Netns::here(), "127.0.0.1:8080", "/").unwrap(), "works\n");
    assert!(fetch(&world.outside, &format!("{HERE}:8080"), "/").is_err());
    assert!(fetch(&world.outside, &format!("[{HERE6}]:8080"), "/").is_err());
    assert_eq!(fetch(&world.outside, &format!("{HERE}:8081"), "/").unwrap(), "works\n");
    cx.ctr("update --publish-add 8082:80 box").succeeds();
    assert!(fetch(&world.outside, &format!("{HERE}:8082"), "/").is_err());
});

on_machine!(by_route_alone, |cx, world| {
    let create =
        "network create --ipv6 --subnet 10.90.0.0/24 -o com.docker.network.bridge.gateway_mode_ipv4=routed net";
    if !cx.is_root() {
        cx.ctr(create).refuses(1, "the option com.docker.network.bridge.gateway_mode_ipv4=routed needs root");
        return;
    }
    cx.ctr(create).succeeds();
    serves(cx, "box", "--network net -p 8080:80");
    serves(cx, "closed", "--network net");
    world.outside.ip(&format!("route add 10.90.0.0/24 via {HERE}"));
    let own = address(cx, "box", "net");
    assert_eq!(who(&world.outside, &format!("{own}:80")), NEIGHBOUR);
    assert!(fetch(&world.outside, &format!("{}:80", address(cx, "closed", "net")), "/").is_err());
    // No port of the host's leads there, but the other family's does.
    assert!(TcpStream::connect("127.0.0.1:8080").is_err());
    assert_eq!(who(&world.outside, &format!("[{HERE6}]:8080")), NEIGHBOUR6);
    cx.ctr("port box").prints("80/tcp -> 0.0.0.0:\n80/tcp -> [::]:8080\n");
    cx.ctr_args(["ps", "--filter", "name=box", "--format", "{{.Ports}}"]).prints("[::]:8080->80/tcp\n");
    let expected = serde_json::json!({
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": ""}, {"HostIp": "::", "HostPort": "8080"}]
    });
    assert_eq!(settings(cx, "box")["Ports"], expected);
    // They leave under their own address.
    let _server = world.outside.greets((NEIGHBOUR, 7000));
    cx.ctr(&format!("exec box timeout 5 nc {NEIGHBOUR} 7000")).prints(&format!("hello {own}\n"));
    cx.ctr("update --publish-rm 80 box").succeeds();
    assert!(fetch(&world.outside, &format!("{own}:80"), "/").is_err());
});

on_machine!(by_interfaces_that_are_trusted, |cx, world| {
    if !cx.is_root() {
        let option = "com.docker.network.bridge.trusted_host_interfaces=out0";
        cx.ctr(&format!("network create -o {option} net")).refuses(1, &format!("the option {option} needs root"));
        return;
    }
    for (name, third, interface) in [("near", 91, "out0"), ("far", 92, "eth7:other0")] {
        let option = format!("com.docker.network.bridge.trusted_host_interfaces={interface}");
        cx.ctr(&format!("network create --subnet 10.{third}.0.0/24 -o {option} {name}")).succeeds();
        serves(cx, &format!("box-{name}"), &format!("--network {name} -p 127.0.0.1::80"));
        world.outside.ip(&format!("route add 10.{third}.0.0/24 via {HERE}"));
    }
    assert_eq!(who(&world.outside, &format!("{}:80", address(cx, "box-near", "near"))), NEIGHBOUR);
    assert!(fetch(&world.outside, &format!("{}:80", address(cx, "box-far", "far")), "/").is_err());
    // It is published on the host all the same.
    let port = host_port(cx, "box-near", "80");
    assert_eq!(fetch(&Netns::here(), &format!("127.0.0.1:{port}"), "/").unwrap(), "works\n");
    cx.ctr("network create --subnet 10.93.0.0/24 -o com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected open")
        .succeeds();
    serves(cx, "box-open", "--network open");
    world.outside.ip(&format!("route add 10.93.0.0/24 via {HERE}"));
    assert_eq!(who(&world.outside, &format!("{}:80", address(cx, "box-open", "open"))), NEIGHBOUR);
});

both!(sctp_is_for_root, |cx| {
    if cx.is_root() {
        return;
    }
    cx.busybox();
    cx.ctr("run --rm -p 9100:80/sctp busybox true")
        .refuses(125, "[..]port 80/sctp cannot be published: sctp needs root");
});

on_machine!(over_udp, |cx, world| {
    cx.busybox();
    waits(cx, "box", "-p 5300:53/udp -p 127.0.0.1:5301:53/udp");
    cx.ctr("port box").prints("53/udp -> 0.0.0.0:5300\n53/udp -> 127.0.0.1:5301\n53/udp -> [::]:5300\n");
    let _echo = netns(cx, "box").echoes("0.0.0.0:53");
    assert_eq!(world.outside.asks((HERE, 5300), "a").unwrap(), format!("{NEIGHBOUR} a"));
    for address in ["127.0.0.1:5300", "127.0.0.1:5301", "[::1]:5300"] {
        let answer = Netns::here().asks(address, "b").unwrap_or_else(|e| panic!("{address}: {e}"));
        assert!(answer.ends_with(" b"), "{address}: {answer}");
    }
    assert!(world.outside.asks((HERE, 5301), "a").is_err());
});

on_machine!(a_port_that_is_taken, |cx, _world| {
    cx.busybox();
    let _taken = TcpListener::bind("127.0.0.1:8080").unwrap();
    let ran = cx.ctr("run -p 127.0.0.1:8080:80 --name box busybox true");
    ran.refuses(125, "[..]Bind for 127.0.0.1:8080 failed: port is already allocated");
    if cx.is_root() {
        assert!(ran.err().contains(&format!("process {})", getpid())), "{ran}");
    }
    let ran = cx.ctr("run --rm -p 8080:80 busybox true");
    ran.refuses(125, "[..]Bind for 0.0.0.0:8080 failed: port is already allocated");
    serves(cx, "first", "-p 8081:80");
    let ran = cx.ctr("run --rm -p 8081:80 busybox true");
    ran.refuses(125, "[..]Bind for 0.0.0.0:8081 failed: port is already allocated");
    assert!(ran.err().contains("first"), "it does not say whose it is\n{ran}");
    let ran = cx.ctr("run --rm -p 8082:80 -p 8082:81 busybox true");
    ran.refuses(125, "[..]Bind for 0.0.0.0:8082 failed: port is already allocated");
    assert!(ran.err().contains("it is published twice; publish another, as in -p 8083:81"), "{ran}");
    // Nothing of the failure is left, and the name's container starts once the port is free.
    cx.ctr("rm first -f").succeeds();
    cx.ctr("run --rm -p 8081:80 busybox true").prints("");
});

on_machine!(a_low_port, |cx, _world| {
    cx.busybox();
    let ran = cx.ctr("run --rm -p 80:80 busybox true");
    if cx.is_root() {
        ran.prints("");
    } else {
        ran.refuses(125, "[..]Bind for 0.0.0.0:80 failed: an ordinary user may not publish a port below 1024");
        assert!(ran.err().contains("net.ipv4.ip_unprivileged_port_start=80"), "{ran}");
        std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "80").unwrap();
        cx.ctr("run --rm -p 80:80 busybox true").prints("");
    }
});

on_machine!(while_it_runs, |cx, world| {
    serves(cx, "box", "-p 8080:80");
    cx.ctr("update --publish-add 8081:80 --publish-add 127.0.0.1:8082:80 box").prints("box\n");
    assert_eq!(who(&world.outside, &format!("{HERE}:8081")), NEIGHBOUR);
    assert_eq!(fetch(&Netns::here(), "127.0.0.1:8082", "/").unwrap(), "works\n");
    cx.ctr("update --publish-rm 8080:80 box").prints("box\n");
    assert!(fetch(&world.outside, &format!("{HERE}:8080"), "/").is_err());
    assert_eq!(fetch(&world.outside, &format!("{HERE}:8081"), "/").unwrap(), "works\n");
    let expected = "80/tcp -> 0.0.0.0:8081\n80/tcp -> 127.0.0.1:8082\n80/tcp -> [::]:8081\n";
    cx.ctr("port box").prints(expected);
    let ps = "0.0.0.0:8081->80/tcp, 127.0.0.1:8082->80/tcp, [::]:8081->80/tcp\n";
    cx.ctr_args(["ps", "--format", "{{.Ports}}"]).prints(ps);
    TcpListener::bind("0.0.0.0:8080").unwrap();
    // It stays so after a restart.
    cx.ctr("stop -t 1 box").succeeds();
    cx.ctr("start box").succeeds();
    until_serves(cx, "box");
    cx.ctr("port box").prints(expected);
    assert_eq!(who(&world.outside, &format!("{HERE}:8081")), NEIGHBOUR);
    cx.ctr("update --publish-rm 9999:80 box").fails_saying(1, "not published");
    let _taken = TcpListener::bind("0.0.0.0:8090").unwrap();
    cx.ctr("update --publish-add 8090:80 box")
        .fails_saying(1, "Bind for 0.0.0.0:8090 failed: port is already allocated");
    cx.ctr("port box").prints(expected);
});

on_machine!(between_containers, |cx, _world| {
    // By the machine's own address, as the machine itself would: Docker's hairpin.
    cx.busybox();
    serves(cx, "box", "-p 8080:80");
    waits(cx, "neighbour", "");
    cx.ctr("network create net").succeeds();
    waits(cx, "stranger", "--network net");
    for from in ["neighbour", "stranger", "box"] {
        cx.ctr(&format!("exec {from} timeout 10 wget -q -O - http://{HERE}:8080/")).prints("works\n");
    }
    cx.ctr("exec stranger timeout 10 wget -q -O - http://host.docker.internal:8080/").prints("works\n");
});

on_machine!(many_connections, |cx, world| {
    serves(cx, "box", "-p 8080:80 -p 7000:7000");
    // Some that never say anything, some that go away in the middle, and one that just asks.
    let idle: Vec<_> = world.outside.inside(|| (0..300).map(|_| TcpStream::connect((HERE, 8080)).unwrap()).collect());
    world.outside.inside(|| {
        for _ in 0..100 {
            let stream = TcpStream::connect((HERE, 8080)).unwrap();
            (&stream).write_all(b"GET /megabyte HTTP/1.0\r\n\r\n").unwrap();
            let mut begin = [0; 100];
            (&stream).read_exact(&mut begin).unwrap();
            // Unread data makes of its end a reset.
        }
    });
    assert_eq!(who(&world.outside, &format!("{HERE}:8080")), NEIGHBOUR);
    assert_eq!(fetch(&world.outside, &format!("{HERE}:8080"), "/megabyte").unwrap().len(), 1_000_000);
    drop(idle);
    // A server that ends first: its last words arrive.
    let _server = netns(cx, "box").greets("0.0.0.0:7000");
    for _ in 0..50 {
        assert_eq!(world.outside.hears((HERE, 7000)).unwrap(), format!("hello {NEIGHBOUR}\n"));
    }
});

on_machine!(a_server_that_is_not_ready, |cx, world| {
    cx.busybox();
    waits(cx, "box", "-p 8080:80");
    // Refused or ended, but not left to hang.
    let begin = std::time::Instant::now();
    let said = world.outside.hears((HERE, 8080));
    assert!(said.as_deref().unwrap_or_default().is_empty() && begin.elapsed() < Duration::from_secs(5), "{said:?}");
    let _server = netns(cx, "box").greets("0.0.0.0:80");
    until("it answers", || world.outside.hears((HERE, 8080)).is_ok_and(|said| said == format!("hello {NEIGHBOUR}\n")));
    assert_ne!(address(cx, "box", "bridge"), "");
});

on_machine!(where_nothing_comes_in, |cx, world| {
    cx.ctr("network create --internal inside").succeeds();
    cx.load(&crate::support::Image::web());
    let ran = cx.ctr("run -d --init --name box --network inside -p 8080:80 web");
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(ran.err(), "WARNING: Published ports are not reached: none of the networks lets connections in\n");
    // Refused, not left waiting.
    let refused = || TcpStream::connect("127.0.0.1:8080").unwrap_err().kind();
    assert_eq!(refused(), std::io::ErrorKind::ConnectionRefused);
    let shown = || cx.ctr_args(["ps", "--format", "{{.Ports}}"]);
    shown().prints("80/tcp\n");
    let warning = "WARNING: Published ports are not reached: none of the networks lets connections in\n";
    cx.ctr("update --publish-add 8081:80 box").is(0, "box\n", warning);
    // On a network that lets them in, all that were asked for are there.
    cx.ctr("network connect bridge box").prints("");
    until_serves(cx, "box");
    for port in [8080, 8081] {
        assert_eq!(fetch(&world.outside, &format!("{HERE}:{port}"), "/").unwrap(), "works\n");
    }
    shown().prints("0.0.0.0:8080->80/tcp, 0.0.0.0:8081->80/tcp, [::]:8080->80/tcp, [::]:8081->80/tcp\n");
    cx.ctr("network disconnect bridge box").prints("");
    assert_eq!(refused(), std::io::ErrorKind::ConnectionRefused);
    shown().prints("80/tcp\n");
});
