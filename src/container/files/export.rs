//! A container's whole tree as an archive: `export`.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::linkat;

use super::tree::Owners;
use crate::error::Failure;
use crate::image::pack::tar::Writer;
use crate::image::pack::walk::{Enter, Links, walk};
use crate::image::unpack::tar::Kind;
use crate::store::record;

/// Writes the archive of all below `root`, names without a slash or a dot in front; returns how many
/// files became shorter while they were read.
///
/// # Errors
/// The tree cannot be read, the archive cannot be written.
pub fn export(root: OwnedFd, owners: &Owners, out: File) -> Result<u64> {
    let mut links = Links::default();
    let mut out = Writer::new(out);
    walk(root, |node| {
        if node.path.is_empty() {
            return Ok(Enter::Yes);
        }
        let reading = || format!("read {:?}", OsStr::from_bytes(&node.path));
        let Some(mut entry) = node.entry(node.path.clone()).with_context(reading)? else { return Ok(Enter::No) };
        owners.inward(&mut entry);
        links.note(&node.stat, &mut entry);
        let data = if entry.kind == Kind::File { Some(node.data().with_context(reading)?) } else { None };
        out.add(&entry, data.as_ref()).context("write the archive")?;
        Ok(Enter::Yes)
    })?;
    let shortened = out.shortened();
    out.finish().context("write the archive")?;
    Ok(shortened)
}

/// A file that gets its name when it is whole: interrupted, nothing is there, and what was there stays.
#[derive(Debug)]
pub struct Whole<'a> {
    path: &'a Path,
    file: File,
    /// Where the file system has no files without a name.
    temporary: Option<std::path::PathBuf>,
}

impl<'a> Whole<'a> {
    /// # Errors
    /// As open(2).
    pub fn begin(path: &'a Path) -> Result<Self> {
        let making = || format!("write {path:?}");
        if path.is_dir() {
            return Err(Failure::new(format!("{path:?} is a directory")).into());
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        match open(folder, flags, mode) {
            Ok(file) => Ok(Self { path, file: file.into(), temporary: None }),
            Err(Errno::EOPNOTSUPP | Errno::EISDIR) => {
                let temporary = record::temporary_beside(path);
                let file = File::options().write(true).create_new(true).open(&temporary).with_context(making)?;
                Ok(Self { path, file, temporary: Some(temporary) })
            }
            Err(e) => Err(e).with_context(making),
        }
    }

    /// # Errors
    /// No more descriptors.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Gives it its name; a file that has it is replaced.
    ///
    /// # Errors
    /// As link(2) and rename(2).
    pub fn finish(mut self) -> Result<()> {
        let naming = || format!("write {:?}", self.path);
        let named = if let Some(temporary) = self.temporary.take() {
            temporary
        } else {
            let from = CString::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()))?;
            let link = |to: &Path| linkat(AT_FDCWD, from.as_c_str(), AT_FDCWD, to, AtFlags::AT_SYMLINK_FOLLOW);
            match link(self.path) {
                Ok(()) => return Ok(()),
                Err(Errno::EEXIST) => {}
                Err(e) => return Err(e).with_context(naming),
            }
            let temporary = record::temporary_beside(self.path);
            link(&temporary).with_context(naming)?;
            temporary
        };
        std::fs::rename(&named, self.path).inspect_err(|_| drop(std::fs::remove_file(&named))).with_context(naming)
    }
}

impl Drop for Whole<'_> {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = std::fs::remove_file(temporary);
        }
    }
}
