//! From an OCI runtime spec to an isolated process. Knows nothing of images, containers or
//! where their records lie: what it needs it is given in a [`Launch`].
//!
//! Called by the monitor (a container's first process, and each `exec`). One call of clone3(2)
//! makes every namespace at once; the child mounts its root *inside its own mount namespace*,
//! pivots, drops everything and executes. So no mount is ever visible on the host, and nothing is
//! left to unmount when it ends, however it ends.
//!
//! Three processes: the caller (`launch`), the container's first (`init`, then `program`), and, where
//! namespaces are joined, one that only joins and makes the one that stays (`launch::Child`). A
//! further process (`exec`) ends as the first does. Each reports by `report` until it executes.
//!
//! Known ways out of a container, and what is in them:
//! - writing to the engine's file by /proc/PID/exe (CVE-2019-5736): `--init` is executed from the
//!   caller's own executable, which is on a read-only mount (`init`, `pid1`); what joins a container
//!   is not dumpable (`launch::Child`);
//! - a leaked descriptor or a working directory in one (CVE-2024-21626): all are closed before the
//!   working directory and the program are looked for, and getcwd(2) must know the way (`program`);
//! - links in the image's /dev, /proc, /sys, and in mount points: resolved inside the root, once,
//!   and used by descriptor (`rooted`, `mounts`);
//! - racing the masks, or a false /dev/null or console (CVE-2025-31133, CVE-2025-52565): by
//!   descriptor, from the host's null, and from the terminal's own master (`masks`, `terminal`);
//! - labels written to a false /proc (CVE-2025-52881): the host's, or checked (`init`, `exec`);
//! - a passwd file that is a pipe, a device or endless (`user`);
//! - inheritable capabilities (CVE-2022-24769), which are none unless the spec has some (`credentials`).

mod accounts;
mod apparmor;
pub mod cgroup;
mod cgroups;
mod credentials;
mod devices;
mod elsewhere;
mod exec;
mod init;
mod launch;
mod masks;
mod mounts;
mod null;
pub mod pid1;
mod plan;
mod program;
mod report;
pub mod rooted;
mod rootfs;
pub mod seccomp;
mod secrets;
mod terminal;
mod user;

pub use exec::{Join, exec};
pub use launch::{Prepared, launch, prepare};
pub use secrets::Secret;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::unistd::Pid;
use oci_spec::runtime::Spec;

use crate::error::Failure;

/// All that a container's first process is made from.
#[derive(Debug)]
pub struct Launch {
    /// Namespaces, mounts, process, resources, as the OCI runtime spec has them (v1.2). Its `root`
    /// says only whether the root is read-only; `process.user` gives way to `user`.
    pub spec: Spec,
    pub root: Root,
    /// `user[:group]` by name or number, looked up in the root's own `etc/passwd` and `etc/group`
    /// once the root is in place (hostile files: bounded reads). `None`: `spec.process.user`.
    /// Sets HOME too, unless the environment has it.
    pub user: Option<String>,
    /// Further groups by name or number (`--group-add`).
    pub groups: Vec<String>,
    /// Directories of the root that are made where they are missing.
    pub directories: Vec<PathBuf>,
    /// Files in memory, beside the spec's mounts.
    pub secrets: Vec<Secret>,
    pub stdio: Stdio,
    /// Put the process under an init of ours that reaps and forwards signals: this binary.
    pub init: bool,
    /// Where it is put before it runs anything; `None`: where the caller is.
    pub cgroup: Option<cgroup::Cgroup>,
    /// The seccomp program, compiled.
    pub seccomp: Option<Vec<u8>>,
    pub further: Further,
}

/// What few containers want.
#[derive(Debug, Default)]
pub struct Further {
    pub maker: Maker,
    /// Lines that the root's etc/passwd and etc/group are to have; left alone where the root has no
    /// such file, or something is mounted there.
    pub passwd: Vec<String>,
    pub group: Vec<String>,
    /// Descriptors that the program gets, by the numbers that it finds them under: above 2, each once.
    pub descriptors: Vec<(i32, OwnedFd)>,
}

/// Who mounts the root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Maker {
    /// The container's first process, in its own namespaces.
    #[default]
    Itself,
    /// The caller: to root of the container, whose ids are others, the way there is closed.
    Caller,
    /// The caller, so that the files' owners are the container's ids of the same number:
    /// mount_setattr(2), `MOUNT_ATTR_IDMAP`.
    CallerMapped,
}

/// What becomes `/`.
#[derive(Debug)]
pub enum Root {
    /// Overlay of `lower` (topmost first) with a writable `upper`.
    Overlay { lower: Vec<PathBuf>, upper: PathBuf, work: PathBuf, volatile: bool },
    /// A directory as it is.
    Directory(PathBuf),
}

/// Mounts a container's root in this process's own mount namespace, for one whose container does not
/// run; changes the working directory. `user_xattr`: the container is in a user namespace.
///
/// # Errors
/// A layer is missing, or the kernel refuses.
pub fn mount_root(root: &Root, user_xattr: bool) -> Result<OwnedFd, Failure> {
    rootfs::make(root, user_xattr).map_err(|fault| fault.failure())
}

/// Likewise the folders `layers` (topmost first) as they look together, read-only.
///
/// # Errors
/// As [`mount_root`].
pub fn mount_view(layers: &[PathBuf], user_xattr: bool) -> Result<OwnedFd, Failure> {
    rootfs::view(layers, user_xattr).map_err(|fault| fault.failure())
}

/// The three descriptors of the process.
#[derive(Debug)]
pub enum Stdio {
    Pipes {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// A new pseudo-terminal of the container's own devpts; its master is in [`Process`].
    Terminal {
        rows: u16,
        columns: u16,
    },
}

/// A process that was launched and is executing its own program.
#[derive(Debug)]
pub struct Process {
    pub pid: Pid,
    /// Readable when the process has ended: pidfd_open(2).
    pub pidfd: OwnedFd,
    /// The master side, where a terminal was asked for.
    pub terminal: Option<OwnedFd>,
}

#[cfg(test)]
mod tests;
