//! Sockets in the namespace that the containers' bridges are in, for a thread that is elsewhere.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::network::space::Space;

/// The uplink's view of the [`Space`].
#[derive(Debug)]
pub struct Inside(Space);

impl Inside {
    pub fn new(space: Space) -> Self {
        Self(space)
    }

    /// A socket there, which does not block and is closed on exec. Where the namespace is another
    /// one this costs a thread, some 50 microseconds: not for each packet.
    ///
    /// # Errors
    /// As socket(2).
    pub fn socket(&self, family: AddressFamily, kind: SockType, protocol: Option<SockProtocol>) -> Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let made = self.0.inside(|| socket(family, kind, flags, protocol))?;
        made.context("make a socket in the network namespace of your containers")
    }

    /// Puts this thread there, for good.
    ///
    /// # Errors
    /// As setns(2).
    pub fn enter(&self) -> Result<()> {
        match &self.0 {
            Space::Here => Ok(()),
            Space::Apart(namespace) => {
                setns(namespace, CloneFlags::CLONE_NEWNET).context("enter the network namespace of your containers")
            }
        }
    }

    /// Whether containers are behind a TUN: not so for root.
    pub fn is_apart(&self) -> bool {
        matches!(self.0, Space::Apart(_))
    }

    pub fn space(&self) -> &Space {
        &self.0
    }
}
