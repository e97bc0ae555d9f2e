//! What a container's processes may use, and the handle by which all of them are found.
//!
//! Called by the monitor before it clones the container. Promises: a limit that was asked for is
//! in force when [`Pending::finish`] returns, or that is an error which names the controller and
//! the way out; when nothing was asked for and this machine lets us make no cgroup, the container
//! runs without one; and whatever was made, [`Cgroup::remove`] takes away, also after a monitor
//! that was killed ([`Cgroup::from_paths`]).
//!
//! Three kinds of machine (cgroups(7), <https://systemd.io/CGROUP_DELEGATION>):
//! - v2 under systemd: a transient, delegated scope `ctr-<id>.scope` of the system's or the user's
//!   own manager, with `monitor` and `container` below it; in a service with `Delegate=`, a cgroup
//!   of that service's own;
//! - v2 without systemd, as root: `/sys/fs/cgroup/ctr/<id>`;
//! - v1, or both: as root `ctr/<id>` of every hierarchy that lets us, and of those that are needed.

mod bus;
mod cpuset;
mod devices;
mod files;
mod freeze;
mod hierarchy;
mod limits;
mod members;
mod place;
mod scope;
mod update;
mod usage;
mod v1;
mod v2;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

use self::hierarchy::{Machine, is_controller};
use self::limits::Setting;
use self::place::{CONTAINER, Identity, MONITOR, Way};
pub use self::update::Change;
pub use self::usage::Usage;
use crate::error::Failure;

/// Where a container's cgroup is to be.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The container's id: the cgroup is named after it.
    pub id: String,
    /// `--cgroup-parent`: a slice under systemd, else a path below the root of the hierarchy.
    pub parent: Option<String>,
}

/// A cgroup that was asked for; systemd makes it while the caller does something else.
#[derive(Debug)]
pub struct Pending {
    id: String,
    parent: Option<String>,
    machine: Machine,
    identity: Identity,
    way: Way,
}

/// One container's cgroup: a directory, or on v1 one in each hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    paths: Vec<PathBuf>,
    /// v2: the directory.
    fd: Option<OwnedFd>,
    /// v1: what its processes enter by.
    doors: Vec<File>,
    /// v1: see [`Cgroup::hierarchies`].
    hierarchies: Vec<String>,
}

/// What `ctr info` tells of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// 1 (hybrid machines too) or 2; 0: no cgroups are mounted.
    pub version: u8,
    /// `systemd`, `cgroupfs` or `none`.
    pub driver: &'static str,
    /// The controllers that a container of this user can be limited by.
    pub controllers: Vec<String>,
    /// Why containers of this user run without a cgroup.
    pub without: Option<String>,
}

impl Pending {
    /// Asks for the cgroup. Costs one message where systemd makes it; what comes next in the
    /// caller goes on beside it. systemd moves the *calling* process: the monitor.
    ///
    /// # Errors
    /// A `parent` that this kind of machine has no use for.
    pub fn begin(placement: &Placement) -> Result<Self> {
        let machine = Machine::find().context("find out about cgroups")?;
        let identity = Identity::find();
        let way = place::choose(placement, &machine, identity)?;
        Ok(Self { id: placement.id.clone(), parent: placement.parent.clone(), machine, identity, way })
    }

    /// All directories that [`Pending::finish`] may make, each on a line of its own, for who has to remove them should this process
    /// be killed before it can record what it made. What systemd makes, systemd removes.
    #[must_use]
    pub fn places(&self) -> String {
        let paths: Vec<PathBuf> = match (&self.way, &self.machine) {
            (Way::V1(below), Machine::V1(hierarchies)) => hierarchies.values().map(|h| h.mount.join(below)).collect(),
            (Way::Directory { parent, name }, _) => vec![parent.join(name)],
            _ => Vec::new(),
        };
        // Controllers that are mounted together share a directory.
        let paths: BTreeSet<String> = paths.iter().map(|path| format!("{}\n", path.display())).collect();
        paths.into_iter().collect()
    }

    /// Waits for the cgroup and sets its limits. `None`: nothing was asked for, and none can be
    /// made; [`facts`] says why.
    ///
    /// Under systemd the caller is afterwards in a cgroup beside the container's.
    ///
    /// # Errors
    /// A limit that was asked for and cannot be set; systemd's refusal.
    pub fn finish(self, resources: Option<&LinuxResources>) -> Result<Option<Cgroup>> {
        let nothing = LinuxResources::default();
        let resources = resources.unwrap_or(&nothing);
        let settings = match self.machine {
            Machine::V1(_) => limits::v1(resources)?,
            _ => limits::v2(resources)?,
        };
        let rules = resources.devices().as_deref().unwrap_or_default();
        // Root could make and open any device of the machine, its disks among them.
        let is_open = match &self.machine {
            Machine::None => true,
            Machine::V1(hierarchies) => !hierarchies.contains_key("devices"),
            Machine::Unified(_) => false,
        };
        if is_open && self.identity.root && rules.iter().any(|rule| !rule.allow()) {
            return Err(Failure::new(
                "cannot keep the container from the machine's devices: devices cgroup is not mounted",
            )
            .hint("mount it below /sys/fs/cgroup, use a machine with cgroup v2, or allow all devices with --privileged")
            .into());
        }
        let (parent, name) = match self.way {
            Way::None { why, hint } => return without(&settings, self.parent.as_deref(), &why, hint).map(|()| None),
            Way::V1(below) => {
                let Machine::V1(hierarchies) = &self.machine else { return Ok(None) };
                let made = v1::make(hierarchies, &below, &settings, rules)?;
                let (paths, hierarchies): (Vec<_>, Vec<_>) = made.into_iter().unzip();
                let doors = v1::doors(&paths)?;
                return Ok(Some(Cgroup { paths, fd: None, doors, hierarchies }));
            }
            Way::Scope(asked) => {
                asked.wait()?;
                (enter_scope(&self.id)?, CONTAINER.to_owned())
            }
            Way::Directory { parent, name } => {
                if self.identity.root && !parent.exists() {
                    make_parents(&parent)?;
                }
                (parent, name)
            }
        };
        let leaf = if name == CONTAINER { MONITOR } else { "ctr.leaf" };
        let plan = v2::Plan {
            parent: &parent,
            name: &name,
            settings: &settings,
            devices: rules,
            identity: self.identity,
            leaf,
        };
        let fd = v2::make(&plan)?;
        Ok(Some(Cgroup { paths: vec![parent.join(name)], fd: Some(fd), doors: Vec::new(), hierarchies: Vec::new() }))
    }
}

/// Has systemd put this process into a scope of its own, `ctr-<id>.scope`, out of that of the
/// container whose monitor started it: the container's ends with the container. Elsewhere nothing
/// has to be done, since a monitor is in nobody's cgroup.
///
/// # Errors
/// systemd's refusal.
pub fn leave_for_own_scope(id: &str) -> Result<()> {
    let pending = Pending::begin(&Placement { id: id.to_owned(), parent: None })?;
    if let Way::Scope(asked) = pending.way {
        asked.wait()?;
    }
    Ok(())
}

/// The scope that systemd put us into: we go one level down, for only leaves have processes.
fn enter_scope(id: &str) -> Result<PathBuf> {
    let unit = place::unit(id);
    let Machine::Unified(now) = Machine::find()? else { anyhow::bail!("cgroup v2 is gone") };
    let scope = now.own.ancestors().find(|dir| dir.ends_with(&unit));
    let Some(scope) = scope else {
        return Err(Failure::new(format!("systemd made {unit:?} and put us into {:?}", now.own)).into());
    };
    let monitor = scope.join(MONITOR);
    std::fs::create_dir(&monitor).with_context(|| format!("make cgroup {monitor:?}"))?;
    v2::move_self(&monitor)?;
    Ok(scope.to_owned())
}

/// Makes the cgroups above a container's, each with the controllers of that above it.
fn make_parents(dir: &Path) -> Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|d| !d.exists()).collect();
    for dir in missing.into_iter().rev() {
        if let (Some(parent), Some(name)) = (dir.parent(), dir.file_name().and_then(|n| n.to_str())) {
            v2::make_between(parent, name)?;
        }
    }
    Ok(())
}

/// No cgroup can be made: fine, unless one is needed.
fn without(settings: &[Setting], parent: Option<&str>, why: &str, hint: &str) -> Result<()> {
    let mut what: Vec<&str> = settings.iter().map(|s| v2::what(&s.controller)).collect();
    what.dedup();
    let failure = match (parent, what.is_empty()) {
        (None, true) => return Ok(()),
        (Some(parent), true) => Failure::new(format!("cannot place the container below {parent:?}: {why}")),
        _ => Failure::new(format!("cannot limit {}: {why}", what.join(", "))),
    };
    Err(failure.hint(hint).into())
}

impl Cgroup {
    /// [`Pending::begin`] and [`Pending::finish`] in one.
    ///
    /// # Errors
    /// As theirs.
    pub fn create(placement: &Placement, resources: Option<&LinuxResources>) -> Result<Option<Self>> {
        Pending::begin(placement)?.finish(resources)
    }

    /// The cgroups of a container whose monitor is gone, from what [`Cgroup::paths`] said.
    #[must_use]
    pub fn from_paths(paths: &[String]) -> Self {
        let paths = paths.iter().map(PathBuf::from).collect();
        Self { paths, fd: None, doors: Vec::new(), hierarchies: Vec::new() }
    }

    /// The cgroup of a container that runs, for a further process to enter.
    ///
    /// # Errors
    /// It is gone: the container has ended.
    pub fn open(paths: &[String]) -> Result<Self> {
        let mut cgroup = Self::from_paths(paths);
        match &cgroup.paths[..] {
            [dir] if dir.join("cgroup.controllers").exists() => {
                cgroup.fd = Some(File::open(dir).with_context(|| format!("open cgroup {dir:?}"))?.into());
            }
            dirs => cgroup.doors = v1::doors(dirs)?,
        }
        Ok(cgroup)
    }

    /// The directory for `CLONE_INTO_CGROUP` (v2). `None` on v1: the child calls [`Cgroup::enter`]
    /// first of all.
    ///
    /// With `CLONE_INTO_CGROUP` the child must make its cgroup namespace itself, by
    /// `unshare(CLONE_NEWCGROUP)`: given to clone3, `CLONE_NEWCGROUP` would root the namespace at
    /// the *parent's* cgroup (`copy_cgroup_ns` asks for `current`'s). The same order is right on v1.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// The calling process enters it. For a process just forked, which has one thread and the
    /// descriptors of its parent: system calls only, nothing is allocated. On v1 this takes 60 µs,
    /// [`Cgroup::join`] 11 ms.
    ///
    /// # Errors
    /// As write(2) on `tasks` (v1) or `cgroup.procs` (v2).
    pub fn enter(&self) -> io::Result<()> {
        match &self.fd {
            Some(dir) => v2::enter(dir),
            None => v1::enter(&self.doors),
        }
    }

    /// Puts another process into every cgroup of the container. Slow: see [`Cgroup::enter`].
    ///
    /// # Errors
    /// As write(2) on `cgroup.procs`.
    pub fn join(&self, pid: Pid) -> Result<()> {
        for dir in &self.paths {
            files::write(&dir.join("cgroup.procs"), &pid.to_string())
                .with_context(|| format!("put process {pid} into cgroup {dir:?}"))?;
        }
        Ok(())
    }

    /// The hierarchies of v1 in which it was made, as /proc/PID/cgroup calls them. Of the others a
    /// process in it would see the whole machine's tree.
    #[must_use]
    pub fn hierarchies(&self) -> &[String] {
        &self.hierarchies
    }

    /// All directories that [`Cgroup::remove`] removes, for the record that outlives the monitor.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.paths.iter().map(|p| p.display().to_string()).collect()
    }

    /// Kills every process in it, those in sub-cgroups too.
    ///
    /// # Errors
    /// None yet: what cannot be killed makes [`Cgroup::remove`] fail.
    pub fn kill(&self) -> Result<()> {
        // On v1 the same processes are in all of them.
        if let Some(dir) = self.paths.first() {
            // On v1 what is frozen does not die before it is thawed, and then without a step.
            if self.is_frozen() {
                files::kill_once(dir, 0);
                let _ = self.thaw();
            }
            files::kill_all(dir);
        }
        Ok(())
    }

    /// Whether the kernel killed a process of it for want of memory.
    #[must_use]
    pub fn oom_killed(&self) -> bool {
        let count = |dir: &PathBuf| {
            let v2 = files::value_of(&dir.join("memory.events"), "oom_kill ");
            v2.or_else(|| files::value_of(&dir.join("memory.oom_control"), "oom_kill "))
        };
        self.paths.iter().find_map(count).is_some_and(|n| n > 0)
    }

    /// Removes it with its sub-cgroups, waiting a bounded time (5 s) for dying processes. To call
    /// when its processes have ended or were killed. What is gone already is no error.
    ///
    /// # Errors
    /// The first directory that stays; the others are removed all the same.
    pub fn remove(&self) -> Result<()> {
        let outcomes: Vec<Result<()>> = self.paths.iter().map(|dir| files::remove(dir)).collect();
        outcomes.into_iter().collect()
    }
}

/// What this machine has for this user.
#[must_use]
pub fn facts() -> Facts {
    let identity = Identity::find();
    let machine = Machine::find().unwrap_or(Machine::None);
    let none =
        |version, why: &str| Facts { version, driver: "none", controllers: Vec::new(), without: Some(why.to_owned()) };
    match machine {
        Machine::None => none(0, "no cgroups are mounted"),
        Machine::V1(_) if !identity.root => none(1, "cgroup v1 gives an ordinary user none"),
        Machine::V1(map) => Facts {
            version: 1,
            driver: "cgroupfs",
            controllers: map.into_keys().filter(|name| is_controller(name)).collect(),
            without: None,
        },
        Machine::Unified(hierarchy) => {
            let managed = scope::booted() && scope::reachable(identity.root, identity.uid);
            let dir = match (managed, identity.root) {
                (_, true) => hierarchy.mount.clone(),
                // What a scope of the user's manager can have is what that manager has.
                (true, false) => {
                    hierarchy.mount.join(format!("user.slice/user-{0}.slice/user@{0}.service", identity.uid))
                }
                (false, false) => hierarchy.own.clone(),
            };
            if !managed && !identity.root && !place::is_ours(&hierarchy) {
                return none(2, "no cgroup is delegated to you");
            }
            let controllers = v2::controllers(&dir).unwrap_or_default();
            let driver = if managed { "systemd" } else { "cgroupfs" };
            Facts { version: 2, driver, controllers, without: None }
        }
    }
}

#[cfg(test)]
mod tests;
