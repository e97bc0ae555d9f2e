//! Compressing a file that was rotated away, in a process of its own: the container does not wait for
//! it, unless it fills the next file before.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use flate2::write::GzEncoder;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::file::{GZ, with_suffix};
use crate::sys::descriptors;
use crate::sys::process::{Fork, exit_now, fork};

/// A compression under way. Dropping it waits for it.
#[derive(Debug)]
pub(super) struct Compression(Option<Pid>);

impl Compression {
    /// `None`: it is left as it is; the log can be read all the same.
    pub(super) fn start(path: &Path) -> Option<Self> {
        match fork() {
            Ok(Fork::Child) => exit_now(i32::from(compress(path, true).is_err())),
            Ok(Fork::Parent(child)) => Some(Self(Some(child))),
            // A process of several threads, which only tests are.
            Err(_) => {
                let _ = compress(path, false);
                None
            }
        }
    }

    pub(super) fn unless_over(mut self) -> Option<Self> {
        let status = self.0.map(|child| waitpid(child, Some(WaitPidFlag::WNOHANG)));
        if status == Some(Ok(WaitStatus::StillAlive)) {
            return Some(self);
        }
        self.0 = None;
        None
    }
}

impl Drop for Compression {
    fn drop(&mut self) {
        if let Some(child) = self.0 {
            let _ = waitpid(child, None);
        }
    }
}

/// The plain file goes when the compressed one is whole, and not before.
fn compress(path: &Path, alone: bool) -> io::Result<()> {
    let compressed = with_suffix(path, GZ);
    let unfinished = with_suffix(path, ".tmp");
    let mut from = File::open(path)?;
    let to = File::create(&unfinished)?;
    if alone {
        // Above all the lock that says that the monitor lives, and the clients' sockets.
        descriptors::close_all_but(&[from.as_fd(), to.as_fd()])?;
    }
    let mut encoder = GzEncoder::new(to, flate2::Compression::default());
    let done = io::copy(&mut from, &mut encoder).and_then(|_| encoder.finish());
    let renamed = done.and_then(|_| fs::rename(&unfinished, &compressed));
    if renamed.is_err() {
        let _ = fs::remove_file(&unfinished);
        return renamed;
    }
    fs::remove_file(path)
}
