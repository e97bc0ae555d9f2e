//! Files of a root that is not mounted: looked for in its layers, topmost first. For what is to be
//! known of an image before anything of it runs; who may not look into a folder of it finds nothing.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};

use crate::store::Store;
use crate::sys::openat2::open_in_root;

/// The beginning of a regular file, `most` bytes at most; `None`: there is none, or it is longer.
/// `layers`: as `RootFs::Image` has them.
#[must_use]
pub fn read(store: &Store, layers: &[String], path: &Path, most: u64) -> Option<Vec<u8>> {
    for layer in layers {
        let root = File::open(store.layers().join(layer)).ok()?;
        // Links are followed inside the layer. One that leads into another layer is not found.
        let file = match open_in_root(&root, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY) {
            Err(Errno::ENOENT) => continue,
            other => other.ok()?,
        };
        // An overlay's whiteout is a device; the file is gone then.
        if SFlag::from_bits_truncate(fstat(&file).ok()?.st_mode & libc::S_IFMT) != SFlag::S_IFREG {
            return None;
        }
        let mut bytes = Vec::new();
        File::from(file).take(most + 1).read_to_end(&mut bytes).ok()?;
        return (bytes.len() as u64 <= most).then_some(bytes);
    }
    None
}
