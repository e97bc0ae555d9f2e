//! The container's first process, from clone to exec.

use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{sethostname, setsid};

use super::plan::Plan;
use super::program::{self, Prepared};
use super::report::{At, Fault, Link, Message, Step};
use super::{Maker, Stdio, accounts, credentials, devices, masks, mounts, rooted, rootfs, secrets, terminal};
use crate::sys;

/// Runs the steps; when one fails, reports it and ends.
pub fn run(plan: &Plan, link: &Link) -> Infallible {
    let Err(fault) = steps(plan, link);
    link.fail(fault)
}

/// Until `pivot` the host's tree is there, and is used only to mount from, and for its own /proc;
/// after it, it is out of reach. What comes after `Go` may need the network that the parent made.
fn steps(plan: &Plan, link: &Link) -> Result<Infallible, Fault> {
    link.wait_until_placed()?;
    make_late_namespaces(plan)?;
    if plan.namespaces.new.contains(CloneFlags::CLONE_NEWUSER) {
        credentials::become_root()?;
    }
    // It may wait for long (a source on a file system that hangs), and has what says that its parent lives.
    program::die_with_parent()?;
    setsid().at(Step::NewSession, "")?;
    umask(Mode::empty());
    rootfs::detach_propagation(plan.propagation)?;
    // Ours is on a read-only mount: see `monitor`. So this is what /proc/1/exe shows in the container.
    let init = plan.program.init.then(|| open("/proc/self/exe", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()));
    let init = init.transpose().at(Step::Init, "")?;

    let root = match plan.maker {
        Maker::Itself => rootfs::make(&plan.root, plan.user_xattr)?,
        Maker::Caller | Maker::CallerMapped => rootfs::take(link)?,
    };
    umask(Mode::from_bits_truncate(0o022));
    for (index, mount) in plan.mounts.iter().enumerate() {
        mounts::mount(root.as_fd(), link, index, mount, &plan.namespaces)?;
    }
    secrets::make(root.as_fd(), &plan.secrets)?;
    umask(Mode::empty());
    devices::make(root.as_fd(), &plan.mounts, &plan.devices)?;
    let terminal = match plan.program.stdio {
        Stdio::Terminal { rows, columns } => Some(make_terminal(root.as_fd(), link, rows, columns)?),
        Stdio::Pipes { .. } => None,
    };
    umask(Mode::from_bits_truncate(0o022));
    for directory in plan.directories.iter().chain([&plan.program.cwd]) {
        make_directory(root.as_fd(), directory)?;
    }
    accounts::add(root.as_fd(), plan)?;
    plan.mounts.iter().try_for_each(|mount| mounts::finish(root.as_fd(), mount))?;
    masks::make_read_only(root.as_fd(), &plan.read_only)?;
    masks::hide(root.as_fd(), &plan.masked)?;
    if plan.read_only_root {
        rootfs::make_read_only(root.as_fd())?;
    }

    if let Some(name) = &plan.hostname {
        sethostname(name).at(Step::Hostname, name)?;
    }
    if let Some(name) = &plan.domainname {
        sys::set_domain_name(name).at(Step::Domainname, name)?;
    }
    if plan.namespaces.new.contains(CloneFlags::CLONE_NEWNET) {
        sys::interface::raise_loopback().at(Step::Loopback, "")?;
    }
    if let Some(profile) = &plan.program.apparmor {
        super::apparmor::set_exec_label(Path::new("/proc/self/attr"), profile)?;
    }
    link.wait_until_go()?;
    for (file, value) in &plan.sysctls {
        write(&Path::new("/proc/sys").join(file), value).at(Step::Sysctl, file)?;
    }
    rootfs::pivot(root.as_fd())?;
    // Only now: neither root may be a shared mount while they change places (pivot_root(2)).
    rootfs::set_propagation(root.as_fd(), plan.root_propagation)?;
    program::execute(&plan.program, Prepared { root, terminal, init }, link)
}

/// The namespaces that cannot come from clone3: that of cgroups has as its root the cgroup that its
/// maker is in, and only now are we in ours (cgroup_namespaces(7)); that of clocks cannot be set
/// any more once a process is in it, and we come into it by the exec (time_namespaces(7)).
fn make_late_namespaces(plan: &Plan) -> Result<(), Fault> {
    if plan.namespaces.new.contains(CloneFlags::CLONE_NEWCGROUP) {
        unshare(CloneFlags::CLONE_NEWCGROUP).at(Step::MakeCgroupNamespace, "")?;
    }
    if !plan.namespaces.time_offsets.is_empty() {
        unshare(CloneFlags::from_bits_retain(libc::CLONE_NEWTIME)).at(Step::TimeOffsets, "")?;
        write(Path::new("/proc/self/timens_offsets"), &plan.namespaces.time_offsets).at(Step::TimeOffsets, "")?;
    }
    Ok(())
}

fn make_terminal(root: BorrowedFd, link: &Link, rows: u16, columns: u16) -> Result<terminal::Pair, Fault> {
    let pair = terminal::open(root, rows, columns)?;
    terminal::bind_console(root, pair.slave.as_fd())?;
    let terminal::Pair { master, slave } = pair;
    let copy = master.try_clone().at(Step::Terminal, "master")?;
    link.send(&Message::Terminal(copy)).at(Step::ParentDied, "")?;
    Ok(terminal::Pair { master, slave })
}

/// Makes a directory that the image has not, root's as Docker's is. It must be there before the root is
/// read-only.
fn make_directory(root: BorrowedFd, path: &Path) -> Result<(), Fault> {
    match rooted::directory(root, path) {
        // Whether its user may enter is seen when they do, and so is what a magic link of /proc leads to.
        Ok(_) | Err(Errno::EACCES | Errno::ELOOP | Errno::EXDEV) => Ok(()),
        Err(e) => Err(e).at_path(Step::MakeDirectory, path),
    }
}

/// In one call of write(2), as the files of /proc want it.
fn write(file: &Path, value: &str) -> std::io::Result<()> {
    OpenOptions::new().write(true).open(file)?.write_all(value.as_bytes())
}
