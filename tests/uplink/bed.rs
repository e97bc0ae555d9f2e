//! The namespaces. The process itself is in the one that plays the host.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use ctr::network::space::Space;
use ctr::network::uplink::{self, Listener, Registration, Target, Uplink};
use ctr::network::{Protocol, Published};
use ctr::store::{Id, Store};
use ctr::sys::netns;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// The host as others see it, and the machine that sees it.
pub const HOST: &str = "203.0.113.1";
pub const HOST6: &str = "2001:db8:1::1";
pub const MACHINE: &str = "203.0.113.2";
/// The container, and its bridge.
pub const CONTAINER: &str = "10.77.0.2";
pub const CONTAINER6: &str = "fd77::2";
pub const BRIDGE: &str = "10.77.0.1";

/// Goes into namespaces where this process is root, and makes the host's network.
pub fn enter() -> io::Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    if !File::options().write(true).open("/dev/net/tun").is_ok_and(|_| true) {
        return Err(io::Error::other("no /dev/net/tun"));
    }
    ip(None, "link set lo up");
    Ok(())
}

pub fn namespace() -> OwnedFd {
    let made = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    });
    made.join().unwrap().into()
}

/// Runs ip(8), each of the commands between semicolons.
pub fn ip(inside: Option<&OwnedFd>, commands: &str) {
    for command in commands.split(';').map(str::trim).filter(|command| !command.is_empty()) {
        let mut ip = Command::new("ip");
        ip.args(command.split_whitespace());
        let output = match inside {
            Some(namespace) => netns::inside(namespace.as_fd(), || ip.output()).unwrap(),
            None => ip.output(),
        };
        let output = output.expect("run ip");
        assert!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

pub struct Bed {
    pub inside: OwnedFd,
    pub container: OwnedFd,
    pub machine: OwnedFd,
    pub store: Store,
    _home: tempfile::TempDir,
}

impl Bed {
    pub fn new() -> Self {
        let (inside, container, machine) = (namespace(), namespace(), namespace());
        let number = |fd: &OwnedFd| format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
        ip(
            Some(&inside),
            &format!(
                "link set lo up; link add br0 type bridge; link set br0 up; addr add {BRIDGE}/24 dev br0;
                 -6 addr add fd77::1/64 dev br0 nodad; link add port type veth peer name eth0 netns {};
                 link set port master br0; link set port up",
                number(&container)
            ),
        );
        ip(
            Some(&container),
            &format!(
                "link set lo up; link set eth0 up; addr add {CONTAINER}/24 dev eth0;
                 -6 addr add {CONTAINER6}/64 dev eth0 nodad; route add default via {BRIDGE};
                 -6 route add default via fd77::1"
            ),
        );
        ip(
            None,
            &format!(
                "link add wire type veth peer name eth0 netns {}; addr add {HOST}/24 dev wire;
                 -6 addr add {HOST6}/64 dev wire nodad; link set wire up",
                number(&machine)
            ),
        );
        ip(
            Some(&machine),
            &format!(
                "link set lo up; addr add {MACHINE}/24 dev eth0; -6 addr add 2001:db8:1::2/64 dev eth0 nodad;
                 link set eth0 up"
            ),
        );
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(Some(&home.path().join("root")), Some(&home.path().join("run"))).unwrap();
        Self { inside, container, machine, store, _home: home }
    }

    pub fn connect(&self) -> Uplink {
        uplink::connect(&self.store, &Space::Apart(self.inside.try_clone().unwrap())).unwrap()
    }

    /// An uplink that knows the container.
    pub fn uplink(&self, host_loopback: bool) -> Uplink {
        let mut uplink = self.connect();
        let addresses = vec![CONTAINER.parse().unwrap(), CONTAINER6.parse().unwrap()];
        uplink.register(&Registration { container: Id::random().unwrap(), addresses, host_loopback }).unwrap();
        uplink
    }

    pub fn in_container<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        netns::inside(self.container.as_fd(), body).unwrap()
    }

    pub fn on_machine<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        netns::inside(self.machine.as_fd(), body).unwrap()
    }

    /// The process of the uplink that serves this bed.
    pub fn process(&self) -> Option<i32> {
        fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let comm = fs::read_to_string(entry.path().join("comm")).ok()?;
            // The log lies in this bed's storage root; the uplink is not to be looked into but by root.
            let log = fs::read_link(entry.path().join("fd/2")).ok()?;
            (comm.trim() == "ctr-uplink" && log.starts_with(self.store.root())).then_some(pid)
        })
    }

    pub fn sockets(&self) -> usize {
        let directory = self.store.root().join("networks/uplink");
        let names = fs::read_dir(directory).into_iter().flatten().flatten();
        names.filter(|entry| entry.file_name().to_string_lossy().ends_with(".socket")).count()
    }

    /// Nothing is left when the last client has gone.
    pub fn is_clean(&self) {
        until("the uplink has left", || self.sockets() == 0);
        // It takes its name away before it ends.
        until("its TUN is gone", || {
            let links = netns::inside(self.inside.as_fd(), || Command::new("ip").args(["-o", "link"]).output());
            !String::from_utf8(links.unwrap().unwrap().stdout).unwrap().contains("tun0")
        });
        let log = fs::read_to_string(self.store.root().join("networks/uplink/log")).unwrap_or_default();
        assert_eq!(log, "", "the log");
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // A namespace takes a while to go, and the next bed wants the name.
        ip(None, "link del wire");
    }
}

/// Waits for something that takes no second.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A listener of the host's that is published; dropping it is not the end of the port, [`Uplink`] is.
pub fn publish(
    uplink: &mut Uplink,
    host: &str,
    target: &str,
    keep_source: bool,
) -> (TcpListener, SocketAddr, Published) {
    let listener = TcpListener::bind(host).unwrap();
    let address = listener.local_addr().unwrap();
    let target: SocketAddr = target.parse().unwrap();
    let host: IpAddr = address.ip();
    let published =
        Published { host, host_port: address.port(), container_port: target.port(), protocol: Protocol::Tcp };
    uplink
        .publish(&[Listener { socket: listener.as_fd(), target: Target { published, target, keep_source } }])
        .unwrap();
    (listener, address, published)
}
