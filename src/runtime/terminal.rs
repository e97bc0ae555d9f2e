//! The process's terminal, of the container's own devpts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Uid, fchown};

use super::report::{At, Fault, Step};
use super::rooted;
use crate::sys::{mount, terminal};

/// Both sides of a pseudo-terminal.
#[derive(Debug)]
pub struct Pair {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

/// Opens a new one. In a container that runs already (`exec`), somebody could have put anything at
/// /dev/pts: what is opened must be the device, and the slave is asked of it, not of a path.
pub fn open(root: BorrowedFd, rows: u16, columns: u16) -> Result<Pair, Fault> {
    let open = || -> std::io::Result<Pair> {
        let path = Path::new("/dev/pts/ptmx");
        // First only its name: opening some other device for real could do something.
        let name = rooted::open(root, path, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        let (stat, magic) = (fstat(&name)?, nix::sys::statfs::fstatfs(&name)?.filesystem_type());
        let device = rooted::file_type(&stat) == SFlag::S_IFCHR && stat.st_rdev == libc::makedev(5, 2);
        if !device || magic != nix::sys::statfs::FsType(DEVPTS_MAGIC) {
            return Err(Errno::ENOTTY.into());
        }
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW;
        let master = rooted::open(root, path, flags)?;
        if fstat(&master)?.st_rdev != stat.st_rdev {
            return Err(Errno::ENOTTY.into());
        }
        let slave = terminal::slave_of(master.as_fd())?;
        if (rows, columns) != (0, 0) {
            terminal::set_size(slave.as_fd(), rows, columns)?;
        }
        Ok(Pair { master, slave })
    };
    open().at(Step::Terminal, "/dev/pts/ptmx")
}

/// magic.h.
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// Binds the slave to /dev/console, where programs that are an init look for it.
pub fn bind_console(root: BorrowedFd, slave: BorrowedFd) -> Result<(), Fault> {
    let bind = || -> std::io::Result<()> {
        let tree = mount::copy_tree_of(slave, false)?;
        let target = rooted::file(root, Path::new("/dev/console"))?;
        mount::attach(tree.as_fd(), target.as_fd())
    };
    bind().at(Step::Terminal, "/dev/console")
}

/// Gives it to the user; the group stays devpts' own (`gid=5`), as login(1) has it.
pub fn give(slave: BorrowedFd, uid: u32) -> Result<(), Fault> {
    fchown(slave, Some(Uid::from_raw(uid)), None).at(Step::Terminal, "owner")
}
