//! Threads that write the contents of small files, and finish files of any size, while the archive's
//! reader makes the next ones.
//!
//! The reader alone makes, links and removes names, in the archive's order; what is done here is done
//! to open files, whatever names they have or have lost since. So nothing depends on when it is done,
//! as long as it is before the layer is published: [`Fillers::wait_all`].

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::stat::{Mode, fchmod, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown};

use super::apply::unmapped;
use crate::sys::writeback;

/// Bytes of a file whose contents are handed over.
pub const SMALL: u64 = 64 << 10;
/// Files, and bytes, that are handed over at once: a thread is woken for some work, not for a file.
const FILES: usize = 16;
const BYTES: usize = 256 << 10;
/// Batches that wait. With those in work, a layer has some hundred files open at most.
const LENGTH: usize = 2;
/// More threads than this wait for each other in the file system.
const MOST: usize = 3;
/// From this size on a file's data goes to the disk while the next ones come: less is left to sync
/// at the end. For small files the calls would cost more than they save.
const LARGE: u64 = 256 << 10;

/// What a file gets when its contents are there.
#[derive(Debug)]
pub struct Finish {
    /// As the archive has it, for the error.
    pub path: Vec<u8>,
    pub owner: Option<(Uid, Gid)>,
    pub mode: u32,
    pub size: u64,
    pub atime: TimeSpec,
    pub mtime: TimeSpec,
}

#[derive(Debug, Default)]
struct Batch {
    data: Vec<u8>,
    files: Vec<(File, Range<usize>, Finish)>,
}

/// The threads, and what was not handed over yet.
#[derive(Debug)]
pub struct Fillers {
    next: Batch,
    /// `None` once all was handed over.
    queue: Option<SyncSender<Batch>>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    failed: AtomicBool,
    /// The first failure.
    failure: Mutex<Option<anyhow::Error>>,
    empty: Mutex<Vec<Batch>>,
}

impl Fillers {
    /// # Errors
    /// No thread can be made.
    pub fn start() -> io::Result<Self> {
        let (queue, batches) = sync_channel(LENGTH);
        let (shared, batches) = (Arc::new(Shared::default()), Arc::new(Mutex::new(batches)));
        let count = std::thread::available_parallelism().map_or(1, |n| n.get() - 1).clamp(1, MOST);
        let threads = (0..count).map(|_| {
            let (shared, batches) = (Arc::clone(&shared), Arc::clone(&batches));
            std::thread::Builder::new().stack_size(128 << 10).spawn(move || work(&shared, &batches))
        });
        let threads = threads.collect::<io::Result<_>>()?;
        Ok(Self { next: Batch::default(), queue: Some(queue), shared, threads })
    }

    /// Where a small file's contents are put before [`Self::file`].
    pub fn data(&mut self) -> &mut Vec<u8> {
        &mut self.next.data
    }

    /// A file with its contents from `start` of [`Self::data`] on; what it had before is there
    /// already.
    ///
    /// # Errors
    /// What went wrong with an earlier file.
    pub fn file(&mut self, file: File, start: usize, finish: Finish) -> Result<()> {
        let range = start..self.next.data.len();
        self.next.files.push((file, range, finish));
        if self.next.files.len() >= FILES || self.next.data.len() >= BYTES {
            self.hand_over();
        }
        self.check()
    }

    /// Returns when all is done.
    ///
    /// # Errors
    /// What went wrong first.
    pub fn wait_all(&mut self) -> Result<()> {
        self.hand_over();
        self.end();
        self.check()
    }

    fn hand_over(&mut self) {
        let empty = self.shared.empty.lock().ok().and_then(|mut empty| empty.pop()).unwrap_or_default();
        let batch = std::mem::replace(&mut self.next, empty);
        // Threads that are gone have left their failure.
        let _ = self.queue.as_ref().map(|queue| queue.send(batch));
    }

    fn check(&self) -> Result<()> {
        if !self.shared.failed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(failure.unwrap_or_else(|| anyhow::anyhow!("stopped, because another file failed")))
    }

    fn end(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl Drop for Fillers {
    /// Who gives up removes the folder next; nobody may be at work in it then.
    fn drop(&mut self) {
        self.shared.failed.store(true, Ordering::Relaxed);
        self.end();
    }
}

fn work(shared: &Shared, batches: &Mutex<Receiver<Batch>>) {
    loop {
        let next = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut batch) = next else { return };
        for (file, range, how) in batch.files.drain(..) {
            // Batches are still taken, so that who hands them over never waits for nobody.
            if shared.failed.load(Ordering::Relaxed) {
                break;
            }
            let done = finish(file, &batch.data[range], &how);
            if let Err(error) = done.with_context(|| format!("unpack {:?}", OsStr::from_bytes(&how.path))) {
                shared.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                shared.failed.store(true, Ordering::Relaxed);
            }
        }
        batch.data.clear();
        if let Ok(mut empty) = shared.empty.lock() {
            empty.push(batch);
        }
    }
}

fn finish(mut file: File, data: &[u8], how: &Finish) -> io::Result<()> {
    file.write_all(data)?;
    if let Some((uid, gid)) = how.owner {
        fchown(&file, Some(uid), Some(gid)).map_err(|e: Errno| unmapped(e, uid, gid))?;
    }
    // chown(2) takes setuid and setgid away, as does writing.
    if how.mode & 0o7000 != 0 {
        fchmod(&file, Mode::from_bits_truncate(how.mode))?;
    }
    futimens(&file, &how.atime, &how.mtime)?;
    if how.size >= LARGE {
        writeback::begin(&file, 0, 0);
    }
    Ok(())
}
