//! bpf(2), as far as a cgroup's devices need it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
/// Further programs below this cgroup may only narrow what it allows.
const ALLOW_MULTI: u32 = 1 << 1;

/// The front of `union bpf_attr` for BPF_PROG_LOAD (linux/bpf.h); the kernel takes what is left out
/// for zeros.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// Likewise for BPF_PROG_ATTACH.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Lets a program decide which devices the processes of a cgroup (v2) open and make. It stays
/// as long as the cgroup. `program`: instructions of extended BPF, in the machine's byte order.
///
/// # Errors
/// As bpf(2): EPERM without CAP_BPF and CAP_NET_ADMIN (or CAP_SYS_ADMIN) in the first user namespace.
pub fn attach_devices(cgroup: BorrowedFd<'_>, program: &[u64]) -> io::Result<()> {
    let load = Load {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(io::Error::other)?,
        insns: program.as_ptr() as u64,
        // It calls no helper function, so it needs no particular license.
        license: c"Apache-2.0".as_ptr() as u64,
        ..Load::default()
    };
    let loaded = bpf(PROG_LOAD, &load)?;
    let loaded = i32::try_from(loaded).map_err(io::Error::other)?;
    // SAFETY: the kernel just made this descriptor for us, and nobody else has its number.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded) };
    let attach = Attach {
        target: cgroup.as_raw_fd().cast_unsigned(),
        program: loaded.as_raw_fd().cast_unsigned(),
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    bpf(PROG_ATTACH, &attach).map(drop)
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: `attributes` is a live `repr(C)` structure without padding of the size that is passed;
    // the kernel only reads it and what its pointers (live in the callers) lead to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
