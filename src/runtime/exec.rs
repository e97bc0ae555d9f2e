//! A further process in a running container.
//!
//! Who runs there may be hostile, and sees the process as soon as it is in their pid namespace. So
//! it cannot be looked into (not dumpable) until it executes, it opens nothing but what it checks,
//! and it carries no descriptor of the engine's but the socket that it reports to.

use std::convert::Infallible;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, getpid, setsid};

use super::cgroup::Cgroup;
use super::launch::Child;
use super::plan::Program;
use super::program::{self, Prepared};
use super::report::{At, Fault, Link, Message, Step};
use super::{Process, Stdio, apparmor, credentials, null, rooted, terminal};
use crate::sys::keyring;

/// How long each step of the process may take until it executes. All of them take some milliseconds;
/// but whoever runs in the container can stop the process as soon as it is in their pid namespace,
/// and nobody else would ever continue it.
const PATIENCE: Duration = Duration::from_secs(30);

/// All that a further process is made from.
#[derive(Debug)]
pub struct Join {
    /// The container's first process.
    pub pid: Pid,
    /// Its pidfd, opened when it was known to be that.
    pub pidfd: OwnedFd,
    /// What to run, as the OCI runtime spec has it (v1.2, "process").
    pub process: oci_spec::runtime::Process,
    /// As in [`super::Launch`].
    pub user: Option<String>,
    /// As in [`super::Launch`].
    pub groups: Vec<String>,
    pub stdio: Stdio,
    /// The container's.
    pub cgroup: Option<Cgroup>,
    /// The seccomp program, compiled; `None` for `--privileged`.
    pub seccomp: Option<Vec<u8>>,
    /// As in [`super::Further`].
    pub descriptors: Vec<(i32, OwnedFd)>,
}

/// Starts a further process in a container, a child of the caller, and waits until it executes its
/// program. It is killed when the caller dies.
///
/// To be called by a process of one thread.
///
/// # Errors
/// As [`super::launch`].
pub fn exec(join: Join) -> Result<Process> {
    let Join { pid, pidfd, process, user, groups, stdio, cgroup, seccomp, descriptors } = join;
    if seccomp.is_none() {
        keyring::leave().context("make a session keyring of the container's own")?;
    }
    let stdio = null::seal(stdio).context("open /dev/null")?;
    let program = Program { descriptors, ..Program::check(&process, user, groups, stdio, seccomp, false)? };
    let namespaces = other_namespaces(pid);
    let enter = || setns(&pidfd, namespaces).at(Step::JoinNamespaces, "");
    let new_user = namespaces.contains(CloneFlags::CLONE_NEWUSER);
    let link = Link::pair().context("create a socket pair")?;
    link.0.limit_waiting(PATIENCE).context("limit the waiting for the process")?;
    let child = Child::spawn_joining(Some(enter), 0, cgroup.as_ref(), link, |link| run(&program, new_user, link))?;
    child.place(process.oom_score_adj())?;
    child.await_exec(&[])
}

/// The namespaces in which the container is and this process is not. Joining one that both are in
/// needs rights over it that a user lacks, and of a user namespace it is an error: setns(2).
///
/// By pid, and so not to be trusted alone; joining by the pidfd is what counts.
fn other_namespaces(pid: Pid) -> CloneFlags {
    const ALL: [(&str, i32); 8] = [
        ("user", libc::CLONE_NEWUSER),
        ("mnt", libc::CLONE_NEWNS),
        ("pid", libc::CLONE_NEWPID),
        ("net", libc::CLONE_NEWNET),
        ("ipc", libc::CLONE_NEWIPC),
        ("uts", libc::CLONE_NEWUTS),
        ("cgroup", libc::CLONE_NEWCGROUP),
        ("time", libc::CLONE_NEWTIME),
    ];
    let inode = |process: &str, name: &str| fs::metadata(format!("/proc/{process}/ns/{name}")).map(|m| m.ino()).ok();
    let theirs = pid.to_string();
    ALL.iter()
        .filter(|(name, _)| inode("self", name) != inode(&theirs, name))
        .map(|(_, flag)| CloneFlags::from_bits_retain(*flag))
        .collect()
}

fn run(program: &Program, new_user: bool, link: &Link) -> Infallible {
    let Err(fault) = steps(program, new_user, link);
    link.fail(fault)
}

/// From the clone to the exec. `/` is the container's root already; the host's tree is out of reach.
fn steps(program: &Program, new_user: bool, link: &Link) -> Result<Infallible, Fault> {
    link.wait_until_placed()?;
    if new_user {
        credentials::become_root()?;
    }
    setsid().at(Step::NewSession, "")?;
    umask(Mode::from_bits_truncate(0o022));
    let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
    let root = root.at(Step::OpenRoot, "/")?;
    let terminal = match program.stdio {
        Stdio::Terminal { rows, columns } => {
            let pair = terminal::open(root.as_fd(), rows, columns)?;
            let master = pair.master.try_clone().at(Step::Terminal, "master")?;
            link.send(&Message::Terminal(master)).at(Step::ParentDied, "")?;
            Some(pair)
        }
        Stdio::Pipes { .. } => None,
    };
    if let Some(profile) = &program.apparmor {
        check_proc(root.as_fd()).at(Step::Apparmor, profile)?;
        apparmor::set_exec_label(&Path::new("/proc").join(getpid().to_string()).join("attr"), profile)?;
    }
    program::execute(program, Prepared { root, terminal, init: None }, link)
}

/// Whether the container's /proc is one: somebody there could have put a folder of their own in its
/// place, and the label would be written to a file of theirs.
fn check_proc(root: BorrowedFd) -> nix::Result<()> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    let proc = rooted::open(root, Path::new("/proc"), OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
    let is_proc = nix::sys::statfs::fstatfs(&proc)?.filesystem_type() == nix::sys::statfs::FsType(PROC_SUPER_MAGIC);
    if is_proc { Ok(()) } else { Err(Errno::ENOTTY) }
}
