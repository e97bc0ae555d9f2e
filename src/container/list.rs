//! What containers there are, as fast as it can be told: one small file of each is read, below one
//! descriptor of their directory, and only of those recorded as running the kernel is asked
//! whether they do. On the way, what dead commands left is put in order.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use crate::container::create::{self, Settled};
use crate::container::heal;
use crate::container::state::{self, Phase, State};
use crate::store::{Id, Store, record, sweep, tree};

/// A container and where it stands.
#[derive(Debug, Clone)]
pub struct Container {
    pub id: Id,
    pub state: State,
}

/// Docker's names for where a container stands (`--filter status=…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Created,
    Running,
    Paused,
    Exited,
}

impl Status {
    /// Whether it has processes: Docker's `State.Running`, true for a paused one too.
    #[must_use]
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Exited => "exited",
        }
    }
}

impl Container {
    #[must_use]
    pub fn status(&self) -> Status {
        match self.state.phase {
            Phase::Created { .. } => Status::Created,
            Phase::Running { paused: false, .. } => Status::Running,
            Phase::Running { paused: true, .. } => Status::Paused,
            Phase::Exited { .. } => Status::Exited,
        }
    }

    /// What it ended with; 0 while it has not.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match &self.state.phase {
            Phase::Created { failure } => failure.as_ref().map_or(0, |(code, _)| *code),
            Phase::Running { .. } => 0,
            Phase::Exited { code, .. } => *code,
        }
    }
}

/// All containers, the newest first.
///
/// # Errors
/// The directory cannot be read. A container whose record is damaged is left out, and said so to
/// `damaged`.
pub fn all(store: &Store, mut damaged: impl FnMut(&Id, &anyhow::Error)) -> Result<Vec<Container>> {
    let path = store.containers();
    let reading = || format!("read {path:?}");
    let dir =
        open(&path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).with_context(reading)?;
    let mut containers = Vec::new();
    let mut has_garbage = false;
    let mut buffer = Vec::with_capacity(16 * 1024);
    for entry in fs::read_dir(&path).with_context(reading)? {
        let name = entry.with_context(reading)?.file_name();
        let Some(name) = name.to_str() else { continue };
        has_garbage |= name.starts_with("tmp-");
        let Ok(id) = name.parse::<Id>() else { continue };
        match read_state(&dir, name, &mut buffer) {
            Ok(Some(state)) => containers.extend(settle(store, Container { id, state })?),
            // Removed since the directory was read.
            Ok(None) => {}
            Err(error) => damaged(&id, &error),
        }
    }
    if has_garbage {
        for garbage in sweep::garbage(&path) {
            // What cannot be removed now is met again by the next command.
            let _ = tree::remove(&garbage);
        }
    }
    containers.sort_by(|a, b| b.state.created.cmp(&a.state.created).then_with(|| a.id.cmp(&b.id)));
    Ok(containers)
}

/// One container as it stands.
///
/// # Errors
/// Its record cannot be read, or it went away.
pub fn one(store: &Store, id: &Id) -> Result<Container> {
    let gone = || crate::error::Failure::new(format!("No such container: {id}"));
    let path = store.container(id).join("state.json");
    let state = record::read::<State>(&path)?.ok_or_else(gone)?;
    Ok(settle(store, Container { id: id.clone(), state })?.ok_or_else(gone)?)
}

fn read_state(dir: &OwnedFd, id: &str, buffer: &mut Vec<u8>) -> Result<Option<State>> {
    let path = format!("{id}/state.json");
    let file = match openat(dir, path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("open {path:?}")),
    };
    read_whole(file.as_fd(), buffer).with_context(|| format!("read {path:?}"))?;
    record::parse(buffer).with_context(|| format!("read {path:?}")).map(Some)
}

/// A file's content, in a system call or two: a record is replaced as a whole, so a read that did
/// not fill the buffer has reached the end.
fn read_whole(file: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> nix::Result<()> {
    let mut length = 0;
    loop {
        buffer.resize(buffer.capacity().max(4096), 0);
        let count = nix::unistd::read(file, &mut buffer[length..])?;
        length += count;
        if length < buffer.len() {
            buffer.truncate(length);
            return Ok(());
        }
        buffer.reserve(length);
    }
}

/// Puts the record beside what is true: a monitor that was killed, a command that was killed
/// before its container was whole. `None`: there is no such container, or not yet.
fn settle(store: &Store, container: Container) -> Result<Option<Container>> {
    match &container.state.phase {
        Phase::Exited { .. } => Ok(Some(container)),
        Phase::Created { .. } => match create::settle(store, &container.id, &container.state)? {
            Settled::Whole => Ok(Some(container)),
            Settled::Unfinished | Settled::Gone => Ok(None),
        },
        Phase::Running { started, .. } => {
            if state::is_alive(store, &container.id) {
                return Ok(Some(container));
            }
            let started = *started;
            // Somebody else may be at it; then what follows is what it will come to.
            heal::heal(store, &container.id)?;
            let path = store.container(&container.id).join("state.json");
            let Some(state) = record::read::<State>(&path)? else { return Ok(None) };
            let phase = match state.phase {
                Phase::Running { .. } if !state::is_alive(store, &container.id) => {
                    Phase::Exited { started, finished: modified(&path), code: 137, oom_killed: false }
                }
                phase => phase,
            };
            Ok(Some(Container { id: container.id, state: State { phase, ..state } }))
        }
    }
}

fn modified(path: &Path) -> Timestamp {
    let time = fs::metadata(path).and_then(|meta| meta.modified()).ok();
    time.and_then(|time| Timestamp::try_from(time).ok()).unwrap_or_default()
}
