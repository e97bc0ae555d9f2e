//! Keyrings: keyctl(2).

use std::io;

const JOIN_SESSION_KEYRING: libc::c_int = 1;

/// Leaves the user's session keyring for a new, empty one, which children inherit: what holds the
/// user's keys must not be a container's to search.
///
/// # Errors
/// `EDQUOT`: the user has too many keys (keyrings(7), `/proc/sys/kernel/keys/maxkeys`). A kernel
/// without keys, or one around us that forbids the call, leaves nothing to be left.
pub fn leave() -> io::Result<()> {
    // SAFETY: a null name asks for an anonymous keyring; the call touches no memory of ours.
    let done = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    if done >= 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        e if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
        e => Err(e),
    }
}
