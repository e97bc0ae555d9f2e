//! Hosts, and networks of theirs, as they can be: addresses that run out or belong to somebody else,
//! a kernel without IPv6, rules that somebody flushed.

use super::{address, connects, fetch, is_cut_off, monitor, netns, pings, serves, waits};
use crate::support::netns::{ip, run};
use crate::support::world::{FAR, HERE, NEIGHBOUR};
use crate::support::{Netns, both, on_machine, slay};

both!(addresses_run_out, |cx| {
    cx.busybox();
    cx.ctr("network create --subnet 10.95.0.0/29 small").succeeds();
    // The gateway, the network's own and the broadcast address are nobody's: five are left.
    for n in 2..=6 {
        waits(cx, &format!("c{n}"), "--network small");
        assert_eq!(address(cx, &format!("c{n}"), "small"), format!("10.95.0.{n}"));
    }
    let ran = cx.ctr("run --rm --network small busybox true");
    ran.refuses(125, "[..]no available IPv4 addresses on this network's address pools: small ([..])");
    waits(cx, "seventh", "");
    cx.ctr("network connect small seventh").fails_saying(1, "no available IPv4 addresses");
    assert_eq!(cx.ctr("exec seventh ls /sys/class/net").succeeds(), "eth0\nlo");
    // What one gives back, the next has: also when its monitor was killed.
    cx.ctr("rm -f c4").succeeds();
    cx.ctr("run --rm --network small busybox sh -c 'ip -o -4 addr show dev eth0 | grep -c 10.95.0.4/29'").prints("1\n");
    slay(monitor(cx, "c5"));
    cx.until_status("c5", "exited");
    waits(cx, "new4", "--network small");
    waits(cx, "new5", "--network small");
    assert!(pings(cx, "new5", "c2"));
});

both!(subnets_that_overlap, |cx| {
    cx.ctr("network create --subnet 10.96.0.0/16 net").succeeds();
    let words = "[..]invalid pool request: Pool overlaps with other one on this address space";
    for subnet in ["10.96.0.0/16", "10.96.5.0/24", "10.0.0.0/8"] {
        cx.ctr(&format!("network create --subnet {subnet} other")).refuses(1, words);
    }
    cx.ctr("network create net").refuses(1, "[..]network with name net already exists");
    cx.ctr("network create bridge").fails_saying(1, "predefined");
    cx.ctr("network ls --filter type=custom --format '{{.Name}}'").prints("net\n");
});

on_machine!(routes_of_the_hosts, |cx, _world| {
    cx.busybox();
    // A VPN has the first pools.
    for subnet in ["172.17.0.0/16", "172.18.4.0/24", "172.19.0.0/16"] {
        ip(&format!("route add {subnet} via {NEIGHBOUR}"));
    }
    waits(cx, "one", "");
    assert!(address(cx, "one", "bridge").starts_with("172.20."), "{}", address(cx, "one", "bridge"));
    cx.ctr("network create net").succeeds();
    waits(cx, "two", "--network net");
    assert!(address(cx, "two", "net").starts_with("172.21."), "{}", address(cx, "two", "net"));
});

on_machine!(a_bridge_of_somebody_elses, |cx, _world| {
    if !cx.is_root() {
        return;
    }
    cx.busybox();
    let option = "-o com.docker.network.bridge.name";
    let ran = cx.ctr(&format!("network create {option}=out0 net"));
    ran.fails_saying(1, "make the bridge \"out0\": the name is taken by");
    ip("link add mine type bridge");
    ip("addr add 10.99.0.1/24 dev mine");
    cx.ctr(&format!("network create --subnet 10.98.0.0/24 {option}=mine beside")).succeeds();
    let shown = || ip("-4 -o addr show dev mine").matches("inet ").count();
    cx.ctr("run --rm --network beside busybox ping -c 1 10.98.0.1").succeeds();
    assert_eq!(
        (shown(), std::fs::read_to_string("/proc/sys/net/ipv6/conf/mine/disable_ipv6").unwrap().trim()),
        (2, "0")
    );
    // It stays, as it was before.
    cx.ctr("network rm beside").prints("beside\n");
    assert_eq!(shown(), 1);
    cx.ctr(&format!("network create --subnet 10.99.0.0/24 {option}=mine same")).succeeds();
    cx.ctr("run --rm --network same busybox ping -c 1 10.99.0.1").succeeds();
    cx.ctr("network prune -f").prints("Deleted Networks:\nsame\n\n");
    assert_eq!(shown(), 1);
    ip("link del mine");
});

on_machine!(a_subnet_of_the_hosts, |cx, _world| {
    ip(&format!("route add 10.120.0.0/16 via {NEIGHBOUR}"));
    let ran = cx.ctr("network create --subnet 10.120.7.0/24 vpn");
    assert_eq!(ran.succeeds_talking().trim_end().len(), 64, "{ran}");
    let words = ran.err();
    assert!(words.starts_with("ctr: warning: this machine reaches 10.120.0.0/16 over "), "{ran}");
    assert!(words.trim_end().ends_with(": containers on 10.120.7.0/24 will not reach what is there"), "{ran}");
    // Where it has an address itself, it would lose its neighbours.
    let near = HERE.parse::<std::net::Ipv4Addr>().unwrap().octets();
    let ran = cx.ctr(&format!("network create --subnet {}.{}.{}.0/24 near", near[0], near[1], near[2]));
    if cx.is_root() {
        ran.refuses(1, "invalid pool request: Pool overlaps with other one on this address space");
        assert!(ran.err().contains("choose another --subnet"), "{ran}");
    } else {
        ran.succeeds_talking();
    }
});

both!(removed_while_in_use, |cx| {
    cx.busybox();
    cx.ctr("network create net").succeeds();
    waits(cx, "box", "--network net");
    waits(cx, "other", "--network net");
    cx.ctr("network rm net").fails_saying(1, "has active endpoints");
    cx.ctr("network prune -f").prints("");
    assert!(pings(cx, "box", "other"));
    cx.ctr("network rm bridge").fails_saying(1, "pre-defined");
    cx.ctr("network rm nowhere").fails_saying(1, "network nowhere not found");
    cx.ctr("rm -f other box").succeeds();
    // A container that was made for it, but does not run, does not hold it; it says so when it starts.
    cx.ctr("create --name late --network net busybox true").succeeds();
    cx.ctr("network rm net").prints("net\n");
    cx.ctr("start late").fails_saying(1, "network net not found");
});

both!(two_that_want_one_address, |cx| {
    cx.busybox();
    cx.ctr("network create --subnet 10.97.0.0/24 net").succeeds();
    for round in 0..5 {
        let all: Vec<_> = (0..4)
            .map(|n| {
                cx.spawn(&format!("run -d --init --name r{round}n{n} --network net --ip 10.97.0.9 busybox sleep 1000"))
            })
            .collect();
        let ran: Vec<_> = all.into_iter().map(crate::support::Running::wait).collect();
        let won = ran.iter().filter(|ran| ran.code == 0).count();
        assert_eq!(won, 1, "{}", ran.iter().map(ToString::to_string).collect::<String>());
        for lost in ran.iter().filter(|ran| ran.code != 0) {
            // As Docker's, it tells the id before it starts.
            assert_eq!((lost.code, lost.out().trim_end().len()), (125, 64), "{lost}");
            assert!(lost.err().contains("Address already in use"), "{lost}");
        }
        let ids = cx.ctr("ps -aq").succeeds().replace('\n', " ");
        cx.ctr(&format!("rm -f {ids}")).succeeds();
    }
    // Those that leave it to the network have one each.
    let all: Vec<_> =
        (0..12).map(|n| cx.spawn(&format!("run -d --init --name n{n} --network net busybox sleep 1000"))).collect();
    for running in all {
        running.wait().succeeds();
    }
    let addresses: std::collections::BTreeSet<_> = (0..12).map(|n| address(cx, &format!("n{n}"), "net")).collect();
    assert_eq!(addresses.len(), 12, "{addresses:?}");
});

on_machine!(without_ipv6, |cx, world| {
    cx.busybox();
    for switch in ["all", "default", "lo", "out0"] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{switch}/disable_ipv6"), "1").unwrap();
    }
    let _server = world.outside.greets((FAR, 7000));
    serves(cx, "one", "-p 8080:80");
    waits(cx, "two", "");
    connects(cx, "two", FAR, 7000).prints(&format!("hello {HERE}\n"));
    assert_eq!(fetch(&world.outside, &format!("{HERE}:8080"), "/").unwrap(), "works\n");
    assert_eq!(fetch(&Netns::here(), "127.0.0.1:8080", "/").unwrap(), "works\n");
    assert!(pings(cx, "two", &address(cx, "one", "bridge")));
    // Those that are asked for work among themselves, or it says why not.
    cx.ctr("network create --ipv6 six").succeeds();
    let ran = cx.ctr("run --rm --network six busybox true");
    assert!(ran.code == 0 || ran.err().to_lowercase().contains("ipv6"), "{ran}");
});

on_machine!(rules_that_were_flushed, |cx, world| {
    cx.busybox();
    let _server = world.outside.greets((FAR, 7000));
    serves(cx, "one", "-p 8080:80");
    cx.ctr("network create --internal inside").succeeds();
    waits(cx, "hidden", "--network inside");
    if cx.is_root() {
        run("nft", "flush ruleset");
    }
    // The next container brings all of it back, for those that were there too.
    waits(cx, "two", "");
    connects(cx, "two", FAR, 7000).prints(&format!("hello {HERE}\n"));
    connects(cx, "one", FAR, 7000).prints(&format!("hello {HERE}\n"));
    assert_eq!(fetch(&world.outside, &format!("{HERE}:8080"), "/").unwrap(), "works\n");
    assert!(is_cut_off(cx, "hidden", FAR));
    assert!(pings(cx, "one", &address(cx, "two", "bridge")));
});

on_machine!(rules_of_others, |cx, world| {
    if !cx.is_root() {
        return;
    }
    cx.busybox();
    run("nft", "add table inet mine");
    run("nft", "add chain inet mine input '{ type filter hook input priority 0; policy accept; }'");
    run("nft", "add rule inet mine input tcp dport 9 drop");
    let before = run("nft", "list table inet mine");
    serves(cx, "one", "-p 8080:80");
    assert_eq!(fetch(&world.outside, &format!("{HERE}:8080"), "/").unwrap(), "works\n");
    cx.ctr("rm -f one").succeeds();
    assert_eq!(run("nft", "list table inet mine"), before);
});

on_machine!(a_host_that_already_forwards, |cx, world| {
    // Another machine that takes this one for its router reaches no container by its address.
    cx.busybox();
    serves(cx, "box", "-p 8080:80");
    let inside = address(cx, "box", "bridge");
    world.outside.ip(&format!("route add {inside}/32 via {HERE}"));
    let direct = world.outside.hears((inside.as_str(), 80));
    assert!(direct.is_err(), "{direct:?}");
    assert_eq!(fetch(&world.outside, &format!("{HERE}:8080"), "/").unwrap(), "works\n");
    drop(netns(cx, "box"));
});

on_machine!(rules_that_are_saved_and_loaded_again, |cx, _world| {
    if !cx.is_root() {
        return;
    }
    cx.busybox();
    serves(cx, "box", "-p 8080:80");
    // As administrators do it: `nft -s list ruleset > file; nft -f file`. Only checked here. An nft as old as
    // 1.0.6 does not read what it shows of a neighbour advertisement's target.
    cx.host("nft -s list ruleset | grep -v 'nd-neighbor-advert @th' | nft -c -f -").succeeds();
});
