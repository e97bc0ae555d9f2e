//! A TUN: an interface whose packets a process reads and writes. `Documentation/networking/tuntap.rst`.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Opens a TUN of that name, made with it and gone when it is closed, in the network namespace of
/// the calling thread. Each packet that is read or written has a `virtio_net_hdr` before it, and what
/// is read may want a checksum or be longer than the MTU (segments that nobody has cut yet).
/// It does not block.
///
/// # Errors
/// As open(2) of `/dev/net/tun`; `EPERM` without CAP_NET_ADMIN there; `EBUSY`: the name is taken.
pub fn open(name: &str) -> io::Result<OwnedFd> {
    let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
    let tun = File::options().read(true).write(true).custom_flags(flags).open("/dev/net/tun")?;
    // SAFETY: zero is a valid value of each field.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    // A union's field is written; none is read.
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives through the call.
    let done = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    let segments = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    // Since Linux 6.2; older ones cut datagrams before.
    let datagrams = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    for offload in [segments | datagrams, segments] {
        // SAFETY: TUNSETOFFLOAD takes a number.
        if unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD as _, libc::c_ulong::from(offload)) } == 0 {
            return Ok(tun.into());
        }
    }
    Err(io::Error::last_os_error())
}
