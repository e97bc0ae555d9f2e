//! A log that grows.
//!
//! The monitor hands out the files, as they are and as it begins new ones, already open and in their
//! order; the end of its connection is the log's. What is added to a file wakes us through inotify(7).

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Wanted;
use super::files::{LogFile, Reader, Start, Within};
use super::record::Record;
use crate::error::{self, Failure};
use crate::monitor::log::Format;
use crate::monitor::protocol::{Message, Stream, VERSION};
use crate::monitor::{self, to_error};
use crate::store::{Id, Store};
use crate::sys::seqpacket;

/// The connection to the monitor.
pub(super) struct Live {
    socket: OwnedFd,
}

/// What came over it.
enum Word {
    File(LogFile),
    Done,
    End,
}

impl Live {
    /// With the files that are there now, the oldest first. `None`: nothing will be added, the
    /// container does not run.
    pub(super) fn open(store: &Store, id: &Id) -> Result<Option<(Self, Vec<LogFile>)>> {
        let Ok(socket) = monitor::dial(store, id) else { return Ok(None) };
        if (Message::Follow { version: VERSION }).send(socket.as_fd()).is_err() {
            return Ok(None);
        }
        let (live, mut files) = (Self { socket }, Vec::new());
        loop {
            match live.next()? {
                Word::File(file) => files.push(file),
                Word::Done => return Ok(Some((live, files))),
                // It ended in this moment.
                Word::End => return Ok(None),
            }
        }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// The next word, waiting for it.
    fn next(&self) -> Result<Word> {
        let mut packet = vec![0; 4096];
        loop {
            let (length, fds) = match seqpacket::receive(self.socket.as_fd(), &mut packet, true) {
                Ok(received) => received,
                Err(Errno::EMSGSIZE) => return Err(Failure::new("too many open files").into()),
                Err(e) => return Err(e).context("read from the monitor"),
            };
            match Message::parse(&packet[..length]) {
                Some(Message::LogFile { compressed }) => {
                    // It may have ended by now.
                    let _ = Message::Taken { stream: Stream::Output, count: 1 }.send(self.socket.as_fd());
                    let Some(fd) = fds.into_iter().next() else { continue };
                    return Ok(Word::File(LogFile { file: File::from(fd), compressed }));
                }
                Some(Message::Done) => return Ok(Word::Done),
                Some(Message::Notice(text)) => error::warn(text),
                Some(Message::Failed(failed)) => return Err(to_error(failed)),
                // Of a later version.
                _ if length > 0 => {}
                _ => return Ok(Word::End),
            }
        }
    }

    /// Whether the log has ended: for a reader that gets no files.
    pub(super) fn has_ended(&self) -> Result<bool> {
        Ok(matches!(self.next()?, Word::End))
    }

    /// Reads the files, and then what comes.
    pub(super) fn follow(
        self,
        files: Vec<LogFile>,
        format: Format,
        start: &Start,
        wanted: &Wanted,
        sink: &mut impl FnMut(&Record<'_>),
        flush: &mut impl FnMut(),
    ) -> Result<()> {
        let mut current = None;
        for (index, file) in files.into_iter().enumerate().skip(start.file) {
            current = Current::read(file, format, start.within(index), wanted, sink)?;
            if current.is_none() {
                flush();
                return Ok(());
            }
        }
        flush();
        loop {
            let Some(word) = self.wait(current.as_ref(), wanted.until)? else { return Ok(()) };
            // What was written before the next file was begun, or the log was ended, is there by now.
            if let Some(current) = &mut current
                && !current.reader.drain(wanted, sink)?
            {
                flush();
                return Ok(());
            }
            let goes_on = match word {
                Woken::Change | Woken::Word(Word::Done) => true,
                Woken::Word(Word::File(file)) => {
                    current = Current::read(file, format, Within::default(), wanted, sink)?;
                    current.is_some()
                }
                Woken::Word(Word::End) => false,
            };
            flush();
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// Sleeps until something changed; `None`: `until` is past.
    fn wait(&self, current: Option<&Current>, until: Option<Timestamp>) -> Result<Option<Woken>> {
        loop {
            let left = until.map(|until| until.duration_since(Timestamp::now()));
            if left.is_some_and(|left| left.is_negative()) {
                return Ok(None);
            }
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                let left = left.unsigned_abs() + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            });
            let mut polls = vec![PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            polls.extend(current.map(|current| PollFd::new(current.changes.as_fd(), PollFlags::POLLIN)));
            match poll(&mut polls, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(e).context("wait for the log"),
            }
            let is_ready = |at: usize| polls.get(at).is_some_and(|poll| poll.any().unwrap_or(false));
            let (word, change) = (is_ready(0), is_ready(1));
            if let Some(current) = current.filter(|_| change) {
                // Only that there were changes counts, not which.
                let _ = current.changes.read_events();
            }
            if word {
                return Ok(Some(Woken::Word(self.next()?)));
            }
            if change {
                return Ok(Some(Woken::Change));
            }
        }
    }
}

enum Woken {
    /// The current file has grown.
    Change,
    Word(Word),
}

/// The file that is written to.
struct Current {
    reader: Reader,
    changes: Inotify,
}

impl Current {
    /// Reads all that is in the file by now; `None`: past what is wanted.
    fn read(
        file: LogFile,
        format: Format,
        start: Within,
        wanted: &Wanted,
        sink: &mut impl FnMut(&Record<'_>),
    ) -> Result<Option<Self>> {
        // Watched before the first byte is read, so that no change goes by unseen. By its number: it
        // may have another name by now, or none.
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).context("watch the log")?;
        let name = format!("/proc/self/fd/{}", file.file.as_raw_fd());
        changes.add_watch(name.as_str(), AddWatchFlags::IN_MODIFY).map_err(|e| {
            let failure = Failure::new("watch the log").source(e);
            if e == Errno::ENOSPC { failure.hint("raise fs.inotify.max_user_watches") } else { failure }
        })?;
        let mut reader = file.reader(format, start);
        Ok(if reader.drain(wanted, sink)? { Some(Self { reader, changes }) } else { None })
    }
}
