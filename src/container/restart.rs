//! Ending a container and starting it again.

use std::fs::{self, File};
use std::io;

use anyhow::{Context, Result};

use crate::container::start;
use crate::container::stop::Stopping;
use crate::events;
use crate::store::{Id, Lock, Store};

/// In the container's directory, held locked by who is about to start it again: its end is not its
/// removal then (`--rm`). One that nobody holds means nothing.
const MARK: &str = "restarting";

/// Whether a command is about to start the container again.
#[must_use]
pub fn is_under_way(store: &Store, id: &Id) -> bool {
    Lock::try_shared(&store.container(id).join(MARK)).is_ok_and(|lock| lock.is_none())
}

/// A container that has been asked to stop, to be started again.
#[derive(Debug)]
pub struct Restart {
    id: Id,
    /// `None`: it did not run.
    stopping: Option<Stopping>,
    mark: Lock,
}

impl Restart {
    /// As [`Stopping::ask`]; several containers are asked first and then waited for.
    ///
    /// # Errors
    /// As [`Stopping::ask`], or another command is restarting it and does not come to an end.
    pub fn ask(store: &Store, id: &Id, signal: Option<&str>, seconds: Option<i64>) -> Result<Self> {
        let path = store.container(id).join(MARK);
        let mark = loop {
            File::options().write(true).create(true).truncate(false).open(&path).map_err(|e| absent(e, id))?;
            // Two restarts, one after the other; the first one removes the file.
            match Lock::exclusive(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => break other.with_context(|| format!("lock {path:?}"))?,
            }
        };
        let stopping = Stopping::ask(store, id, signal, seconds)?;
        Ok(Self { id: id.clone(), stopping, mark })
    }

    /// Waits for its end and starts it.
    ///
    /// # Errors
    /// As [`Stopping::finish`] and [`start::start`].
    pub fn finish(self, store: &Store) -> Result<()> {
        let outcome = match self.stopping {
            Some(stopping) => stopping.finish(store),
            None => Ok(()),
        };
        let outcome = outcome.and_then(|()| start::start(store, &self.id, |_| None, None).map(drop));
        if outcome.is_ok() {
            events::of_container(store, &self.id, "restart", &[]);
        }
        // Before the lock is let go of: who waits for it makes a file of their own.
        let _ = fs::remove_file(store.container(&self.id).join(MARK));
        drop(self.mark);
        outcome
    }
}

fn absent(error: io::Error, id: &Id) -> anyhow::Error {
    if error.kind() == io::ErrorKind::NotFound {
        return crate::error::Failure::new(format!("No such container: {id}")).exit(1).into();
    }
    anyhow::Error::new(error).context(format!("mark container {id}"))
}
