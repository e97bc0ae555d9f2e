use super::bed::{Net, able};
use crate::network::firewall::uplink_rules;

#[test]
fn nft_reads_the_rules_of_the_uplink() {
    if !able(&["ip", "nft"]) {
        return;
    }
    let net = Net::new();
    uplink_rules(&net.space(), "tun0", 4001, Some(4002)).unwrap();
    uplink_rules(&net.space(), "tun0", 4004, Some(4006)).unwrap();
    let wanted = [
        "table inet ctr-uplink {",
        "comment \"connections of containers to the outside\"",
        "chain prerouting {",
        "type filter hook prerouting priority mangle; policy accept;",
        "tcp flags != syn / syn,ack socket transparent 1 meta mark set 0x00000001 accept",
        "iifname != \"tun0\" accept",
        "meta nfproto ipv4 tcp flags syn / syn,ack meta mark set 0x00000001 tproxy ip to 127.0.0.1:4004 accept",
        "meta nfproto ipv6 tcp flags syn / syn,ack meta mark set 0x00000001 tproxy ip6 to [::1]:4006 accept",
    ];
    assert_eq!(net.rules()[..wanted.len()], wanted);
}
