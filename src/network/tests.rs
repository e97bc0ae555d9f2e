//! Networks and their members on disk: no interface is made.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use anyhow::Result;

use crate::container::config::Endpoint;
use crate::container::state::ALIVE;
use crate::network::member::{self, Member, NewMember};
use crate::network::names;
use crate::network::record::{self, Driver, Network, New, Subnet};
use crate::store::{Id, Lock, Store};

struct Home {
    store: Store,
    _dir: tempfile::TempDir,
}

fn home() -> Home {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Some(&dir.path().join("root")), Some(&dir.path().join("run"))).unwrap();
    Home { store, _dir: dir }
}

fn subnet(text: &str) -> Subnet {
    Subnet::of(text.parse().unwrap())
}

fn network(store: &Store, name: &str, subnets: &[&str]) -> Network {
    let subnets = subnets.iter().map(|text| subnet(text)).collect();
    record::create(store, New { subnets, ..New::named(name) }).unwrap()
}

/// A container whose monitor lives for as long as the lock is held.
fn running(store: &Store) -> (Id, Lock) {
    let id = Id::random().unwrap();
    std::fs::create_dir(store.container(&id)).unwrap();
    let alive = store.container(&id).join(ALIVE);
    std::fs::write(&alive, "").unwrap();
    let lock = Lock::exclusive(&alive).unwrap();
    (id, lock)
}

fn join(store: &Store, network: &Network, container: &Id, wanted: &Endpoint) -> Result<Member> {
    let new = NewMember { container, name: "x", wanted, others: &[], published: Vec::new(), loopback: None };
    member::join(store, network, new, |_| ())
}

fn any() -> Endpoint {
    Endpoint::on("n")
}

fn refused<T: std::fmt::Debug>(outcome: Result<T>) -> String {
    outcome.unwrap_err().to_string()
}

#[test]
fn a_network_is_found_by_its_names() {
    let Home { store, _dir } = home();
    assert_eq!(refused(record::get(&store, "n")), "network n not found");
    let made = record::create(&store, New { ipv6: true, ..New::named("n") }).unwrap();
    for wanted in ["n", made.id.as_str(), made.id.short()] {
        assert_eq!(record::get(&store, wanted).unwrap(), made);
    }
    let [v4, v6] = &made.subnets[..] else { panic!("{made:?}") };
    assert_eq!(v4.gateway, v4.subnet.hosts().next());
    assert_eq!(v6.gateway.unwrap().to_string(), format!("{}1", v6.subnet.network()));
    assert_eq!(made.interface(), format!("br-{}", made.id.short()));
    // With it the predefined ones were made, once.
    let names: Vec<String> = record::list(&store).unwrap().into_iter().map(|network| network.name).collect();
    assert_eq!(names, ["bridge", "host", "n", "none"]);
    let default = record::get(&store, "default").unwrap();
    assert_eq!(default, record::default(&store).unwrap());
    // The short name, unless another store of this machine's root has an interface of that name.
    let interface = default.interface();
    assert!(interface == "ctr0" || interface == format!("br-{}", default.id.short()), "{interface}");
    assert_ne!(default.subnets[0].subnet, made.subnets[0].subnet);

    assert_eq!(refused(record::create(&store, New::named("n"))), "network with name n already exists");
    assert_eq!(refused(record::create(&store, New::named("a b"))), {
        "invalid network name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    });
    let predefined = "operation is not permitted on predefined bridge network";
    assert_eq!(refused(record::create(&store, New::named("bridge"))), predefined);
    let predefined = "bridge is a pre-defined network and cannot be removed";
    assert_eq!(refused(record::remove(&store, &default.id, |_| Ok(()))), predefined);

    record::remove(&store, &made.id, |_| Ok(())).unwrap();
    assert_eq!(refused(record::get(&store, "n")), "network n not found");
    assert_eq!(refused(join(&store, &made, &Id::random().unwrap(), &any())), "network n not found");
    network(&store, "n", &[]);
}

#[test]
fn a_name_that_a_killed_command_left_is_free() {
    let Home { store, _dir } = home();
    record::default(&store).unwrap();
    names::claim(&store, "n", &Id::random().unwrap()).unwrap();
    assert_eq!(refused(record::get(&store, "n")), "network n not found");
    network(&store, "n", &[]);
}

#[test]
fn subnets_are_checked_as_docker_checks_them() {
    let Home { store, _dir } = home();
    network(&store, "a", &["10.5.0.0/16"]);
    let wrong = |subnets: Vec<Subnet>| refused(record::create(&store, New { subnets, ..New::named("b") }));
    assert_eq!(
        wrong(vec![subnet("10.5.1.0/24")]),
        "invalid pool request: Pool overlaps with other one on this address space"
    );
    assert_eq!(
        wrong(vec![subnet("10.6.0.1/16")]),
        "invalid network config: invalid subnet 10.6.0.1/16: it should be 10.6.0.0/16"
    );
    assert_eq!(
        wrong(vec![subnet("10.6.0.0/16"), subnet("10.7.0.0/16")]),
        "bridge driver doesn't support multiple subnets"
    );
    let outside = Subnet { gateway: Some("10.7.0.1".parse().unwrap()), ..subnet("10.6.0.0/16") };
    assert_eq!(
        wrong(vec![outside]),
        "invalid network config: invalid gateway 10.7.0.1: parent subnet 10.6.0.0/16 doesn't contain this address"
    );
    // Not the default network's: that is another one where this machine has the usual one already.
    let options: std::collections::BTreeMap<String, String> =
        [("com.docker.network.bridge.name".to_owned(), "twice0".to_owned())].into();
    record::create(&store, New { options: options.clone(), ..New::named("first") }).unwrap();
    let twice = refused(record::create(&store, New { options, ..New::named("b") }));
    assert!(twice.ends_with("(first): networks have same bridge name"), "{twice}");
}

#[test]
fn addresses_are_given_out_from_the_lowest() {
    let Home { store, _dir } = home();
    let range = Subnet {
        range: Some("10.9.0.128/25".parse().unwrap()),
        auxiliary: [("printer".to_owned(), "10.9.0.129".parse().unwrap())].into(),
        ..subnet("10.9.0.0/24")
    };
    let net = record::create(&store, New { subnets: vec![range], ..New::named("n") }).unwrap();
    let (a, _a) = running(&store);
    let (b, _b) = running(&store);
    let member = join(&store, &net, &a, &any()).unwrap();
    assert_eq!(member.ipv4, Some(Ipv4Addr::new(10, 9, 0, 128)));
    assert_eq!(member.mac, [0x02, 0x42, 10, 9, 0, 128]);
    assert_eq!((member.interface.as_str(), member.port.len()), ("eth0", 15));
    assert_eq!(join(&store, &net, &b, &any()).unwrap().ipv4, Some(Ipv4Addr::new(10, 9, 0, 130)));
    // Whoever comes again has nobody before it.
    assert_eq!(join(&store, &net, &a, &any()).unwrap().ipv4, Some(Ipv4Addr::new(10, 9, 0, 128)));

    let at = |address: &str| Endpoint { ipv4_address: Some(address.parse().unwrap()), ..any() };
    assert_eq!(join(&store, &net, &a, &at("10.9.0.7")).unwrap().ipv4, Some(Ipv4Addr::new(10, 9, 0, 7)));
    for taken in ["10.9.0.130", "10.9.0.1", "10.9.0.129", "10.9.0.255", "10.9.0.0"] {
        assert_eq!(refused(join(&store, &net, &a, &at(taken))), "Address already in use", "{taken}");
    }
    let outside = "no configured subnet or ip-range contain the IP address 10.8.0.7";
    assert_eq!(refused(join(&store, &net, &a, &at("10.8.0.7"))), outside);
    let six = Endpoint { ipv6_address: Some("fd00::7".parse().unwrap()), ..any() };
    assert!(refused(join(&store, &net, &a, &six)).ends_with("the IP address fd00::7"));

    let other = network(&store, "other", &["fd00:5::/64"]);
    let member = join(&store, &other, &a, &any()).unwrap();
    assert_eq!((member.interface.as_str(), member.ipv6.unwrap().to_string().as_str()), ("eth1", "fd00:5::2"));
    member::rename(&store, &a, "new").unwrap();
    let all = member::of_container(&store, &a).unwrap();
    let shown: Vec<_> = all.iter().map(|(net, m)| (net.name.as_str(), m.interface.as_str(), m.name.as_str())).collect();
    assert_eq!(shown, [("n", "eth0", "new"), ("other", "eth1", "new")]);
    member::leave_all(&store, &a).unwrap();
    assert!(member::of_container(&store, &a).unwrap().is_empty());
}

#[test]
fn what_the_dead_have_is_given_anew_when_it_is_needed() {
    let Home { store, _dir } = home();
    // Room for five beside the gateway.
    let net = network(&store, "n", &["10.9.0.0/29"]);
    let held: Vec<(Id, Lock)> = (0..5).map(|_| running(&store)).collect();
    for (id, _) in &held {
        join(&store, &net, id, &any()).unwrap();
    }
    let (late, lock_of_late) = running(&store);
    let full = refused(join(&store, &net, &late, &any()));
    assert_eq!(full, format!("no available IPv4 addresses on this network's address pools: n ({})", net.id));
    let in_use = refused(record::remove(&store, &net.id, |_| panic!("taken down while in use")));
    assert!(in_use.starts_with(&format!("error while removing network: network n id {} has active", net.id)));

    let mut held = held.into_iter();
    let (dead, lock) = held.next().unwrap();
    drop(lock);
    let address = member::one(&store, &net.id, &dead).unwrap().unwrap().ipv4;
    assert_eq!(join(&store, &net, &late, &any()).unwrap().ipv4, address);
    assert_eq!(member::one(&store, &net.id, &dead).unwrap(), None);

    // An address that is asked for, of one that died.
    let (dead, lock) = held.next().unwrap();
    drop(lock);
    let ipv4_address = member::one(&store, &net.id, &dead).unwrap().unwrap().ipv4;
    assert_eq!(join(&store, &net, &late, &Endpoint { ipv4_address, ..any() }).unwrap().ipv4, ipv4_address);
    drop((held, lock_of_late));
    record::remove(&store, &net.id, |_| Ok(())).unwrap();
}

#[test]
fn a_hundred_join_at_once() {
    let Home { store, _dir } = home();
    let net = network(&store, "n", &["10.9.0.0/24"]);
    let began = std::time::Instant::now();
    let members: Vec<(Member, Lock)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..100)
            .map(|_| {
                scope.spawn(|| {
                    let (id, lock) = running(&store);
                    (join(&store, &net, &id, &any()).unwrap(), lock)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    let addresses: HashSet<_> = members.iter().map(|(member, _)| member.ipv4.unwrap()).collect();
    let highest = addresses.iter().max().copied();
    assert_eq!((addresses.len(), highest), (100, Some(Ipv4Addr::new(10, 9, 0, 101))));
    assert_eq!(members.iter().map(|(member, _)| &member.port).collect::<HashSet<_>>().len(), 100);
}

#[test]
fn networks_made_at_once_have_names_and_subnets_of_their_own() {
    let Home { store, _dir } = home();
    let made: Vec<Network> = std::thread::scope(|scope| {
        let make = |n: usize| {
            let store = &store;
            scope.spawn(move || record::create(store, New::named(format!("n{}", n / 2))))
        };
        let threads: Vec<_> = (0..20).map(make).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect()
    });
    let names: HashSet<_> = made.iter().map(|network| network.name.clone()).collect();
    let subnets: HashSet<_> = made.iter().map(|network| network.subnets[0].subnet).collect();
    assert_eq!((made.len(), names.len(), subnets.len()), (10, 10, 10));
    assert_eq!(record::list(&store).unwrap().iter().filter(|n| n.driver == Driver::Bridge).count(), 11);
}
