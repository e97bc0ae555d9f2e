//! The parent's side: makes the child, gives it its place, and waits until it executes.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::cgroup::Cgroup;
use super::mounts::{Kind, Mount};
use super::plan::{Joined, Plan};
use super::report::{At, Fault, Link, Message, Step};
use super::rootfs::Owners;
use super::{Launch, Maker, Process, elsewhere, init, null, rootfs};
use crate::error::{Failure, exit};
use crate::sys::process::exit_now;
use crate::sys::{self, clone, keyring, pidfd};

/// A container whose first process exists in its namespaces and its cgroup, with its ids mapped,
/// and is building the root meanwhile; it goes on to its program with [`Prepared::start`]. Until
/// then its network can be made. Dropped without that, it is killed.
#[derive(Debug)]
pub struct Prepared {
    child: Child,
    mounts: Vec<Mount>,
}

/// Makes a container's process and waits until it executes its program.
///
/// # Errors
/// With Docker's exit codes: 127 for a program that is not there, 126 for one that cannot be
/// executed or a bad working directory, else 125. Nothing is left of it then.
pub fn launch(launch: Launch) -> Result<Process> {
    prepare(launch)?.start()
}

/// [`launch`] up to the point where the network can be made.
///
/// To be called by a process of one thread, with a mount namespace of its own.
pub fn prepare(mut launch: Launch) -> Result<Prepared> {
    launch.stdio = null::seal(launch.stdio).context("open /dev/null")?;
    if let Err(e) = keyring::leave()
        && launch.seccomp.is_none()
    {
        return Err(e).context("make a session keyring of the container's own");
    }
    let cgroup = launch.cgroup.take();
    let mut plan = Plan::check(launch)?;
    plan.show_hierarchies(cgroup.as_ref().map_or(&[], Cgroup::hierarchies));
    // Those that a process can only make itself, in its place.
    let mut late = CloneFlags::CLONE_NEWCGROUP;
    if !plan.namespaces.time_offsets.is_empty() {
        late |= CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);
    }
    let flags = flag_bits(plan.namespaces.new - late);
    let child = Child::spawn(&plan.namespaces.joined, flags, cgroup.as_ref(), |link| init::run(&plan, link))?;
    if !plan.uid_map.is_empty() {
        // gid_map first: written by a privileged process, the order is free, and nothing runs in between.
        child.map_ids("gid_map", &plan.gid_map)?;
        child.map_ids("uid_map", &plan.uid_map)?;
    }
    child.place(plan.oom_score_adj)?;
    if plan.maker != Maker::Itself {
        child.give_root(&plan)?;
    }
    Ok(Prepared { child, mounts: plan.mounts })
}

impl Prepared {
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.child.pid
    }

    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// Lets the process go on, and waits until it executes its program.
    pub fn start(self) -> Result<Process> {
        // A child that has failed is gone; what it said is still to be read.
        let _ = self.child.link.send(&Message::Go);
        self.child.await_exec(&self.mounts)
    }
}

/// The bits of clone3(2), which has 64 of them.
fn flag_bits(flags: CloneFlags) -> u64 {
    u64::from(flags.bits().cast_unsigned())
}

/// A child that has not executed yet; killed when it is dropped.
#[derive(Debug)]
pub struct Child {
    pub pid: Pid,
    pidfd: OwnedFd,
    link: Link,
    kept: bool,
}

impl Child {
    /// Makes a child that runs `body` in new namespaces (`flags`), in the ones to join, and, on
    /// cgroup v2, in the cgroup.
    ///
    /// A process cannot come back from a namespace it has joined, and a joined pid namespace holds
    /// only for its children. So with anything to join a first child joins, and makes the one that
    /// stays, as its own sibling: a child of this process, which it can wait for.
    pub fn spawn(
        joined: &[Joined],
        flags: u64,
        cgroup: Option<&Cgroup>,
        body: impl FnOnce(&Link) -> Infallible,
    ) -> Result<Self> {
        let join = || joined.iter().try_for_each(|j| setns(&j.namespace, j.kind).at_path(Step::JoinNamespace, &j.path));
        let (link, far) = Link::pair().context("create a socket pair")?;
        Self::spawn_joining((!joined.is_empty()).then_some(join), flags, cgroup, (link, far), body)
    }

    /// [`Child::spawn`] with any way to join, and both ends of a link, the parent's first.
    pub fn spawn_joining(
        join: Option<impl FnOnce() -> Result<(), Fault>>,
        flags: u64,
        cgroup: Option<&Cgroup>,
        (link, far): (Link, Link),
        body: impl FnOnce(&Link) -> Infallible,
    ) -> Result<Self> {
        let fd = cgroup.and_then(Cgroup::fd);
        // On cgroup v1 the child enters by itself: 11 ms faster than being put there.
        let enter = || match cgroup.filter(|c| c.fd().is_none()) {
            Some(cgroup) => cgroup.enter().at(Step::EnterCgroup, ""),
            None => Ok(()),
        };
        let Some(join) = join else {
            let made = clone::spawn(flags, fd, || match enter() {
                Ok(()) => body(&far),
                Err(fault) => {
                    let _ = far.send(&Message::Failed(fault));
                    exit_now(1)
                }
            });
            let (pid, pidfd) = made.at(Step::MakeNamespaces, "").map_err(|fault| fault.failure())?;
            return Ok(Self { pid, pidfd, link, kept: false });
        };
        let steps = || -> Result<(), Fault> {
            // What it makes is where it is.
            enter()?;
            // Whom we join may be hostile: nothing of this process is theirs to see.
            nix::sys::prctl::set_dumpable(false).at(Step::JoinNamespaces, "")?;
            join()?;
            let made = clone::spawn(flags | clone::CLONE_PARENT, None, || body(&far));
            let (pid, pidfd) = made.at(Step::MakeNamespaces, "")?;
            far.send(&Message::Cloned { pid, pidfd }).at(Step::ParentDied, "")
        };
        let joiner = clone::spawn(0, fd, || {
            if let Err(fault) = steps() {
                let _ = far.send(&Message::Failed(fault));
            }
            exit_now(0)
        });
        let (_, joiner) = joiner.at(Step::MakeNamespaces, "").map_err(|fault| fault.failure())?;
        drop(far);
        let answer = hear(&link, "the joining process");
        if answer.is_err() {
            let _ = pidfd::signal(joiner.as_fd(), libc::SIGKILL);
        }
        waitid(Id::PIDFd(joiner.as_fd()), WaitPidFlag::WEXITED).context("wait for the joining process")?;
        match answer? {
            Some(Message::Cloned { pid, pidfd }) => Ok(Self { pid, pidfd, link, kept: false }),
            Some(Message::Failed(fault)) => Err(fault.failure().into()),
            _ => Err(Failure::new("the joining process was killed").into()),
        }
    }

    /// Writes the child's uid_map or gid_map.
    fn map_ids(&self, file: &str, map: &str) -> Result<()> {
        fs::write(format!("/proc/{}/{file}", self.pid), map)
            .with_context(|| format!("map ids: write {map:?} to {file}"))
            .map_err(|e| Failure::new("make the container's user namespace").source(e).into())
    }

    /// Mounts the root for a child that waits for it.
    fn give_root(&self, plan: &Plan) -> Result<()> {
        let owners = match plan.maker {
            Maker::CallerMapped => {
                let path = format!("/proc/{}/ns/user", self.pid);
                let namespace = File::open(&path).with_context(|| format!("open {path:?}"))?.into();
                // Of the child itself: it may have joined a namespace that is there already.
                let root = |file: &str| {
                    let map = fs::read_to_string(format!("/proc/{}/{file}", self.pid))?;
                    of_root(&map).context("the container has no root")
                };
                let root = (root("uid_map")?, root("gid_map")?);
                Some(Owners { namespace, root })
            }
            _ => None,
        };
        let root = rootfs::make_outside(&plan.root, owners.as_ref()).map_err(|fault| fault.failure())?;
        // A child that has failed is gone; what it said is read later.
        let _ = self.link.send(&Message::Source(root));
        Ok(())
    }

    /// Puts the child where it belongs, and lets it begin.
    pub fn place(&self, oom_score_adj: Option<i32>) -> Result<()> {
        if let Some(score) = oom_score_adj {
            let file = format!("/proc/{}/oom_score_adj", self.pid);
            match fs::write(&file, score.to_string()) {
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Err(oom_score_denied(score, &file)),
                done => done.with_context(|| format!("set oom_score_adj to {score}"))?,
            }
        }
        // As in `Prepared::start`.
        let _ = self.link.send(&Message::Placed);
        Ok(())
    }

    /// Serves the child until it executes or fails.
    pub fn await_exec(mut self, mounts: &[Mount]) -> Result<Process> {
        let mut terminal = None;
        let mut executing = false;
        loop {
            match hear(&self.link, "the container's process")? {
                Some(Message::WantSource(index)) => {
                    let answer = open_source(mounts, index).unwrap_or_else(Message::NoSource);
                    let _ = self.link.send(&answer);
                }
                Some(Message::Terminal(master)) => terminal = Some(master),
                Some(Message::Executing) => executing = true,
                Some(Message::Failed(fault)) => return Err(fault.failure().into()),
                None if executing => break,
                None => {
                    return Err(Failure::new("the container's process was killed before it could run its command")
                        .hint("where a memory limit is set, it may be too low for the command to start")
                        .into());
                }
                Some(_) => return Err(Failure::new("the container's process said what it cannot say").into()),
            }
        }
        self.kept = true;
        let pidfd = self.pidfd.try_clone().context("keep the process's descriptor")?;
        Ok(Process { pid: self.pid, pidfd, terminal })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.kept {
            let _ = pidfd::signal(self.pidfd.as_fd(), libc::SIGKILL);
            let _ = waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED);
        }
    }
}

/// What 0 is outside, by the contents of a uid_map or gid_map.
fn of_root(map: &str) -> Option<u32> {
    let mut lines = map.lines().map(str::split_ascii_whitespace);
    lines.find_map(|mut line| (line.next() == Some("0")).then(|| line.next()?.parse().ok())?)
}

/// A score lower than what the process has needs CAP_SYS_RESOURCE of the machine: proc(5).
fn oom_score_denied(score: i32, file: &str) -> anyhow::Error {
    let present = fs::read_to_string(file).unwrap_or_default();
    let present = present.trim();
    Failure::new(format!(
        "cannot set the OOM score adjustment to {score}: lower than {present} needs CAP_SYS_RESOURCE on the machine"
    ))
    .hint(format!("give --oom-score-adj {present} or more, or run ctr as a root that has the capability"))
    .exit(exit::ENGINE)
    .into()
}

/// The next word of `whom`, who was given a time for it or not.
fn hear(link: &Link, whom: &str) -> Result<Option<Message>> {
    match link.receive() {
        Err(Errno::EAGAIN) => Err(Failure::new("the process did not begin in time and was killed")
            .hint("something in the container stops or freezes every process that comes in")
            .exit(exit::ENGINE)
            .into()),
        heard => heard.with_context(|| format!("hear of {whom}")),
    }
}

/// The source of a bind mount, for a child whose root is nobody to the folders on the way.
fn open_source(mounts: &[Mount], index: u32) -> Result<Message, Errno> {
    match mounts.get(index as usize).map(|m| &m.kind) {
        Some(Kind::Bind { source, recursive }) => match elsewhere::of(source) {
            Some((pid, path)) => elsewhere::copy_tree(pid, &path).map(Message::Source),
            None => sys::mount::copy_tree(source, *recursive)
                .map(Message::Source)
                .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))),
        },
        _ => Err(Errno::EINVAL),
    }
}
