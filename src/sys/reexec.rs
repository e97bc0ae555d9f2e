//! This process's own executable, as nobody can write it.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::mount::{self, Attributes};

/// This executable on a read-only mount that is attached nowhere. A process that executes it shows
/// others, at `/proc/PID/exe`, a file that root of the container cannot open for writing
/// (CVE-2019-5736). The caller has a mount namespace of its own.
///
/// Where the file at our path is not the one that runs any more (a newer one was installed), it is
/// a sealed copy in memory instead.
///
/// # Errors
/// As open_tree(2), mount_setattr(2).
pub fn read_only_self() -> io::Result<OwnedFd> {
    let running = std::fs::metadata("/proc/self/exe")?;
    // The magic link leads to the mount of the namespace this process was started in, and a mount of
    // another namespace cannot be cloned: the path is looked up again in this one.
    let path = std::fs::read_link("/proc/self/exe")?;
    let file = File::options().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path);
    let same = file.and_then(|f| Ok((f.metadata()?, f))).ok();
    match same.filter(|(m, _)| (m.dev(), m.ino()) == (running.dev(), running.ino())) {
        Some((_, file)) => read_only_mount(&file),
        None => sealed_copy(),
    }
}

fn read_only_mount(file: &File) -> io::Result<OwnedFd> {
    let tree = mount::copy_tree_of(file.as_fd(), false)?;
    let set = mount::RDONLY | mount::NOSUID | mount::NODEV;
    mount::set_attributes(tree.as_fd(), false, Attributes { set, ..Attributes::default() })?;
    Ok(tree)
}

fn sealed_copy() -> io::Result<OwnedFd> {
    let mut copy = File::from(memfd_create(c"ctr", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
    copy.rewind()?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy.into())
}
