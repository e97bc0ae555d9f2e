//! Reading what was recorded, and what is being recorded: line by line over all files, from the
//! oldest that is kept to the one that grows.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::{Event, log};
use crate::store::{Lock, Store};

/// How often is looked where the kernel cannot tell: its instances of inotify are few.
const PAUSE: Duration = Duration::from_millis(200);

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The oldest event that is kept.
    Start,
    /// What is recorded from now on.
    End,
}

/// A reader. It sees each event once, in the order they were recorded in.
#[derive(Debug)]
pub struct Reader<'a> {
    store: &'a Store,
    /// The file that is read, and behind it younger ones. None: there is none yet.
    files: VecDeque<File>,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were looked at.
    taken: usize,
    /// Files came and went before they were read.
    lost: bool,
}

impl<'a> Reader<'a> {
    /// # Errors
    /// The files cannot be opened.
    pub fn open(store: &'a Store, from: From) -> Result<Self> {
        let folder = log::folder(store);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("make the directory {folder:?}"))?;
        let mut reader = Self { store, files: VecDeque::new(), buffer: Vec::new(), taken: 0, lost: false };
        reader.files = reader.younger_than(None).with_context(|| format!("read {folder:?}"))?;
        if from == From::End {
            reader.files.drain(..reader.files.len().saturating_sub(1));
            if let Some(file) = reader.files.front_mut() {
                file.seek(SeekFrom::End(0))?;
            }
        }
        Ok(reader)
    }

    /// The next event; `None`: there is none as yet. A line that is none is left out.
    ///
    /// # Errors
    /// A file cannot be read.
    #[allow(clippy::should_implement_trait, reason = "an iterator that has ended has no more; this may have later")]
    pub fn next(&mut self) -> Result<Option<Event>> {
        loop {
            while let Some(length) = self.buffer[self.taken..].iter().position(|byte| *byte == b'\n') {
                let line = &self.buffer[self.taken..self.taken + length];
                let event = serde_json::from_slice(line).ok();
                self.taken += length + 1;
                if event.is_some() {
                    return Ok(event);
                }
            }
            self.buffer.drain(..self.taken);
            self.taken = 0;
            let more = self.read().with_context(|| format!("read {:?}", log::folder(self.store)))?;
            if !more {
                return Ok(None);
            }
        }
    }

    /// Whether events went away before they were read, since this was last asked: a reader that
    /// stood still for some ten thousands of them.
    pub fn has_lost(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }

    /// Reads on, in the next file where this one is at its end. Returns whether there was more.
    fn read(&mut self) -> io::Result<bool> {
        loop {
            let Some(file) = self.files.front_mut() else {
                self.files = self.younger_than(None)?;
                if self.files.is_empty() {
                    return Ok(false);
                }
                continue;
            };
            if (&*file).take(64 * 1024).read_to_end(&mut self.buffer)? > 0 {
                return Ok(true);
            }
            let inode = file.metadata()?.ino();
            if self.files.len() == 1 {
                let current = fs::metadata(log::file(self.store, 0));
                if current.is_ok_and(|current| current.ino() == inode) {
                    return Ok(false);
                }
                let younger = self.younger_than(Some(inode))?;
                if younger.is_empty() {
                    return Ok(false);
                }
                self.files.extend(younger);
            }
            // It was complete when it got another name, and that was before its end was met again here.
            if let Some(done) = self.files.front_mut()
                && (&*done).take(64 * 1024).read_to_end(&mut self.buffer)? > 0
            {
                return Ok(true);
            }
            self.files.pop_front();
            // What has no end of its line by now is no line.
            self.buffer.clear();
        }
    }

    /// The files that were begun after the one with this inode (which this has open, so that no other
    /// file has its number), the oldest first.
    fn younger_than(&mut self, inode: Option<u64>) -> io::Result<VecDeque<File>> {
        let _lock = Lock::shared(&log::folder(self.store))?;
        let mut files = VecDeque::new();
        for number in 0..=log::KEPT {
            let file = match File::open(log::file(self.store, number)) {
                Ok(file) => file,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            if Some(file.metadata()?.ino()) == inode {
                return Ok(files);
            }
            files.push_front(file);
        }
        self.lost |= inode.is_some();
        Ok(files)
    }
}

/// Tells when there may be more to read.
#[derive(Debug)]
pub struct Bell {
    /// None: the kernel has no more of them to give, and one looks every now and then.
    inotify: Option<Inotify>,
}

impl Bell {
    /// Make it before the reader has come to the end, or it may miss the last stroke.
    #[must_use]
    pub fn hang(store: &Store) -> Self {
        let make = || -> nix::Result<Inotify> {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            let what = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
            inotify.add_watch(&log::folder(store), what)?;
            Ok(inotify)
        };
        Self { inotify: make().ok() }
    }

    /// Waits until there may be more, `patience` is over, or nobody reads `output` any more. Returns
    /// whether somebody does.
    ///
    /// # Errors
    /// As poll(2).
    pub fn wait(&self, patience: Option<Duration>, output: BorrowedFd) -> Result<bool> {
        let patience = match (&self.inotify, patience) {
            (None, patience) => Some(patience.map_or(PAUSE, |patience| patience.min(PAUSE))),
            (_, patience) => patience,
        };
        // Rounded up, so that the last fraction of a millisecond is slept and not spun.
        let timeout = patience.map_or(PollTimeout::NONE, |patience| {
            PollTimeout::try_from(patience + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX)
        });
        // Without an event of its own: that its other end is closed is told always.
        let mut polls = vec![PollFd::new(output, PollFlags::empty())];
        polls.extend(self.inotify.as_ref().map(|inotify| PollFd::new(inotify.as_fd(), PollFlags::POLLIN)));
        match poll(&mut polls, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e).context("wait for events"),
        }
        if let Some(inotify) = &self.inotify {
            // What it tells is of no interest, only that it did.
            let _ = inotify.read_events();
        }
        Ok(!polls[0].revents().is_some_and(|got| got.contains(PollFlags::POLLERR)))
    }
}
