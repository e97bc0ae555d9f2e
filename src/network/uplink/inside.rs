//! Sockets in the namespace that the containers' bridges are in, for a thread that is elsewhere.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
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

    /// The namespace, where it is another one than the host's.
    pub fn namespace(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Space::Here => None,
            Space::Apart(namespace) => Some(namespace.as_fd()),
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
