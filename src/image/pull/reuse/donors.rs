//! Layers that may have parts of the one that is wanted.

use std::fs::File;

use anyhow::Result;

use super::toc::Place;
use crate::image::blobs;
use crate::image::index::{Descriptor, Index};
use crate::image::manifest::{self, Document};
use crate::image::reference::Reference;
use crate::store::{Lock, Store};

/// Layers whose tables are read for one: a table takes some ten milliseconds.
const MOST: usize = 8;

/// Layers with a table of contents, of images that came from one registry.
#[derive(Debug, Default)]
pub struct Donors(Vec<Found>);

#[derive(Debug)]
struct Found {
    layer: Descriptor,
    /// Of another repository.
    is_far: bool,
    /// How many layers are above it.
    above: usize,
}

/// A layer whose blob is here, and stays while this is held.
pub struct Donor {
    pub place: Place,
    pub size: u64,
    pub file: File,
    _lock: Lock,
}

impl Donors {
    /// Those of the registry that a name belongs to. `wanted`: the layers of the image that is pulled, which
    /// need no parts of each other.
    ///
    /// # Errors
    /// The index cannot be read. What is damaged is no donor.
    pub fn find(store: &Store, name: &Reference, wanted: &[Descriptor]) -> Result<Self> {
        let index = Index::read(store)?;
        let mut found: Vec<Found> = Vec::new();
        // The newest first.
        for entry in index.entries.iter().rev().filter(|entry| entry.repo_digest.is_some()) {
            let Some(Ok(from)) = entry.name.as_ref().map(|name| name.parse::<Reference>()) else { continue };
            if from.domain() != name.domain() {
                continue;
            }
            let Ok(Some(bytes)) = blobs::read(store, &entry.manifest.digest) else { continue };
            let Ok(Document::Manifest(manifest)) = manifest::parse(&bytes) else { continue };
            let is_far = from.path() != name.path();
            for (above, layer) in manifest.layers.into_iter().rev().enumerate() {
                let known = found.iter().map(|found| &found.layer).chain(wanted).any(|it| it.digest == layer.digest);
                if !known && Place::of(&layer).is_some() && blobs::path(store, &layer.digest).exists() {
                    found.push(Found { layer, is_far, above });
                }
            }
        }
        Ok(Self(found))
    }

    /// Those that are the likeliest to have parts of a layer, which has so many above it: of the same
    /// repository, and where the layer is in its image.
    #[must_use]
    pub fn open(&self, store: &Store, above: usize) -> Vec<Donor> {
        let mut likely: Vec<&Found> = self.0.iter().collect();
        likely.sort_by_key(|found| (found.is_far, found.above.abs_diff(above)));
        likely.into_iter().take(MOST).filter_map(|found| Donor::open(store, &found.layer)).collect()
    }
}

impl Donor {
    fn open(store: &Store, layer: &Descriptor) -> Option<Self> {
        let lock = blobs::pin(store, &layer.digest).ok()??;
        let file = File::open(blobs::path(store, &layer.digest)).ok()?;
        let is_whole = file.metadata().ok()?.len() == layer.size;
        is_whole.then_some(Self { place: Place::of(layer)?, size: layer.size, file, _lock: lock })
    }
}
