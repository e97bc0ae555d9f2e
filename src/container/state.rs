//! What became of a container: the one record that changes, small, because `ps` reads it of every
//! container and nothing else.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::record::Record;
use crate::store::{Id, Lock, Store};

/// `containers/<id>/state.json`. Written under the container's lock only.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    pub name: String,
    /// What `ps` shows in IMAGE: as the user wrote it.
    pub image: String,
    /// The image's id, `sha256:…`; empty for `--rootfs`.
    pub image_id: String,
    /// The words that are run.
    pub command: Vec<String>,
    pub created: Timestamp,
    pub phase: Phase,
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub labels: std::collections::BTreeMap<String, String>,
    /// Its ports as `ps` shows them ([`crate::network::ports::shown`]), while it runs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ports: String,
    /// Names of the networks it is on, while it runs; else of those that it is to be on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// Times that it was started again by its restart policy.
    #[serde(default)]
    pub restarts: u32,
    /// Made by `run --rm`, which starts it at once: still only created and with nobody holding its
    /// lock, it is what a killed `run` left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unstarted: bool,
}

impl Record for State {
    const VERSION: u32 = 1;
}

/// Where a container stands, as far as a file can know: that it *runs* is true only while its
/// monitor lives ([`is_alive`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum Phase {
    Created {
        /// Why the last start failed, and the exit code that it gave.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<(u8, String)>,
    },
    Running {
        started: Timestamp,
        /// None of its processes is let run. Written by who paused it, once the kernel has said so.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        paused: bool,
    },
    Exited {
        started: Timestamp,
        finished: Timestamp,
        code: u8,
        #[serde(default)]
        oom_killed: bool,
    },
}

/// What the monitor says of the process it watches: `containers/<id>/process.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Process {
    /// The container's first process, as the host numbers it.
    pub pid: i32,
    /// Its start time in clock ticks since boot, field 22 of `/proc/PID/stat`: tells it from
    /// another process that got its number later.
    pub start_time: u64,
    pub monitor: i32,
    /// The run directory that holds the monitor's socket: the same user can have two.
    pub run: std::path::PathBuf,
    /// The cgroups that were made for it, one of a hierarchy, as absolute paths.
    #[serde(default)]
    pub cgroups: Vec<String>,
}

impl Record for Process {
    const VERSION: u32 = 1;
}

/// Where [`Process`] lies in the container's directory.
pub const PROCESS: &str = "process.json";

/// The file in the container's directory that a monitor holds locked while it lives. Its first line
/// is the monitor's process number, from before it touches anything of the container's; the next ones
/// are the cgroups that it is about to make.
pub const ALIVE: &str = "alive";

/// Whether the container's monitor lives. The lock is the kernel's word, whatever files say.
#[must_use]
pub fn is_alive(store: &Store, id: &Id) -> bool {
    let path = store.container(id).join(ALIVE);
    // Shared, so that two who ask at once do not take each other for the monitor.
    match Lock::try_shared(&path) {
        Ok(lock) => lock.is_none(),
        // Whoever is taken for dead is killed for good: where it cannot be asked, it lives.
        Err(e) => e.kind() != std::io::ErrorKind::NotFound,
    }
}

/// The process number of the container's monitor, from before it touches anything of the
/// container's: a live monitor's, if [`is_alive`] says so afterwards.
#[must_use]
pub fn monitor(store: &Store, id: &Id) -> Option<i32> {
    let text = std::fs::read_to_string(store.container(id).join(ALIVE)).ok()?;
    text.lines().next()?.parse().ok()
}

/// The cgroups that the monitor was about to make, for when it was killed before it recorded its
/// [`Process`].
#[must_use]
pub fn planned_cgroups(store: &Store, id: &Id) -> Vec<String> {
    let text = std::fs::read_to_string(store.container(id).join(ALIVE)).unwrap_or_default();
    // Each line is written whole, unless the disk was full.
    let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    lines.filter(|line| line.starts_with('/') && line.contains(id.as_str())).map(str::to_owned).collect()
}

/// Whether its monitor lives and has no process of the container's on record: it is about to start
/// it, or hangs on the way.
#[must_use]
pub fn is_launching(store: &Store, id: &Id) -> bool {
    !store.container(id).join(PROCESS).exists() && is_alive(store, id)
}
