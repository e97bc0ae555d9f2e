//! Routes that are told and made.

use super::super::route;
use super::*;

#[test]
fn prefixes_in_use_are_found_in_every_table() {
    on_a_thread(|| {
        let mut host = World::new();
        for command in [
            "ip link set lo up",
            "ip link add eth7 type veth peer name far7",
            "ip link add eth8 type veth peer name far8",
            "ip addr add 192.0.2.9/24 dev eth7",
            "ip -6 addr add fd00:7::9/64 dev eth7 nodad",
            // Down: it has no route.
            "ip addr add 172.20.0.1/16 dev eth8",
            "ip link set far7 up",
            "ip link set eth7 up",
            "ip route add default via 192.0.2.1 metric 9",
            "ip route add 0.0.0.0/1 via 192.0.2.2",
            "ip route add 10.8.0.0/13 dev eth7 table 51820",
            "ip route add unreachable 172.31.0.0/16",
            "ip -6 route add fd12:3400::/24 via fd00:7::1",
            "ip route add 10.99.0.0/16 nexthop via 192.0.2.3 nexthop via 192.0.2.4",
        ] {
            host.tell(command);
        }
        let used = route::used(&mut host.socket).unwrap();
        let of = |name: &str| name.to_owned();
        let wanted = [
            (net("10.8.0.0/13"), of("eth7")),
            (net("10.99.0.0/16"), of("eth7")),
            (net("172.20.0.0/16"), of("eth8")),
            (net("172.31.0.0/16"), of("")),
            (net("192.0.2.0/24"), of("eth7")),
            (net("fd00:7::/64"), of("eth7")),
            (net("fd12:3400::/24"), of("eth7")),
        ];
        assert_eq!(used, wanted);
        let outside = route::outside(&mut host.socket, false).unwrap().unwrap();
        let wanted = route::Outside {
            interface: "eth7".to_owned(),
            gateway: Some(ip("192.0.2.1")),
            source: Some(ip("192.0.2.9")),
        };
        assert_eq!(outside, wanted);
        assert_eq!(route::outside(&mut host.socket, true).unwrap(), None);
        host.tell("ip route add default via 192.0.2.7 src 192.0.2.9 metric 3");
        assert_eq!(route::outside(&mut host.socket, false).unwrap().unwrap().gateway, Some(ip("192.0.2.7")));
    });
}

#[test]
fn what_is_marked_is_delivered_here() {
    on_a_thread(|| {
        let mut space = World::new();
        for ipv6 in [false, true, false, true] {
            route::deliver_marked(&mut space.socket, 1, 100, ipv6).unwrap();
        }
        for family in ["-4", "-6"] {
            let rules = space.tell(&format!("ip {family} rule"));
            assert_eq!(rules.lines().filter(|l| l.contains("fwmark 0x1 lookup 100")).count(), 1, "{rules}");
            let routes = space.tell(&format!("ip {family} route show table 100"));
            assert!(routes.starts_with("local default dev lo"), "{routes}");
        }
        space.tell("ip tuntap add tun0 mode tun");
        space.tell("ip link set tun0 up");
        for ipv6 in [false, true, false] {
            route::add_default(&mut space.socket, "tun0", ipv6).unwrap();
        }
        assert!(space.tell("ip -4 route").contains("default dev tun0"));
        assert!(space.tell("ip -6 route").contains("default dev tun0"));
    });
}
