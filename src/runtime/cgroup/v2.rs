//! The unified hierarchy: kernel documentation, `cgroup-v2.rst`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use oci_spec::runtime::LinuxDeviceCgroup;

use super::devices;
use super::files;
use super::limits::Setting;
use super::place::Identity;
use crate::error::Failure;
use crate::sys::bpf;

/// What `stats` tells of, and what bounds a container soon enough. The others cost more than they
/// tell (cpuset rebuilds scheduling domains) and are enabled when a limit needs them.
const USUAL: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// What is asked of a new cgroup.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// The directory in which it is made, whose controllers it gets.
    pub(super) parent: &'a Path,
    pub(super) name: &'a str,
    pub(super) settings: &'a [Setting],
    pub(super) devices: &'a [LinuxDeviceCgroup],
    pub(super) identity: Identity,
    /// Where processes go that are in `parent` itself: only leaves may have both processes and
    /// controllers ("No Internal Process Constraint").
    pub(super) leaf: &'a str,
}

/// Makes the cgroup and sets its limits; its directory's descriptor.
pub(super) fn make(plan: &Plan<'_>) -> Result<OwnedFd> {
    enable(plan)?;
    let dir = plan.parent.join(plan.name);
    files::make_afresh(&dir)?;
    let made = (|| {
        for setting in plan.settings {
            files::apply(&dir, setting)?;
        }
        let fd: OwnedFd = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(&dir)
            .with_context(|| format!("open cgroup {dir:?}"))?
            .into();
        // An ordinary user cannot make device nodes, nor give more access to those there are.
        if plan.identity.root && !plan.devices.is_empty() {
            bpf::attach_devices(fd.as_fd(), &devices::v2(plan.devices)).context("limit the container's devices")?;
        }
        Ok(fd)
    })();
    if made.is_err() {
        let _ = std::fs::remove_dir(&dir);
    }
    made
}

fn words(path: &Path) -> io::Result<Vec<String>> {
    Ok(std::fs::read_to_string(path)?.split_whitespace().map(Into::into).collect())
}

pub(super) fn controllers(dir: &Path) -> io::Result<Vec<String>> {
    words(&dir.join("cgroup.controllers"))
}

/// Gives the children of `plan.parent` the controllers that they need.
pub(super) fn enable(plan: &Plan<'_>) -> Result<()> {
    let available = controllers(plan.parent).with_context(|| format!("read cgroup {:?}", plan.parent))?;
    if let Some(missing) = plan.settings.iter().find(|s| !available.contains(&s.controller)) {
        return Err(missing_controller(&missing.controller, plan.identity));
    }
    let control = plan.parent.join("cgroup.subtree_control");
    let enabled = words(&control).with_context(|| format!("read {control:?}"))?;
    let needed = |name: &String| plan.settings.iter().any(|s| s.controller == *name);
    let mut wanted: Vec<&String> =
        available.iter().filter(|name| USUAL.contains(&name.as_str()) || needed(name)).collect();
    wanted.retain(|name| !enabled.contains(name));
    if wanted.is_empty() {
        return Ok(());
    }
    let line = wanted.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
    let write = |line: &str| files::write(&control, line);
    let mut result = write(&line);
    if result.as_ref().is_err_and(|e| e.raw_os_error() == Some(libc::EBUSY)) {
        evacuate(plan.parent, plan.leaf)?;
        result = write(&line);
    }
    if result.is_ok() {
        return Ok(());
    }
    // One that cannot be enabled (cpu, while real-time threads are about) must not take the rest along.
    for name in wanted {
        if let Err(e) = write(&format!("+{name}"))
            && needed(name)
        {
            return Err(Failure::new(format!("cannot enable the cgroup controller {name:?} in {:?}", plan.parent))
                .source(e)
                .into());
        }
    }
    Ok(())
}

fn missing_controller(name: &str, identity: Identity) -> anyhow::Error {
    let failure = Failure::new(format!("cannot limit {}: the cgroup controller {name:?} is not available", what(name)));
    if identity.root {
        return failure.hint("the kernel was built or started without it (cgroup_disable=)").into();
    }
    failure
        .hint(format!(
            "systemd does not delegate {name:?} to you: as root, write\n  [Service]\n  Delegate=cpu cpuset io memory pids\n\
             to /etc/systemd/system/user@.service.d/delegate.conf, run `systemctl daemon-reload`, and log in anew"
        ))
        .into()
}

/// What a controller is there for, as `run --help` has it.
pub(super) fn what(controller: &str) -> &str {
    match controller {
        "cpu" => "the CPU's time",
        "cpuset" => "the CPUs and memory nodes",
        "io" | "blkio" => "block I/O",
        "pids" => "the number of processes",
        "hugetlb" => "huge pages",
        other => other,
    }
}

/// Moves what is in `dir` itself one level down. New ones may come meanwhile from those not yet moved.
fn evacuate(dir: &Path, leaf: &str) -> Result<()> {
    let leaf = dir.join(leaf);
    if let Err(e) = std::fs::create_dir(&leaf)
        && e.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(e).with_context(|| format!("make cgroup {leaf:?}"));
    }
    let to = leaf.join("cgroup.procs");
    for _ in 0..100 {
        let pids = words(&dir.join("cgroup.procs")).with_context(|| format!("read cgroup {dir:?}"))?;
        if pids.is_empty() {
            return Ok(());
        }
        for pid in pids {
            match files::write(&to, &pid) {
                // It ended.
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                other => other.with_context(|| format!("move process {pid} to cgroup {leaf:?}"))?,
            }
        }
    }
    Err(Failure::new(format!("processes keep appearing in cgroup {dir:?}")).into())
}

/// Moves the calling process.
pub(super) fn move_self(dir: &Path) -> Result<()> {
    let procs = dir.join("cgroup.procs");
    files::write(&procs, "0").with_context(|| format!("enter cgroup {dir:?}"))
}

/// The calling process enters: one open and one write, for a process just forked.
pub(super) fn enter(dir: &OwnedFd) -> io::Result<()> {
    use nix::fcntl::{OFlag, openat};
    use nix::sys::stat::Mode;
    let procs = openat(dir, "cgroup.procs", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    File::from(procs).write_all(b"0")
}

/// Makes a cgroup that only holds others, with all the usual controllers that it can have.
pub(super) fn make_between(parent: &Path, name: &str) -> Result<()> {
    let identity = Identity { root: true, uid: 0 };
    enable(&Plan { parent, name, settings: &[], devices: &[], identity, leaf: "ctr.leaf" })?;
    let dir = parent.join(name);
    match std::fs::create_dir(&dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e).with_context(|| format!("make cgroup {dir:?}")),
        _ => Ok(()),
    }
}
