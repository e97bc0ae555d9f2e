//! Extended attributes: xattr(7).

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What the calls are made on.
#[derive(Debug)]
pub struct Object {
    path: CString,
    /// The path is a magic link of /proc, which leads to the object itself, whatever that is.
    follow: bool,
}

impl Object {
    /// An open folder; opened with `O_PATH` will do.
    ///
    /// # Errors
    /// Never in practice.
    pub fn open(fd: &OwnedFd) -> io::Result<Self> {
        // f*xattr(2) refuse O_PATH descriptors; the descriptor's name in /proc does not.
        Ok(Self { path: CString::new(format!("/proc/self/fd/{}/.", fd.as_raw_fd()))?, follow: false })
    }

    /// What `fd` names, of any type, a symbolic link too; opened with `O_PATH` will do.
    ///
    /// # Errors
    /// Never in practice.
    pub fn opened(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { path: CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd()))?, follow: true })
    }

    /// The object `name` in the folder `dir`, a symbolic link itself rather than its target.
    ///
    /// # Errors
    /// A name with a zero byte.
    pub fn at(dir: impl AsFd, name: &[u8]) -> io::Result<Self> {
        let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        Ok(Self { path: CString::new(path)?, follow: false })
    }

    /// By path, the last component not followed.
    ///
    /// # Errors
    /// A path with a zero byte.
    pub fn path(path: &Path) -> io::Result<Self> {
        use std::os::unix::ffi::OsStrExt;
        let path: PathBuf = path.into();
        Ok(Self { path: CString::new(path.as_os_str().as_bytes())?, follow: false })
    }

    /// Sets an attribute, new or not.
    ///
    /// # Errors
    /// As setxattr(2).
    pub fn set(&self, name: &CStr, value: &[u8]) -> io::Result<()> {
        let call = if self.follow { libc::setxattr } else { libc::lsetxattr };
        // SAFETY: both strings end in zero, and the pointer and the length are of one live slice.
        let done = unsafe { call(self.path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// An attribute's value; `None` when the object has none such.
    ///
    /// # Errors
    /// As getxattr(2).
    pub fn get(&self, name: &CStr) -> io::Result<Option<Vec<u8>>> {
        let call = if self.follow { libc::getxattr } else { libc::lgetxattr };
        let value = grow(|buffer| {
            // SAFETY: both strings end in zero, and the pointer and the length are of one live slice.
            unsafe { call(self.path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
        });
        match value {
            Err(e) if e.raw_os_error() == Some(libc::ENODATA) => Ok(None),
            other => other.map(Some),
        }
    }

    /// The names of all attributes.
    ///
    /// # Errors
    /// As listxattr(2).
    pub fn list(&self) -> io::Result<Vec<CString>> {
        let call = if self.follow { libc::listxattr } else { libc::llistxattr };
        let names = grow(|buffer| {
            // SAFETY: the string ends in zero, and the pointer and the length are of one live slice.
            unsafe { call(self.path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
        })?;
        Ok(names.split(|b| *b == 0).filter(|n| !n.is_empty()).filter_map(|n| CString::new(n).ok()).collect())
    }
}

/// Calls with a buffer that is made larger while it is too small.
fn grow(mut call: impl FnMut(&mut [u8]) -> isize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        if let Ok(length) = usize::try_from(call(&mut buffer)) {
            buffer.truncate(length);
            return Ok(buffer);
        }
        let error = io::Error::last_os_error();
        // 64 KiB is the kernel's own limit for names and for values.
        if error.raw_os_error() != Some(libc::ERANGE) || buffer.len() > 1 << 16 {
            return Err(error);
        }
        let larger = buffer.len() * 4;
        buffer.resize(larger, 0);
    }
}
