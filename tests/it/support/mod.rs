//! What the integration tests stand on: a sandbox for each test ([`Sandbox`]) that drives the real
//! binary, as root and as an ordinary user; images made for the tests; registries, real ones and
//! hostile ones; terminals; and the question what a test left behind.
//!
//! Every test can run alone and beside all others. Nothing here sleeps for a fixed time: [`until`]
//! asks again and again.

mod apart;
mod archive;
pub mod dns;
mod images;
mod leftovers;
pub mod netns;
mod ran;
pub mod registry;
mod running;
mod sandbox;
mod server;
mod tar;
mod terminal;
mod uploads;
mod who;
pub mod world;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

pub use apart::{addresses, apart};
pub use archive::{Image, Packing, architecture, digest, noise, publish, random};
pub use netns::Netns;
pub use ran::Ran;
pub use registry::{Registry, log_in};
pub use running::Running;
pub use sandbox::{Sandbox, binary, copy_program, words};
pub use server::{Reply, Server};
pub use tar::{Entry, Layer};
pub use terminal::Terminal;
pub use uploads::{Uploads, Whims};
pub use who::{Who, base, has_capability};
pub use world::World;
pub(crate) use world::on_machine;

/// How long anything may take that should take a moment: generous, for two busy cores.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Makes two tests of one: `name::as_root` and `name::as_user`. The body gets a [`Sandbox`] of its
/// own; when it is through, its containers are removed and nothing may be left of them.
macro_rules! both {
    ($name:ident, $body:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "a body may need none of them")]
            use super::*;
            #[test]
            fn as_root() {
                $crate::support::check($crate::support::Who::Root, $body);
            }
            #[test]
            fn as_user() {
                $crate::support::check($crate::support::Who::User, $body);
            }
        }
    };
}
pub(crate) use both;

/// Runs `body` in a new sandbox and looks for what it left. Root gives it a network of its own.
pub fn check(who: Who, body: fn(&Sandbox)) {
    if nix::unistd::geteuid().is_root() { apart::alone(who, body) } else { check_here(who, body) }
}

/// [`check`] on the network that this thread is in.
fn check_here(who: Who, body: fn(&Sandbox)) {
    let Some(account) = who::account(who) else { return };
    let sandbox = Sandbox::new(who, &account);
    body(&sandbox);
    sandbox.finish();
}

/// Says that a test did not run, and why. `CTR_MUST_RUN=1` makes that a failure.
pub fn skipped(why: &str) {
    use std::io::Write;
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    assert!(std::env::var_os("CTR_MUST_RUN").is_none_or(|v| v != "1"), "could not run: {why}");
    eprintln!("skipped {test}: {why}");
    // `tests/run.sh` counts these lines; the test harness itself knows no such outcome.
    if let Some(path) = std::env::var_os("CTR_SKIPPED") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        writeln!(file, "{test}: {why}").unwrap();
    }
}

/// Waits for a condition, asking every few milliseconds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(2);
    while !holds() {
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Kills a process and waits until nothing is left of it: kill(2) returns sooner.
pub fn slay(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    // Gone already.
    let Ok(process) = ctr::sys::pidfd::open(pid) else { return };
    let _ = ctr::sys::pidfd::signal(process.as_fd(), libc::SIGKILL);
    let mut ends = [nix::poll::PollFd::new(process.as_fd(), nix::poll::PollFlags::POLLIN)];
    assert_eq!(nix::poll::poll(&mut ends, 20_000u16), Ok(1), "process {pid} does not die");
}
