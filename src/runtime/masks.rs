//! Paths of the kernel's file systems that a container may not read, or not write.
//!
//! All by descriptor, with nothing of the container running yet, and with the host's own
//! /dev/null (a container's could be a link: CVE-2025-31133).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;

use super::report::{At, Fault, Step};
use super::{null, rooted};
use crate::sys::mount::{self, Attributes};

/// Hides files behind /dev/null and folders behind an empty, read-only one. What is missing is
/// hidden already.
pub fn hide(root: BorrowedFd, paths: &[PathBuf]) -> Result<(), Fault> {
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let Some(target) = there(root, path).at_path(Step::Mask, path)? else { continue };
        let cover = if rooted::is(&target, SFlag::S_IFDIR).at_path(Step::Mask, path)? {
            // One file system serves all of them.
            match &empty {
                Some(first) => mount::copy_tree_of(first.as_fd(), false),
                None => mount::new_filesystem(
                    c"tmpfs",
                    &[(c"size", c"0k"), (c"nr_inodes", c"2"), (c"mode", c"555")],
                    mount::RDONLY,
                ),
            }
        } else {
            null::tree()
        };
        let cover = cover.at_path(Step::Mask, path)?;
        mount::attach(cover.as_fd(), target.as_fd()).at_path(Step::Mask, path)?;
        if empty.is_none() && rooted::is(&cover, SFlag::S_IFDIR).at_path(Step::Mask, path)? {
            empty = Some(cover);
        }
    }
    Ok(())
}

/// Makes each path, with what is mounted below it, read-only.
pub fn make_read_only(root: BorrowedFd, paths: &[PathBuf]) -> Result<(), Fault> {
    for path in paths {
        let Some(target) = there(root, path).at_path(Step::ReadOnlyPath, path)? else { continue };
        let attributes = Attributes { set: mount::RDONLY, ..Attributes::default() };
        let cover = || -> std::io::Result<()> {
            let tree = mount::copy_tree_of(target.as_fd(), true)?;
            mount::set_attributes(tree.as_fd(), true, attributes)?;
            mount::attach(tree.as_fd(), target.as_fd())
        };
        cover().at_path(Step::ReadOnlyPath, path)?;
    }
    Ok(())
}

fn there(root: BorrowedFd, path: &Path) -> nix::Result<Option<OwnedFd>> {
    match rooted::open(root, path, OFlag::O_PATH) {
        // A folder that not even root may enter hides what is in it.
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => Ok(None),
        result => result.map(Some),
    }
}
