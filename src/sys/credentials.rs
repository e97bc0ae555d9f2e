//! Capabilities and seccomp: capset(2), prctl(2), seccomp(2).

use std::io;

/// Sets of capabilities, bit n for capability n: capabilities(7).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sets {
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
}

const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// The kernel's layout: the low 32 bits of the three sets, then the high ones.
type Data = [[u32; 3]; 2];

/// The caller's own sets: capget(2).
pub fn capabilities() -> io::Result<Sets> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data: Data = [[0; 3]; 2];
    // SAFETY: version 3 has two elements of three 32-bit words, which `data` is.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let set = |n: usize| u64::from(data[0][n]) | u64::from(data[1][n]) << 32;
    Ok(Sets { effective: set(0), permitted: set(1), inheritable: set(2) })
}

/// Sets the caller's own sets: capset(2).
pub fn set_capabilities(sets: Sets) -> io::Result<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let low = |set: u64| u32::try_from(set & 0xffff_ffff).unwrap_or(0);
    let high = |set: u64| low(set >> 32);
    let Sets { effective: e, permitted: p, inheritable: i } = sets;
    let data: Data = [[low(e), low(p), low(i)], [high(e), high(p), high(i)]];
    // SAFETY: version 3 has two elements of three 32-bit words, which `data` is; it is only read.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) })
}

/// Takes all but the capabilities `kept` out of the bounding set.
pub fn bound_capabilities(kept: u64) -> io::Result<()> {
    for capability in 0..64u64 {
        if kept >> capability & 1 == 1 {
            continue;
        }
        // SAFETY: PR_CAPBSET_DROP takes a number.
        match check(i64::from(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) })) {
            // The first number that this kernel has no capability for.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

/// Makes `set`, which must be permitted and inheritable, the ambient set.
pub fn set_ambient(set: u64) -> io::Result<()> {
    let prctl = |what: libc::c_int, capability: u64| {
        // SAFETY: PR_CAP_AMBIENT takes numbers.
        check(i64::from(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, what, capability, 0, 0) }))
    };
    prctl(libc::PR_CAP_AMBIENT_CLEAR_ALL, 0)?;
    (0..64).filter(|c| set >> c & 1 == 1).try_for_each(|c| prctl(libc::PR_CAP_AMBIENT_RAISE, c))
}

/// Lets the permitted set survive the change from user 0 to another: `PR_SET_KEEPCAPS`.
pub fn keep_capabilities() -> io::Result<()> {
    // SAFETY: PR_SET_KEEPCAPS takes a number.
    check(i64::from(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) }))
}

/// Filters this process's system calls from here on: seccomp(2). `program`: the bytes of an array
/// of `struct sock_filter`.
///
/// # Errors
/// `EINVAL` for a program that the kernel rejects; `EACCES` without `CAP_SYS_ADMIN` and without
/// `no_new_privs`.
pub fn filter_syscalls(program: &[u8]) -> io::Result<()> {
    let mut filters: Vec<libc::sock_filter> = program
        .chunks_exact(8)
        .map(|c| libc::sock_filter {
            code: u16::from_ne_bytes([c[0], c[1]]),
            jt: c[2],
            jf: c[3],
            k: u32::from_ne_bytes([c[4], c[5], c[6], c[7]]),
        })
        .collect();
    let len = u16::try_from(filters.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: filters.as_mut_ptr() };
    // SAFETY: `program` names `len` live filters, which the kernel copies.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) })
}

fn check(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
