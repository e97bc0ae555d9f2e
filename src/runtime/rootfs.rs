//! The container's root: mounted in its own mount namespace, so that nobody else ever sees it, and
//! then all that there is.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, fchdir, pivot_root};

use super::report::{At, Fault, Link, Message, Step};
use super::{Root, credentials};
use crate::sys::mount::{self as api, Attributes};

const NONE: Option<&str> = None;

/// Keeps what is mounted here from reaching the host.
pub fn detach_propagation(propagation: MsFlags) -> Result<(), Fault> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | propagation, NONE).at(Step::DetachPropagation, "/")
}

/// Mounts the root and returns it.
pub fn make(root: &Root, user_xattr: bool) -> Result<OwnedFd, Fault> {
    match root {
        Root::Overlay { lower, upper, work, volatile } => {
            let layer = |path: &Path| open_folder(path).at_path(Step::OpenLayer, path);
            let layers = lower.iter().map(|path| layer(path)).collect::<Result<Vec<_>, _>>()?;
            let writable = Writable { path: upper, upper: layer(upper)?, work: layer(work)?, work_path: work };
            overlay(&layers, &writable, *volatile, user_xattr)
        }
        Root::Directory(path) => directory(path),
    }
}

/// Takes the root that the parent mounted, and attaches it over the host's, which is a mount point
/// that everybody may open: pivot_root(2) wants one. A path from the host's `/` still leads below
/// it, not to what covers it.
pub fn take(link: &Link) -> Result<OwnedFd, Fault> {
    match link.answer()? {
        Message::Source(tree) => {
            let place = open_folder(Path::new("/")).at(Step::OpenRoot, "/")?;
            api::attach(tree.as_fd(), place.as_fd()).at(Step::OpenRoot, "/")?;
            Ok(tree)
        }
        _ => Err(Fault::new(Step::ParentDied, Errno::EPROTO, "")),
    }
}

/// The root for a process whose ids are others than the caller's, mounted in the caller's own mount
/// namespace and attached nowhere. `owners`: whose ids the files' owners become.
///
/// It needs capabilities over the file systems of the layers for that, and those that allow it: ext4,
/// xfs, btrfs, and others.
pub fn make_outside(root: &Root, owners: Option<&Owners>) -> Result<OwnedFd, Fault> {
    let Root::Overlay { lower, upper, work, volatile } = root else {
        let Root::Directory(path) = root else { return Err(Fault::new(Step::OpenRoot, Errno::EINVAL, "")) };
        return api::copy_tree(path, true).at_path(Step::OpenRoot, path);
    };
    let user_xattr = !crate::userns::in_first();
    let mut covers = Covers::default();
    let tree = {
        let mut layer = |path: &Path| match owners {
            Some(owners) => covers.map(path, &owners.namespace).at_path(Step::MapOwners, path),
            None => open_folder(path).at_path(Step::OpenLayer, path),
        };
        let layers = lower.iter().map(|path| layer(path)).collect::<Result<Vec<_>, _>>()?;
        // Both must be of one mount.
        let home = upper.parent().unwrap_or(upper);
        let home_fd = layer(home)?;
        let below = |path: &Path| {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            openat(&home_fd, path.file_name().unwrap_or_default(), flags, Mode::empty()).at_path(Step::OpenLayer, path)
        };
        let writable = Writable { path: upper, upper: below(upper)?, work: below(work)?, work_path: work };
        let mount = || overlay(&layers, &writable, *volatile, user_xattr);
        let mounted = match owners {
            Some(owners) => credentials::with_files_of(owners.root, mount)?,
            None => mount()?,
        };
        let tree = api::copy_tree_of(mounted.as_fd(), false).at_path(Step::MountOverlay, upper);
        covers.0.push(mounted);
        tree
    };
    // The overlay has mounts of its own of all that it lies on.
    drop(covers);
    chdir("/").at(Step::OpenRoot, "/")?;
    tree
}

/// The ids of a container.
#[derive(Debug)]
pub struct Owners {
    /// Its user namespace.
    pub namespace: OwnedFd,
    /// Its root, user and group, in this process's.
    pub root: (u32, u32),
}

/// Mounts that lie over folders for as long as an overlay is made of them, since one that is attached
/// nowhere is taken for a layer by new kernels only. The last one goes first.
#[derive(Default)]
struct Covers(Vec<OwnedFd>);

impl Covers {
    /// Covers a folder with itself, its files' owners mapped.
    fn map(&mut self, path: &Path, ids: &OwnedFd) -> std::io::Result<OwnedFd> {
        let place = open_folder(path)?;
        let tree = api::copy_tree_of(place.as_fd(), false)?;
        let namespace = u64::try_from(ids.as_raw_fd()).map_err(std::io::Error::other)?;
        let mapped = Attributes { set: api::IDMAP, user_namespace: namespace, ..Attributes::default() };
        api::set_attributes(tree.as_fd(), false, mapped)?;
        api::attach(tree.as_fd(), place.as_fd())?;
        self.0.push(tree.try_clone()?);
        Ok(tree)
    }
}

impl Drop for Covers {
    fn drop(&mut self) {
        while let Some(mount) = self.0.pop() {
            // What stays is gone with this process's mount namespace.
            let _ = umount2(super::mounts::through(&mount).as_str(), MntFlags::MNT_DETACH);
        }
    }
}

/// What an overlay writes to: two folders of one mount.
struct Writable<'a> {
    path: &'a Path,
    upper: OwnedFd,
    work: OwnedFd,
    work_path: &'a Path,
}

/// Mounts an overlay over its own upper folder, in the place of a mount point that would have to be
/// made and removed.
///
/// The options must fit into one page. So the folders are given as the shortest names there are:
/// their descriptors' numbers, resolved in /proc/self/fd. That has room for the 500 layers that the
/// kernel takes, and shows no path of the host to who reads mountinfo in the container.
fn overlay(layers: &[OwnedFd], writable: &Writable, volatile: bool, user_xattr: bool) -> Result<OwnedFd, Fault> {
    let Writable { path, upper, work, work_path } = writable;
    let failed = |e: Errno| Fault::new(Step::MountOverlay, e, path.display().to_string());
    let names: Vec<String> = layers.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    // Without an index, an upper folder whose last mount is not quite gone yet is no error.
    let mut options =
        format!("lowerdir={},upperdir={},workdir={},index=off", names.join(":"), upper.as_raw_fd(), work.as_raw_fd());
    // All that the container changed is to be in its upper folder, for `diff` and `commit`: no folder
    // that is the renamed one of a layer below, no file whose data are still there. `userxattr` says
    // the same.
    options += if user_xattr { ",userxattr" } else { ",redirect_dir=off,metacopy=off" };
    if volatile {
        options += ",volatile";
    }
    chdir("/proc/self/fd").map_err(failed)?;
    let target = upper.as_raw_fd().to_string();
    let mount = || mount(Some("overlay"), target.as_str(), Some("overlay"), MsFlags::empty(), Some(options.as_str()));
    match mount() {
        // A volatile overlay refuses what an earlier one left behind, lest lost writes go unseen:
        // whoever asks for `volatile` again has accepted that.
        Err(Errno::EINVAL) if volatile && forget_volatile(work_path) => mount(),
        done => done,
    }
    .map_err(failed)?;
    // By its path: the descriptor names what is covered now.
    open_folder(path).map_err(failed)
}

/// Mounts layers alone (topmost first), read-only, over the topmost one: what they look like
/// together, though the upper folder of a container that runs be among them.
pub fn view(layers: &[PathBuf], user_xattr: bool) -> Result<OwnedFd, Fault> {
    let Some(top) = layers.first() else { return Err(Errno::ENOENT).at(Step::OpenLayer, "") };
    let failed = |e: Errno| Fault::new(Step::MountOverlay, e, top.display().to_string());
    let opened = layers.iter().map(|path| open_folder(path).at_path(Step::OpenLayer, path));
    let mut opened = opened.collect::<Result<Vec<_>, _>>()?;
    if opened.len() == 1 {
        // An overlay needs two or more.
        return Ok(opened.remove(0));
    }
    let names: Vec<String> = opened.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    let mut options = format!("lowerdir={}", names.join(":"));
    if user_xattr {
        options += ",userxattr";
    }
    chdir("/proc/self/fd").map_err(failed)?;
    mount(Some("overlay"), names[0].as_str(), Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_str()))
        .map_err(failed)?;
    // By its path: the descriptor names what is covered now.
    open_folder(top).map_err(failed)
}

/// Removes overlay's mark of a volatile mount, a folder with a file of the kernel's own, which no
/// container reaches; whether there was one.
fn forget_volatile(work: &Path) -> bool {
    std::fs::remove_dir_all(work.join("work/incompat/volatile")).is_ok()
}

/// A folder as it is, with what is mounted in it.
fn directory(path: &Path) -> Result<OwnedFd, Fault> {
    let private = Attributes { propagation: MsFlags::MS_PRIVATE.bits(), ..Attributes::default() };
    let mount = || -> std::io::Result<OwnedFd> {
        let place = open_folder(path)?;
        let tree = api::copy_tree_of(place.as_fd(), true)?;
        api::set_attributes(tree.as_fd(), true, private)?;
        // pivot_root(2) wants a mount point, and the folder itself is one that is there.
        api::attach(tree.as_fd(), place.as_fd())?;
        Ok(tree)
    };
    mount().at_path(Step::OpenRoot, path)
}

fn open_folder(path: &Path) -> nix::Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// Of the root's own mount; empty: as it is.
pub fn set_propagation(root: BorrowedFd, propagation: MsFlags) -> Result<(), Fault> {
    if propagation.is_empty() {
        return Ok(());
    }
    let attributes = Attributes { propagation: propagation.bits(), ..Attributes::default() };
    api::set_attributes(root, false, attributes).at(Step::MountAttributes, "/")
}

/// Makes the root's own mount read-only; what is mounted in it stays as it is.
pub fn make_read_only(root: BorrowedFd) -> Result<(), Fault> {
    let attributes = Attributes { set: api::RDONLY, ..Attributes::default() };
    api::set_attributes(root, false, attributes).at(Step::ReadOnlyRoot, "/")
}

/// Makes `root` this namespace's root and takes the host's away, so that no path leads there.
pub fn pivot(root: BorrowedFd) -> Result<(), Fault> {
    let steps = || {
        fchdir(root)?;
        // The old root comes to lie over the new one: pivot_root(2), "pivot_root(".", ".")".
        pivot_root(".", ".")?;
        umount2(".", MntFlags::MNT_DETACH)?;
        chdir("/")
    };
    steps().at(Step::Pivot, "/")
}
