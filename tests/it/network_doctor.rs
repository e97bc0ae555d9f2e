//! `ctr network doctor`: each thing that can be wrong, made wrong, is found.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::thread;

use crate::support::{Sandbox, Who, addresses, apart, both, until};

/// The findings that are not `ok`: what they are about, and what they say.
#[track_caller]
fn findings(cx: &Sandbox, line: &str) -> Vec<(String, String)> {
    let ran = cx.ctr(&format!("network doctor --format json {line}"));
    let all: Vec<serde_json::Value> = serde_json::from_str(&ran.out()).unwrap_or_else(|e| panic!("{e}\n{ran}"));
    let problems = all.iter().any(|finding| finding["Mark"] == "problem");
    assert!(ran.code == i32::from(problems) && ran.stderr.is_empty(), "{ran}");
    let text = |finding: &serde_json::Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let bad = all.iter().filter(|finding| finding["Mark"] != "ok");
    bad.map(|finding| (text(finding, "About"), text(finding, "Text"))).collect()
}

/// Asserts that a finding about this is there, or (`None`) that none is.
#[track_caller]
fn finds(found: &[(String, String)], about: &str, part: Option<&str>) {
    let texts: Vec<&str> = found.iter().filter(|(of, _)| of == about).map(|(_, text)| text.as_str()).collect();
    match part {
        Some(part) => assert!(texts.iter().any(|text| text.contains(part)), "{about}: {part:?} in {found:?}"),
        None => assert!(texts.is_empty(), "nothing about {about} in {found:?}"),
    }
}

fn ip(words: &str) {
    run("ip", words);
}

fn run(program: &str, words: &str) {
    let done = Command::new(program).args(words.split(' ')).output().unwrap();
    assert!(done.status.success(), "{program} {words}: {}", String::from_utf8_lossy(&done.stderr));
}

fn machine() {
    addresses(&[Ipv4Addr::new(198, 51, 100, 1)]);
    ip("link add out type veth peer name beyond");
    for interface in ["out", "beyond"] {
        ip(&format!("link set dev {interface} up"));
    }
    ip("addr add 203.0.113.2/24 dev out");
    ip("route add default via 203.0.113.1");
    // In the mount namespace that the test has.
    let file = tempfile::NamedTempFile::new().unwrap();
    run("chmod", &format!("644 {}", file.path().display()));
    run("mount", &format!("--bind {} /etc/resolv.conf", file.path().display()));
    resolv_conf("nameserver 198.51.100.1\n");
    ping_group_range("0 2147483647");
}

/// What the machine's file says, for this test alone: `machine` has put another in its place.
fn resolv_conf(text: &str) {
    fs::write("/etc/resolv.conf", text).unwrap();
}

fn ping_group_range(range: &str) {
    fs::write("/proc/sys/net/ipv4/ping_group_range", range).unwrap();
}

/// A name server at this machine's address that says of every name that it is not there.
fn name_server() {
    let socket = UdpSocket::bind("198.51.100.1:53").unwrap();
    thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut packet) {
            packet[2] |= 0x80;
            packet[3] = 0x83;
            let _ = socket.send_to(&packet[..length], client);
        }
    });
}

/// Both accounts, on a machine of the test's own.
macro_rules! apart_both {
    ($name:ident, $body:expr) => {
        mod $name {
            use super::*;
            #[test]
            fn as_root() {
                apart(Who::Root, machine, $body);
            }
            #[test]
            fn as_user() {
                apart(Who::User, machine, $body);
            }
        }
    };
}

apart_both!(the_machine, |cx| {
    let found = findings(cx, "");
    finds(&found, "name servers", Some("no server of /etc/resolv.conf answers: 198.51.100.1"));
    for fine in ["default route", "kernel", "subnets", "firewalls", "uplink", "IPv6"] {
        finds(&found, fine, None);
    }
    finds(&found, "ping", None);
    ping_group_range("1 0");
    let closed = (!cx.is_root()).then_some("net.ipv4.ping_group_range is \"1 0\"");
    finds(&findings(cx, ""), "ping", closed);
    name_server();
    finds(&findings(cx, ""), "name servers", None);
    resolv_conf("nameserver 198.51.100.1\nnameserver 198.51.100.2\n");
    let slow = "198.51.100.2 in /etc/resolv.conf does not answer (198.51.100.1 does)";
    finds(&findings(cx, ""), "name servers", Some(slow));
    ip("link set dev out mtu 1400");
    let small = cx.is_root().then_some("out passes packets of 1400 bytes at most");
    finds(&findings(cx, ""), "MTU", small);
    ip("route del default");
    finds(&findings(cx, ""), "default route", Some("this machine has none"));
    cx.ctr("network create --subnet 10.80.0.0/24 office").succeeds();
    finds(&findings(cx, ""), "subnets", None);
    ip("route add 10.80.0.0/16 dev out");
    finds(&findings(cx, ""), "subnets", Some("this machine reaches 10.80.0.0/16 over out"));
});

apart_both!(a_container, |cx| {
    name_server();
    cx.busybox();
    cx.ctr("network doctor nosuch").fails_saying(1, "No such container: nosuch");
    cx.ctr("create --name idle busybox true").succeeds();
    finds(&findings(cx, "idle"), "container", Some("it does not run"));
    cx.ctr("run -d --name alone --network none busybox sleep 1000").succeeds();
    finds(&findings(cx, "alone"), "networks", Some("--network none"));
    let fix = "ctr network disconnect none alone && ctr network connect bridge alone";
    assert!(cx.ctr("network doctor alone").out().contains(fix));
    let serve = "run -d --name web -p 127.0.0.1:8080:80 -p 127.0.0.1:8081:81 -p 127.0.0.1:8082:82 busybox sh -c \
                 'httpd -p 127.0.0.1:81; exec httpd -f -p 80'";
    cx.ctr(serve).succeeds();
    until("the server listens", || findings(cx, "web").iter().all(|(about, _)| about != "port 80/tcp"));
    let found = findings(cx, "web");
    finds(&found, "port 81/tcp", Some("the container listens on 127.0.0.1 alone"));
    finds(&found, "port 82/tcp", Some("nothing in the container listens on it; it listens on 80"));
    assert_eq!(found.len(), 2, "{found:?}");
    finds(&findings(cx, ""), "rules", None);
});

apart_both!(what_somebody_changed, |cx| {
    name_server();
    cx.busybox();
    cx.ctr("run -d --name web -p 127.0.0.1:8080:80 busybox httpd -f -p 80").succeeds();
    until("all is well", || findings(cx, "web").is_empty());
    let pid = cx.ctr("inspect -f '{{.State.Pid}}' web").succeeds();
    run("nsenter", &format!("--net=/proc/{pid}/ns/net ip link set dev eth0 down"));
    let found = findings(cx, "web");
    finds(&found, "eth0", Some("its interface on the network bridge is switched off"));
    finds(&found, "way out", Some("it has no default route"));
    run("nsenter", &format!("--net=/proc/{pid}/ns/net ip link set dev eth0 up"));
    run("nsenter", &format!("--net=/proc/{pid}/ns/net ip addr flush dev eth0"));
    finds(&findings(cx, "web"), "eth0", Some("it has lost its address on the network bridge"));
    run("nsenter", &format!("--net=/proc/{pid}/ns/net ip link del eth0"));
    finds(&findings(cx, "web"), "eth0", Some("its interface on the network bridge is gone"));
});

/// Root's networks are in the namespace of the test, where everything can be taken away.
#[test]
fn what_root_repairs() {
    apart(Who::Root, machine, |cx| {
        name_server();
        cx.busybox();
        cx.ctr("run -d --name web -p 127.0.0.1:8080:80 busybox httpd -f -p 80").succeeds();
        until("all is well", || findings(cx, "web").is_empty());
        run("nft", "flush ruleset");
        fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        for line in ["", "web"] {
            let found = findings(cx, line);
            finds(&found, "rules", Some("ctr's own are gone, somebody flushed them"));
            finds(&found, "forwarding", Some("net.ipv4.ip_forward is 0"));
        }
        assert_eq!(findings(cx, "--repair web"), []);
        ip("link set dev ctr0 down");
        finds(&findings(cx, "web"), "network bridge", Some("its bridge ctr0 is switched off"));
        assert_eq!(findings(cx, "--repair web"), []);
        ip("addr flush dev ctr0");
        finds(&findings(cx, ""), "network bridge", Some("its bridge ctr0 has lost the address 172.17.0.1/16"));
        assert_eq!(findings(cx, "--repair"), []);
        run("nft", "add table inet firewalld");
        run("nft", "add chain inet firewalld filter_FORWARD { type filter hook forward priority 10 ; }");
        finds(&findings(cx, ""), "firewalls", Some("firewalld forwards nothing for ctr0"));
        run("nft", "delete table inet firewalld");
        run("nft", "add table inet mine");
        run("nft", "add chain inet mine in { type filter hook input priority 0 ; policy accept ; }");
        run("nft", "add rule inet mine in iifname ctr0 drop");
        let named =
            "a rule of the chain \"inet mine in\" drops what is sent by containers or to them: iifname \"ctr0\" drop";
        finds(&findings(cx, ""), "firewalls", Some(named));
        let found = findings(cx, "web");
        finds(&found, "firewalls", Some(named));
        finds(&found, "outside", Some("does not answer, and this machine reaches it"));
        assert!(cx.ctr("network doctor web").out().contains("see the rules that are named under \"firewalls\""));
        run("nft", "delete table inet mine");
        // What does not work because of that is not said as well.
        ip("link del ctr0");
        let gone = ("network bridge".to_owned(), "its bridge ctr0 is gone".to_owned());
        assert_eq!(findings(cx, "web"), [gone]);
        assert_eq!(findings(cx, "--repair web"), []);
        // And without the doctor, by the next container on it.
        ip("link del ctr0");
        cx.ctr("run --rm busybox true").succeeds();
        assert_eq!(findings(cx, "web"), []);
    });
}

/// In an ordinary user's own space.
#[test]
fn a_bridge_that_is_gone_comes_back_for_those_that_were_on_it() {
    apart(Who::User, machine, |cx| {
        name_server();
        cx.busybox();
        let serve = "run -d --name web -p 127.0.0.1:8080:80 busybox httpd -f -p 80";
        cx.ctr(serve).succeeds();
        until("all is well", || findings(cx, "web").is_empty());
        let holder = fs::read_dir(cx.root().join("networks/holders")).unwrap().next().unwrap().unwrap();
        let holder = fs::read_to_string(holder.path()).unwrap();
        let (pid, fd) = holder.trim_end().split_once(' ').unwrap();
        let remove = format!("--net=/proc/{pid}/fd/{fd} ip link del ctr0");
        for repair in ["network doctor --repair", "run --rm busybox true"] {
            run("nsenter", &remove);
            let gone = ("network bridge".to_owned(), "its bridge ctr0 is gone".to_owned());
            assert_eq!(findings(cx, "web"), [gone]);
            cx.ctr(repair);
            assert_eq!(findings(cx, "web"), [], "after {repair}");
        }
    });
}

/// Between its end and its monitor's word of it.
#[test]
fn a_container_that_ends_while_it_is_looked_at() {
    apart(Who::Root, machine, |cx| {
        cx.busybox();
        cx.ctr("run -d --name web busybox sleep 1000").succeeds();
        let pid: i32 = cx.ctr("inspect -f '{{.State.Pid}}' web").succeeds().parse().unwrap();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let monitor: i32 = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
        let signal = |pid, signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
        signal(monitor, nix::sys::signal::SIGSTOP);
        signal(pid, nix::sys::signal::SIGKILL);
        until("it has ended", || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z "));
        let found = findings(cx, "web");
        signal(monitor, nix::sys::signal::SIGCONT);
        finds(&found, "container", Some("it does not run"));
    });
}

both!(help_and_wrong_words, |cx| {
    assert!(cx.ctr("network doctor --help").succeeds().contains("Usage:  ctr network doctor"));
    cx.ctr("network doctor a b").fails_saying(1, "'ctr network doctor' requires");
});
