//! The network namespace that bridges are in.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};

use crate::network::netlink::Socket;
use crate::sys::netns;

/// Where bridges, their ports and rules are made.
#[derive(Debug)]
pub enum Space {
    /// The network namespace of this process, which it may change: root's.
    Here,
    /// The user's own, which all of the user's containers share. What leaves it goes through the
    /// uplink.
    Apart(OwnedFd),
}

impl Space {
    /// A socket for links, addresses and routes of this namespace.
    ///
    /// # Errors
    /// As socket(2).
    pub fn route(&self) -> Result<Socket> {
        self.inside(Socket::route)?.context("open a netlink socket")
    }

    /// A socket for nf_tables of this namespace.
    ///
    /// # Errors
    /// As socket(2).
    pub fn netfilter(&self) -> Result<Socket> {
        self.inside(Socket::netfilter)?.context("open a netlink socket for nf_tables")
    }

    /// Runs `body` in this namespace: its sockets and its `/proc/sys/net`.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T> {
        match self {
            Self::Here => Ok(body()),
            Self::Apart(namespace) => {
                netns::inside(namespace.as_fd(), body).context("enter the network namespace of your containers")
            }
        }
    }
}
