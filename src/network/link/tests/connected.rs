//! Bridges, pairs and what containers reach over them.

use std::time::Instant;

use super::super::macvlan::{self, Macvlan, Mode};
use super::super::neighbour;
use super::*;
use crate::network::link;
use crate::network::link::bridge::Ensured;

#[test]
fn two_containers_reach_each_other_and_the_gateway_at_once() {
    on_a_thread(|| {
        let mut bed = Bed::new(&[net("172.30.0.1/16"), net("fd00:1::1/64")]);
        let gateways = [ip("172.30.0.1"), ip("fd00:1::1")];
        let a = bed.connect("vetha", false, &[net("172.30.0.2/16"), net("fd00:1::2/64")], &gateways);
        assert!(reaches(&a, &bed.space, ip("172.30.0.1")));
        assert!(reaches(&a, &bed.space, ip("fd00:1::1")));
        let b = bed.connect("vethb", false, &[net("172.30.0.3/16"), net("fd00:1::3/64")], &gateways);
        assert!(reaches(&a, &b, ip("172.30.0.3")));
        assert!(reaches(&b, &a, ip("fd00:1::2")));
        assert_eq!(a.tell("ip -4 route show default").trim(), "default via 172.30.0.1 dev eth0 proto static");
        assert!(a.tell("ip -6 route show default").contains("via fd00:1::1 dev eth0"));
        assert_eq!(a.tell("ip -o -4 addr show eth0").split_whitespace().nth(5), Some("172.30.255.255"));
        let tentative = a.tell("ip -o -6 addr show tentative");
        assert_eq!(tentative, "");
    });
}

#[test]
fn a_container_without_ipv6_has_no_ipv6_address() {
    on_a_thread(|| {
        let mut bed = Bed::new(&[net("172.30.0.1/16")]);
        let a = bed.connect("vetha", false, &[net("172.30.0.2/16")], &[ip("172.30.0.1")]);
        assert_eq!(a.tell("ip -o -6 addr show dev eth0"), "");
        assert_eq!(bed.space.tell("ip -o -6 addr"), "");
    });
}

#[test]
fn isolated_ports_reach_the_gateway_only() {
    on_a_thread(|| {
        let mut bed = Bed::new(&[net("172.30.0.1/16")]);
        let a = bed.connect("vetha", true, &[net("172.30.0.2/16")], &[]);
        let b = bed.connect("vethb", true, &[net("172.30.0.3/16")], &[]);
        assert!(reaches(&a, &bed.space, ip("172.30.0.1")));
        assert!(!reaches(&a, &b, ip("172.30.0.3")));
    });
}

#[test]
fn a_bridge_is_completed() {
    on_a_thread(|| {
        let mut space = World::new();
        let wanted = Bridge {
            name: "br-x",
            mac: Some([2, 0, 0, 0, 0, 9]),
            mtu: Some(1400),
            addresses: &[net("10.9.0.1/24"), net("fd00:9::1/64")],
            alias: Some("ours"),
        };
        let made = bridge::ensure(&mut space.socket, &wanted).unwrap();
        assert!(made.new);
        let first = made.index;
        space.tell("ip addr del 10.9.0.1/24 dev br-x");
        space.tell("ip link set br-x down mtu 1500 alias theirs");
        assert_eq!(bridge::ensure(&mut space.socket, &wanted).unwrap(), Ensured { index: first, new: false });
        let there = link::find(&mut space.socket, "br-x").unwrap().unwrap();
        assert_eq!((there.up, there.mtu, there.mac, there.kind.as_str()), (true, 1400, wanted.mac, "bridge"));
        assert_eq!(there.alias, "ours");
        assert_eq!(link::of_kind(&mut space.socket, "bridge").unwrap(), [there]);
        let addresses = link::address::of(&mut space.socket, first).unwrap();
        assert_eq!(addresses, [net("10.9.0.1/24"), net("fd00:9::1/64"), net("fe80::ff:fe00:9/64")]);
        assert!(link::remove(&mut space.socket, "br-x").unwrap());
        assert!(!link::remove(&mut space.socket, "br-x").unwrap());
    });
}

#[test]
fn ports_are_put_back_into_a_new_bridge() {
    on_a_thread(|| {
        let gateway = net("172.30.0.1/16");
        let mut bed = Bed::new(&[gateway]);
        let a = bed.connect("port-a", true, &[net("172.30.0.2/16")], &[gateway.addr()]);
        let b = bed.connect("port-b", true, &[net("172.30.0.3/16")], &[gateway.addr()]);
        bed.space.tell("ip link del ctr0");
        bed.space.tell("ip link set port-b down");
        let wanted =
            Bridge { name: "ctr0", mac: Some([2, 0x42, 1, 2, 3, 4]), mtu: None, addresses: &[gateway], alias: None };
        let made = bridge::ensure(&mut bed.space.socket, &wanted).unwrap();
        assert!(made.new && !reaches(&a, &bed.space, gateway.addr()));
        let mut rejoin = |port| veth::rejoin(&mut bed.space.socket, port, made.index, true, false).unwrap();
        assert_eq!(["port-a", "port-b", "port-a", "port-c"].map(&mut rejoin), [true, true, false, false]);
        std::thread::sleep(std::time::Duration::from_millis(100));
        for container in [&a, &b] {
            assert!(reaches(container, &bed.space, gateway.addr()));
        }
        assert!(!reaches(&a, &b, ip("172.30.0.3")), "they were kept apart");
    });
}

#[test]
fn taken_names_are_said() {
    on_a_thread(|| {
        let mut bed = Bed::new(&[]);
        bed.space.tell("ip tuntap add ctr1 mode tun");
        let other = Bridge { name: "ctr1", mac: None, mtu: None, addresses: &[], alias: None };
        let error = bridge::ensure(&mut bed.space.socket, &other).unwrap_err();
        assert_eq!(error.to_string(), "make the bridge \"ctr1\": the name is taken by a tun interface");
        let container = bed.connect("vetha", false, &[], &[]);
        let pair = |port, interface| Veth {
            port,
            bridge: bed.bridge,
            isolated: false,
            hairpin: false,
            interface,
            netns: container.netns(),
            mac: None,
            mtu: None,
        };
        let error = veth::create(&mut bed.space.socket, &pair("vetha", "eth1")).unwrap_err();
        assert_eq!(error.to_string(), "make the veth \"vetha\": the name is taken by a veth interface");
        let error = veth::create(&mut bed.space.socket, &pair("vethb", "eth0")).unwrap_err();
        assert_eq!(error.to_string(), "the container has an interface \"eth0\" already");
        assert_eq!(link::find(&mut bed.space.socket, "vethb").unwrap(), None);
        assert!(link::check_name("a-name-of-16-byt").is_err() && link::check_name("eth%d").is_err());
        link::check_name("a-name-of-15-by").unwrap();
    });
}

#[test]
fn everything_that_an_interface_can_have() {
    on_a_thread(|| {
        let mut bed = Bed::new(&[]);
        let mut a = bed.connect("vetha", false, &[], &[]);
        let route =
            interface::Static { destination: net("10.7.0.0/16"), gateway: Some(ip("10.1.0.9")), metric: Some(7) };
        let wanted = Interface {
            name: "eth0",
            addresses: &[net("10.1.0.2/24")],
            link_local: &[ip("169.254.3.4")],
            gateways: &[ip("10.2.0.1")],
            metric: Some(50),
            routes: &[route],
            mac: Some([2, 0x42, 10, 1, 0, 2]),
            mtu: Some(1300),
        };
        for _ in 0..2 {
            interface::configure(&mut a.socket, &wanted).unwrap();
        }
        let there = link::find(&mut a.socket, "eth0").unwrap().unwrap();
        assert_eq!((there.mtu, there.mac), (1300, wanted.mac));
        let routes = a.tell("ip -4 route");
        for line in [
            "default via 10.2.0.1 dev eth0 proto static metric 50 onlink",
            "10.1.0.0/24 dev eth0 proto kernel scope link src 10.1.0.2",
            "10.7.0.0/16 via 10.1.0.9 dev eth0 proto static metric 7",
            "169.254.0.0/16 dev eth0 proto kernel scope link src 169.254.3.4",
        ] {
            assert!(routes.lines().any(|l| l.trim() == line), "{line} in {routes}");
        }
    });
}

#[test]
fn ipv6_that_is_switched_off_matters_to_those_who_want_it() {
    on_a_thread(|| {
        let mut bed = Bed::new(&[net("10.1.0.1/24")]);
        let mut a = World::new();
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        let pair = Veth {
            port: "vetha",
            bridge: bed.bridge,
            isolated: false,
            hairpin: false,
            interface: "eth0",
            netns: a.fd.as_fd(),
            mac: None,
            mtu: None,
        };
        veth::create(&mut bed.space.socket, &pair).unwrap();
        let mut wanted = Interface { name: "eth0", addresses: &[net("10.1.0.2/24")], ..Interface::default() };
        interface::configure(&mut a.socket, &wanted).unwrap();
        let addresses = [net("fd00::2/64")];
        wanted.addresses = &addresses;
        let error = interface::configure(&mut a.socket, &wanted).unwrap_err();
        assert_eq!(
            crate::error::message(&error),
            "give the interface \"eth0\" the address fd00::2/64: IPv6 is switched off"
        );
        assert!(crate::error::hint(&error).is_some());
    });
}

#[test]
fn ipv6_needs_an_mtu() {
    on_a_thread(|| {
        let mut bed = Bed::new(&[]);
        let mut a = bed.connect("vetha", false, &[], &[]);
        let wanted =
            Interface { name: "eth0", addresses: &[net("fd00::2/64")], mtu: Some(1000), ..Interface::default() };
        let error = interface::configure(&mut a.socket, &wanted).unwrap_err();
        assert_eq!(error.to_string(), "configure the interface \"eth0\": IPv6 needs an MTU of 1280 or more, not 1000");
    });
}

#[test]
fn who_takes_over_an_address_is_known_at_once() {
    on_a_thread(|| {
        let mut bed = Bed::new(&[]);
        let neighbour = bed.connect("vethn", false, &[net("172.30.0.3/16"), net("fd00:1::3/64")], &[]);
        let addresses = [net("172.30.0.2/16"), net("fd00:1::2/64")];
        let knows = |world: &World, address: &str, mac: &str| {
            let told = world.tell(&format!("ip neigh show {address}"));
            told.contains(&format!("lladdr {mac} "))
        };
        let first = bed.connect("vetha", false, &addresses, &[]);
        for address in ["172.30.0.2", "fd00:1::2"] {
            assert!(reaches(&neighbour, &first, ip(address)));
        }
        drop(first);
        link::remove(&mut bed.space.socket, "vetha").unwrap();

        let mut second = World::new();
        second.inside(|| neighbour::settle_ipv6().unwrap());
        let pair = Veth {
            port: "vethb",
            bridge: bed.bridge,
            isolated: false,
            hairpin: false,
            interface: "eth0",
            netns: second.fd.as_fd(),
            mac: Some([2, 0, 0, 0, 0, 0x77]),
            mtu: None,
        };
        veth::create(&mut bed.space.socket, &pair).unwrap();
        let wanted = Interface { name: "eth0", addresses: &addresses, ..Interface::default() };
        interface::configure(&mut second.socket, &wanted).unwrap();
        veth::raise(&mut bed.space.socket, &mut second.socket, &pair).unwrap();
        let first = neighbour.tell("ip neigh");
        assert!(first.contains("172.30.0.2 ") && !first.contains("02:00:00:00:00:77"), "{first}");
        neighbour::announce(&mut second.socket, "eth0").unwrap();
        for address in ["172.30.0.2", "fd00:1::2"] {
            assert!(knows(&neighbour, address, "02:00:00:00:00:77"), "{}", neighbour.tell("ip neigh"));
        }
        assert_eq!(second.inside(|| std::fs::read_to_string("/proc/sys/net/ipv6/conf/eth0/accept_ra").unwrap()), "0\n");
    });
}

#[test]
fn a_macvlan_is_made_in_the_container() {
    on_a_thread(|| {
        let mut host = World::new();
        host.tell("ip link add eth7 type veth peer name far7");
        host.tell("ip link set far7 up");
        host.tell("ip link set eth7 up");
        assert!(macvlan::usual_parent(&mut host.socket).is_err());
        host.tell("ip addr add 192.0.2.1/24 dev eth7");
        host.tell("ip route add default via 192.0.2.254");
        let parent = macvlan::usual_parent(&mut host.socket).unwrap();
        assert_eq!(parent, "eth7");
        let mut containers = Vec::new();
        for (number, mode) in [(5, Mode::Bridge), (6, Mode::Bridge)] {
            let mut container = World::new();
            let wanted =
                Macvlan { parent: &parent, mode, interface: "eth0", netns: container.fd.as_fd(), mac: None, mtu: None };
            macvlan::create(&mut host.socket, &wanted).unwrap();
            let addresses = [net(&format!("192.0.2.{number}/24"))];
            let wanted = Interface { name: "eth0", addresses: &addresses, ..Interface::default() };
            interface::configure(&mut container.socket, &wanted).unwrap();
            containers.push(container);
        }
        assert!(reaches(&containers[0], &containers[1], ip("192.0.2.6")));
        let wanted = Macvlan {
            parent: "eth7",
            mode: Mode::Passthru,
            interface: "eth1",
            netns: containers[0].netns(),
            mac: None,
            mtu: None,
        };
        let error = macvlan::create(&mut host.socket, &wanted).unwrap_err();
        assert!(crate::error::message(&error).starts_with("make a macvlan on the interface \"eth7\": "), "{error:#}");
        assert_eq!(link::list(&mut host.socket).unwrap().iter().filter(|link| link.kind == "macvlan").count(), 0);
        assert!("bridge".parse::<Mode>().is_ok() && "tunnel".parse::<Mode>().is_err());
    });
}

/// Printed with `--nocapture`; asserted is what no machine should need.
#[test]
fn connecting_takes_little_time() {
    on_a_thread(|| {
        let mut times = Vec::new();
        let mut bed = Bed::new(&[net("172.30.0.1/16")]);
        for number in 2..32 {
            let mut container = World::new();
            let began = Instant::now();
            let wanted = Bridge { name: "ctr0", mac: None, mtu: None, addresses: &[net("172.30.0.1/16")], alias: None };
            let bridge = bridge::ensure(&mut bed.space.socket, &wanted).unwrap().index;
            let port = format!("veth{number}");
            let pair = Veth {
                port: &port,
                bridge,
                isolated: false,
                hairpin: false,
                interface: "eth0",
                netns: container.fd.as_fd(),
                mac: Some(link::mac_of([172, 30, 0, number].into())),
                mtu: None,
            };
            veth::create(&mut bed.space.socket, &pair).unwrap();
            let addresses = [net(&format!("172.30.0.{number}/16"))];
            let wanted = Interface {
                name: "eth0",
                addresses: &addresses,
                gateways: &[ip("172.30.0.1")],
                ..Interface::default()
            };
            interface::configure(&mut container.socket, &wanted).unwrap();
            veth::raise(&mut bed.space.socket, &mut container.socket, &pair).unwrap();
            times.push(began.elapsed());
        }
        times.sort();
        #[allow(clippy::print_stderr, reason = "the figure is what the test is for")]
        {
            eprintln!("connect: median {:?}, least {:?}, most {:?}", times[15], times[0], times[29]);
        }
        assert!(times[15].as_millis() < 100, "{times:?}");
    });
}
