use super::bed::able;
use super::lab::Lab;
use crate::network::firewall::drops::find;
use crate::network::link;
use crate::network::netlink::Socket;

#[test]
fn rules_of_others_that_drop_are_named() {
    let Some(lab) = Lab::new().filter(|_| able(&["nft", "iptables-nft"])) else { return };
    lab.load(&[]);
    let found = || {
        lab.host.inside(|| {
            let mut bridges = link::of_kind(&mut Socket::route().unwrap(), "bridge").unwrap();
            bridges.retain(|link| link.name != "br-b");
            let found = find(&mut Socket::netfilter().unwrap(), &bridges, Some("up0")).unwrap();
            found.into_iter().map(|dropping| format!("{}: {}", dropping.chain, dropping.rule)).collect::<Vec<_>>()
        })
    };
    assert_eq!(found(), [""; 0]);
    for chain in [
        "forward { type filter hook forward priority 0; policy accept; }",
        "arriving { type filter hook input priority 0; policy accept; }",
        "deep",
        "unused",
    ] {
        let nft = |words: &str| lab.host.run("nft", &[words]);
        nft("add table inet mine");
        nft(&format!("add chain inet mine {chain}"));
    }
    for rule in [
        // Somebody else's, or of no harm.
        "forward iifname up0 oifname up0 drop",
        "forward iifname br-b drop",
        "forward iifname br-b oifname != br-b drop",
        "forward ct state invalid drop",
        "forward iifname br-a accept",
        "arriving tcp dport 22 drop",
        "unused iifname br-a drop",
        // Ours.
        "forward iifname br-a counter drop",
        "forward oifname br-* reject",
        "forward oifname up0 ip daddr 203.0.113.0/24 drop",
        "forward ip saddr 172.30.0.0/12 tcp dport 25 drop",
        "forward jump deep",
        "deep iif br-i drop",
        "arriving iifname != up0 iifname br-a drop",
    ] {
        lab.host.run("nft", &[&format!("add rule inet mine {rule}")]);
    }
    lab.host.run("iptables-nft", &["-A", "FORWARD", "-i", "br-a", "-p", "tcp", "-j", "REJECT"]);
    let index = lab.host.inside(|| link::index(&mut Socket::route().unwrap(), "br-i").unwrap());
    let mut found = found();
    found.sort_unstable();
    let deep = format!("inet mine deep: iif {index} drop");
    assert_eq!(
        found,
        [
            "inet mine arriving: iifname != \"up0\" iifname \"br-a\" drop",
            &*deep,
            "inet mine forward: iifname \"br-a\" drop",
            "inet mine forward: ip saddr 172.16.0.0/12 … drop",
            "inet mine forward: oifname \"br-*\" reject",
            "inet mine forward: oifname \"up0\" ip daddr 203.0.113.0/24 drop",
            "ip filter FORWARD: iifname \"br-a\" … reject",
        ]
    );
}
