//! Network namespaces, links between them, and what is sent through.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use crate::network::netlink::Socket;
use crate::network::space::Space;
use crate::sys::netns;

/// Longer than any packet takes, shorter than what a person waits.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// A network namespace, with its loopback interface up.
#[derive(Debug)]
pub struct Net(OwnedFd);

/// What a test needs of this machine; `false`, said aloud, where something is missing.
pub fn able(programs: &[&str]) -> bool {
    let missing = |program: &&&str| {
        let found = Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
        found.is_err()
    };
    let lacks = match programs.iter().find(missing) {
        _ if !geteuid().is_root() => "to be root",
        Some(program) => program,
        None => return true,
    };
    assert!(std::env::var_os("CTR_MUST_RUN").is_none(), "cannot run: this test needs {lacks}");
    #[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
    {
        eprintln!("skipped: this test needs {lacks}");
    }
    false
}

impl Net {
    pub fn new() -> Self {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            File::open("/proc/thread-self/ns/net").expect("its file")
        });
        let net = Self(made.join().expect("a thread").into());
        net.ip("link set lo up");
        net
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// As [`Space`]: what a user's containers share.
    pub fn space(&self) -> Space {
        Space::Apart(self.0.try_clone().expect("a descriptor"))
    }

    pub fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        netns::inside(self.fd(), body).expect("enter")
    }

    pub fn netfilter(&self) -> Socket {
        self.inside(Socket::netfilter).expect("netlink")
    }

    /// Runs a program here and gives what it printed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let out = self.inside(|| Command::new(program).args(arguments).output().expect("run"));
        assert!(out.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// ip(8), its arguments as one text.
    pub fn ip(&self, arguments: &str) {
        self.run("ip", &arguments.split_whitespace().collect::<Vec<_>>());
    }

    /// Loads what nft(8) understands.
    pub fn nft(&self, text: &str) {
        // Its grammar wants a line's end behind a brace.
        self.run("nft", &[&text.replace('}', "}\n")]);
    }

    /// All rules, as nft(8) lists them, without the empty lines and with single spaces.
    pub fn rules(&self) -> Vec<String> {
        let text = self.run("nft", &["list", "ruleset"]);
        text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|l| !l.is_empty()).collect()
    }

    /// A veth pair: `port` here, `name` in `peer`; both up.
    pub fn join(&self, port: &str, peer: &Self, name: &str) {
        use std::os::fd::AsRawFd;
        let path = format!("/proc/{}/fd/{}", std::process::id(), peer.0.as_raw_fd());
        self.ip(&format!("link add {port} type veth peer name {name} netns {path}"));
        self.ip(&format!("link set {port} up"));
        peer.ip(&format!("link set {name} up"));
    }

    pub fn sysctl(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/net/{name}");
        self.inside(|| std::fs::write(&path, value)).unwrap_or_else(|e| panic!("{path}: {e}"));
    }
}
