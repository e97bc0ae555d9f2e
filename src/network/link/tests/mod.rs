//! On the kernel itself, in network namespaces of their own: [`Bed`] is a space and a container.

mod connected;
mod limited;
mod routed;

use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::Command;
use std::thread;

use ipnet::IpNet;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use super::bridge::{self, Bridge};
use super::interface::{self, Interface};
use super::veth::{self, Veth};
use crate::network::netlink::Socket;
use crate::sys::netns;

/// A network namespace with a socket in it.
pub struct World {
    pub fd: File,
    pub socket: Socket,
}

impl World {
    /// Enters a new one with this thread.
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        let fd = File::open("/proc/thread-self/ns/net").expect("its file");
        Self { fd, socket: Socket::route().expect("a netlink socket") }
    }

    pub fn netns(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        netns::inside(self.netns(), body).expect("enter the namespace")
    }

    /// What a command of iproute2 prints there.
    pub fn tell(&self, command: &str) -> String {
        self.inside(|| {
            let mut words = command.split_whitespace();
            let done = Command::new(words.next().expect("a command")).args(words).output().expect("run it");
            assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
            String::from_utf8(done.stdout).expect("text")
        })
    }
}

/// Runs the body on a thread, which may go where it likes. Skipped, said aloud, for ordinary users.
pub fn on_a_thread(body: impl FnOnce() + Send) {
    if !geteuid().is_root() {
        assert!(std::env::var_os("CTR_MUST_RUN").is_none(), "cannot run: not root");
        #[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
        {
            eprintln!("skipped: not root");
        }
        return;
    }
    thread::scope(|scope| {
        if let Err(panic) = scope.spawn(body).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

pub fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A space with one bridge.
pub struct Bed {
    pub space: World,
    pub bridge: u32,
}

impl Bed {
    pub fn new(gateways: &[IpNet]) -> Self {
        let mut space = World::new();
        let bridge =
            Bridge { name: "ctr0", mac: Some([2, 0x42, 1, 2, 3, 4]), mtu: None, addresses: gateways, alias: None };
        let bridge = bridge::ensure(&mut space.socket, &bridge).expect("a bridge").index;
        Self { space, bridge }
    }

    /// A container with one interface, `eth0`, on the bridge.
    pub fn connect(&mut self, port: &str, isolated: bool, addresses: &[IpNet], gateways: &[IpAddr]) -> World {
        let mut container = World::new();
        let pair = Veth {
            port,
            bridge: self.bridge,
            isolated,
            hairpin: false,
            interface: "eth0",
            netns: container.fd.as_fd(),
            mac: None,
            mtu: None,
        };
        veth::create(&mut self.space.socket, &pair).expect("a pair");
        let wanted = Interface { name: "eth0", addresses, gateways, ..Interface::default() };
        interface::configure(&mut container.socket, &wanted).expect("configured");
        veth::raise(&mut self.space.socket, &mut container.socket, &pair).expect("raised");
        container
    }
}

/// Whether a connection from one to the address, which is the other's, comes about at once.
pub fn reaches(from: &World, to: &World, address: IpAddr) -> bool {
    let listener = to.inside(|| TcpListener::bind(SocketAddr::new(address, 0))).expect("listen");
    let at = listener.local_addr().expect("its address");
    // Less than the second after which a lost ARP request is repeated.
    from.inside(move || TcpStream::connect_timeout(&at, std::time::Duration::from_millis(700))).is_ok()
}
