//! The layers' blobs: what a push and a save give on byte for byte, and nobody needs to run an image.
//!
//! Those of an image that came from a registry can be dropped: who needs one again fetches it
//! (`image::refetch`). Those of an image that was loaded or made here are the only ones, and stay.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::image::digest::Digest;
use crate::image::index::Index;
use crate::image::manifest::{self, Document};
use crate::image::{blobs, garbage, layers};
use crate::store::{Lock, Store};

/// What the blobs of layers take.
#[derive(Debug, Default)]
pub struct Compressed {
    pub count: usize,
    /// Those that cannot be had again.
    pub only: usize,
    /// Bytes of all, of those that can be had again, and of those that images have which are in use.
    pub size: u64,
    pub reclaimable: u64,
    pub used: u64,
}

/// A blob of a layer that is here.
struct Blob {
    size: u64,
    is_only: bool,
    is_used: bool,
}

/// `is_used`: whether something was made from the image of this id.
///
/// # Errors
/// The index cannot be read. A damaged image's blobs are not counted.
pub fn space(store: &Store, is_used: impl Fn(&str) -> bool) -> Result<Compressed> {
    let mut space = Compressed::default();
    for blob in all(store, &Index::read(store)?, is_used).values() {
        space.count += 1;
        space.only += usize::from(blob.is_only);
        space.size += blob.size;
        space.reclaimable += if blob.is_only { 0 } else { blob.size };
        space.used += if blob.is_used { blob.size } else { 0 };
    }
    Ok(space)
}

fn all(store: &Store, index: &Index, is_used: impl Fn(&str) -> bool) -> HashMap<Digest, Blob> {
    let mut all: HashMap<Digest, Blob> = HashMap::new();
    for entry in &index.entries {
        let bytes = blobs::read(store, &entry.manifest.digest).ok().flatten().unwrap_or_default();
        let Ok(Document::Manifest(manifest)) = manifest::parse(&bytes) else { continue };
        // Another of its entries may say where it came from.
        let has_source = index.entries.iter().any(|e| e.image == entry.image && e.repo_digest.is_some());
        let diffs = garbage::diffs_of(store, &entry.image);
        for (n, layer) in manifest.layers.iter().enumerate() {
            let Ok(meta) = std::fs::metadata(blobs::path(store, &layer.digest)) else { continue };
            // What is unpacked from it has to be whole.
            let is_unpacked = diffs.get(n).is_some_and(|diff| layers::find(store, diff).is_ok_and(|l| l.is_some()));
            // Each image fetches from where it came from itself.
            let blob =
                all.entry(layer.digest.clone()).or_insert(Blob { size: meta.len(), is_only: false, is_used: false });
            blob.is_used |= is_used(entry.image.as_str());
            blob.is_only |= !(has_source && is_unpacked);
        }
    }
    all
}

/// Drops the compressed layers that can be fetched again; returns their digests and bytes.
///
/// # Errors
/// The index cannot be read or locked.
pub fn drop_all(store: &Store) -> Result<Vec<(Digest, u64)>> {
    let layout = store.image_layout();
    let _lock = Lock::exclusive(&layout).with_context(|| format!("lock {layout:?}"))?;
    let mut gone = Vec::new();
    for (digest, blob) in all(store, &Index::read(store)?, |_| false) {
        let path = blobs::path(store, &digest);
        // Who is at work with it keeps it.
        let Ok(Some(_unused)) = Lock::try_exclusive(&path) else { continue };
        if !blob.is_only && std::fs::remove_file(&path).is_ok() {
            gone.push((digest, blob.size));
        }
    }
    gone.sort();
    Ok(gone)
}

/// How many blobs and layers nothing refers to, and their bytes.
///
/// # Errors
/// What is needed cannot be told.
pub fn unreferenced(store: &Store) -> Result<(usize, u64)> {
    let (blobs, layers) = garbage::unneeded(store)?;
    let count = blobs.len() + layers.len();
    let of_blobs: u64 = blobs.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|meta| meta.len()).sum();
    let of_layer = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        let diff: Digest = format!("sha256:{name}").parse().ok()?;
        layers::find(store, &diff).ok().flatten().map(|record| record.size)
    };
    Ok((count, of_blobs + layers.iter().filter_map(of_layer).sum::<u64>()))
}
