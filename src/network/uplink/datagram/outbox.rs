//! Datagrams of one length to one peer that come one after the other are sent as one row
//! (`UDP_SEGMENT`): the kernel then finds the route and passes its stack once for all of them.

use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;

use super::inward::{LONGEST, SEGMENTS};
use super::table::Place;
use crate::sys::datagrams;

/// Which socket sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    Flow(Place),
    /// A published port's, by its number.
    Listener(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    pub via: Via,
    pub to: SocketAddr,
    /// The local address, where it matters.
    pub from: Option<IpAddr>,
}

/// A row that waits to be sent.
#[derive(Debug, Default)]
pub struct Outbox {
    route: Option<Route>,
    bytes: Vec<u8>,
    /// Length of each but the last.
    segment: usize,
    count: usize,
    /// One was shorter: it is the last.
    closed: bool,
}

impl Outbox {
    pub fn route(&self) -> Option<Route> {
        self.route
    }

    /// Drops what waits.
    pub fn clear(&mut self) {
        self.route = None;
    }

    /// Adds `payload`, datagrams of `segment` bytes each (0: it is one); `false`: what waits has to be
    /// sent before.
    pub fn add(&mut self, route: Route, payload: &[u8], segment: usize) -> bool {
        let one = if segment == 0 { payload.len() } else { segment.min(payload.len()) };
        if self.route.is_some() {
            let fits = self.route == Some(route)
                && !self.closed
                && one > 0
                && one <= self.segment
                // A row within must have this row's length.
                && (payload.len() == one || one == self.segment)
                && self.count + payload.len().div_ceil(one) <= SEGMENTS
                && self.bytes.len() + payload.len() <= LONGEST;
            if !fits {
                return false;
            }
        } else {
            self.route = Some(route);
            self.bytes.clear();
            self.segment = one;
            self.count = 0;
            self.closed = one == 0;
        }
        self.bytes.extend_from_slice(payload);
        self.count += if one == 0 { 1 } else { payload.len().div_ceil(one) };
        self.closed |= !self.bytes.len().is_multiple_of(self.segment.max(1));
        true
    }

    /// Empties it: gives the row to `send` whole, and one by one what cannot be sent so. `refused` is
    /// told which datagram the kernel refused, and why.
    pub fn send(&mut self, socket: std::os::fd::BorrowedFd<'_>, mut refused: impl FnMut(&[u8], Errno)) {
        let Some(route) = self.route.take() else { return };
        let send =
            |bytes: &[u8], segment: usize| match datagrams::send(socket, bytes, Some(&route.to), route.from, segment) {
                Ok(()) | Err(Errno::EAGAIN | Errno::ENOBUFS) => Ok(()),
                Err(Errno::EMSGSIZE) => Err(Errno::EMSGSIZE),
                // Perhaps what came back for an earlier one, which is told once: ip(7), IP_RECVERR.
                Err(_) => datagrams::send(socket, bytes, Some(&route.to), route.from, segment),
            };
        if self.count > 1 && send(&self.bytes, self.segment).is_ok() {
            return;
        }
        if self.bytes.is_empty() {
            let _ = send(&[], 0).inspect_err(|errno| refused(&[], *errno));
        }
        for datagram in self.bytes.chunks(self.segment.max(1)) {
            let _ = send(datagram, 0).inspect_err(|errno| refused(datagram, *errno));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn rows_are_of_one_length_and_one_route() {
        let route = |port| Route { via: Via::Listener(0), to: ([127, 0, 0, 1], port).into(), from: None };
        let mut outbox = Outbox::default();
        assert!(outbox.add(route(1), &[1; 100], 0));
        assert!(!outbox.add(route(2), &[1; 100], 0));
        assert!(!outbox.add(route(1), &[1; 101], 0));
        assert!(!outbox.add(route(1), &[], 0));
        assert!(outbox.add(route(1), &[2; 200], 100));
        assert!(!outbox.add(route(1), &[2; 90], 45));
        assert!(outbox.add(route(1), &[3; 50], 0));
        assert!(!outbox.add(route(1), &[3; 50], 0), "a shorter one is the last");
        outbox.route = None;
        for _ in 0..SEGMENTS {
            assert!(outbox.add(route(1), &[1; 10], 0));
        }
        assert!(!outbox.add(route(1), &[1; 10], 0));
        outbox.route = None;
        assert!(outbox.add(route(1), &vec![1; 60000], 0));
        assert!(!outbox.add(route(1), &vec![1; 60000], 0));
    }

    #[test]
    fn a_row_arrives_as_it_was() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let route = Route { via: Via::Listener(0), to: receiver.local_addr().unwrap(), from: None };
        // A row of datagrams longer than the MTU of lo cannot be sent as one: EMSGSIZE or EINVAL.
        for rows in [&[3, 3, 3, 1][..], &[0], &[1400, 1400], &[30000, 20000]] {
            let mut outbox = Outbox::default();
            for length in rows {
                assert!(outbox.add(route, &vec![9; *length], 0));
            }
            outbox.send(sender.as_fd(), |_, errno| panic!("{errno}"));
            let mut buffer = vec![0; 65536];
            for length in rows {
                assert_eq!(receiver.recv(&mut buffer).unwrap(), *length);
            }
            assert_eq!(outbox.route(), None);
        }
    }
}
