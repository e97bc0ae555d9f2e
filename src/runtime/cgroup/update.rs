//! Other limits for a cgroup that is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use oci_spec::runtime::LinuxResources;

use super::hierarchy::Machine;
use super::limits::{self, Setting};
use super::place::{CONTAINER, Identity, MONITOR};
use super::{Cgroup, facts, files, v1, v2, without};
use crate::error::Failure;

/// From which limits to which.
#[derive(Debug)]
pub struct Change<'a> {
    pub from: &'a LinuxResources,
    pub to: &'a LinuxResources,
}

/// A setting, and the directory in which it is made.
type Placed = (PathBuf, Setting);

impl Change<'_> {
    /// Whether the limits could be set on this machine, by this user: for a container that does not
    /// run, which would not start with them.
    ///
    /// # Errors
    /// Nothing can be limited here, and why.
    pub fn check(&self) -> Result<()> {
        let settings = match Machine::find()? {
            Machine::V1(_) => limits::v1(self.to)?,
            _ => limits::v2(self.to)?,
        };
        match facts().without {
            Some(why) => without(&settings, None, &why, "use a machine with cgroup v2, or run as root"),
            None => Ok(()),
        }
    }

    /// Sets what differs, for the processes that are in the cgroup now and for all that will be. Where
    /// one limit is refused, all are as they were.
    ///
    /// # Errors
    /// A limit that cannot be set, by its file and the kernel's reason.
    pub fn apply(&self, cgroup: &Cgroup) -> Result<()> {
        if cgroup.paths.is_empty() {
            self.check()?;
            return without(&difference(&limits::v2(self.from)?, limits::v2(self.to)?), None, NONE, RESTART);
        }
        match Machine::find()? {
            Machine::V1(hierarchies) => {
                let settings = difference(&limits::v1(self.from)?, limits::v1(self.to)?);
                let place = |setting: Setting| Ok((v1::place(&hierarchies, &cgroup.paths, &setting)?, setting));
                set_all(settings.into_iter().map(place).collect::<Result<_>>()?)
            }
            Machine::Unified(_) => {
                let settings = difference(&limits::v2(self.from)?, limits::v2(self.to)?);
                let dir = &cgroup.paths[0];
                let (Some(parent), Some(name)) = (dir.parent(), dir.file_name().and_then(|name| name.to_str())) else {
                    anyhow::bail!("{dir:?} is no cgroup of a container's");
                };
                let leaf = if name == CONTAINER { MONITOR } else { "ctr.leaf" };
                let identity = Identity::find();
                v2::enable(&v2::Plan { parent, name, settings: &settings, devices: &[], identity, leaf })?;
                set_all(settings.into_iter().map(|setting| (dir.clone(), setting)).collect())
            }
            Machine::None => without(&limits::v2(self.to)?, None, "no cgroups are mounted", RESTART),
        }
    }
}

const NONE: &str = "the container was started without a cgroup";
pub(super) const RESTART: &str = "start it anew: ctr restart";

/// What is new or has another value. Of all that can be asked for, only the number of processes can be
/// asked for no longer.
fn difference(from: &[Setting], to: Vec<Setting>) -> Vec<Setting> {
    let is_gone = |file: &str| from.iter().any(|s| s.file == file) && !to.iter().any(|s| s.file == file);
    let unlimited = is_gone("pids.max").then(|| Setting {
        controller: "pids".into(),
        file: "pids.max".into(),
        value: "max".into(),
        instead: None,
    });
    to.into_iter().filter(|setting| !from.contains(setting)).chain(unlimited).collect()
}

/// Which order the kernel takes depends on whether limits grow or shrink (that of memory and swap together
/// is never below that of memory): what is refused is tried again after the others.
fn set_all(mut left: Vec<Placed>) -> Result<()> {
    let mut before: Vec<(PathBuf, String)> = Vec::new();
    loop {
        let mut refused = Vec::new();
        let mut reason = None;
        let count = left.len();
        for (dir, setting) in left {
            let old = values(&dir, &setting);
            match files::apply(&dir, &setting) {
                Ok(()) => before.extend(old),
                Err(e) => {
                    refused.push((dir, setting));
                    reason.get_or_insert(e);
                }
            }
        }
        let Some(reason) = reason else { return Ok(()) };
        if refused.len() == count {
            for (file, value) in before.iter().rev() {
                // In the opposite order each of these was in force.
                let _ = files::write(file, value);
            }
            return Err(explained(reason));
        }
        left = refused;
    }
}

/// The file as it is before it is written, in the form in which it can be written.
fn values(dir: &Path, setting: &Setting) -> Option<(PathBuf, String)> {
    let file = dir.join(&setting.file);
    let text = fs::read_to_string(&file).ok()?;
    // Of a file with a line for each device none is written back: what was asked for stays.
    let mut lines = text.lines();
    let value = lines.next()?.trim().to_owned();
    (lines.next().is_none()).then_some((file, value))
}

fn explained(reason: anyhow::Error) -> anyhow::Error {
    let is_busy =
        reason.chain().any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.raw_os_error() == Some(libc::EBUSY)));
    if is_busy {
        return Failure::new("the limit is below what is in use")
            .source(reason)
            .hint("the kernel could not free as much: choose a higher limit, or end some of the processes")
            .into();
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(file: &str, value: &str) -> Setting {
        let controller = file.split('.').next().unwrap().to_owned();
        Setting { controller, file: file.into(), value: value.into(), instead: None }
    }

    #[test]
    fn only_what_differs_is_written() {
        let from = [setting("memory.max", "1"), setting("pids.max", "5")];
        let to = vec![setting("memory.max", "1"), setting("cpu.max", "2 3")];
        assert_eq!(difference(&from, to), [setting("cpu.max", "2 3"), setting("pids.max", "max")]);
        assert_eq!(difference(&from, from.to_vec()), []);
    }

    #[test]
    fn what_is_refused_leaves_all_as_it_was() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().to_owned();
        fs::write(dir.join("cpu.max"), "max 100000\n").unwrap();
        let wanted = vec![(dir.clone(), setting("cpu.max", "5 10")), (dir.clone(), setting("nosuch.max", "1"))];
        assert!(set_all(wanted).is_err());
        assert_eq!(fs::read_to_string(dir.join("cpu.max")).unwrap().trim(), "max 100000");
    }
}
