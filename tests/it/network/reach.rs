//! Which containers reach each other.

use std::time::{Duration, Instant};

use super::{
    address, connects, endpoint, fetch, host_port, is_cut_off, netns, pings, serves, settings, until_serves, waits,
};
use crate::support::world::{FAR, HERE, NEIGHBOUR};
use crate::support::{Netns, both, on_machine, skipped};

both!(on_the_default_network, |cx| {
    cx.busybox();
    waits(cx, "one", "");
    serves(cx, "two", "");
    let (one, two) = (address(cx, "one", "bridge"), address(cx, "two", "bridge"));
    assert!(pings(cx, "one", &two) && pings(cx, "two", &one));
    cx.ctr(&format!("exec one wget -q -O - http://{two}/")).prints("works\n");
    let out = cx.ctr("exec one ip -o -4 addr show dev eth0").succeeds();
    assert!(out.contains(&format!("inet {one}/16 ")), "{out}");
    // Docker's shape, old fields and new.
    let settings = settings(cx, "one");
    assert_eq!(settings["Networks"]["bridge"]["Gateway"], "172.17.0.1", "{settings:#}");
    assert_eq!(settings["Networks"]["bridge"]["IPPrefixLen"], 16, "{settings:#}");
    let format = "{{.Names}} {{.Networks}}";
    cx.ctr_args(["ps", "--format", format]).prints("two bridge\none bridge\n");
});

both!(nobodys_network, |cx| {
    cx.busybox();
    cx.ctr("run --rm --network none busybox ls /sys/class/net").prints("lo\n");
    assert_ne!(cx.ctr("run --rm --network none busybox ping -c 1 -W 1 192.0.2.1").code, 0);
    let here = cx.host("readlink /proc/self/ns/net").succeeds();
    cx.ctr("run --rm --network host busybox readlink /proc/self/ns/net").prints(&format!("{here}\n"));
});

both!(another_containers_network, |cx| {
    cx.busybox();
    serves(cx, "box", "-h shared");
    let own = address(cx, "box", "bridge");
    let id = cx.ctr("inspect -f '{{.Id}}' box").succeeds();
    for name in ["box", &id, &id[..12]] {
        let ran = cx
            .ctr(&format!("run --rm --network container:{name} busybox sh -c 'ip -o -4 a show eth0; cat /etc/hosts'"));
        let out = ran.succeeds();
        assert!(out.contains(&format!("inet {own}/16")) && out.contains(&format!("{own}\tshared")), "{out}");
    }
    cx.ctr("run --rm --network container:box busybox sh -c 'hostname; hostname -i'")
        .prints(&format!("shared\n{own}\n"));
    cx.ctr("run --rm --network host busybox hostname").prints(&cx.host("hostname").out());
    cx.ctr("run --rm --network container:box busybox wget -q -O - http://127.0.0.1/").prints("works\n");
    cx.ctr("run --rm --network container:box busybox sh -c 'hostname; cat /etc/hostname; echo $HOSTNAME'")
        .prints("shared\nshared\nshared\n");
    cx.ctr("run --rm --network container:nobody busybox true").refuses(125, "[..]No such container: nobody");
    cx.ctr("run --rm --network container:box -p 80:80 busybox true").fails_saying(125, "conflicting options");
    let pid = cx.ctr("inspect -f '{{.State.Pid}}' box").succeeds();
    let ran = cx.ctr(&format!("run --rm --network ns:/proc/{pid}/ns/net busybox ip -o -4 addr show eth0"));
    assert!(ran.succeeds().contains(&format!("inet {own}/16")), "{ran}");
    cx.ctr("run --rm --network ns:/nowhere busybox true").fails_saying(125, "/nowhere");
});

on_machine!(by_pasta, |cx, world| {
    cx.busybox();
    if cx.is_root() {
        cx.ctr("run --rm --network pasta busybox true").fails_saying(125, "pasta is for ordinary users");
        return;
    }
    if cx.host("pasta --version").code != 0 {
        return skipped("needs the program pasta");
    }
    let _server = world.outside.greets((FAR, 7000));
    serves(cx, "box", "--network pasta:--mtu,1400 -p 8080:80 -p 127.0.0.1::81");
    assert_eq!(cx.ctr("exec box sh -c 'cat /sys/class/net/*/mtu'").succeeds(), "65536\n1400");
    // Older ones do not pass on that a server has ended.
    let says = |host: &str, port: u16| cx.ctr(&format!("exec box timeout 3 nc {host} {port}")).stdout;
    assert!(says(FAR, 7000).starts_with(b"hello "));
    assert_eq!(fetch(&world.outside, &format!("{HERE}:8080"), "/").unwrap(), "works\n");
    let port = host_port(cx, "box", "81");
    cx.ctr("port box 80").prints("0.0.0.0:8080\n[::]:8080\n");
    cx.ctr_args(["ps", "--format", "{{.Ports}}"])
        .prints(&format!("0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 127.0.0.1:{port}->81/tcp\n"));
    // The host's loopback is not reached unasked.
    let _own = Netns::here().greets("127.0.0.1:7001");
    let gateway = cx.ctr("exec box sh -c \"ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'\"").succeeds();
    assert!(says(&gateway, 7001).is_empty());
    let ran = cx.ctr("run --rm --network pasta -p 8080:80 busybox true");
    ran.refuses(125, "[..]Bind for 0.0.0.0:8080 failed: port is already allocated");
    cx.ctr("run --rm --network pasta:--no-such-option busybox true").fails_saying(125, "pasta");
    // It ends with the container.
    cx.ctr("stop -t 0 box").succeeds();
    cx.ctr("port box").prints("");
    drop(std::net::TcpListener::bind("0.0.0.0:8080").unwrap());
    cx.ctr("start box").succeeds();
    until_serves(cx, "box");
    cx.ctr("rm -f box").succeeds();
    cx.leaves_nothing();
});

on_machine!(by_macvlan, |cx, _world| {
    cx.busybox();
    cx.ctr("network create -d macvlan -o parent=out0 --subnet 192.0.2.0/24 --gateway 192.0.2.1 lan").succeeds();
    if !cx.is_root() {
        let ran = cx.ctr("run --rm --network lan busybox true");
        ran.refuses(
            125,
            "the macvlan network lan needs an interface of the machine's, which an ordinary user may not use",
        );
        return;
    }
    waits(cx, "box", "--network lan,ip=192.0.2.77");
    assert!(pings(cx, "box", NEIGHBOUR));
    // The network's gateway is not the host, nor does the host reach it there.
    assert!(!cx.ctr("exec box cat /etc/hosts").succeeds().contains("host.docker.internal"));
    cx.ctr("network create -d macvlan -o parent=out0.7 vlan").succeeds();
    let ran = cx.ctr("run --rm --network vlan busybox true");
    ran.fails_saying(125, "ip link add link out0 name out0.7 type vlan id 7");
});

both!(the_bridge_keeps_its_hardware_address, |cx| {
    cx.busybox();
    cx.ctr("network create --ipv6 --ipv4=false six").succeeds();
    waits(cx, "first", "--network bridge --network six");
    let gateway = endpoint(cx, "first", "bridge", "Gateway");
    let gateway6 = endpoint(cx, "first", "six", "IPv6Gateway");
    let seen = || {
        assert!(pings(cx, "first", &gateway) && pings(cx, "first", &gateway6));
        let out = cx.ctr(&format!("exec first arping -c 1 -I eth0 {gateway}")).succeeds();
        out.lines().find_map(|line| line.split(['[', ']']).nth(1).map(str::to_owned)).unwrap()
    };
    let mac = seen();
    // Each has ports with other addresses, and lower ones as likely as not.
    for n in 0..6 {
        waits(cx, &format!("c{n}"), "--network bridge --network six");
        assert_eq!(seen(), mac, "when c{n} had come");
    }
    cx.ctr("rm -f c0 c1 c2").succeeds();
    assert_eq!(seen(), mac);
});

both!(two_networks_are_apart, |cx| {
    cx.busybox();
    cx.ctr("network create red").succeeds();
    cx.ctr("network create blue").succeeds();
    serves(cx, "r", "--network red");
    serves(cx, "b", "--network blue");
    serves(cx, "d", "");
    waits(cx, "both", "--network red --network blue");
    let addresses = [address(cx, "r", "red"), address(cx, "b", "blue"), address(cx, "d", "bridge")];
    for (n, from) in ["r", "b", "d"].into_iter().enumerate() {
        for (m, to) in addresses.iter().enumerate() {
            // Its own, which is there.
            let most = if n == m { 60 } else { 2 };
            let ran = cx.ctr(&format!("exec {from} timeout {most} wget -q -O - http://{to}/"));
            assert_eq!(ran.out() == "works\n", n == m, "{ran}");
            if n != m {
                assert!(is_cut_off(cx, from, to), "{from} reaches {to}");
            }
        }
    }
    // Who is on both reaches both, and is no way between them.
    cx.ctr(&format!("exec both wget -q -O - http://{}/", addresses[0])).prints("works\n");
    cx.ctr(&format!("exec both wget -q -O - http://{}/", addresses[1])).prints("works\n");
    assert_eq!(cx.ctr("exec both ls /sys/class/net").succeeds(), "eth0\neth1\nlo");
    cx.ctr("network create --opt com.docker.network.bridge.enable_icc=false quiet").succeeds();
    serves(cx, "q1", "--network quiet");
    waits(cx, "q2", "--network quiet");
    assert!(is_cut_off(cx, "q2", &address(cx, "q1", "quiet")), "enable_icc=false");
});

both!(addresses_that_were_asked_for, |cx| {
    cx.busybox();
    cx.ctr("network create --subnet 10.91.0.0/24 --subnet fd00:91::/64 --ipv6 --ip-range 10.91.0.128/25 net")
        .succeeds();
    waits(cx, "first", "--network net");
    assert_eq!(address(cx, "first", "net"), "10.91.0.128");
    waits(cx, "box", "--network net --ip 10.91.0.77 --ip6 fd00:91::77 --mac-address 02:42:00:00:00:77");
    assert_eq!(address(cx, "box", "net"), "10.91.0.77");
    assert_eq!(endpoint(cx, "box", "net", "GlobalIPv6Address"), "fd00:91::77");
    assert_eq!(endpoint(cx, "box", "net", "MacAddress"), "02:42:00:00:00:77");
    let out = cx.ctr("exec box ip addr show dev eth0").succeeds();
    for part in ["inet 10.91.0.77/24", "inet6 fd00:91::77/64", "link/ether 02:42:00:00:00:77"] {
        assert!(out.contains(part), "{out}");
    }
    assert!(pings(cx, "first", "10.91.0.77") && pings(cx, "first", "fd00:91::77"));
    let flags = "--network name=net,ip=10.91.0.99,ip6=fd00:91::99,mac-address=02:42:00:00:00:99,interface_name=lan0";
    waits(cx, "fields", flags);
    let out = cx.ctr("exec fields ip addr show dev lan0").succeeds();
    for part in ["inet 10.91.0.99/24", "inet6 fd00:91::99/64", "link/ether 02:42:00:00:00:99"] {
        assert!(out.contains(part), "{out}");
    }
    cx.ctr("run --rm --network net --ip 10.91.0.77 busybox true").refuses(125, "[..]Address already in use");
    cx.ctr("run --rm --network net --ip 10.92.0.77 busybox true")
        .fails_saying(125, "contain the IP address 10.92.0.77");
    cx.ctr("run --rm --network nowhere busybox true").refuses(125, "[..]network nowhere not found");
});

both!(settings_of_an_interface, |cx| {
    cx.busybox();
    cx.ctr("network create -o com.docker.network.bridge.inhibit_ipv4=true --subnet 10.89.0.0/24 net").succeeds();
    let option = "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1,\
                  net.ipv4.conf.IFNAME.rp_filter=2";
    let network = format!("name=net,\"driver-opt={option}\",interface_name=lan0");
    let read = "cat /proc/sys/net/ipv4/conf/lan0/log_martians /proc/sys/net/ipv4/conf/lan0/rp_filter; ip route";
    let ran = cx.ctr_args(["run", "--rm", "--network", &network, "busybox", "sh", "-c", read]);
    // The gateway is the containers' all the same.
    assert!(ran.succeeds().starts_with("1\n2\ndefault via 10.89.0.1 dev lan0"), "{ran}");
    assert_ne!(cx.ctr("run --rm --network net busybox ping -c 1 -W 1 10.89.0.1").code, 0);
    waits(cx, "box", "");
    cx.ctr_args(["network", "connect", "--driver-opt", &format!("\"{option}\""), "net", "box"]).prints("");
    cx.ctr("exec box cat /proc/sys/net/ipv4/conf/eth1/rp_filter").prints("2\n");
    let wrong = "com.docker.network.endpoint.sysctls=net.ipv4.conf.eth0.rp_filter=2";
    cx.ctr(&format!("run --rm --network name=net,driver-opt={wrong} busybox true"))
        .fails_saying(125, "as 'net.X.Y.IFNAME.Z=V'");
});

both!(interface_names_that_were_asked_for, |cx| {
    cx.busybox();
    cx.ctr("network create a").succeeds();
    cx.ctr("network create b").succeeds();
    let line = "run --rm --network a --network b,interface_name=eth0 busybox ls /sys/class/net";
    cx.ctr(line).prints("eth0\neth1\nlo\n");
});

both!(over_ipv6, |cx| {
    cx.busybox();
    cx.ctr("network create --ipv6 six").succeeds();
    serves(cx, "one", "--network six");
    waits(cx, "two", "--network six");
    let one = endpoint(cx, "one", "six", "GlobalIPv6Address");
    assert!(one.starts_with("fd"), "{one}");
    assert!(pings(cx, "two", &one));
    cx.ctr(&format!("exec two wget -q -O - http://[{one}]/")).prints("works\n");
    // The others have none, not even the kernel's own.
    waits(cx, "four", "");
    cx.ctr("exec four ip -6 addr show dev eth0").prints("");
});

both!(packet_sizes, |cx| {
    cx.busybox();
    cx.ctr("network create --opt com.docker.network.driver.mtu=1380 small").succeeds();
    cx.ctr("run --rm --network small busybox cat /sys/class/net/eth0/mtu").prints("1380\n");
    let usual = cx.ctr("run --rm busybox cat /sys/class/net/eth0/mtu").succeeds();
    assert!(usual.parse::<u32>().unwrap() >= 1500, "{usual}");
    serves(cx, "one", "--network small");
    waits(cx, "two", "--network small");
    cx.ctr("exec two sh -c 'wget -q -O - http://one/megabyte | wc -c'").prints("1000000\n");
});

both!(bandwidth, |cx| {
    cx.busybox();
    cx.ctr("network create net").succeeds();
    serves(cx, "fast", "--network net");
    waits(cx, "slow", "--network net --rate in=8mbit,out=16mbit");
    let takes = |line: &str| {
        let begin = Instant::now();
        cx.ctr(line).prints("1000000\n");
        begin.elapsed()
    };
    let limited = takes("exec slow sh -c 'wget -q -O - http://fast/megabyte | wc -c'");
    // A megabyte is 8 Mbit, and a queue may let a beginning pass at once.
    assert!((Duration::from_millis(500)..Duration::from_secs(5)).contains(&limited), "{limited:?}");
    serves(cx, "slow-server", "--network net --rate out=8mbit");
    waits(cx, "quick", "--network net");
    let limited = takes("exec quick sh -c 'wget -q -O - http://slow-server/megabyte | wc -c'");
    assert!((Duration::from_millis(500)..Duration::from_secs(5)).contains(&limited), "{limited:?}");
    // So many that with a limit they would take twenty seconds, or ten: a busy machine takes its time too.
    let begin = Instant::now();
    cx.ctr("exec quick sh -c 'for n in $(seq 20); do wget -q -O - http://fast/megabyte; done | wc -c'")
        .prints("20000000\n");
    let free = begin.elapsed();
    assert!(free < Duration::from_secs(8), "{free:?}");
    let inspect = cx.ctr("inspect slow").succeeds();
    assert!(inspect.contains("8000000") && inspect.contains("16000000"), "{inspect}");
    cx.ctr("run --rm --rate 8 busybox true").fails_saying(125, "no unit");
});

both!(without_a_way_outside, |cx| {
    cx.busybox();
    // Nothing but loopback is there: no default route, no server for names.
    serves(cx, "one", "-p 8080:80");
    waits(cx, "two", "");
    assert!(pings(cx, "two", &address(cx, "one", "bridge")));
    let begin = Instant::now();
    let ran = connects(cx, "two", "198.51.100.7", 80);
    assert!(ran.code != 0 && begin.elapsed() < Duration::from_secs(15), "{:?}\n{ran}", begin.elapsed());
    if nix::unistd::geteuid().is_root() {
        assert_eq!(fetch(&crate::support::Netns::here(), "127.0.0.1:8080", "/").unwrap(), "works\n");
        drop(netns(cx, "two"));
    }
});
