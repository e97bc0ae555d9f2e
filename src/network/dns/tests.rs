//! The resolver over real sockets: the container's network namespace is a fresh one, and so is the
//! host's where a test has a server in it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use super::message::tests::{ask, told};
use super::message::{A, AAAA, ANY, PTR};
use super::*;
use crate::container::state::ALIVE;
use crate::network::member::Member;
use crate::store::Lock;
use crate::store::record::{self, Durability};

const MX: u16 = 15;

/// A store with one network, and a resolver in a thread of its own.
struct Bed {
    home: TempDir,
    store: Store,
    network: Id,
    other: Id,
    /// Of the container's namespace.
    netns: File,
    at: SocketAddr,
    stop: Arc<AtomicBool>,
    resolver: Option<JoinHandle<Resolver>>,
    /// What the members' monitors hold.
    alive: Mutex<HashMap<Id, Lock>>,
}

fn id(digit: char) -> Id {
    std::iter::repeat_n(digit, 64).collect::<String>().parse().expect("an id")
}

/// Whether namespaces can be made here.
fn can_run() -> bool {
    let can = nix::unistd::geteuid().is_root();
    if !can {
        assert!(std::env::var_os("CTR_MUST_RUN").is_none(), "cannot run: network namespaces need root");
        #[allow(clippy::print_stderr, reason = "a test that did not run says so")]
        let () = eprintln!("skipped: network namespaces need root");
    }
    can
}

/// A fresh namespace with its loopback up, as a descriptor.
fn fresh_netns() -> File {
    thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("unshare");
        let done = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip");
        assert!(done.success());
        File::open("/proc/thread-self/ns/net").expect("own namespace")
    })
    .join()
    .expect("thread")
}

fn inside<T: Send>(netns: &File, body: impl FnOnce() -> T + Send) -> T {
    crate::sys::netns::inside(netns.as_fd(), body).expect("setns")
}

impl Bed {
    /// `change`: what of the view is not as usual.
    fn new(change: impl FnOnce(&mut View)) -> Self {
        let home = tempfile::tempdir().expect("temporary directory");
        let store = Store::at(home.path().to_owned(), home.path().join("run"));
        let (network, other) = (id('a'), id('b'));
        let joined = |id: &Id, name: &str, links_only| Joined {
            id: id.clone(),
            name: name.to_owned(),
            links_only,
            internal: false,
        };
        let mut view = View {
            store: store.clone(),
            networks: vec![joined(&network, "Front.Net", false), joined(&other, "bridge", true)],
            links: vec![("db".to_owned(), "Postgres".to_owned())],
            container: id('f'),
            servers: Vec::new(),
            options: Vec::new(),
            gateways: vec![IpAddr::from([10, 1, 0, 1])],
        };
        change(&mut view);
        let netns = fresh_netns();
        let mut bed = Self {
            home,
            store,
            network,
            other,
            at: SocketAddr::from((ADDRESS, 53)),
            stop: Arc::default(),
            resolver: None,
            netns,
            alive: Mutex::default(),
        };
        let resolver = Resolver::open(bed.netns.as_fd(), view).expect("open");
        let stop = bed.stop.clone();
        bed.resolver = Some(thread::spawn(move || serve(resolver, &stop)));
        bed
    }

    fn join(&self, network: &Id, container: &Id, name: &str, aliases: &[&str], addresses: &[&str]) {
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().expect("an address")).collect();
        let member = Member {
            container: container.clone(),
            name: name.to_owned(),
            aliases: aliases.iter().map(|&a| a.to_owned()).collect(),
            endpoint: id('e'),
            interface: "eth0".into(),
            port: String::new(),
            mac: [2; 6],
            ipv4: addresses.iter().find_map(|a| if let IpAddr::V4(a) = a { Some(*a) } else { None }),
            ipv6: addresses.iter().find_map(|a| if let IpAddr::V6(a) = a { Some(*a) } else { None }),
            rate: crate::network::Rate::default(),
            published: Vec::new(),
            link_local: Vec::new(),
            links: if *container == id('f') { vec!["web:mine".into()] } else { Vec::new() },
            driver_opts: std::collections::BTreeMap::default(),
            gw_priority: 0,
        };
        let alive = self.store.container(container);
        fs::create_dir_all(&alive).expect("directory");
        fs::write(alive.join(ALIVE), "").expect("write");
        let lock = || Lock::exclusive(&alive.join(ALIVE)).expect("lock");
        self.alive.lock().expect("no panic").entry(container.clone()).or_insert_with(lock);
        let directory = self.store.root().join("networks").join(network.as_str()).join("members");
        fs::create_dir_all(&directory).expect("directory");
        record::write(&directory.join(format!("{container}.json")), &member, Durability::Unsynced).expect("write");
    }

    /// A client's socket in the container.
    fn client(&self) -> UdpSocket {
        let client = inside(&self.netns, || UdpSocket::bind("127.0.0.1:0")).expect("bind");
        client.set_read_timeout(Some(Duration::from_secs(8))).expect("timeout");
        client.connect(self.at).expect("connect");
        client
    }

    fn say(&self, packet: &[u8]) -> Vec<u8> {
        let client = self.client();
        client.send(packet).expect("send");
        let mut reply = vec![0; 65536];
        let length = client.recv(&mut reply).expect("an answer");
        reply[..length].to_vec()
    }

    /// Return code and the data of the answers.
    fn ask(&self, name: &str, kind: u16) -> (u16, Vec<Vec<u8>>) {
        let reply = self.say(&ask(77, name, kind, None));
        assert_eq!(reply[..2], 77u16.to_be_bytes());
        let (code, _, data) = told(&reply);
        (code, data)
    }

    fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let mut found: Vec<IpAddr> = Vec::new();
        for kind in [A, AAAA] {
            let (code, data) = self.ask(name, kind);
            assert_eq!(code, 0, "{name}");
            found.extend(data.into_iter().map(|bytes| match <[u8; 4]>::try_from(&bytes[..]) {
                Ok(four) => IpAddr::from(four),
                Err(_) => IpAddr::from(<[u8; 16]>::try_from(&bytes[..]).expect("16 bytes")),
            }));
        }
        found
    }

    fn connect(&self) -> TcpStream {
        let stream = inside(&self.netns, || TcpStream::connect(self.at)).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
        stream
    }

    fn end(mut self) -> Resolver {
        self.stop.store(true, Ordering::SeqCst);
        self.resolver.take().expect("there").join().expect("resolver")
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(resolver) = self.resolver.take() {
            let _ = resolver.join();
        }
        assert!(self.home.path().exists());
    }
}

/// The monitor's loop, as far as it concerns names.
fn serve(mut resolver: Resolver, stop: &AtomicBool) -> Resolver {
    while !stop.load(Ordering::SeqCst) {
        turn(&mut resolver);
    }
    resolver
}

fn turn(resolver: &mut Resolver) {
    let (tokens, mut polls): (Vec<_>, Vec<_>) =
        resolver.descriptors().map(|(token, fd, events)| (token, PollFd::new(fd, events))).unzip();
    poll(&mut polls, PollTimeout::from(20u8)).expect("poll");
    let ready: Vec<_> = tokens
        .into_iter()
        .zip(&polls)
        .filter(|(_, poll)| poll.revents().is_some_and(|events| !events.is_empty()))
        .map(|(token, _)| token)
        .collect();
    for token in ready {
        resolver.ready(token);
    }
    resolver.expire(Instant::now());
}

fn send(stream: &mut TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).expect("short");
    stream.write_all(&[&length.to_be_bytes(), message].concat()).expect("send");
}

fn receive(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// A server in the container's namespace, which `--dns` can reach. `answer` is given each question;
/// it may say nothing.
fn server(bed: &Bed, address: &str, answer: fn(&[u8], bool) -> Option<Vec<u8>>) -> Arc<AtomicUsize> {
    let asked = Arc::new(AtomicUsize::new(0));
    let (udp, tcp) = inside(&bed.netns, || (UdpSocket::bind(address), TcpListener::bind(address)));
    let (udp, tcp) = (udp.expect("bind"), tcp.expect("bind"));
    let (stop, count) = (bed.stop.clone(), asked.clone());
    udp.set_read_timeout(Some(Duration::from_millis(50))).expect("timeout");
    thread::spawn(move || {
        let mut packet = vec![0; 65536];
        while !stop.load(Ordering::SeqCst) {
            let Ok((length, client)) = udp.recv_from(&mut packet) else { continue };
            count.fetch_add(1, Ordering::SeqCst);
            if let Some(reply) = answer(&packet[..length], false) {
                udp.send_to(&reply, client).expect("send");
            }
        }
    });
    thread::spawn(move || {
        while let Ok((mut stream, _)) = tcp.accept() {
            while let Ok(question) = receive(&mut stream) {
                match answer(&question, true) {
                    Some(reply) => send(&mut stream, &reply),
                    None => break,
                }
            }
        }
    });
    asked
}

/// 192.0.2.1, to whatever is asked.
#[allow(clippy::unnecessary_wraps, reason = "one of several servers, some of which say nothing")]
fn good(question: &[u8], _: bool) -> Option<Vec<u8>> {
    Some(Query::parse(question).expect("a question").answer(&[message::Data::Address([192, 0, 2, 1].into())], 512))
}

fn with_servers(addresses: &[&str]) -> impl FnOnce(&mut View) {
    let addresses = addresses.iter().map(|a| a.parse().expect("an address")).collect();
    move |view| view.servers = addresses
}

#[test]
fn containers_are_found_by_all_their_names() {
    if !can_run() {
        return;
    }
    let bed = Bed::new(|_| ());
    let (web, api) = (id('1'), id('2'));
    bed.join(&bed.network, &web, "Web_1", &["www", "Service"], &["10.1.0.2", "fd00::2"]);
    bed.join(&bed.network, &api, "api", &["service"], &["10.1.0.3"]);
    let both: Vec<IpAddr> = vec!["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
    for name in ["web_1", "WEB_1", "www", web.short(), "web_1.front.net", "WWW.Front.Net"] {
        assert_eq!(bed.addresses(name), both, "{name}");
    }
    // Port 53 of all addresses is still free for a process of the container.
    inside(&bed.netns, || {
        let server = UdpSocket::bind("0.0.0.0:53").expect("port 53");
        TcpListener::bind("0.0.0.0:53").expect("port 53");
        assert_eq!(bed.addresses("api"), [IpAddr::from([10, 1, 0, 3])]);
        drop(server);
    });
    // No IPv6: the name is there all the same. Nor any mail.
    assert_eq!(bed.ask("api", AAAA), (0, vec![]));
    assert_eq!(bed.ask("api", MX), (0, vec![]));
    assert_eq!(bed.ask("web_1", ANY).1.len(), 2);
    // All that have it, another one first each time.
    let first: Vec<_> = (0..4).map(|_| (bed.addresses("service")[0], bed.addresses("service").len())).collect();
    assert!(first.iter().all(|(_, count)| *count == 3));
    let replies: std::collections::HashSet<_> = (0..4).map(|_| bed.ask("service", A).1[0].clone()).collect();
    assert_eq!(replies.len(), 2);
    assert_eq!(bed.ask("2.0.1.10.in-addr.arpa", PTR).1, [b"\x05Web_1\x05Front\x03Net\0"]);
    assert_eq!(bed.ask(&format!("2{}.0.0.d.f.ip6.arpa", ".0".repeat(27)), PTR).1.len(), 1);
    for host in names::HOST {
        assert_eq!(bed.addresses(host), [IpAddr::from([10, 1, 0, 1])]);
    }
}

#[test]
fn who_comes_and_goes_is_noticed_at_once() {
    if !can_run() {
        return;
    }
    let bed = Bed::new(with_servers(&["127.0.0.9"]));
    for round in 0..40u8 {
        let name = format!("c{round}");
        let container = id(char::from(b"0123456789"[usize::from(round % 10)]));
        bed.join(&bed.network, &container, &name, &[], &[&format!("10.1.0.{round}")]);
        assert_eq!(bed.addresses(&name), [IpAddr::from([10, 1, 0, round])]);
    }
    let gone = bed.store.root().join("networks").join(bed.network.as_str()).join("members");
    fs::remove_file(gone.join(format!("{}.json", id('9')))).unwrap();
    // Nobody else knows it, and nobody else is there to ask.
    assert_eq!(bed.ask("c39", A).0, 2);
    // Its monitor was killed, and the record is still there.
    assert_eq!(bed.ask("c38", A).0, 0);
    bed.alive.lock().unwrap().remove(&id('8'));
    assert_eq!((bed.ask("c38", A).0, bed.ask("38.0.1.10.in-addr.arpa", PTR).0), (2, 2));
}

#[test]
fn the_default_network_has_links_alone() {
    if !can_run() {
        return;
    }
    let bed = Bed::new(with_servers(&["127.0.0.9"]));
    bed.join(&bed.other, &id('4'), "postgres", &["pg"], &["172.17.0.4"]);
    assert_eq!(bed.addresses("DB"), [IpAddr::from([172, 17, 0, 4])]);
    assert_eq!(bed.ask("4.0.17.172.in-addr.arpa", PTR).1, [b"\x02db\0"]);
    // And those of one network, which the container's record there has.
    bed.join(&bed.network, &id('f'), "asker", &[], &["10.1.0.2"]);
    bed.join(&bed.network, &id('5'), "web", &[], &["10.1.0.5"]);
    assert_eq!(bed.addresses("mine"), [IpAddr::from([10, 1, 0, 5])]);
    for name in ["postgres", "pg", "postgres.bridge", id('4').short()] {
        assert_eq!(bed.ask(name, A).0, 2, "{name}");
    }
}

#[test]
fn the_rest_is_asked_of_servers() {
    if !can_run() {
        return;
    }
    let bed = Bed::new(with_servers(&["127.0.0.3", "127.0.0.4"]));
    let refuses =
        server(&bed, "127.0.0.3:53", |q, _| Some(Query::parse(q).expect("a question").refuse(Rcode::Refused)));
    let knows = server(&bed, "127.0.0.4:53", good);
    assert_eq!(bed.ask("example.org", A), (0, vec![vec![192, 0, 2, 1]]));
    assert_eq!((refuses.load(Ordering::SeqCst), knows.load(Ordering::SeqCst)), (1, 1));
    // Over TCP, two questions at once on one connection.
    let mut stream = bed.connect();
    send(&mut stream, &ask(5, "example.org", A, None));
    send(&mut stream, &ask(6, "host.docker.internal", A, None));
    for (id, address) in [(5u16, vec![192, 0, 2, 1]), (6, vec![10, 1, 0, 1])] {
        let reply = receive(&mut stream).expect("an answer");
        assert_eq!((&reply[..2], told(&reply).2), (&id.to_be_bytes()[..], vec![address]));
    }
}

#[test]
fn a_silent_server_is_passed_over_and_silence_has_an_end() {
    if !can_run() {
        return;
    }
    let bed = Bed::new(|view| {
        with_servers(&["127.0.0.3", "127.0.0.4"])(view);
        view.options = vec!["timeout:2".into(), "attempts:1".into()];
    });
    server(&bed, "127.0.0.3:53", |_, _| None);
    let second = server(&bed, "127.0.0.4:53", |question, _| {
        Query::parse(question).is_ok_and(|q| q.name.as_deref() == Some("yes")).then(|| good(question, false)).flatten()
    });
    let start = Instant::now();
    assert_eq!(bed.ask("yes", A).0, 0);
    // Not after the five seconds that are usual.
    assert!((2000..4900).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    // A client that asks again is not passed on again.
    let start = Instant::now();
    let client = bed.client();
    let before = second.load(Ordering::SeqCst);
    for _ in 0..5 {
        client.send(&ask(9, "no", A, None)).expect("send");
    }
    let mut reply = [0; 512];
    let length = client.recv(&mut reply).expect("an answer");
    assert_eq!((told(&reply[..length]).0, second.load(Ordering::SeqCst)), (2, before + 1));
    assert!((3900..7900).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}

#[test]
fn forged_and_oversized_answers() {
    if !can_run() {
        return;
    }
    let bed = Bed::new(|view| {
        with_servers(&["127.0.0.3"])(view);
        view.options = vec!["timeout:3".into(), "attempts:1".into()];
    });
    server(&bed, "127.0.0.3:53", |question, over_tcp| {
        let query = Query::parse(question).expect("a question");
        let many: Vec<_> = (0..100).map(|n| message::Data::Address([192, 0, 2, n].into())).collect();
        match query.name.as_deref() {
            // Not our number.
            Some("forged") => {
                let mut reply = query.answer(&many[..1], 512);
                reply[0] ^= 1;
                Some(reply)
            }
            // More than was offered, or than may be.
            Some("rude") => Some(query.answer(&many, 65535)),
            Some("huge") => Some(vec![0; 20_000]),
            _ if over_tcp => Some(query.answer(&many, 65535)),
            _ => Some(query.truncated()),
        }
    });
    assert_eq!(bed.ask("forged", A).0, 2);
    assert_eq!(bed.ask("huge", A).0, 2);
    for (edns, cut) in [(None, true), (Some(1232), true), (Some(4096), false)] {
        let reply = bed.say(&ask(1, "rude", A, edns));
        assert_eq!((told(&reply).1, told(&reply).2.len()), (cut, if cut { 0 } else { 100 }), "{edns:?}");
    }
    assert!(told(&bed.say(&ask(1, "long", A, None))).1);
    let mut stream = bed.connect();
    send(&mut stream, &ask(1, "long", A, None));
    assert_eq!(told(&receive(&mut stream).expect("an answer")).2.len(), 100);
}

#[test]
fn an_internal_network_asks_nobody_outside() {
    if !can_run() {
        return;
    }
    let bed = Bed::new(|view| view.networks.iter_mut().for_each(|network| network.internal = true));
    bed.join(&bed.network, &id('1'), "web", &[], &["10.1.0.2"]);
    assert_eq!(bed.addresses("web").len(), 1);
    assert_eq!(bed.ask("example.org", A).0, 5);
}

#[test]
fn a_flood_is_answered_and_leaves_nothing() {
    if !can_run() {
        return;
    }
    let bed = Bed::new(|view| {
        with_servers(&["127.0.0.3"])(view);
        view.options = vec!["timeout:2".into(), "attempts:1".into()];
    });
    server(&bed, "127.0.0.3:53", |_, _| None);
    let clients: Vec<UdpSocket> = (0..4).map(|_| bed.client()).collect();
    let mut failed = 0;
    let mut seed = 7u32;
    for round in 0..2000u16 {
        let client = &clients[usize::from(round % 4)];
        client.send(&ask(round, "x.example", A, None)).expect("send");
        // And what is no question at all.
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        client.send(&seed.to_be_bytes().repeat(usize::from(round % 9))).expect("send");
        if round % 32 == 0 {
            // What the kernel has no room for is lost: an answer says that all before it was taken.
            assert_eq!(bed.ask("host.docker.internal", A).0, 0);
        }
    }
    let silence = [3000, 100, 100, 100].map(Duration::from_millis);
    for (client, silence) in clients.iter().zip(silence) {
        client.set_read_timeout(Some(silence)).expect("timeout");
        let mut reply = [0; 512];
        while let Ok(length) = client.recv(&mut reply) {
            failed += usize::from(told(&reply[..length]).0 == 2);
        }
    }
    assert!(failed > MOST_QUESTIONS, "{failed}");
    // Silent connections: more than there may be, and a new one has its turn when they expire.
    let start = Instant::now();
    let silent: Vec<TcpStream> = (0..stream::MOST_CLIENTS).map(|_| bed.connect()).collect();
    let mut late = bed.connect();
    send(&mut late, &ask(1, "host.docker.internal", A, None));
    assert_eq!(told(&receive(&mut late).expect("an answer")).2.len(), 1);
    assert!((9..20).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    drop((silent, late));
    let mut resolver = bed.end();
    let gone = Instant::now() + Duration::from_secs(5);
    while !resolver.clients.is_empty() && Instant::now() < gone {
        turn(&mut resolver);
    }
    assert_eq!((resolver.questions.len(), resolver.clients.len()), (0, 0));
    resolver.rest();
    assert_eq!((resolver.buffer.capacity(), resolver.questions.capacity()), (0, 0));
}

#[test]
fn the_host_is_asked_from_its_own_namespace() {
    if !can_run() {
        return;
    }
    // This thread is the monitor, and its namespace the host's.
    let host = fresh_netns();
    inside(&host, || {
        let server = UdpSocket::bind("127.0.0.53:53").expect("bind");
        let container = fresh_netns();
        let home = tempfile::tempdir().expect("temporary directory");
        let view = View {
            store: Store::at(home.path().to_owned(), home.path().join("run")),
            networks: vec![Joined { id: id('a'), name: "n".into(), links_only: false, internal: false }],
            container: id('f'),
            links: Vec::new(),
            servers: Vec::new(),
            options: Vec::new(),
            gateways: Vec::new(),
        };
        let mut resolver = Resolver::open(container.as_fd(), view).expect("open");
        let path = home.path().join("resolv.conf");
        fs::write(&path, "nameserver 127.0.0.53\n").expect("write");
        resolver.host = Host::at(path, "/none".into());
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| serve(resolver, &stop));
            let client = inside(&container, || UdpSocket::bind("127.0.0.1:0")).expect("bind");
            client.connect((ADDRESS, 53)).expect("connect");
            client.send(&ask(3, "example.org", A, None)).expect("send");
            let mut packet = [0; 512];
            let (length, from) = server.recv_from(&mut packet).expect("a question");
            server.send_to(&good(&packet[..length], false).expect("an answer"), from).expect("send");
            let length = client.recv(&mut packet).expect("an answer");
            assert_eq!(told(&packet[..length]).2, [[192, 0, 2, 1]]);
            stop.store(true, Ordering::SeqCst);
        });
    });
}
