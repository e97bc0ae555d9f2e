//! What is in /dev.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat, mknodat};
use nix::unistd::{Gid, Uid, symlinkat};

use super::mounts::{Kind, Mount};
use super::plan::Device;
use super::report::{At, Fault, Step};
use super::rooted;
use crate::sys::mount::{self, Attributes};

/// OCI runtime spec, "Default devices"; `ptmx` and `console` are the terminal's.
const DEFAULT: [(&str, u64, u64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// OCI runtime spec, "Dev symbolic links", and Docker's `core`.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Makes the standard devices and links, and `devices`. Does nothing where /dev is a bind mount:
/// it is somebody's then, and has what they want.
pub fn make(root: BorrowedFd, mounts: &[Mount], devices: &[Device]) -> Result<(), Fault> {
    let dev = Path::new("/dev");
    if mounts.iter().any(|m| m.target == dev && matches!(m.kind, Kind::Bind { .. })) {
        return Ok(());
    }
    let mut nodes = Nodes { root, may_make: true };
    for (path, major, minor) in DEFAULT {
        let mode = libc::S_IFCHR | 0o666;
        nodes.make(&Device { path: path.into(), mode, major, minor, uid: 0, gid: 0 })?;
    }
    let folder = rooted::directory(root, dev).at_path(Step::Device, dev)?;
    for (name, to) in LINKS {
        match symlinkat(to, &folder, name) {
            Err(Errno::EEXIST) => {}
            done => done.at(Step::Device, format_args!("/dev/{name}"))?,
        }
    }
    devices.iter().try_for_each(|device| nodes.make(device))
}

struct Nodes<'a> {
    root: BorrowedFd<'a>,
    /// Not known to be refused: in a user namespace mknod(2) is, for all but pipes.
    may_make: bool,
}

impl Nodes<'_> {
    fn make(&mut self, device: &Device) -> Result<(), Fault> {
        let path = &device.path;
        if self.may_make || device.mode & libc::S_IFMT == libc::S_IFIFO {
            match self.node(device) {
                Err(Errno::EPERM) => self.may_make = false,
                done => return done.at_path(Step::Device, path),
            }
        }
        // The host's own node, which the kernel let the host's root make.
        let source = host_node(device).ok_or(Errno::ENODEV).at_path(Step::Device, path)?;
        let tree = mount::copy_tree(&source, false).at_path(Step::Device, path)?;
        // Its owner and mode stay the host's to change; on a device, read-only means no more than that.
        let read_only = Attributes { set: mount::RDONLY, ..Attributes::default() };
        mount::set_attributes(tree.as_fd(), false, read_only).at_path(Step::Device, path)?;
        let target = rooted::file(self.root, path).at_path(Step::Device, path)?;
        mount::attach(tree.as_fd(), target.as_fd()).at_path(Step::Device, path)
    }

    fn node(&self, device: &Device) -> nix::Result<()> {
        let (Some(above), Some(name)) = (device.path.parent(), device.path.file_name()) else {
            return Err(Errno::EINVAL);
        };
        let parent = rooted::directory(self.root, above)?;
        let (kind, mode) = (SFlag::from_bits_truncate(device.mode), Mode::from_bits_truncate(device.mode));
        let number = libc::makedev(low(device.major)?, low(device.minor)?);
        match mknodat(&parent, name, kind, mode, number) {
            Err(Errno::EEXIST) => {
                let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let found = fstat(nix::fcntl::openat(&parent, name, flags, Mode::empty())?)?;
                let same = rooted::file_type(&found) == kind && found.st_rdev == number;
                return if same { Ok(()) } else { Err(Errno::EEXIST) };
            }
            done => done?,
        }
        if (device.uid, device.gid) == (0, 0) {
            return Ok(());
        }
        let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        nix::unistd::fchownat(&parent, name, Some(Uid::from_raw(device.uid)), Some(Gid::from_raw(device.gid)), flags)
    }
}

fn low(number: u64) -> nix::Result<u32> {
    u32::try_from(number).map_err(|_| Errno::EINVAL)
}

/// Where the host has this device: at the same path, or where udev lists it by number.
fn host_node(device: &Device) -> Option<PathBuf> {
    let folder = if device.mode & libc::S_IFMT == libc::S_IFBLK { "block" } else { "char" };
    let listed = PathBuf::from(format!("/dev/{folder}/{}:{}", device.major, device.minor));
    let number = libc::makedev(low(device.major).ok()?, low(device.minor).ok()?);
    [device.path.clone(), listed].into_iter().find(|path| {
        nix::sys::stat::stat(path).is_ok_and(|s| {
            s.st_rdev == number && rooted::file_type(&s) == SFlag::from_bits_truncate(device.mode & libc::S_IFMT)
        })
    })
}
