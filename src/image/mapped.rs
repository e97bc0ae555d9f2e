//! Layers whose files belong to other ids: for containers of ordinary users whose ids are not the
//! user's own (`--userns`). The kernel shows files with other owners (idmapped mounts) to who has power
//! over their whole file system only, so an ordinary user gets a copy of each layer,
//! `layers/<name>-ids-<hash of the ids>/`, made once for all containers with these ids. It shares its
//! blocks with the layer where the file system can (btrfs, xfs).
//!
//! A copy stays for as long as the layer that it is of: `garbage::collect`.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat, mknodat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, linkat, symlinkat};

use crate::container::config::Ids;
use crate::container::ids;
use crate::image::digest::Digest;
use crate::image::layers;
use crate::store::Store;
use crate::sys::xattr;
use crate::userns;

/// What stands between a layer's name and the ids of a copy.
const MARK: &str = "-ids-";

/// The layer that a name is a copy of; `None`: it is none.
#[must_use]
pub fn original(name: &str) -> Option<&str> {
    name.split_once(MARK).map(|(layer, _)| layer)
}

/// The layers for a container with these ids, topmost first; copies are made where they are missing.
/// Root's are the layers themselves.
///
/// # Errors
/// The disk is full, or a file cannot be copied.
pub fn layers(store: &Store, names: &[String], ids: &Ids) -> Result<Vec<String>> {
    if userns::is_host_root() || ids.is_identity() {
        return Ok(names.to_vec());
    }
    let hash = Digest::of(&serde_json::to_vec(ids)?);
    let hash = &hash.hex()[..16];
    // A directory of the user's own stays as it is.
    let copy = |name: &String| if name.starts_with('/') { name.clone() } else { format!("{name}{MARK}{hash}") };
    let copies: Vec<String> = names.iter().map(copy).collect();
    let missing: Vec<_> = names.iter().zip(&copies).filter(|(_, copy)| !store.layers().join(copy).is_dir()).collect();
    if !missing.is_empty() {
        userns::within(store, || {
            for (name, copy) in &missing {
                make(store, name, copy, ids)?;
            }
            Ok(())
        })
        .context("copy the image's layers for the container's ids")?;
    }
    Ok(copies)
}

fn make(store: &Store, name: &str, copy: &str, ids: &Ids) -> Result<()> {
    let temporary = layers::temporary(store)?;
    let from = open_dir(nix::fcntl::AT_FDCWD, store.layers().join(name).as_os_str())
        .with_context(|| format!("open layer {name:?}"))?;
    let to = open_dir(nix::fcntl::AT_FDCWD, temporary.path().as_os_str())?;
    let mut copier = Copier { ids, seen: HashMap::new(), top: to.try_clone()? };
    copier.folder(from.as_fd(), to.as_fd(), Path::new(""), 0).with_context(|| format!("copy layer {name:?}"))?;
    // A container that has it outlives a power loss.
    nix::unistd::syncfs(&to).context("write the copy to the disk")?;
    match temporary.rename(&store.layers().join(copy)) {
        // Another one was faster.
        Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => Ok(()),
        done => done.with_context(|| format!("publish layer {copy:?}")),
    }
}

fn open_dir(at: impl AsFd, name: &OsStr) -> nix::Result<OwnedFd> {
    openat(at, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

struct Copier<'a> {
    ids: &'a Ids,
    /// Paths below the top of files with several names, by their inode.
    seen: HashMap<u64, Vec<u8>>,
    top: OwnedFd,
}

/// How many folders deep a layer may be: each costs two descriptors.
const DEPTH: usize = 400;

impl Copier<'_> {
    fn folder(&mut self, from: BorrowedFd, to: BorrowedFd, path: &Path, depth: usize) -> io::Result<()> {
        if depth > DEPTH {
            return Err(io::Error::other(format!("{path:?}: folders nested deeper than {DEPTH}")));
        }
        let mut dir = Dir::openat(from, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        for entry in dir.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let below = path.join(OsStr::from_bytes(name.to_bytes()));
            self.entry(from, to, name, &below, depth)
                .map_err(|e| if depth > 0 { e } else { io::Error::new(e.kind(), format!("{below:?}: {e}")) })?;
        }
        let stat = fstat(from)?;
        self.attributes(from, to, c".", &stat)
    }

    fn entry(&mut self, from: BorrowedFd, to: BorrowedFd, name: &CStr, path: &Path, depth: usize) -> io::Result<()> {
        let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let kind = SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT);
        let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
        if kind != SFlag::S_IFDIR && stat.st_nlink > 1 {
            if let Some(first) = self.seen.get(&stat.st_ino) {
                linkat(&self.top, first.as_slice(), to, name, AtFlags::empty())?;
                return Ok(());
            }
            self.seen.insert(stat.st_ino, path.as_os_str().as_bytes().to_vec());
        }
        match kind {
            SFlag::S_IFDIR => {
                mkdirat(to, name, Mode::S_IRWXU)?;
                let name = OsStr::from_bytes(name.to_bytes());
                let (inner_from, inner_to) = (open_dir(from, name)?, open_dir(to, name)?);
                return self.folder(inner_from.as_fd(), inner_to.as_fd(), path, depth + 1);
            }
            SFlag::S_IFREG => {
                let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let source = File::from(openat(from, name, OFlag::O_RDONLY | flags, Mode::empty())?);
                let new = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | flags;
                let mut target = File::from(openat(to, name, new, Mode::S_IRUSR | Mode::S_IWUSR)?);
                // copy_file_range(2) below, which shares blocks where it can.
                io::copy(&mut &source, &mut target)?;
            }
            SFlag::S_IFLNK => symlinkat(readlinkat(from, name)?.as_os_str(), to, name)?,
            // An overlay's whiteout is a device that everybody may make.
            _ => mknodat(to, name, kind, mode, stat.st_rdev)?,
        }
        self.attributes(from, to, name, &stat)
    }

    /// Owner, extended attributes, mode, times: in this order, since each takes the earlier ones' marks
    /// away.
    fn attributes(&self, from: BorrowedFd, to: BorrowedFd, name: &CStr, stat: &FileStat) -> io::Result<()> {
        // An id that the container has not stays the user's, whom it has not either.
        let uid = Uid::from_raw(ids::outside(&self.ids.uid_map, stat.st_uid).unwrap_or(0));
        let gid = Gid::from_raw(ids::outside(&self.ids.gid_map, stat.st_gid).unwrap_or(0));
        fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let (source, target) = (xattr::Object::at(from, name.to_bytes())?, xattr::Object::at(to, name.to_bytes())?);
        let is_layer_s = |name: &CStr| name.to_bytes().starts_with(b"user.") || name == c"security.capability";
        for attribute in source.list()?.into_iter().filter(|name| is_layer_s(name)) {
            if let Some(value) = source.get(&attribute)? {
                target.set(&attribute, &value)?;
            }
        }
        let kind = stat.st_mode & libc::S_IFMT;
        if kind != libc::S_IFLNK {
            let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
            if name == c"." {
                fchmod(to, mode)?;
            } else {
                nix::sys::stat::fchmodat(to, name, mode, nix::sys::stat::FchmodatFlags::FollowSymlink)?;
            }
        }
        let times =
            [TimeSpec::new(stat.st_atime, stat.st_atime_nsec), TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec)];
        nix::sys::stat::utimensat(to, name, &times[0], &times[1], nix::sys::stat::UtimensatFlags::NoFollowSymlink)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::userns::IdMap;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_copy_is_the_same_but_for_its_owners() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::at(home.path().join("root"), home.path().join("run"));
        let layer = store.layers().join("abc");
        std::fs::create_dir_all(layer.join("d")).unwrap();
        std::fs::write(layer.join("d/f"), "content").unwrap();
        std::fs::hard_link(layer.join("d/f"), layer.join("g")).unwrap();
        symlink("d/f", layer.join("l")).unwrap();
        std::fs::set_permissions(layer.join("d/f"), std::fs::Permissions::from_mode(0o4751)).unwrap();
        let me = nix::unistd::geteuid().as_raw();
        let all = [IdMap { inside: me, outside: me, count: 1 }];
        let ids = Ids { uid_map: all.to_vec(), gid_map: all.to_vec() };
        make(&store, "abc", "abc-ids-1", &ids).unwrap();
        make(&store, "abc", "abc-ids-1", &ids).unwrap();
        let copy = store.layers().join("abc-ids-1");
        assert_eq!(std::fs::read_to_string(copy.join("g")).unwrap(), "content");
        assert_eq!(std::fs::read_link(copy.join("l")).unwrap(), Path::new("d/f"));
        let (one, two) = (copy.join("d/f").metadata().unwrap(), copy.join("g").metadata().unwrap());
        assert_eq!((one.ino(), one.mode() & 0o7777), (two.ino(), 0o4751));
        let before = layer.join("d/f").metadata().unwrap();
        assert_eq!((one.mtime(), one.mtime_nsec()), (before.mtime(), before.mtime_nsec()));
        assert_eq!(std::fs::read_dir(store.layers()).unwrap().count(), 2);
        assert_eq!((original("abc-parents-ids-1"), original("abc")), (Some("abc-parents"), None));
    }
}
