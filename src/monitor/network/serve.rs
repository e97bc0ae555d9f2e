//! What a monitor does for its container's networks while it waits in poll(2).

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::Sandbox;
use crate::network::{dns, firewall};

/// After a failure the uplink is not asked for again sooner.
const PAUSE: Duration = Duration::from_secs(1);

/// What poll(2) waits for on behalf of a container's networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// The resolver's.
    Names(dns::Token),
    /// The uplink says nothing; it is readable when it has ended.
    Uplink,
    /// A client of a published port, which the kernel's rules did not lead past us: root's alone.
    Client,
}

impl Sandbox {
    /// What is to be waited for.
    pub fn descriptors(&self) -> Vec<(Token, BorrowedFd<'_>, PollFlags)> {
        let mut all: Vec<_> = self
            .resolver
            .iter()
            .flat_map(dns::Resolver::descriptors)
            .map(|(token, fd, events)| (Token::Names(token), fd, events))
            .collect();
        match &self.uplink {
            Some(uplink) => all.push((Token::Uplink, uplink.as_fd(), PollFlags::POLLIN)),
            // Root's ports need the uplink from the first client on that the rules do not serve.
            None if self.retry_at.is_none() => {
                let sockets = self.listeners.iter().filter_map(|listener| listener.socket.as_ref());
                all.extend(sockets.map(|socket| (Token::Client, socket.as_fd(), PollFlags::POLLIN)));
            }
            None => {}
        }
        all
    }

    /// When [`Sandbox::expire`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let resolver = self.resolver.as_ref().and_then(dns::Resolver::deadline);
        resolver.into_iter().chain(self.retry_at).min()
    }

    /// Does what is due.
    pub fn expire(&mut self, now: Instant) {
        if let Some(resolver) = &mut self.resolver {
            resolver.expire(now);
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            if self.space.is_apart() {
                self.connect_again();
            }
        }
    }

    /// Does what `token` is ready for.
    pub fn ready(&mut self, token: Token) {
        match token {
            Token::Names(token) => {
                if let Some(resolver) = &mut self.resolver {
                    resolver.ready(token);
                }
            }
            Token::Uplink => {
                // It was killed, and with it the flows that it carried. Whatever comes next finds a new one.
                self.uplink = None;
                if self.space.is_apart() {
                    self.connect_again();
                }
            }
            Token::Client => {
                if self.relay_ports().is_err() {
                    self.uplink = None;
                    self.retry_at = Some(Instant::now() + PAUSE);
                }
            }
        }
    }

    /// Gives back memory that only work needs.
    pub fn rest(&mut self) {
        if let Some(resolver) = &mut self.resolver {
            resolver.rest();
        }
        firewall::rest();
    }

    fn connect_again(&mut self) {
        if self.reach_outside().and_then(|()| self.relay_ports()).is_err() {
            self.uplink = None;
            self.retry_at = Some(Instant::now() + PAUSE);
        }
    }
}
