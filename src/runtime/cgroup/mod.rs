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
//! - v1, or both: as root `ctr/<id>` of the hierarchies that are needed.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use anyhow::Result;
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

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
pub struct Pending {}

/// One container's cgroup: a directory, or on v1 one in each hierarchy that is needed.
#[derive(Debug)]
pub struct Cgroup {
    paths: Vec<PathBuf>,
    fd: Option<OwnedFd>,
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
    /// caller goes on beside it.
    pub fn begin(_placement: &Placement) -> Result<Self> {
        anyhow::bail!("not built yet")
    }

    /// Waits for the cgroup and sets its limits. `None`: nothing was asked for, and none can be
    /// made; [`facts`] says why.
    ///
    /// Moves the caller into a cgroup beside the container's, where systemd made both.
    pub fn finish(self, _resources: Option<&LinuxResources>) -> Result<Option<Cgroup>> {
        anyhow::bail!("not built yet")
    }
}

impl Cgroup {
    /// [`Pending::begin`] and [`Pending::finish`] in one.
    pub fn create(placement: &Placement, resources: Option<&LinuxResources>) -> Result<Option<Self>> {
        Pending::begin(placement)?.finish(resources)
    }

    /// The cgroups of a container whose monitor is gone, from what [`Cgroup::paths`] said.
    #[must_use]
    pub fn from_paths(paths: &[String]) -> Self {
        Self { paths: paths.iter().map(PathBuf::from).collect(), fd: None }
    }

    /// The directory for `CLONE_INTO_CGROUP` (v2). `None` on v1: the parent calls
    /// [`Cgroup::join`] with the child's pid while the child waits.
    ///
    /// With `CLONE_INTO_CGROUP` the child must make its cgroup namespace itself, by
    /// `unshare(CLONE_NEWCGROUP)`: given to clone3, `CLONE_NEWCGROUP` would root the namespace at
    /// the *parent's* cgroup (`copy_cgroup_ns` asks for `current`'s). The same order is right on v1.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// Puts a process into every cgroup of the container.
    pub fn join(&self, _pid: Pid) -> Result<()> {
        anyhow::bail!("not built yet")
    }

    /// All directories that [`Cgroup::remove`] removes, for the record that outlives the monitor.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.paths.iter().map(|p| p.display().to_string()).collect()
    }

    /// Kills every process in it, those in sub-cgroups too.
    pub fn kill(&self) -> Result<()> {
        anyhow::bail!("not built yet")
    }

    /// Whether the kernel killed a process of it for want of memory.
    #[must_use]
    pub fn oom_killed(&self) -> bool {
        false
    }

    /// Removes it with its sub-cgroups, waiting a bounded time for dying processes. To call when
    /// its processes have ended or were killed.
    pub fn remove(&self) -> Result<()> {
        anyhow::bail!("not built yet")
    }
}

/// What this machine has for this user.
#[must_use]
pub fn facts() -> Facts {
    Facts { version: 0, driver: "none", controllers: Vec::new(), without: None }
}
