//! Letting none of a cgroup's processes run, and letting them go on: kernel documentation,
//! `cgroup-v2.rst` ("cgroup.freeze") and `cgroup-v1/freezer-subsystem.rst`.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Cgroup;
use super::files;
use crate::error::Failure;

/// How long the processes may take to stand still: each does so when it next leaves the kernel.
const PATIENCE: Duration = Duration::from_secs(10);

/// The cgroup's directory in the hierarchy that can freeze it.
enum Freezer {
    V1(PathBuf),
    V2(PathBuf),
}

impl Cgroup {
    /// Freezes all its processes, those in sub-cgroups too, and waits until the kernel says so.
    /// Frozen already is fine. `false`: there is no cgroup that could be frozen.
    ///
    /// # Errors
    /// One of the processes does not stand still (it waits in the kernel for what does not answer);
    /// all of them go on then.
    pub fn freeze(&self) -> Result<bool> {
        let Some(freezer) = self.freezer() else { return Ok(false) };
        let frozen = match &freezer {
            Freezer::V1(dir) => freeze_v1(dir),
            Freezer::V2(dir) => freeze_v2(dir),
        };
        let frozen = frozen.with_context(|| format!("freeze cgroup {:?}", freezer.dir()));
        match frozen {
            Ok(true) => Ok(true),
            Ok(false) => {
                let _ = self.thaw();
                Err(Failure::new("a process of it does not stand still: it waits for what does not answer")
                    .hint("look for one in state D: ctr top NAME -o pid,stat,wchan,args")
                    .into())
            }
            Err(e) => {
                let _ = self.thaw();
                Err(e)
            }
        }
    }

    /// Lets its processes go on; that they run already is fine.
    ///
    /// # Errors
    /// As write(2).
    pub fn thaw(&self) -> Result<()> {
        let Some(freezer) = self.freezer() else { return Ok(()) };
        let thawed = match &freezer {
            Freezer::V1(dir) => files::write(&dir.join("freezer.state"), "THAWED"),
            Freezer::V2(dir) => files::write(&dir.join("cgroup.freeze"), "0"),
        };
        match thawed {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("thaw cgroup {:?}", freezer.dir()))
            }
            _ => Ok(()),
        }
    }

    /// Whether it was frozen and not thawed since.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        let begins = |path: PathBuf, with| fs::read_to_string(path).is_ok_and(|text| text.starts_with(with));
        match self.freezer() {
            Some(Freezer::V1(dir)) => begins(dir.join("freezer.self_freezing"), '1'),
            Some(Freezer::V2(dir)) => begins(dir.join("cgroup.freeze"), '1'),
            None => false,
        }
    }

    fn freezer(&self) -> Option<Freezer> {
        let with = |file: &str| self.paths.iter().find(|dir| dir.join(file).exists()).cloned();
        with("cgroup.freeze").map(Freezer::V2).or_else(|| with("freezer.state").map(Freezer::V1))
    }
}

impl Freezer {
    fn dir(&self) -> &Path {
        match self {
            Self::V1(dir) | Self::V2(dir) => dir,
        }
    }
}

fn freeze_v2(dir: &Path) -> io::Result<bool> {
    let mut events = File::open(dir.join("cgroup.events"))?;
    files::write(&dir.join("cgroup.freeze"), "1")?;
    let until = Instant::now() + PATIENCE;
    let mut text = String::new();
    loop {
        text.clear();
        events.rewind()?;
        events.read_to_string(&mut text)?;
        if text.lines().any(|line| line == "frozen 1") {
            return Ok(true);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], timeout);
    }
}

fn freeze_v1(dir: &Path) -> io::Result<bool> {
    let state = dir.join("freezer.state");
    let until = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(50);
    loop {
        // Written anew in each round: the kernel looks at the processes only then.
        files::write(&state, "FROZEN")?;
        if fs::read_to_string(&state)?.starts_with("FROZEN") {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}
