//! From a tree of files to a tar archive: the way back of [`super::unpack`].
//!
//! - [`walk`] goes through a tree by descriptors, whoever changes it meanwhile, and says of each
//!   object what an archive would;
//! - [`tar`] writes entries;
//! - [`layer`] makes an image's layer of what an overlay's upper folder holds.
//!
//! Called by `export`, `cp` and `commit`. Nothing here follows a symbolic link, opens a device or
//! waits at a pipe.

pub mod layer;
pub mod tar;
pub mod walk;

use std::fs::File;

use anyhow::Result;

use crate::image::unpack::tar::Entry;

/// What takes the objects of a tree, folders before what is in them: an archive, or another tree.
pub trait Sink {
    /// `data`: the opened file of a regular one. It may end before or behind `entry.size`, since
    /// others may write to it.
    ///
    /// # Errors
    /// It cannot be written or made.
    fn put(&mut self, entry: &Entry, data: Option<&File>) -> Result<()>;
}
