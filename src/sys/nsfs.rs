//! How namespaces hang together: ioctl_nsfs(2).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// `_IO(0xb7, 0x2)`: linux/nsfs.h.
const NS_GET_PARENT: libc::Ioctl = 0xb702;

/// The namespace that this one, of processes or users, was made in.
///
/// # Errors
/// `EPERM`: it is outside of what this process may see.
pub fn parent(namespace: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    // SAFETY: this request takes no argument.
    let fd = Errno::result(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_PARENT) })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_has_no_parent_says_so() {
        let own = std::fs::File::open("/proc/self/ns/net").unwrap();
        assert_eq!(parent(own.as_fd()).map(drop), Err(Errno::EINVAL));
    }
}
