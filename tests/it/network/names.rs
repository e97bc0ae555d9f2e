//! Names that containers ask for, and who answers.

use std::net::UdpSocket;

use super::{address, endpoint, netns, pings, waits};
use crate::support::dns::{
    A, AAAA, Answer, NO_SUCH_NAME, NameServer, PTR, REFUSED, SERVER_FAILED, dig, dig_tcp, reverse,
};
use crate::support::world::{FAR, RESOLVER};
use crate::support::{Netns, PATIENCE, both, on_machine, until};

on_machine!(of_a_network, |cx, world| {
    cx.busybox();
    let server = NameServer::start(&world.outside, (RESOLVER, 53), &[("far.test", FAR)]);
    cx.ctr("network create --ipv6 net").succeeds();
    waits(cx, "one", "--network net --network-alias both -h elsewhere");
    waits(cx, "two", "--network name=net,alias=both,alias=second");
    cx.ctr("network create other").succeeds();
    waits(cx, "stranger", "--network other --network-alias both");
    waits(cx, "asks", "--network net");
    let asks = netns(cx, "asks");
    let (one, two) = (address(cx, "one", "net"), address(cx, "two", "net"));
    let id = cx.ctr("inspect -f '{{.Id}}' one").succeeds();
    for (name, expected) in [
        ("one", &[&*one][..]),
        ("ONE", &[&*one]),
        ("one.net", &[&*one]),
        (&id[..12], &[&*one]),
        ("second", &[&*two]),
        ("second.net", &[&*two]),
        ("both", &[&*one, &*two]),
    ] {
        assert_eq!(dig(&asks, name, A), Answer::of(expected), "{name}");
        assert_eq!(dig_tcp(&asks, name, A), Answer::of(expected), "{name} over TCP");
    }
    let one6 = endpoint(cx, "one", "net", "GlobalIPv6Address");
    assert_eq!(dig(&asks, "one", AAAA), Answer::of(&[&one6]));
    assert_eq!(dig(&asks, &reverse(&one), PTR), Answer::of(&["one.net"]));
    assert_eq!(dig(&asks, &reverse(&one6), PTR), Answer::of(&["one.net"]));
    // Nobody outside is asked for what is known here, and nobody here for what is not.
    assert_eq!(server.asked(), [""; 0]);
    assert_eq!(dig(&asks, "far.test", A), Answer::of(&[FAR]));
    assert_eq!(dig_tcp(&asks, "far.test", A), Answer::of(&[FAR]));
    assert_eq!(dig(&asks, "stranger", A), Answer::none(NO_SUCH_NAME));
    assert_eq!(dig(&netns(cx, "stranger"), "one", A), Answer::none(NO_SUCH_NAME));
    // The programs' own way.
    assert!(pings(cx, "asks", "one") && pings(cx, "asks", "second.net"));
    let out = cx.ctr("exec asks nslookup one").succeeds_talking();
    assert!(out.contains("127.0.0.11") && out.contains(&one), "{out}");
    // Names come and go with their containers.
    cx.ctr("rename two three").succeeds();
    assert_eq!(dig(&asks, "three", A), Answer::of(&[&two]));
    assert_eq!(dig(&asks, "two", A), Answer::none(NO_SUCH_NAME));
    cx.ctr("stop -t 0 one").succeeds();
    assert_eq!(dig(&asks, "one", A), Answer::none(NO_SUCH_NAME));
    assert_eq!(dig(&asks, "both", A), Answer::of(&[&two]));
});

both!(the_host_has_a_name_everywhere, |cx| {
    cx.busybox();
    let internal = "host.docker.internal host.containers.internal";
    cx.ctr("run --rm --network host busybox grep host.docker.internal /etc/hosts")
        .prints(&format!("127.0.0.1\t{internal}\n"));
    cx.ctr("network create --internal --subnet 10.87.0.0/24 inside").succeeds();
    cx.ctr("run --rm --network inside --add-host my-gate:host-gateway busybox grep 10.87.0.1 /etc/hosts")
        .prints(&format!("10.87.0.1\tmy-gate\n10.87.0.1\t{internal}\n"));
    cx.ctr("run --rm --network inside busybox nslookup host.docker.internal").succeeds();
    cx.ctr("run --rm --network none -h foo.bar.com busybox grep foo /etc/hosts").prints("127.0.0.1\tfoo.bar.com foo\n");
});

both!(own_files, |cx| {
    cx.busybox();
    cx.ctr("network create net").succeeds();
    for network in ["bridge", "net"] {
        waits(cx, "box", &format!("--network {network} -h me"));
        let own = address(cx, "box", network);
        let hosts = cx.ctr("exec box cat /etc/hosts").succeeds();
        assert!(hosts.lines().any(|line| line == format!("{own}\tme")), "{hosts}");
        let host = hosts.lines().find(|line| line.ends_with("host.docker.internal host.containers.internal"));
        assert!(host.is_some(), "{hosts}");
        let resolv = cx.ctr("exec box cat /etc/resolv.conf").succeeds();
        assert!(resolv.lines().any(|line| line == "nameserver 127.0.0.11"), "{resolv}");
        assert_eq!(resolv.matches("nameserver").count(), 1, "{resolv}");
        assert!(pings(cx, "box", "me"));
        cx.ctr("rm -f box").succeeds();
    }
    // Without a network there is nobody to ask.
    let hosts = cx.ctr("run --rm --network none -h me busybox cat /etc/hosts").succeeds();
    assert!(hosts.contains("127.0.0.1\tme") && !hosts.contains("internal"), "{hosts}");
});

on_machine!(on_the_default_network, |cx, world| {
    cx.busybox();
    NameServer::start(&world.outside, (RESOLVER, 53), &[("far.test", FAR)]);
    waits(cx, "data", "");
    waits(cx, "linked", "--link data:db");
    waits(cx, "stranger", "");
    let data = address(cx, "data", "bridge");
    assert_eq!(dig(&netns(cx, "linked"), "db", A), Answer::of(&[&data]));
    assert!(pings(cx, "linked", "db") && pings(cx, "linked", "data"));
    for name in ["data", "db", "linked"] {
        assert_eq!(dig(&netns(cx, "stranger"), name, A), Answer::none(NO_SUCH_NAME), "{name}");
    }
    assert_eq!(dig(&netns(cx, "stranger"), "far.test", A), Answer::of(&[FAR]));
});

on_machine!(a_link_can_be_taken_back, |cx, world| {
    cx.busybox();
    NameServer::start(&world.outside, (RESOLVER, 53), &[]);
    cx.ctr("network create own").succeeds();
    waits(cx, "data", "--network own --network bridge");
    waits(cx, "web", "--link data:db --link data:kept");
    waits(cx, "app", "--network own --link data:db");
    let db = |name: &str| dig(&netns(cx, name), "db", A) != Answer::none(NO_SUCH_NAME);
    assert!(db("web") && db("app"));

    cx.ctr("rm --link web").refuses(1, "Conflict, cannot remove the default link name of the container");
    cx.ctr("rm --link /web/nosuch").refuses(1, "No such container: web/nosuch");
    cx.ctr("rm -l nosuch/db").refuses(1, "No such container: nosuch/db");
    cx.ctr("rm --link nosuch").refuses(1, "No such container: nosuch");
    assert!(db("web") && db("app"));

    cx.ctr("rm --link /web/db app/db").prints("/web/db\napp/db\n");
    assert!(!db("web") && !db("app"));
    assert!(!pings(cx, "web", "db") && pings(cx, "web", "kept") && pings(cx, "app", "data"));
    let hosts = cx.ctr("exec web cat /etc/hosts").succeeds();
    assert!(hosts.contains("kept data") && !hosts.split_whitespace().any(|word| word == "db"), "{hosts}");
    cx.ctr("inspect -f '{{.HostConfig.Links}} {{.State.Running}}' web").prints("[data:kept] true\n");
    cx.ctr("rm --link web/db").refuses(1, "No such container: web/db");

    // Of one that does not run, and for its next start.
    cx.ctr("kill web").succeeds();
    cx.ctr("rm --link web/kept").prints("web/kept\n");
    cx.ctr("start web").succeeds();
    assert!(!pings(cx, "web", "kept"));
});

on_machine!(servers_that_were_asked_for, |cx, world| {
    cx.busybox();
    NameServer::start(&world.outside, (RESOLVER, 53), &[]);
    let other = NameServer::start(&world.outside, (FAR, 53), &[("host.corp.test", "203.0.113.9")]);
    waits(cx, "box", &format!("--dns {FAR} --dns-search corp.test --dns-option ndots:2 --dns-option timeout:1"));
    assert_eq!(dig(&netns(cx, "box"), "host.corp.test", A), Answer::of(&["203.0.113.9"]));
    let resolv = cx.ctr("exec box cat /etc/resolv.conf").succeeds();
    for line in ["nameserver 127.0.0.11", "search corp.test"] {
        assert!(resolv.lines().any(|l| l == line), "{resolv}");
    }
    let options = resolv.lines().find(|line| line.starts_with("options ")).unwrap();
    assert!(options.contains("ndots:2") && options.contains("timeout:1"), "{resolv}");
    cx.ctr("exec box nslookup -type=a host").succeeds_talking();
    assert!(other.asked().contains(&"host.corp.test".to_owned()), "{:?}", other.asked());
});

on_machine!(servers_that_change, |cx, world| {
    cx.busybox();
    NameServer::start(&world.outside, (RESOLVER, 53), &[("home.test", "203.0.113.1")]);
    NameServer::start(&world.outside, (FAR, 53), &[("vpn.test", "203.0.113.2")]);
    // As systemd-resolved: on the host's loopback.
    NameServer::start(&Netns::here(), "127.0.0.53:53", &[("stub.test", "203.0.113.3")]);
    waits(cx, "box", "");
    let asks = netns(cx, "box");
    assert_eq!(dig(&asks, "home.test", A), Answer::of(&["203.0.113.1"]));
    for (server, name, expected) in [
        (FAR, "vpn.test", "203.0.113.2"),
        ("127.0.0.53", "stub.test", "203.0.113.3"),
        (RESOLVER, "home.test", "203.0.113.1"),
    ] {
        world.set_resolv_conf(&format!("nameserver {server}\n"));
        until("the new server is asked", || dig(&asks, name, A) == Answer::of(&[expected]));
    }
});

on_machine!(a_server_that_never_answers, |cx, world| {
    cx.busybox();
    let silent = world.outside.inside(|| UdpSocket::bind((RESOLVER, 53)).unwrap());
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    NameServer::start(&world.outside, (FAR, 53), &[("far.test", FAR)]);
    world.set_resolv_conf(&format!("nameserver {RESOLVER}\noptions timeout:10 attempts:1\n"));
    cx.ctr("network create net").succeeds();
    waits(cx, "one", "--network net");
    waits(cx, "box", "--network net");
    let asks = netns(cx, "box");
    let one = Answer::of(&[&address(cx, "one", "net")]);
    // Who waits for it keeps nobody else waiting.
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| dig(&asks, "far.test", A));
        silent.recv(&mut [0; 512]).expect("it is asked");
        for _ in 0..20 {
            assert_eq!(dig(&asks, "one", A), one);
        }
        assert!(!slow.is_finished(), "all waited for the silent server");
        assert_eq!(slow.join().unwrap(), Answer::none(SERVER_FAILED));
    });
    // With another one behind it only time is lost.
    world.set_resolv_conf(&format!("nameserver {RESOLVER}\nnameserver {FAR}\noptions timeout:1\n"));
    until("the second is asked", || dig(&asks, "far.test", A) == Answer::of(&[FAR]));
});

on_machine!(of_an_internal_network, |cx, world| {
    cx.busybox();
    let server = NameServer::start(&world.outside, (RESOLVER, 53), &[("far.test", FAR)]);
    cx.ctr("network create --internal inside").succeeds();
    waits(cx, "one", "--network inside");
    waits(cx, "box", "--network inside");
    let asks = netns(cx, "box");
    assert_eq!(dig(&asks, "one", A), Answer::of(&[&address(cx, "one", "inside")]));
    assert_eq!(dig(&asks, "far.test", A), Answer::none(REFUSED));
    assert_eq!(dig_tcp(&asks, "far.test", A), Answer::none(REFUSED));
    assert_eq!(server.asked(), [""; 0]);
});

both!(added_hosts, |cx| {
    cx.busybox();
    let flags = "--add-host here:host-gateway --add-host there:203.0.113.7 --add-host six:2001:db8::6";
    let hosts = cx.ctr(&format!("run --rm {flags} busybox cat /etc/hosts")).succeeds();
    assert!(hosts.contains("203.0.113.7\tthere\n") && hosts.contains("2001:db8::6\tsix\n"), "{hosts}");
    let of = |name: &str| hosts.lines().find(|line| line.contains(name)).unwrap().split('\t').next().unwrap();
    assert_eq!(of("\there"), of("host.docker.internal"), "{hosts}");
});

both!(port_53_is_the_containers_own, |cx| {
    cx.busybox();
    cx.ctr("network create net").succeeds();
    waits(cx, "box", "--network net");
    cx.ctr("exec -d box nc -u -l -p 53").succeeds();
    cx.ctr("exec -d box nc -ll -p 53 -e echo mine").succeeds();
    until("it listens on port 53", || cx.ctr("exec box nc -w 2 127.0.0.1 53").out() == "mine\n");
    assert!(pings(cx, "box", "box"));
});
