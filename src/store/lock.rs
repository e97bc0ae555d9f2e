//! One lock for each object: `flock(2)` on its own directory, so that there is no lock file to
//! forget and no number to run out. The kernel lets go of it when its holder dies.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Held until it is dropped. The descriptor is closed on exec, so no child keeps it.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "held, not read")] Flock<File>);

impl Lock {
    /// Waits for the lock of a directory or file that exists.
    ///
    /// # Errors
    /// `NotFound` when the object does not exist, or went away while this waited for it.
    pub fn exclusive(path: &Path) -> io::Result<Self> {
        Self::take(path, FlockArg::LockExclusive)
    }

    /// The lock, or `None` when another process holds it.
    ///
    /// # Errors
    /// As [`Lock::exclusive`].
    pub fn try_exclusive(path: &Path) -> io::Result<Option<Self>> {
        match Self::take(path, FlockArg::LockExclusiveNonblock) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            other => other.map(Some),
        }
    }

    /// Waits until nobody holds the object exclusively.
    ///
    /// # Errors
    /// As [`Lock::exclusive`].
    pub fn shared(path: &Path) -> io::Result<Self> {
        Self::take(path, FlockArg::LockShared)
    }

    /// The lock shared with other readers, or `None` when a process holds it exclusively.
    ///
    /// # Errors
    /// As [`Lock::exclusive`].
    pub fn try_shared(path: &Path) -> io::Result<Option<Self>> {
        match Self::take(path, FlockArg::LockSharedNonblock) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            other => other.map(Some),
        }
    }

    fn take(path: &Path, how: FlockArg) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let locked = loop {
            match Flock::lock(file, how) {
                Ok(locked) => break locked,
                Err((f, Errno::EINTR)) => file = f,
                Err((_, e)) => return Err(e.into()),
            }
        };
        // The object may have been removed, or removed and made anew, while this waited.
        let now = std::fs::metadata(path)?;
        let held = locked.metadata()?;
        if (now.dev(), now.ino()) != (held.dev(), held.ino()) {
            return Self::take(path, how);
        }
        Ok(Self(locked))
    }
}
