use super::bed::able;
use super::lab::{Lab, seen, serve, shut};
use crate::network::firewall::foreign::{active, let_through, withdraw};
use crate::network::firewall::{Features, probe};

#[test]
fn traffic_passes_where_iptables_drops_it() {
    let Some(lab) = Lab::new().filter(|_| able(&["iptables-nft", "ip6tables-nft"])) else { return };
    serve(&lab.outside, 80);
    lab.load(&[]);
    let mut socket = lab.host.netfilter();
    assert_eq!(active(&mut socket).unwrap(), None);
    withdraw(&mut socket, "br-a").unwrap();
    for program in ["iptables-nft", "ip6tables-nft"] {
        lab.host.run(program, &["-P", "FORWARD", "DROP"]);
    }
    assert!(shut(&lab.a, "198.51.100.2:80"));
    let foreign = active(&mut socket).unwrap().unwrap();
    assert!(!foreign.guards_input(), "{foreign:?}");
    for _ in 0..2 {
        let_through(&mut socket, &foreign, "br-a").unwrap();
    }
    assert_eq!(seen(&lab.a, "198.51.100.2:80"), "198.51.100.1");
    assert_eq!(seen(&lab.a, "[2001:db8::2]:80"), "2001:db8::1");
    assert!(shut(&lab.b, "198.51.100.2:80"), "not for this bridge");
    // iptables understands what is there.
    let listed = lab.host.run("iptables-nft", &["-S", "FORWARD"]).replace(" -m comment --comment \"ctr: br-a\"", "");
    let listed: Vec<_> = listed.lines().collect();
    assert_eq!(listed, ["-P FORWARD DROP", "-A FORWARD -i br-a -j ACCEPT", "-A FORWARD -o br-a -j ACCEPT"]);
    assert!(lab.host.rules().iter().any(|rule| rule.ends_with("accept comment \"ctr: br-a\"")));

    // Where the administrator's rules are meant to be, they are put there, and found there.
    lab.host.run("iptables-nft", &["-N", "DOCKER-USER"]);
    lab.host.run("iptables-nft", &["-I", "FORWARD", "-j", "DOCKER-USER"]);
    let foreign = active(&mut socket).unwrap().unwrap();
    let_through(&mut socket, &foreign, "br-b").unwrap();
    assert_eq!(seen(&lab.b, "198.51.100.2:80"), "172.30.2.2");
    for bridge in ["br-a", "br-b"] {
        withdraw(&mut socket, bridge).unwrap();
    }
    assert!(!lab.host.rules().iter().any(|rule| rule.contains("ctr: ")));
    assert!(shut(&lab.a, "198.51.100.2:80"));
}

#[test]
fn trying_leaves_nothing_behind() {
    if !able(&["ip", "nft"]) {
        return;
    }
    let net = super::bed::Net::new();
    let all = Features { nat: true, bridge: true, proxy: true };
    assert_eq!(probe(&mut net.netfilter()).unwrap(), all);
    assert_eq!(net.rules(), [""; 0]);
}
