//! Version 1, where each controller has a hierarchy of its own: kernel documentation, `cgroup-v1/`.
//! As root only: an ordinary user is given nothing of it.
//!
//! A process enters by writing `0` to `tasks` of each hierarchy itself ([`enter`]), while it has
//! one thread. To be written into `cgroup.procs` by another process looks simpler and is what
//! others do, but the kernel then waits for an RCU grace period: 11 ms, measured on Linux 6.18, against
//! 60 µs for four hierarchies (kernel/cgroup/cgroup.c, `cgroup_procs_write_start`).

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oci_spec::runtime::LinuxDeviceCgroup;

use super::hierarchy::Hierarchy;
use super::limits::Setting;
use super::{devices, files};
use crate::error::Failure;

/// What `stats`, `pause` and the search for a container's processes need, besides what its limits need.
/// Each hierarchy costs about 50 µs; `cpu` costs 1.6 ms when it is entered, so it is made for limits only.
const USUAL: [&str; 4] = ["memory", "pids", "cpuacct", "freezer"];

/// Makes `below` (`ctr/<id>`) in the hierarchies that are needed: the directories, memory's first.
pub(super) fn make(
    machine: &BTreeMap<String, Hierarchy>,
    below: &Path,
    settings: &[Setting],
    rules: &[LinuxDeviceCgroup],
) -> Result<Vec<PathBuf>> {
    let mut needed: Vec<&str> = USUAL.into_iter().filter(|name| machine.contains_key(*name)).collect();
    for setting in settings {
        if !machine.contains_key(&setting.controller) {
            return Err(missing_controller(&setting.controller));
        }
        needed.push(&setting.controller);
    }
    if !rules.is_empty() && machine.contains_key("devices") {
        needed.push("devices");
    }
    let mut made: Vec<PathBuf> = Vec::new();
    let outcome = (|| {
        for name in needed {
            let hierarchy = &machine[name];
            let dir = hierarchy.mount.join(below);
            // Controllers that are mounted together share the directory.
            if made.contains(&dir) {
                continue;
            }
            if let Some(parent) = dir.parent() {
                std::fs::create_dir_all(parent).with_context(|| format!("make cgroup {parent:?}"))?;
            }
            files::make_afresh(&dir)?;
            made.push(dir.clone());
            if hierarchy.controllers.iter().any(|c| c == "cpuset") {
                inherit_cpuset(&hierarchy.mount, &dir)?;
            }
        }
        for setting in settings {
            files::apply(&machine[&setting.controller].mount.join(below), setting)?;
        }
        if let Some(hierarchy) = machine.get("devices") {
            let dir = hierarchy.mount.join(below);
            for (file, line) in rules.iter().map(devices::v1) {
                files::write(&dir.join(file), &line).with_context(|| format!("write {line:?} to {file:?}"))?;
            }
        }
        Ok(())
    })();
    if let Err(e) = outcome {
        for dir in &made {
            let _ = std::fs::remove_dir(dir);
        }
        return Err(e);
    }
    Ok(made)
}

/// A container's directories in the hierarchies that its limits need.
#[derive(Debug)]
pub(super) struct Extension<'a> {
    machine: &'a BTreeMap<String, Hierarchy>,
    below: PathBuf,
    /// Those that were made now.
    pub(super) dirs: Vec<PathBuf>,
}

impl Extension<'_> {
    /// Where a setting is made.
    pub(super) fn place(&self, setting: &Setting) -> PathBuf {
        self.machine.get(&setting.controller).map_or_else(PathBuf::new, |hierarchy| hierarchy.mount.join(&self.below))
    }

    /// Removes what was made, before a process is in it.
    pub(super) fn undo(&self) {
        for dir in &self.dirs {
            let _ = std::fs::remove_dir(dir);
        }
    }
}

/// Makes the directories that the settings need and that a container, which has `paths`, lacks.
pub(super) fn extend<'a>(
    machine: &'a BTreeMap<String, Hierarchy>,
    paths: &[PathBuf],
    settings: &[Setting],
) -> Result<Extension<'a>> {
    let inside = |path: &PathBuf| machine.values().find_map(|h| path.strip_prefix(&h.mount).ok().map(Path::to_owned));
    let below = paths.iter().find_map(inside).context("its cgroups are not below those of this machine")?;
    let mut made = Extension { machine, below, dirs: Vec::new() };
    for setting in settings {
        let Some(hierarchy) = machine.get(&setting.controller) else {
            made.undo();
            return Err(missing_controller(&setting.controller));
        };
        let dir = hierarchy.mount.join(&made.below);
        if paths.contains(&dir) || made.dirs.contains(&dir) {
            continue;
        }
        let outcome = (|| {
            if let Some(parent) = dir.parent() {
                std::fs::create_dir_all(parent).with_context(|| format!("make cgroup {parent:?}"))?;
            }
            files::make_afresh(&dir)?;
            made.dirs.push(dir.clone());
            let is_cpuset = hierarchy.controllers.iter().any(|c| c == "cpuset");
            if is_cpuset { inherit_cpuset(&hierarchy.mount, &dir) } else { Ok(()) }
        })();
        if let Err(e) = outcome {
            made.undo();
            return Err(e);
        }
    }
    Ok(made)
}

fn missing_controller(name: &str) -> anyhow::Error {
    let what = super::v2::what(name);
    Failure::new(format!("cannot limit {what}: the cgroup controller {name:?} is not mounted"))
        .hint("mount it below /sys/fs/cgroup, or use a machine with cgroup v2")
        .into()
}

/// A cpuset takes no process before it has CPUs and nodes, and a new one has none (`cpusets.rst`).
fn inherit_cpuset(mount: &Path, dir: &Path) -> Result<()> {
    let mut steps: Vec<&Path> = dir.ancestors().take_while(|step| *step != mount).collect();
    steps.reverse();
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let mut above = std::fs::read_to_string(mount.join(file)).with_context(|| format!("read {file:?}"))?;
        for step in &steps {
            let path = step.join(file);
            let own = std::fs::read_to_string(&path).with_context(|| format!("read {path:?}"))?;
            if own.trim().is_empty() {
                files::write(&path, above.trim()).with_context(|| format!("write {path:?}"))?;
            } else {
                above = own;
            }
        }
    }
    Ok(())
}

/// Opens the files by which a process enters.
pub(super) fn doors(dirs: &[PathBuf]) -> Result<Vec<File>> {
    let open = |dir: &PathBuf| {
        let tasks = dir.join("tasks");
        OpenOptions::new().write(true).open(&tasks).with_context(|| format!("open {tasks:?}"))
    };
    dirs.iter().map(open).collect()
}

/// The calling thread, the only one of its process, enters.
pub(super) fn enter(doors: &[File]) -> io::Result<()> {
    doors.iter().try_for_each(|mut door| door.write_all(b"0"))
}
