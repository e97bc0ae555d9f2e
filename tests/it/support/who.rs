//! Who runs the engine: root, or an ordinary user with subordinate ids.

use std::path::PathBuf;

use nix::unistd::{User, geteuid, getuid};

use super::skipped;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Root,
    User,
}

/// The account behind it.
#[derive(Debug, Clone)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// Whether the test has to become this user first.
    pub other: bool,
}

/// The account for `who`; `None`, and said so, where this process cannot be it. Root plays the
/// ordinary user as `ctrtest`, whom `tests/setup.sh --tests` makes; anybody else is one already.
pub fn account(who: Who) -> Option<Account> {
    let root = geteuid().is_root();
    let user = match (who, root) {
        (Who::Root, true) => return Some(Account { name: "root".into(), uid: 0, gid: 0, other: false }),
        (Who::Root, false) => {
            skipped("needs root");
            return None;
        }
        (Who::User, true) => User::from_name("ctrtest").ok().flatten(),
        (Who::User, false) => User::from_uid(getuid()).ok().flatten(),
    };
    let Some(user) = user else {
        skipped("needs the user \"ctrtest\": run sh tests/setup.sh --tests");
        return None;
    };
    Some(Account { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), other: root })
}

/// Where the sandboxes of this process lie: a place that any user can reach, on a real disk.
pub fn base() -> PathBuf {
    PathBuf::from("/var/tmp").join(format!("ctr-test-{}", getuid())).join(std::process::id().to_string())
}

/// Whether these tests, and so what they run as root, have a capability, by its number:
/// capabilities(7).
pub fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(set.trim(), 16).unwrap() >> number & 1 == 1
}
