//! The loops' epoll(7), and the tokens by which they know what is ready.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// What a descriptor is to the loop that waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Work from the other thread.
    Wake,
    /// The socket that monitors connect to.
    Door,
    /// A monitor's connection.
    Client,
    Tun,
    /// What the kernel tells of the host's interfaces.
    Fence,
    /// A listening socket whose connections become flows.
    Listener,
    /// A socket whose connect(2) has not ended.
    Connecting,
    /// A flow's socket towards the container, and the one towards the host.
    Inside,
    Outside,
    /// All that `datagram` waits for.
    Datagram,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Wake,
        Self::Door,
        Self::Client,
        Self::Tun,
        Self::Fence,
        Self::Listener,
        Self::Connecting,
        Self::Inside,
        Self::Outside,
        Self::Datagram,
    ];
}

/// The 64 bits that epoll keeps for us: 8 for the kind, 24 for a generation, 32 for an index.
///
/// Of the events that one wait returned, an earlier one may have closed what a later one is about,
/// and its index may have been given out again: whoever gives an index out anew changes the
/// generation, and an event of an old one is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    /// Only its low 24 bits are kept.
    pub generation: u32,
    pub index: u32,
}

impl Token {
    /// For what there is one of.
    pub fn only(kind: Kind) -> Self {
        Self { kind, generation: 0, index: 0 }
    }

    pub fn to_bits(self) -> u64 {
        (self.kind as u64) << 56 | u64::from(self.generation & 0xff_ffff) << 32 | u64::from(self.index)
    }

    fn from_bits(bits: u64) -> Option<Self> {
        let [kind, g0, g1, g2, index @ ..] = bits.to_be_bytes();
        Some(Self {
            kind: *Kind::ALL.get(usize::from(kind))?,
            generation: u32::from_be_bytes([0, g0, g1, g2]),
            index: u32::from_be_bytes(index),
        })
    }
}

/// An epoll instance whose data are [`Token`]s.
#[derive(Debug)]
pub struct Poll(Epoll);

impl Poll {
    pub fn new() -> nix::Result<Self> {
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map(Self)
    }

    /// Waits for the descriptor from now on. Closing its last duplicate ends that.
    ///
    /// # Errors
    /// As epoll_ctl(2); `ENOSPC`: fs.epoll.max_user_watches.
    pub fn add(&self, fd: impl AsFd, token: Token, flags: EpollFlags) -> nix::Result<()> {
        self.0.add(fd, EpollEvent::new(flags, token.to_bits()))
    }

    /// Changes what is waited for, and the token.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub fn change(&self, fd: impl AsFd, token: Token, flags: EpollFlags) -> nix::Result<()> {
        self.0.modify(fd, &mut EpollEvent::new(flags, token.to_bits()))
    }

    /// Waits for it no more, where a duplicate of it stays open elsewhere.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub fn remove(&self, fd: impl AsFd) -> nix::Result<()> {
        self.0.delete(fd)
    }

    /// What is ready, `None` for the time: until something is.
    ///
    /// # Errors
    /// As epoll_wait(2).
    pub fn wait<'e>(
        &self,
        events: &'e mut [EpollEvent],
        time: Option<std::time::Duration>,
    ) -> nix::Result<impl Iterator<Item = (Token, EpollFlags)> + Clone + use<'e>> {
        // Rounded up: a loop that wakes just before its deadline would turn until then.
        let time = time.map_or(EpollTimeout::NONE, |time| {
            let millis = time.as_nanos().div_ceil(1_000_000).min(60_000);
            EpollTimeout::try_from(i32::try_from(millis).unwrap_or(60_000)).unwrap_or(EpollTimeout::ZERO)
        });
        let count = match self.0.wait(events, time) {
            Err(Errno::EINTR) => 0,
            count => count?,
        };
        Ok(events[..count].iter().filter_map(|event| Some((Token::from_bits(event.data())?, event.events()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_kernel() {
        for kind in Kind::ALL {
            let token = Token { kind, generation: 0xab_cdef, index: u32::MAX - 3 };
            assert_eq!(Token::from_bits(token.to_bits()), Some(token));
        }
        assert_eq!(Token::from_bits(u64::MAX), None);
    }
}
