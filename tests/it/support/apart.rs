//! A network, and where it is asked for mounts, that are a test's own: namespaces(7).

use std::net::Ipv4Addr;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use super::netns::ip;
use super::{Sandbox, Who, check_here, skipped};

/// [`check`](super::check) in a thread with a network and mounts of its own, which root prepares.
/// The programs and threads that the test starts are in them too.
pub fn apart(who: Who, prepare: fn(), body: fn(&Sandbox)) {
    if !geteuid().is_root() {
        return skipped("needs root to make namespaces");
    }
    run(move || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        prepare();
        check_here(who, body);
    });
}

/// A test on a network of its own, so that root's bridges and rules are there for one test, and
/// that no two tests want one port. Nothing but loopback is there.
pub(super) fn alone(who: Who, body: fn(&Sandbox)) {
    run(move || check_here(who, body));
}

fn run(body: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().name(std::thread::current().name().unwrap_or_default().to_owned());
    let run = thread.spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        // As distributions have it: everybody may ping. A new namespace does not have it from its maker.
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
        body();
    });
    if let Err(panic) = run.unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}

/// Gives the network that this thread is in these addresses.
pub fn addresses(all: &[Ipv4Addr]) {
    for address in all {
        ip(&format!("addr add {address}/32 dev lo"));
    }
}
