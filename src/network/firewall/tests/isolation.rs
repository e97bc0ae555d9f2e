use super::lab::{Lab, seen, serve, shut};
use std::net::SocketAddr;

use crate::network::firewall::{
    All, NetworkRules, Way, add_member, is_missing, load, load_all, load_network, remove_member, spoofing, unload_all,
    unload_network,
};
use crate::network::settings::GatewayMode;
use crate::network::{Protocol, Published};

fn serve_all(lab: &Lab) {
    for net in [&lab.host, &lab.outside, &lab.a, &lab.neighbour, &lab.b, &lab.inner] {
        serve(net, 80);
    }
}

#[test]
fn networks_are_apart_and_lead_outside() {
    let Some(lab) = Lab::new() else { return };
    serve_all(&lab);
    lab.load(&[]);
    assert_eq!(seen(&lab.a, "172.30.1.3:80"), "172.30.1.2");
    assert_eq!(seen(&lab.a, "[fd30:1::3]:80"), "fd30:1::2");
    assert_eq!(seen(&lab.a, "198.51.100.2:80"), "198.51.100.1", "masqueraded");
    assert_eq!(seen(&lab.a, "[2001:db8::2]:80"), "2001:db8::1", "masqueraded");
    assert_eq!(seen(&lab.b, "198.51.100.2:80"), "172.30.2.2", "not masqueraded");
    assert_eq!(seen(&lab.a, "172.30.1.1:80"), "172.30.1.2");
    assert_eq!(seen(&lab.host, "172.30.3.2:80"), "172.30.3.1");
    assert!(shut(&lab.a, "172.30.2.2:80"), "another network");
    assert!(shut(&lab.b, "172.30.1.2:80"), "another network");
    assert!(shut(&lab.a, "172.30.3.2:80"), "into an internal network");
    assert!(shut(&lab.inner, "172.30.1.2:80"), "out of an internal network");
    assert!(shut(&lab.inner, "198.51.100.2:80"), "out of an internal network");
    for container in ["172.30.1.2:80", "172.30.2.2:80", "172.30.3.2:80", "[fd30:1::2]:80"] {
        assert!(shut(&lab.outside, container), "from outside to {container}");
    }
    // A network that is taken away is like any other interface.
    let [a, ..] = Lab::networks();
    lab.here(|space| unload_network(space, &a)).unwrap();
    lab.here(|space| unload_network(space, &a)).unwrap();
    assert_eq!(seen(&lab.outside, "172.30.1.2:80"), "198.51.100.2");
    lab.here(|space| load_network(space, &a)).unwrap();
    lab.here(|space| load_network(space, &a)).unwrap();
    assert!(shut(&lab.outside, "172.30.1.3:80"));
}

/// Gateway modes, and what else is about containers' own addresses.
#[test]
fn who_has_a_route_comes_in_as_far_as_the_network_says() {
    let Some(lab) = Lab::new() else { return };
    serve_all(&lab);
    for net in [&lab.a, &lab.neighbour, &lab.b] {
        serve(net, 81);
    }
    let ports = |last: u8| {
        let published = |host: &str| Published {
            host: host.parse().unwrap(),
            host_port: 0,
            container_port: 80,
            protocol: Protocol::Tcp,
        };
        [
            (published("0.0.0.0"), SocketAddr::from(([172, 30, 1, last], 80))),
            (published("::"), SocketAddr::from(([0xfd30, 1, 0, 0, 0, 0, 0, last.into()], 80))),
        ]
    };
    let load = |way: Way, trusted: &str| {
        let [mut a, b, inner] = Lab::networks();
        let way = Way { masquerade: true, ..way };
        a.ways = [way, Way { source: None, ..way }];
        a.trusted = vec![trusted.to_owned()];
        let all = All { networks: vec![a, b, inner], ..lab.all(&ports(2)) };
        lab.here(|space| load_all(space, || Ok(all.clone()))).unwrap();
    };
    let mode = |mode| Way { mode, ..Way::default() };

    load(mode(GatewayMode::Routed), "none");
    for (published, other) in [("172.30.1.2:80", "172.30.1.2:81"), ("[fd30:1::2]:80", "[fd30:1::2]:81")] {
        assert!(!seen(&lab.outside, published).is_empty() && shut(&lab.outside, other), "{published}");
    }
    assert!(shut(&lab.outside, "172.30.1.3:80"), "published of another container");
    assert_eq!(seen(&lab.a, "198.51.100.2:80"), "172.30.1.2", "masqueraded");
    assert_eq!(seen(&lab.a, "[2001:db8::2]:80"), "fd30:1::2", "masqueraded");
    assert_eq!(seen(&lab.b, "172.30.1.2:80"), "172.30.2.2");
    assert!(shut(&lab.b, "172.30.1.2:81") && shut(&lab.inner, "172.30.1.2:80"));

    load(mode(GatewayMode::NatUnprotected), "none");
    assert_eq!(seen(&lab.outside, "172.30.1.3:81"), "198.51.100.2");
    assert_eq!(seen(&lab.outside, "[fd30:1::3]:81"), "2001:db8::2");
    assert_eq!(seen(&lab.a, "198.51.100.2:80"), "198.51.100.1");
    assert!(shut(&lab.b, "172.30.1.2:80"), "networks are apart");

    load(Way::default(), "other0");
    assert!(shut(&lab.outside, "172.30.1.2:80"));
    load(Way::default(), "up0");
    assert_eq!(seen(&lab.outside, "172.30.1.2:80"), "198.51.100.2");
    assert!(!seen(&lab.outside, "[fd30:1::2]:80").is_empty());
    assert!(shut(&lab.outside, "172.30.1.2:81") && shut(&lab.outside, "172.30.1.3:80"));

    lab.host.ip("addr add 198.51.100.9/24 dev up0");
    load(Way { source: Some([198, 51, 100, 9].into()), ..Way::default() }, "none");
    assert_eq!(seen(&lab.a, "198.51.100.2:80"), "198.51.100.9");
    // What was loaded is taken away as a whole.
    load(mode(GatewayMode::NatUnprotected), "up0");
    let [mut a, ..] = Lab::networks();
    a.ways = [Way { masquerade: true, ..mode(GatewayMode::NatUnprotected) }; 2];
    a.trusted = vec!["up0".to_owned()];
    lab.here(|space| unload_network(space, &a)).unwrap();
    assert!(!lab.host.rules().join(" ").contains("\"br-a\""));
}

#[test]
fn the_same_in_the_namespace_of_an_ordinary_user() {
    let Some(lab) = Lab::new() else { return };
    serve_all(&lab);
    let space = lab.host.space();
    load_all(&space, || Ok(lab.all(&[]))).unwrap();
    let tracked: Vec<String> =
        lab.host.rules().into_iter().filter(|rule| rule.starts_with("ct ") || rule.starts_with("type nat")).collect();
    assert_eq!(tracked, [""; 0]);
    assert_eq!(seen(&lab.a, "172.30.1.3:80"), "172.30.1.2");
    // What stands for the outside here is the uplink.
    assert_eq!(seen(&lab.a, "198.51.100.2:80"), "172.30.1.2");
    assert!(shut(&lab.a, "172.30.2.2:80"), "another network");
    assert!(shut(&lab.a, "172.30.3.2:80"), "into an internal network");
    assert!(shut(&lab.inner, "172.30.1.2:80"), "out of an internal network");
    assert!(shut(&lab.inner, "198.51.100.2:80"), "out of an internal network");
    assert!(shut(&lab.outside, "172.30.3.2:80"), "into an internal network");
}

#[test]
fn what_was_flushed_is_said_to_be_missing() {
    let Some(lab) = Lab::new() else { return };
    let [a, ..] = Lab::networks();
    let member = lab.members()[0].clone();
    let missing = |done: anyhow::Result<()>| is_missing(&done.unwrap_err());
    assert!(missing(lab.here(|space| load_network(space, &a))));
    lab.load(&[]);
    lab.load(&[]);
    lab.host.nft("flush ruleset");
    assert!(missing(lab.here(|space| load_network(space, &a))));
    assert!(missing(lab.here(|space| add_member(space, &member))));
    // What is to go is gone.
    lab.here(|space| remove_member(space, &member)).unwrap();
    lab.here(|space| unload_network(space, &a)).unwrap();
    lab.load(&[]);
    let none = NetworkRules { bridge: "br-none".into(), ..a };
    lab.here(|space| unload_network(space, &none)).unwrap();
    for _ in 0..2 {
        lab.here(unload_all).unwrap();
        assert_eq!(lab.host.rules(), [""; 0]);
    }
}

#[test]
fn an_older_kernel_takes_away_what_is_there() {
    let Some(lab) = Lab::new() else { return };
    lab.load(&[]);
    let [a, neighbour, ..] = &lab.members()[..] else { panic!() };
    lab.here(|space| remove_member(space, a)).unwrap();
    let both = [a, neighbour].into_iter().flat_map(spoofing::elements).collect();
    load::take_each(&mut lab.host.netfilter(), both).unwrap();
    let left = lab.host.rules().join(" ");
    assert!(!left.contains("\"pa\"") && !left.contains("\"pn\"") && left.contains("\"pb\""), "{left}");
}

#[test]
fn who_comes_while_the_records_are_read_is_not_lost() {
    let Some(lab) = Lab::new() else { return };
    lab.load(&[]);
    let mut reads = 0;
    let space = lab.host.space();
    remove_member(&space, &lab.members()[3]).unwrap();
    load_all(&space, || {
        reads += 1;
        let mut all = lab.all(&[]);
        if reads == 1 {
            let late = all.members.pop().unwrap();
            add_member(&space, &late)?;
        }
        Ok(all)
    })
    .unwrap();
    assert_eq!(reads, 2);
    assert!(lab.host.rules().join(" ").contains("\"pi\""));
}
