//! A standard output of ours that is written to without ever waiting for its reader.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::write;

/// Written at once to a pipe or a terminal that blocks: what poll(2) says there is room for.
const SMALL: usize = 4096;

#[derive(Debug)]
pub struct Output {
    end: OwnedFd,
    kind: Kind,
    pending: Vec<u8>,
    /// So many of them are written.
    written: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A file, where writing waits for nobody, or an open file of our own that does not block.
    Direct,
    Socket,
    /// It would block. `O_NONBLOCK` cannot be set on it: others have the same open file, the shell
    /// that started us above all, and would be surprised.
    Blocking,
}

impl Output {
    /// # Errors
    /// No descriptor is left.
    pub fn new(fd: impl AsFd) -> std::io::Result<Self> {
        let fd = fd.as_fd();
        let (end, kind) = match SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFSOCK => (fd.try_clone_to_owned()?, Kind::Socket),
            // Opened once more, it is an open file of our own.
            SFlag::S_IFIFO | SFlag::S_IFCHR => match reopen(fd) {
                Ok(end) => (end, Kind::Direct),
                Err(_) => (fd.try_clone_to_owned()?, Kind::Blocking),
            },
            _ => (fd.try_clone_to_owned()?, Kind::Direct),
        };
        Ok(Self { end, kind, pending: Vec::new(), written: 0 })
    }

    /// An end that only this process has: a pipe to a process of the container, or its terminal.
    ///
    /// # Errors
    /// As fcntl(2).
    pub fn own(end: OwnedFd) -> nix::Result<Self> {
        nix::fcntl::fcntl(&end, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
        Ok(Self { end, kind: Kind::Direct, pending: Vec::new(), written: 0 })
    }

    /// Writes what goes, and keeps the rest. Returns the number of bytes that were written.
    ///
    /// # Errors
    /// As write(2); `EPIPE`: the reader is gone.
    pub fn push(&mut self, bytes: &[u8]) -> nix::Result<usize> {
        if !self.pending.is_empty() {
            self.pending.extend_from_slice(bytes);
            return Ok(0);
        }
        // Without asking poll(2) first, where that cannot wait.
        let count = if self.kind == Kind::Blocking { 0 } else { self.write_some(bytes)? };
        self.pending.extend_from_slice(&bytes[count..]);
        Ok(count)
    }

    /// What to wait for until there is room, when something is left to be written.
    pub fn wants_room(&self) -> Option<BorrowedFd<'_>> {
        (!self.pending.is_empty()).then(|| self.end.as_fd())
    }

    /// There is room. Returns the number of bytes that were written.
    ///
    /// # Errors
    /// As [`Output::push`].
    pub fn flush(&mut self) -> nix::Result<usize> {
        let rest = &self.pending[self.written..];
        let rest = if self.kind == Kind::Blocking { &rest[..rest.len().min(SMALL)] } else { rest };
        let count = self.write_some(rest)?;
        self.written += count;
        if self.written == self.pending.len() {
            self.pending.clear();
            self.written = 0;
        }
        Ok(count)
    }

    /// Until it is all written or would block.
    fn write_some(&self, bytes: &[u8]) -> nix::Result<usize> {
        let mut count = 0;
        while count < bytes.len() {
            let rest = &bytes[count..];
            let wrote = match self.kind {
                Kind::Socket => send(self.end.as_raw_fd(), rest, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL),
                Kind::Direct | Kind::Blocking => write(&self.end, rest),
            };
            match wrote {
                Ok(wrote) => count += wrote,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e),
            }
            if self.kind == Kind::Blocking {
                break;
            }
        }
        Ok(count)
    }
}

fn reopen(fd: BorrowedFd<'_>) -> std::io::Result<OwnedFd> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(File::options().write(true).custom_flags(flags).open(path)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{pipe, read};

    #[test]
    fn a_full_pipe_keeps_nobody_waiting_and_loses_nothing() {
        let (ours, theirs) = pipe().expect("pipe");
        for kind in [Kind::Direct, Kind::Blocking] {
            let mut output = Output::new(&theirs).expect("output");
            if kind == Kind::Blocking {
                output = Output { end: theirs.try_clone().expect("clone"), kind, ..output };
            }
            let sent: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[0]).collect();
            let mut written = output.push(&sent).expect("push");
            let mut got = Vec::new();
            while got.len() < sent.len() {
                if output.wants_room().is_some() {
                    written += output.flush().expect("flush");
                }
                let mut buffer = [0; 10_000];
                let count = read(&ours, &mut buffer).expect("read");
                got.extend_from_slice(&buffer[..count]);
            }
            assert!(output.wants_room().is_none() && written == sent.len() && got == sent);
        }
        let mut output = Output::new(&theirs).expect("output");
        drop(ours);
        assert_eq!(output.push(b"x"), Err(Errno::EPIPE));
    }
}
