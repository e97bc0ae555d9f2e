//! The mount calls that work on descriptors: open_tree(2), move_mount(2), mount_setattr(2),
//! fsopen(2). Linux 5.12 has all of them.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::NixPath;

pub const RDONLY: u64 = 0x1;
pub const NOSUID: u64 = 0x2;
pub const NODEV: u64 = 0x4;
pub const NOEXEC: u64 = 0x8;
/// All bits of the setting how access times are kept. `RELATIME` is 0.
pub const ATIME: u64 = 0x70;
pub const NOATIME: u64 = 0x10;
pub const STRICTATIME: u64 = 0x20;
pub const NODIRATIME: u64 = 0x80;
pub const NOSYMFOLLOW: u64 = 0x0020_0000;
/// Owners of files are those that the namespace of [`Attributes::user_namespace`] has for them.
pub const IDMAP: u64 = 0x0010_0000;

const OPEN_TREE_CLONE: u32 = 1;
const AT_RECURSIVE: u32 = 0x8000;
const AT_EMPTY_PATH: u32 = 0x1000;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;

/// What [`set_attributes`] changes. `set` and `clear` are of the bits above; `propagation` is one
/// of `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0: as it is.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
    /// A descriptor, for [`IDMAP`].
    pub user_namespace: u64,
}

/// A copy of the mount that `path` lies on, from `path` down, attached nowhere: `OPEN_TREE_CLONE`.
/// `recursive`: with what is mounted below.
///
/// # Errors
/// As open_tree(2): `EINVAL` for a copy that would uncover what a locked mount covers
/// (mount_namespaces(7)).
pub fn copy_tree(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    path.with_nix_path(|p| open_tree(libc::AT_FDCWD, p, recursive))?
}

/// [`copy_tree`] of what `fd` names.
pub fn copy_tree_of(fd: BorrowedFd, recursive: bool) -> io::Result<OwnedFd> {
    open_tree(fd.as_raw_fd(), c"", recursive)
}

fn open_tree(dir: i32, path: &CStr, recursive: bool) -> io::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE
        | libc::O_CLOEXEC.unsigned_abs()
        | if path.is_empty() { AT_EMPTY_PATH } else { 0 }
        | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `path` is a C string that lives through the call.
    descriptor(unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags) })
}

/// Attaches the detached mount `tree` to what `target` names.
pub fn attach(tree: BorrowedFd, target: BorrowedFd) -> io::Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    let empty = c"".as_ptr();
    // SAFETY: the paths are C strings of static life.
    let done =
        unsafe { libc::syscall(libc::SYS_move_mount, tree.as_raw_fd(), empty, target.as_raw_fd(), empty, flags) };
    done_or_error(done)
}

/// Changes the mount whose root `mount` names, and those below it where `recursive`.
///
/// # Errors
/// As mount_setattr(2): `EPERM` for a setting that is locked in this user namespace.
pub fn set_attributes(mount: BorrowedFd, recursive: bool, attributes: Attributes) -> io::Result<()> {
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    let size = size_of::<Attributes>();
    // SAFETY: `attributes` has the layout of `struct mount_attr` and the size given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(&attributes),
            size,
        )
    };
    done_or_error(done)
}

/// A new file system with these text options, attached nowhere. `attributes`: of the bits above.
pub fn new_filesystem(kind: &CStr, options: &[(&CStr, &CStr)], attributes: u64) -> io::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: u32 = 1;
    const FSMOUNT_CLOEXEC: u32 = 1;
    // SAFETY: `kind` is a C string that lives through the call.
    let context = descriptor(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    let configure = |command: u32, key: *const libc::c_char, value: *const libc::c_char| {
        // SAFETY: `key` and `value` are null or C strings that live through the call.
        done_or_error(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) })
    };
    for (key, value) in options {
        configure(FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr())?;
    }
    configure(FSCONFIG_CMD_CREATE, std::ptr::null(), std::ptr::null())?;
    // SAFETY: takes numbers; the context is open.
    descriptor(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) })
}

fn descriptor(result: i64) -> io::Result<OwnedFd> {
    done_or_error(result)?;
    let fd = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: a descriptor that the kernel just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn done_or_error(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
