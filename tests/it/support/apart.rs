//! Tests that need another network or other mounts than the machine has: namespaces(7).

use std::net::Ipv4Addr;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use super::{Sandbox, Who, check, skipped};

/// [`check`](super::check) in a thread with a network and mounts of its own, which root prepares.
/// The programs and threads that the test starts are in them too.
pub fn apart(who: Who, prepare: fn(), body: fn(&Sandbox)) {
    if !geteuid().is_root() {
        return skipped("needs root to make namespaces");
    }
    let thread = std::thread::Builder::new().name(std::thread::current().name().unwrap_or_default().to_owned());
    let run = thread.spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        prepare();
        check(who, body);
    });
    if let Err(panic) = run.unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}

/// Gives the network that this thread is in loopback and these addresses.
pub fn addresses(all: &[Ipv4Addr]) {
    ip("link set lo up");
    for address in all {
        ip(&format!("addr add {address}/32 dev lo"));
    }
}

fn ip(words: &str) {
    let done = Command::new("ip").args(words.split(' ')).output().expect("ip (iproute2)");
    assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
}
