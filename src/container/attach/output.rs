//! A standard output of ours that is written to without ever waiting for its reader. What comes from a
//! pipe goes there page by page, without being copied (splice(2)), where the kernel can do that.

use std::fs::File;
use std::io::{stderr, stdout};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{pipe2, read, write};

use crate::sys::terminal;

/// Written at once to a pipe or a terminal that blocks: what poll(2) says there is room for.
const SMALL: usize = 4096;

#[derive(Debug)]
pub struct Output {
    end: OwnedFd,
    kind: Kind,
    pending: Vec<u8>,
    /// So many of them are written.
    written: usize,
    /// Pages can be moved there.
    takes_pages: bool,
    /// There was no room for a page.
    full: bool,
}

/// Most that is moved at once: as much as a pipe can hold.
const PAGES: usize = 1 << 20;

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
        Ok(Self { end, kind, pending: Vec::new(), written: 0, takes_pages: kind != Kind::Socket, full: false })
    }

    /// An end that only this process has: a pipe to a process of the container, or its terminal.
    ///
    /// # Errors
    /// As fcntl(2).
    pub fn own(end: OwnedFd) -> nix::Result<Self> {
        fcntl(&end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let (kind, pending) = (Kind::Direct, Vec::new());
        Ok(Self { end, kind, pending, written: 0, takes_pages: true, full: false })
    }

    /// Takes what `from` has, which is ready to be read: page by page, or through `buffer`. Returns the
    /// number of bytes; 0 at the end, which a terminal that is gone is too.
    ///
    /// # Errors
    /// `EAGAIN`: there is no room, or `from` was not ready after all. As write(2).
    pub fn draw(&mut self, from: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<usize> {
        if self.takes_pages && self.pending.is_empty() {
            let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
            match splice(from, None, &self.end, None, PAGES, flags) {
                Err(Errno::EAGAIN) => {
                    let mut room = [PollFd::new(self.end.as_fd(), PollFlags::POLLOUT)];
                    self.full = poll(&mut room, PollTimeout::ZERO)? == 0;
                    return Err(Errno::EAGAIN);
                }
                done @ (Ok(_) | Err(Errno::EPIPE | Errno::EINTR)) => return done,
                // Neither is a pipe, or it is a terminal, a file opened to append, …: read(2) and
                // write(2) tell which of the two a failure is of.
                Err(_) => self.takes_pages = false,
            }
        }
        let length = match read(from, buffer) {
            Ok(length) => length,
            Err(e @ (Errno::EAGAIN | Errno::EINTR)) => return Err(e),
            Err(_) => 0,
        };
        self.push(&buffer[..length])?;
        Ok(length)
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

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    /// Nobody reads any more.
    pub fn is_broken(&self) -> bool {
        let mut polls = [PollFd::new(self.end.as_fd(), PollFlags::empty())];
        poll(&mut polls, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// What to wait for until there is room, when something is left to be written.
    pub fn wants_room(&self) -> Option<BorrowedFd<'_>> {
        (self.full || !self.pending.is_empty()).then(|| self.end.as_fd())
    }

    /// There is room. Returns the number of bytes that were written.
    ///
    /// # Errors
    /// As [`Output::push`].
    pub fn flush(&mut self) -> nix::Result<usize> {
        self.full = false;
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

/// A pipe for what goes to standard output, where it can go page by page from there. Not where
/// standard error goes to the same place: what comes over two ways has no order.
pub fn output_pipe() -> Option<(OwnedFd, OwnedFd)> {
    let (out, err) = (fstat(stdout()).ok()?, fstat(stderr()).ok()?);
    let kind = SFlag::from_bits_truncate(out.st_mode) & SFlag::S_IFMT;
    let takes_pages = match kind {
        SFlag::S_IFIFO | SFlag::S_IFREG => true,
        SFlag::S_IFCHR => terminal::size(stdout().as_fd()).is_none(),
        _ => false,
    };
    if !takes_pages || (out.st_dev, out.st_ino) == (err.st_dev, err.st_ino) && kind != SFlag::S_IFCHR {
        return None;
    }
    let (read, write) = pipe2(OFlag::O_CLOEXEC).ok()?;
    fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).ok()?;
    widen(&write);
    Some((read, write))
}

/// Lets a pipe hold more, so that a burst costs fewer changes between processes. Refused past a user's
/// share: pipe(7).
pub fn widen(pipe: impl AsFd) {
    let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(256 * 1024));
}

fn reopen(fd: BorrowedFd<'_>) -> std::io::Result<OwnedFd> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(File::options().write(true).custom_flags(flags).open(path)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::pipe;

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
