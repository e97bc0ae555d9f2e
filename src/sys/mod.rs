//! Thin safe wrappers for what `nix` lacks. The only unsafe code of the crate is in this folder;
//! each block's comment names the fact that makes it sound.
#![allow(unsafe_code, reason = "this folder exists to hold it")]

pub mod bpf;
pub mod clone;
pub mod credentials;
pub mod datagrams;
pub mod descriptors;
pub mod interface;
pub mod keyring;
pub mod memory;
pub mod mount;
pub mod netns;
pub mod nsfs;
pub mod openat2;
pub mod pidfd;
pub mod process;
pub mod reexec;
pub mod seqpacket;
pub mod signals;
pub mod sockets;
pub mod terminal;
pub mod tun;
pub mod writeback;
pub mod xattr;

use std::io;

/// Fills `bytes` with random numbers (`getrandom(2)`).
///
/// # Errors
/// As `getrandom(2)`.
pub fn random(bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: the pointer and the length are of one live, writable slice.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    // Up to 256 bytes come whole or not at all: getrandom(2).
    if usize::try_from(got) == Ok(bytes.len()) { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets the NIS domain name of this UTS namespace: setdomainname(2).
pub fn set_domain_name(name: &str) -> io::Result<()> {
    // SAFETY: the pointer and the length are of one live string.
    let done = unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
