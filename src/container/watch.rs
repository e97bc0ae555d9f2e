//! Waiting for a container's records to change.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::store::{Id, Store};

/// Tells when something in the container's directory was replaced or removed, or the directory was.
#[derive(Debug)]
pub struct Changes(Option<Inotify>);

impl Changes {
    /// From now on. Where the kernel gives no further watch (a user has a limited number), waiting is
    /// for the whole of its time.
    #[must_use]
    pub fn of(store: &Store, id: &Id) -> Self {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok();
        let flags = AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        Self(inotify.filter(|inotify| inotify.add_watch(&store.container(id), flags).is_ok()))
    }

    /// Waits for a change, or so long. What changed since the last call is no reason to wait.
    pub fn wait(&self, longest: Duration) {
        let Some(inotify) = &self.0 else { return std::thread::sleep(longest) };
        let timeout = PollTimeout::try_from(longest).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], timeout);
        // What is read is not needed: the caller looks again.
        let _ = inotify.read_events();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_change_ends_the_wait() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::at(home.path().join("root"), home.path().join("run"));
        let id = Id::random().unwrap();
        std::fs::create_dir_all(store.container(&id)).unwrap();
        let changes = Changes::of(&store, &id);
        std::fs::write(store.container(&id).join("x"), "").unwrap();
        std::fs::rename(store.container(&id).join("x"), store.container(&id).join("state.json")).unwrap();
        let begin = Instant::now();
        changes.wait(Duration::from_secs(20));
        assert!(begin.elapsed() < Duration::from_secs(10));
        changes.wait(Duration::from_millis(1));
    }
}
