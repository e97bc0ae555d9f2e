//! What must be so.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use ctr::network::uplink::Registration;
use ctr::store::Id;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bed::{BRIDGE, Bed, CONTAINER, CONTAINER6, HOST, HOST6, MACHINE, ip, publish, until};

type Case = (&'static str, fn(&Bed));

pub const ALL: &[Case] = &[
    ("bytes_arrive_whole_and_ends_are_passed_on", whole),
    ("a_container_sees_why_there_is_no_connection", truth),
    ("a_reset_is_passed_on_in_both_directions", resets),
    ("urgent_bytes_stay_in_their_place", urgent),
    ("the_host_s_loopback_is_for_those_who_asked", loopback),
    ("who_is_not_registered_gets_nothing", unregistered),
    ("a_published_port_shows_the_client", client_is_seen),
    ("a_published_port_without_a_way_back_shows_the_bridge", bridge_is_seen),
    ("a_published_port_of_the_other_family", other_family),
    ("a_port_that_nobody_serves_resets", nobody_serves),
    ("an_unpublished_port_is_the_monitor_s_again", unpublished),
    ("many_connections_at_once", many),
    ("nobody_answers_a_port_scan", scan),
    ("what_was_sent_arrives_after_the_container_has_left", last_words),
    ("a_slow_reader_gets_what_was_sent_too", slowly),
    ("a_killed_uplink_is_made_anew", killed),
    ("one_uplink_for_many", shared),
    ("one_after_the_other", in_turn),
];

const LONG: usize = 20 << 20;

/// Bytes that are different everywhere.
fn bytes(length: usize) -> Vec<u8> {
    (0u64..).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).take(length).collect()
}

/// Reads all, then answers the same.
fn echo_at_end(listener: TcpListener) -> thread::JoinHandle<SocketAddr> {
    thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
        peer
    })
}

fn ask(address: impl Into<SocketAddr>, length: usize) {
    let mut stream = TcpStream::connect(address.into()).unwrap();
    let sent = bytes(length);
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got == sent, "{} bytes came of {length}", got.len());
}

fn whole(bed: &Bed) {
    let _uplink = bed.uplink(false);
    for host in [HOST, HOST6] {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = echo_at_end(listener);
        bed.in_container(|| ask(address, LONG));
        // To the destination it is the host that connects.
        assert_eq!(server.join().unwrap().ip(), address.ip());
        // The other end first.
        let listener = TcpListener::bind((host, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || listener.accept().unwrap().0.write_all(b"bye").unwrap());
        let said = bed.in_container(|| {
            let mut text = String::new();
            TcpStream::connect(address).unwrap().read_to_string(&mut text).unwrap();
            text
        });
        assert_eq!(said, "bye");
        server.join().unwrap();
    }
}

fn truth(bed: &Bed) {
    let _uplink = bed.uplink(false);
    let why = |address: &str| {
        let address: SocketAddr = address.parse().unwrap();
        bed.in_container(|| TcpStream::connect(address)).unwrap_err().kind()
    };
    assert_eq!(why(&format!("{HOST}:1")), ErrorKind::ConnectionRefused);
    assert_eq!(why(&format!("[{HOST6}]:1")), ErrorKind::ConnectionRefused);
    // The host has no route there.
    assert_eq!(why("192.0.2.1:80"), ErrorKind::NetworkUnreachable);
    assert_eq!(why("[2001:db8:2::1]:80"), ErrorKind::NetworkUnreachable);
    // Nobody answers on the wire: the host knows after three seconds.
    let begun = Instant::now();
    assert_eq!(why("203.0.113.77:80"), ErrorKind::HostUnreachable);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

fn resets(bed: &Bed) {
    let _uplink = bed.uplink(false);
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    for container_resets in [true, false] {
        let ours = bed.in_container(|| TcpStream::connect(address).unwrap());
        let theirs = listener.accept().unwrap().0;
        let (reset, mut told) = if container_resets { (ours, theirs) } else { (theirs, ours) };
        nix::sys::socket::setsockopt(
            &reset,
            nix::sys::socket::sockopt::Linger,
            &nix::libc::linger { l_onoff: 1, l_linger: 0 },
        )
        .unwrap();
        drop(reset);
        assert_eq!(told.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

fn urgent(bed: &Bed) {
    let _uplink = bed.uplink(false);
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let stream = bed.in_container(|| TcpStream::connect(address).unwrap());
    let mut theirs = listener.accept().unwrap().0;
    let flags = nix::sys::socket::MsgFlags::MSG_OOB;
    for round in 0..50u8 {
        (&stream).write_all(&[round]).unwrap();
        nix::sys::socket::send(std::os::fd::AsRawFd::as_raw_fd(&stream), &[100 + round], flags).unwrap();
    }
    (&stream).write_all(b"end").unwrap();
    drop(stream);
    let mut got = Vec::new();
    theirs.read_to_end(&mut got).unwrap();
    let sent: Vec<u8> = (0..50).flat_map(|round| [round, 100 + round]).chain(*b"end").collect();
    assert_eq!(got, sent);
}

fn loopback(bed: &Bed) {
    let private = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = private.local_addr().unwrap().port();
    let try_it = |address: &str| bed.in_container(|| TcpStream::connect((address, port)).map(drop));
    let mut uplink = bed.uplink(false);
    for address in ["127.0.0.1", "169.254.1.2", HOST] {
        assert_eq!(try_it(address).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{address}");
    }
    // What listens outside is reached by the host's name.
    let public = TcpListener::bind((HOST, 0)).unwrap();
    let public = public.local_addr().unwrap().port();
    bed.in_container(|| TcpStream::connect(("169.254.1.2", public)).unwrap());
    let addresses = vec![CONTAINER.parse().unwrap()];
    uplink.register(&Registration { container: Id::random().unwrap(), addresses, host_loopback: true }).unwrap();
    try_it("169.254.1.2").unwrap();
}

fn unregistered(bed: &Bed) {
    let mut uplink = bed.uplink(false);
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let mut stream = bed.in_container(|| TcpStream::connect(address).unwrap());
    let addresses = vec!["10.77.0.3".parse().unwrap()];
    uplink.register(&Registration { container: Id::random().unwrap(), addresses, host_loopback: false }).unwrap();
    // What it had is cut, and it gets nothing new.
    assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let again = bed.in_container(|| TcpStream::connect(address));
    assert_eq!(again.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

fn serve(bed: &Bed, address: &str) -> TcpListener {
    bed.in_container(|| TcpListener::bind((address, 80)).unwrap())
}

fn client_is_seen(bed: &Bed) {
    let mut uplink = bed.uplink(false);
    for (host, container, machine) in [(HOST, CONTAINER, MACHINE), (HOST6, CONTAINER6, "2001:db8:1::2")] {
        let listener = serve(bed, container);
        let target = SocketAddr::new(container.parse().unwrap(), 80).to_string();
        let bound = SocketAddr::new(host.parse().unwrap(), 0).to_string();
        let (_port, address, _) = publish(&mut uplink, &bound, &target, true);
        let server = echo_at_end(listener.try_clone().unwrap());
        bed.on_machine(|| ask(address, LONG));
        assert_eq!(server.join().unwrap().ip().to_string(), machine);
        // The same port of the client's, at two ports that lead to the same one.
        let (_other, second, _) = publish(&mut uplink, &bound, &target, true);
        let from = SocketAddr::new(machine.parse().unwrap(), 40_000);
        let clients = bed.on_machine(|| [address, second].map(|to| connect_from(from, to)));
        let peers = [listener.accept().unwrap().1, listener.accept().unwrap().1];
        assert!(peers.iter().all(|peer| peer.ip().to_string() == machine), "{peers:?}");
        assert!(peers[0] != peers[1] && peers.contains(&from), "{peers:?}");
        drop(clients);
        // From the host itself.
        let _client = TcpStream::connect(address).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip().to_string(), host);
    }
}

fn connect_from(from: SocketAddr, to: SocketAddr) -> std::os::fd::OwnedFd {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
    };
    use std::os::fd::AsRawFd;
    let family = if from.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&fd, sockopt::ReuseAddr, &true).unwrap();
    bind(fd.as_raw_fd(), &SockaddrStorage::from(from)).unwrap();
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
    fd
}

fn bridge_is_seen(bed: &Bed) {
    let mut uplink = bed.uplink(false);
    let listener = serve(bed, CONTAINER);
    let target = format!("{CONTAINER}:80");
    let (_first, asked, _) = publish(&mut uplink, &format!("{HOST}:0"), &target, false);
    let (_second, local, _) = publish(&mut uplink, "127.0.0.1:0", &target, true);
    bed.on_machine(|| drop(TcpStream::connect(asked).unwrap()));
    assert_eq!(listener.accept().unwrap().1.ip().to_string(), BRIDGE);
    drop(TcpStream::connect(local).unwrap());
    assert_eq!(listener.accept().unwrap().1.ip().to_string(), BRIDGE);
}

fn other_family(bed: &Bed) {
    let mut uplink = bed.uplink(false);
    let listener = serve(bed, CONTAINER);
    for host in ["[::1]:0", "[::]:0"] {
        let (_port, mut address, _) = publish(&mut uplink, host, &format!("{CONTAINER}:80"), true);
        let server = echo_at_end(listener.try_clone().unwrap());
        if address.ip().is_unspecified() {
            address.set_ip(HOST6.parse().unwrap());
            bed.on_machine(|| ask(address, 1 << 20));
        } else {
            ask(address, 1 << 20);
        }
        assert_eq!(server.join().unwrap().ip().to_string(), BRIDGE);
    }
}

fn nobody_serves(bed: &Bed) {
    let mut uplink = bed.uplink(false);
    let (_port, address, _) = publish(&mut uplink, "127.0.0.1:0", &format!("{CONTAINER}:81"), true);
    let mut stream = TcpStream::connect(address).unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

fn unpublished(bed: &Bed) {
    let mut uplink = bed.uplink(false);
    let served = serve(bed, CONTAINER);
    let (listener, address, published) = publish(&mut uplink, "127.0.0.1:0", &format!("{CONTAINER}:80"), true);
    let mut there = TcpStream::connect(address).unwrap();
    let mut inside = served.accept().unwrap().0;
    uplink.unpublish(&[published]).unwrap();
    // A connection that is there goes on.
    there.write_all(b"still").unwrap();
    let mut got = [0; 5];
    inside.read_exact(&mut got).unwrap();
    drop(listener);
    until("the port is free", || TcpListener::bind(address).is_ok());
}

fn many(bed: &Bed) {
    const COUNT: usize = 400;
    let mut uplink = bed.uplink(false);
    let served = serve(bed, CONTAINER);
    let (_port, published, _) = publish(&mut uplink, "127.0.0.1:0", &format!("{CONTAINER}:80"), true);
    let outside = TcpListener::bind((HOST, 0)).unwrap();
    let address = outside.local_addr().unwrap();
    for (listener, out) in [(served, false), (outside, true)] {
        let server = thread::spawn(move || {
            let streams: Vec<_> = (0..COUNT).map(|_| listener.accept().unwrap().0).collect();
            for mut stream in &streams {
                let mut number = [0; 4];
                stream.read_exact(&mut number).unwrap();
                stream.write_all(&number).unwrap();
            }
            streams
        });
        let connect = || (0..COUNT).map(|_| TcpStream::connect(if out { address } else { published }).unwrap());
        let streams: Vec<_> = if out { bed.in_container(|| connect().collect()) } else { connect().collect() };
        for (number, mut stream) in (0u32..).zip(&streams) {
            stream.write_all(&number.to_be_bytes()).unwrap();
        }
        for (number, mut stream) in (0u32..).zip(&streams) {
            let mut got = [0; 4];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(u32::from_be_bytes(got), number);
        }
        drop((streams, server.join().unwrap()));
    }
}

/// A container that connects to whom nobody knows: it costs the host some sockets, and not one for each.
fn scan(bed: &Bed) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, socket};
    use std::os::fd::AsRawFd;
    const COUNT: u16 = 6000;
    let _uplink = bed.uplink(false);
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    if most < u64::from(COUNT) + 1000 {
        return;
    }
    let attempts: Vec<_> = bed.in_container(|| {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let attempt = |port| {
            let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
            let _ = connect(socket.as_raw_fd(), &SockaddrIn::new(203, 0, 113, 77, port));
            socket
        };
        (1..=COUNT).map(attempt).collect()
    });
    let waiting = || {
        let table = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
        // TCP_SYN_SENT
        table.lines().filter(|line| line.split_ascii_whitespace().nth(3) == Some("02")).count()
    };
    until("many wait", || waiting() >= 2000);
    thread::sleep(Duration::from_millis(300));
    assert!(waiting() <= 4096, "{} wait", waiting());
    drop(attempts);
    // When these are given up, it goes on.
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = echo_at_end(listener);
    bed.in_container(|| ask(address, 1000));
    server.join().unwrap();
    let log = bed.store.root().join("networks/uplink/log");
    assert!(std::fs::read_to_string(&log).unwrap().contains("connections that nobody answers"));
    std::fs::write(&log, "").unwrap();
}

fn last_words(bed: &Bed) {
    let uplink = bed.uplink(false);
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let sent = bytes(1 << 20);
    let mut stream = bed.in_container(|| TcpStream::connect(address).unwrap());
    let mut theirs = listener.accept().unwrap().0;
    stream.write_all(&sent).unwrap();
    drop((stream, uplink));
    // Later than the uplink would have left, and slowly.
    thread::sleep(Duration::from_millis(300));
    let mut got = Vec::new();
    theirs.read_to_end(&mut got).unwrap();
    assert!(got == sent, "{} bytes came of {}", got.len(), sent.len());
}

/// Its window is shut while the container leaves, and opens when the time of who does nothing is over.
fn slowly(bed: &Bed) {
    let uplink = bed.uplink(false);
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let sent = bytes(400_000);
    let mut stream = bed.in_container(|| TcpStream::connect(address).unwrap());
    let mut theirs = listener.accept().unwrap().0;
    stream.write_all(&sent).unwrap();
    until("the other kernel has all of it", || unacknowledged(bed, address) == 0);
    // The container's interface is gone before its kernel could say that this was all.
    ip(Some(&bed.container), "link set eth0 down");
    drop((stream, uplink));
    let mut got = vec![0; sent.len()];
    let (mut at, began) = (0, Instant::now());
    while at < got.len() {
        let end = got.len().min(at + 40_000);
        theirs.read_exact(&mut got[at..end]).unwrap();
        at = end;
        if began.elapsed() < Duration::from_millis(2500) {
            thread::sleep(Duration::from_millis(300));
        }
    }
    assert!(got == sent);
}

/// Bytes of the container's connection to an address that its kernel has still.
fn unacknowledged(bed: &Bed, to: SocketAddr) -> u64 {
    let SocketAddr::V4(to) = to else { panic!("{to}") };
    let table = bed.in_container(|| std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap());
    let remote = format!("{:08X}:{:04X}", u32::from_ne_bytes(to.ip().octets()), to.port());
    let mut lines = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    // TCP_ESTABLISHED; then the queue to be sent and that to be read: proc(5).
    let words = lines.find(|words| words[2] == remote && words[3] == "01").expect("a connection");
    u64::from_str_radix(words[4].split_once(':').unwrap().0, 16).unwrap()
}

fn killed(bed: &Bed) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut uplink = bed.uplink(false);
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let mut stream = bed.in_container(|| TcpStream::connect(address).unwrap());
    let process = bed.process().expect("an uplink");
    kill(Pid::from_raw(process), Signal::SIGKILL).unwrap();
    // The monitor sees it, and the container's connection ends.
    let mut polls = [PollFd::new(uplink.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut polls, PollTimeout::from(5000u16)), Ok(1));
    assert!(polls[0].revents().unwrap().contains(PollFlags::POLLHUP));
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let end = stream.read(&mut [0; 8]);
    assert!(matches!(&end, Ok(0)) || end.as_ref().unwrap_err().kind() == ErrorKind::ConnectionReset, "{end:?}");
    assert!(uplink.unpublish(&[]).is_ok() && uplink.register(&registration()).is_err());
    let again = bed.uplink(false);
    bed.in_container(|| TcpStream::connect(address).unwrap());
    drop(again);
}

fn registration() -> Registration {
    Registration { container: Id::random().unwrap(), addresses: vec![CONTAINER.parse().unwrap()], host_loopback: false }
}

fn shared(bed: &Bed) {
    let first = bed.uplink(false);
    let process = bed.process().expect("an uplink");
    let mut more: Vec<_> = (0..20).map(|_| bed.connect()).collect();
    assert_eq!(bed.process(), Some(process));
    drop(first);
    // It stays for the others.
    thread::sleep(Duration::from_millis(100));
    assert_eq!((bed.process(), bed.sockets()), (Some(process), 1));
    more[3].register(&registration()).unwrap();
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    bed.in_container(|| TcpStream::connect(address).unwrap());
    drop(more);
    until("it has left", || bed.process().is_none());
}

/// Each leaves while the next one comes, or is killed then.
fn in_turn(bed: &Bed) {
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    // The last one leaves by itself, and clears away what the killed ones left.
    for round in 0..11 {
        let uplink = bed.uplink(false);
        bed.in_container(|| TcpStream::connect(address).unwrap());
        if round % 2 == 1 {
            kill(Pid::from_raw(bed.process().expect("an uplink")), Signal::SIGKILL).unwrap();
        }
        drop(uplink);
    }
}
