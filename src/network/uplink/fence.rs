//! Root's bridges on the host. Whoever is on the machine reaches the containers behind them, published
//! or not; a container of another user's is not to. [`Policy::fence`] is kept up to date here as
//! networks come and go, so that a packet costs a comparison and no question to the kernel.
//!
//! A bridge that root gave ctr (`com.docker.network.bridge.name`) is as reachable as it was before:
//! it can be the machine's way to its neighbours.

use std::rc::Rc;

use anyhow::{Context, Result};
use nix::sys::epoll::EpollFlags;

use super::epoll::{Kind, Poll, Token};
use super::log;
use super::policy::Policy;
use crate::error;
use crate::network::bridge::is_ours;
use crate::network::link::{self, Link, address};
use crate::network::netlink::{Socket, number};

/// What it is told of: rtnetlink(7).
const GROUPS: i32 = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;

/// A listener for changes, in the network namespace of the thread that made it: the host's.
#[derive(Debug)]
pub struct Fence {
    news: Socket,
    /// The bridges that were found last.
    bridges: Vec<u32>,
    /// It could not be loaded when something had changed.
    stale: bool,
}

impl Fence {
    /// Fences what is there, and has `poll` wake for [`Fence::follow`].
    ///
    /// # Errors
    /// The kernel does not tell: then nothing is to be led outside.
    pub fn watch(poll: &Rc<Poll>, policy: &mut Policy) -> Result<Self> {
        // Listens before it asks: what comes in between is told.
        let news = Socket::listening(GROUPS).context("listen for changes of the network interfaces")?;
        poll.add(&news, Token::only(Kind::Fence), EpollFlags::EPOLLIN)?;
        let mut fence = Self { news, bridges: Vec::new(), stale: false };
        fence.load(policy)?;
        Ok(fence)
    }

    /// Whether what is fenced is not what is there: to be followed before the next packet, whatever the
    /// kernel tells.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Takes what the kernel has told.
    pub fn follow(&mut self, policy: &mut Policy) {
        let mut changed = false;
        let known = &self.bridges;
        // What was lost could have been anything.
        let lost = self.news.news(|kind, body| changed |= concerns(known, kind, body)).is_err();
        if !changed && !lost && !self.stale {
            return;
        }
        let was_stale = self.stale;
        let loaded = self.load(policy);
        self.stale = loaded.is_err();
        if let Err(e) = loaded
            && !was_stale
        {
            log::say(&format!("what root's bridges are is not known: {}", error::message(&e)));
        }
    }

    fn load(&mut self, policy: &mut Policy) -> Result<()> {
        let mut socket = Socket::route()?;
        let links = link::of_kind(&mut socket, "bridge")?;
        let bridges: Vec<u32> = links.iter().filter(|link| is_ours(link)).map(|link| link.index).collect();
        let mut nets = if bridges.is_empty() { Vec::new() } else { address::all(&mut socket)? };
        nets.retain(|(index, _)| bridges.contains(index));
        self.bridges = bridges;
        policy.fence(nets.into_iter().map(|(_, net)| net).collect());
        Ok(())
    }
}

/// Whether this news changes the fence. Most tell of containers' own interfaces, and do not.
fn concerns(known: &[u32], kind: u16, body: &[u8]) -> bool {
    // The index is in the same place of `struct ifinfomsg` and `struct ifaddrmsg`.
    let is_known = || body.get(4..).and_then(number).is_some_and(|index| known.contains(&index));
    match kind {
        libc::RTM_NEWLINK => Link::parse(body).is_some_and(|link| is_ours(&link) && !known.contains(&link.index)),
        libc::RTM_DELLINK | libc::RTM_NEWADDR | libc::RTM_DELADDR => is_known(),
        _ => false,
    }
}
