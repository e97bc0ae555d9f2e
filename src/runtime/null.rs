//! The host's /dev/null as a container may have it: on a read-only mount of its own. What is read
//! and written there is nothing, as always; but who owns the file and who may use it is the host's,
//! and root of a container that is the machine's root could change that for the whole machine
//! (`chmod 0 /dev/stdin`, or of a path that is masked with it).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{FileStat, SFlag, fstat};

use super::{Stdio, rooted};
use crate::sys::mount::{self, Attributes};

/// A mount of it, attached nowhere.
pub fn tree() -> io::Result<OwnedFd> {
    let tree = mount::copy_tree(Path::new("/dev/null"), false)?;
    // The host's own, and not what somebody put there.
    if !is_null(&fstat(&tree)?) {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    mount::set_attributes(tree.as_fd(), false, Attributes { set: mount::RDONLY, ..Attributes::default() })?;
    Ok(tree)
}

/// The streams with every /dev/null among them opened anew on such a mount. The caller has a mount
/// namespace of its own.
pub fn seal(stdio: Stdio) -> io::Result<Stdio> {
    let Stdio::Pipes { stdin, stdout, stderr } = stdio else { return Ok(stdio) };
    let seal = |fd: OwnedFd| -> io::Result<OwnedFd> {
        if !is_null(&fstat(&fd)?) {
            return Ok(fd);
        }
        let tree = tree()?;
        Ok(File::options().read(true).write(true).open(format!("/proc/self/fd/{}", tree.as_raw_fd()))?.into())
    };
    Ok(Stdio::Pipes { stdin: seal(stdin)?, stdout: seal(stdout)?, stderr: seal(stderr)? })
}

/// The container's own /dev/null in the place of `stream`, where both are one; so that the stream has
/// a name there. Whoever runs there may have put anything at that path: what is opened is checked.
pub fn own(root: BorrowedFd, stream: BorrowedFd) -> Option<OwnedFd> {
    let open = |flags| {
        let fd = rooted::open(root, Path::new("/dev/null"), flags | OFlag::O_NOFOLLOW).ok()?;
        is_null(&fstat(&fd).ok()?).then_some(fd)
    };
    if !is_null(&fstat(stream).ok()?) {
        return None;
    }
    // First only its name: opening some other device, or a pipe, for real could do something.
    open(OFlag::O_PATH)?;
    let null = open(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK)?;
    fcntl(&null, FcntlArg::F_SETFL(OFlag::empty())).ok()?;
    Some(null)
}

fn is_null(stat: &FileStat) -> bool {
    rooted::file_type(stat) == SFlag::S_IFCHR && stat.st_rdev == libc::makedev(1, 3)
}
