//! The container's standard input: what clients sent and the container has not read yet.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::write;

#[derive(Debug)]
pub struct Input {
    /// A pipe or a terminal's master, not blocking; `None`: it has ended.
    end: Option<OwnedFd>,
    /// Bounded by the credit of each client.
    queue: VecDeque<Piece>,
}

#[derive(Debug)]
enum Piece {
    Bytes { client: u64, bytes: Vec<u8>, written: usize },
    End,
}

/// What a write came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrote {
    /// So many bytes of this client's.
    Bytes(u64, u32),
    /// Nothing for now.
    Blocked,
    /// Standard input has ended: as it was told to, or because the container reads no more.
    Ended,
}

impl Input {
    pub fn new(end: Option<OwnedFd>) -> Self {
        Self { end, queue: VecDeque::new() }
    }

    /// What to wait for until there is room, when something waits to be written.
    pub fn wants_room(&self) -> Option<BorrowedFd<'_>> {
        self.end.as_ref().filter(|_| !self.queue.is_empty()).map(AsFd::as_fd)
    }

    pub fn end(&self) -> Option<BorrowedFd<'_>> {
        self.end.as_ref().map(AsFd::as_fd)
    }

    pub fn has_ended(&self) -> bool {
        self.end.is_none()
    }

    pub fn push(&mut self, client: u64, bytes: &[u8]) {
        if self.end.is_some() {
            self.queue.push_back(Piece::Bytes { client, bytes: bytes.to_vec(), written: 0 });
        }
    }

    /// Ends it behind what is queued.
    pub fn close(&mut self) {
        if self.end.is_some() {
            self.queue.push_back(Piece::End);
        }
    }

    /// Writes once.
    pub fn write(&mut self) -> Wrote {
        let (Some(end), Some(piece)) = (&self.end, self.queue.front_mut()) else { return Wrote::Blocked };
        let wrote = match piece {
            Piece::End => Wrote::Ended,
            Piece::Bytes { client, bytes, written } => match write(end, &bytes[*written..]) {
                Ok(count) => {
                    *written += count;
                    let wrote = Wrote::Bytes(*client, u32::try_from(count).unwrap_or(u32::MAX));
                    if *written == bytes.len() {
                        self.queue.pop_front();
                    }
                    wrote
                }
                Err(Errno::EAGAIN | Errno::EINTR) => Wrote::Blocked,
                Err(_) => Wrote::Ended,
            },
        };
        if wrote == Wrote::Ended {
            self.end = None;
        }
        if self.queue.is_empty() || self.end.is_none() {
            self.queue = VecDeque::new();
        }
        wrote
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;
    use nix::unistd::{pipe2, read};

    #[test]
    fn bytes_come_in_order_and_then_the_end() {
        let (ours, theirs) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).expect("pipe");
        let mut input = Input::new(Some(theirs));
        input.push(1, b"one");
        input.push(2, b"two");
        input.close();
        assert_eq!([input.write(), input.write()], [Wrote::Bytes(1, 3), Wrote::Bytes(2, 3)]);
        assert!(!input.has_ended());
        assert_eq!(input.write(), Wrote::Ended);
        assert!(input.has_ended() && input.wants_room().is_none());
        let mut got = [0; 16];
        assert_eq!(read(&ours, &mut got), Ok(6));
        assert_eq!((&got[..6], read(&ours, &mut [0; 1])), (&b"onetwo"[..], Ok(0)));
    }

    #[test]
    fn a_full_pipe_blocks_and_a_closed_one_ends() {
        let (ours, theirs) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).expect("pipe");
        let mut input = Input::new(Some(theirs));
        input.push(1, &vec![0; 1 << 20]);
        assert!(matches!(input.write(), Wrote::Bytes(1, _)));
        assert_eq!(input.write(), Wrote::Blocked);
        drop(ours);
        assert_eq!(input.write(), Wrote::Ended);
    }
}
