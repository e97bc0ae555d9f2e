//! What is around the machine that a test runs on: a router on a cable, and behind it the outside,
//! whose machines answer on addresses that lead nowhere else.

use std::path::PathBuf;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use super::netns::ip;
use super::{Netns, Sandbox, skipped};

/// The machine under test, RFC 5737 and RFC 3849.
pub const HERE: &str = "192.0.2.2";
pub const HERE6: &str = "2001:db8:1::2";
/// The router, or any machine beside this one.
pub const NEIGHBOUR: &str = "192.0.2.1";
pub const NEIGHBOUR6: &str = "2001:db8:1::1";
/// Somebody in the outside. Nobody there knows a way to a container's address.
pub const FAR: &str = "198.51.100.7";
pub const FAR6: &str = "2001:db8:2::7";
/// The name server that this machine is told of, if a test starts one.
pub const RESOLVER: &str = "198.51.100.53";

#[derive(Debug)]
pub struct World {
    /// The router and all that is behind it.
    pub outside: Netns,
    /// Mounted over this machine's `/etc/resolv.conf`.
    resolv_conf: PathBuf,
}

impl World {
    /// Makes it around the namespace of this thread, which has mounts of its own from here on.
    /// `None`, and said so, where that cannot be.
    pub fn around(cx: &Sandbox) -> Option<Self> {
        if !geteuid().is_root() {
            skipped("needs root to make namespaces");
            return None;
        }
        let outside = Netns::new();
        outside.cable("out0", "eth0");
        cx.owns_interfaces();
        for line in [
            format!("addr add {HERE}/24 dev out0"),
            format!("addr add {HERE6}/64 dev out0 nodad"),
            "link set out0 up".into(),
        ] {
            ip(&line);
        }
        for line in [
            format!("addr add {NEIGHBOUR}/24 dev eth0"),
            format!("addr add {NEIGHBOUR6}/64 dev eth0 nodad"),
            "link set eth0 up".into(),
            format!("addr add {FAR}/32 dev lo"),
            format!("addr add {RESOLVER}/32 dev lo"),
            format!("addr add {FAR6}/128 dev lo nodad"),
        ] {
            outside.ip(&line);
        }
        ip(&format!("route add default via {NEIGHBOUR}"));
        ip(&format!("-6 route add default via {NEIGHBOUR6}"));
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let resolv_conf = cx.make_file("resolv.conf", format!("nameserver {RESOLVER}\n"));
        mount(Some(&resolv_conf), "/etc/resolv.conf", None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        Some(Self { outside, resolv_conf })
    }

    /// Changes this machine's `/etc/resolv.conf`.
    pub fn set_resolv_conf(&self, text: &str) {
        std::fs::write(&self.resolv_conf, text).unwrap();
    }
}

/// `both!` with a [`World`] around.
macro_rules! on_machine {
    ($name:ident, $body:expr) => {
        $crate::support::both!($name, |cx| {
            let Some(world) = $crate::support::World::around(cx) else { return };
            let body: fn(&$crate::support::Sandbox, &$crate::support::World) = $body;
            body(cx, &world);
        });
    };
}
pub(crate) use on_machine;
