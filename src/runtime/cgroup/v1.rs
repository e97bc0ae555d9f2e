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
const USUAL: [&str; 4] = ["memory", "pids", "cpuacct", "freezer"];

/// Makes `below` (`ctr/<id>`) in the hierarchies: the directories, memory's first, and what each
/// hierarchy is called.
///
/// Those that nothing needs now are made too, where that can be: a limit that `update` sets later is
/// one that the container can read, and its view of a hierarchy begins at a cgroup of its own. Each
/// costs about 60 µs.
pub(super) fn make(
    machine: &BTreeMap<String, Hierarchy>,
    below: &Path,
    settings: &[Setting],
    rules: &[LinuxDeviceCgroup],
) -> Result<Vec<(PathBuf, String)>> {
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
    let is_needed = |hierarchy: &Hierarchy| hierarchy.controllers.iter().any(|name| needed.contains(&name.as_str()));
    let mut made: Vec<(PathBuf, String)> = Vec::new();
    let outcome = (|| {
        for hierarchy in needed.iter().map(|name| &machine[*name]).chain(machine.values()) {
            let dir = hierarchy.mount.join(below);
            // Controllers that are mounted together share the directory.
            if made.iter().any(|(other, _)| *other == dir) {
                continue;
            }
            match make_in(hierarchy, &dir) {
                Ok(()) => made.push((dir, hierarchy.controllers.join(","))),
                Err(e) if is_needed(hierarchy) => return Err(e),
                // Read-only, say: the container is shown nothing of it.
                Err(_) => {}
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
        for (dir, _) in &made {
            let _ = std::fs::remove_dir(dir);
        }
        return Err(e);
    }
    Ok(made)
}

/// Makes one directory, ready to be entered.
fn make_in(hierarchy: &Hierarchy, dir: &Path) -> Result<()> {
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("make cgroup {parent:?}"))?;
    }
    files::make_afresh(dir)?;
    if hierarchy.controllers.iter().any(|name| name == "cpuset") {
        inherit_cpuset(&hierarchy.mount, dir).inspect_err(|_| drop(std::fs::remove_dir(dir)))?;
    }
    Ok(())
}

/// The directory, of those that a container has, in which a setting is made.
///
/// # Errors
/// The controller is not mounted, or was not when the container was started.
pub(super) fn place(machine: &BTreeMap<String, Hierarchy>, paths: &[PathBuf], setting: &Setting) -> Result<PathBuf> {
    let hierarchy = machine.get(&setting.controller).ok_or_else(|| missing_controller(&setting.controller))?;
    let own = paths.iter().find(|path| path.starts_with(&hierarchy.mount));
    own.cloned().ok_or_else(|| {
        let what = super::v2::what(&setting.controller);
        Failure::new(format!("cannot limit {what}: the container has no cgroup of {:?}", setting.controller))
            .hint(super::update::RESTART)
            .into()
    })
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
