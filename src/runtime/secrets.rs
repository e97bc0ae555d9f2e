//! Files in memory that only the container has: made in a file system that is mounted nowhere else,
//! and that takes no more writes once it is where the container can see it.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use super::report::{At, Fault, Step};
use super::rooted;
use crate::sys::mount::{self, Attributes};

/// One of them.
#[derive(Clone)]
pub struct Secret {
    /// In the container, absolute.
    pub path: PathBuf,
    pub content: Vec<u8>,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Where the file system is mounted.
const FOLDER: &str = "/run/secrets";

/// Makes them all, behind the spec's mounts.
pub fn make(root: BorrowedFd, secrets: &[Secret]) -> Result<(), Fault> {
    if secrets.is_empty() {
        return Ok(());
    }
    let folder = Path::new(FOLDER);
    let attributes = mount::NOSUID | mount::NODEV | mount::NOEXEC;
    let memory = mount::new_filesystem(c"tmpfs", &[(c"mode", c"0755")], attributes).at_path(Step::Secret, folder)?;
    let target = rooted::directory(root, folder).at_path(Step::Secret, folder)?;
    mount::attach(memory.as_fd(), target.as_fd()).at_path(Step::Secret, folder)?;
    for secret in secrets {
        match secret.path.strip_prefix(folder) {
            Ok(path) => drop(write(memory.as_fd(), path, secret).at_path(Step::Secret, &secret.path)?),
            Err(_) => elsewhere(root, memory.as_fd(), secret)?,
        }
    }
    let read_only = Attributes { set: mount::RDONLY, ..Attributes::default() };
    mount::set_attributes(memory.as_fd(), false, read_only).at_path(Step::Secret, folder)
}

/// A file of the same memory that is seen at a path of its own, and by no name in the folder.
fn elsewhere(root: BorrowedFd, memory: BorrowedFd, secret: &Secret) -> Result<(), Fault> {
    let name = Path::new(".elsewhere");
    let steps = || -> std::io::Result<()> {
        let file = write(memory, name, secret)?;
        let tree = mount::copy_tree_of(file.as_fd(), false)?;
        let target = rooted::file(root, &secret.path)?;
        mount::set_attributes(tree.as_fd(), false, Attributes { set: mount::RDONLY, ..Attributes::default() })?;
        mount::attach(tree.as_fd(), target.as_fd())?;
        unlinkat(memory, name, UnlinkatFlags::NoRemoveDir)?;
        Ok(())
    };
    steps().at_path(Step::Secret, &secret.path)
}

/// Writes one below `memory`, in which no one else has made anything.
fn write(memory: BorrowedFd, path: &Path, secret: &Secret) -> std::io::Result<OwnedFd> {
    let parent = match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => rooted::directory(memory, &Path::new("/").join(parent))?,
        None => memory.try_clone_to_owned()?,
    };
    let name: OsString = path.file_name().ok_or(nix::errno::Errno::EISDIR)?.into();
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(&parent, name.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    file.write_all(&secret.content)?;
    fchown(&file, Some(Uid::from_raw(secret.uid)), Some(Gid::from_raw(secret.gid)))?;
    fchmod(&file, Mode::from_bits_truncate(secret.mode))?;
    Ok(file.into())
}
