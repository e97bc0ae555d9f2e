//! The last step of everything that brings an image: all that it needs is in the store and held,
//! goes to the disk, and then the index names it.

use anyhow::Result;

use crate::image::digest::Digest;
use crate::image::index::{Descriptor, Entry, Index};
use crate::image::layers::{self, Pinned};
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::image::unpack::Powers;
use crate::image::{blobs, manifest, parents};
use crate::store::{Lock, Store};

/// An image whose layers are in the store.
pub struct Complete<'a> {
    pub manifest: &'a [u8],
    pub manifest_type: &'a str,
    pub config: &'a [u8],
    /// Bottom first, one for each diff id of the configuration.
    pub layers: Vec<Pinned>,
    /// What keeps its layers' blobs.
    pub blobs: Vec<Lock>,
    /// What the registry calls it.
    pub repo_digest: Option<Digest>,
    /// The manifest came from a registry.
    pub pulled: bool,
}

/// An image that is on the disk whole; it stays while this is held.
pub struct Ready {
    /// Without a name.
    pub entry: Entry,
    _held: (Vec<Pinned>, Vec<Lock>),
}

impl Complete<'_> {
    /// Enters the image into the index under `names`, or without a name; returns its id.
    ///
    /// # Errors
    /// The disk is full or refuses; the index is as it was then.
    pub fn commit(self, store: &Store, names: &[Reference]) -> Result<Digest> {
        let ready = self.prepare(store)?;
        Index::change(store, |index| {
            ready.enter(index, names);
            Ok(())
        })?;
        // All that it needs was held until here: from now on the index speaks for it.
        Ok(ready.entry.image)
    }

    /// Puts everything on the disk. The index knows nothing of it yet.
    ///
    /// # Errors
    /// The disk is full or refuses.
    pub fn prepare(mut self, store: &Store) -> Result<Ready> {
        let (image, config_lock) = blobs::put(store, self.config)?;
        let (digest, manifest_lock) = blobs::put(store, self.manifest)?;
        let (config, _) = manifest::parse_config(self.config, self.layers.len())?;
        let folders = parents::make(store, &self.layers.iter().collect::<Vec<_>>(), Powers::now())?;
        let opaque = self.layers.iter().rev().position(|layer| layer.record.opaque);
        let entry = Entry {
            manifest: Descriptor {
                media_type: self.manifest_type.to_owned(),
                digest,
                size: self.manifest.len() as u64,
                platform: Some(Platform::of(&config)),
                annotations: None,
            },
            name: None,
            image,
            repo_digest: self.repo_digest,
            created: config.created().clone(),
            size: self.layers.iter().map(|layer| layer.record.size).sum(),
            depth: opaque.map(|above| above + 1),
            parents: folders.is_some(),
            pulled: self.pulled,
        };
        layers::sync(store, &mut self.layers)?;
        let locks = [config_lock, manifest_lock].into_iter().chain(self.blobs).chain(folders).collect();
        Ok(Ready { entry, _held: (self.layers, locks) })
    }
}

impl Ready {
    /// Enters it into an index under `names`, or without a name.
    pub fn enter(&self, index: &mut Index, names: &[Reference]) {
        for name in names {
            index.add(Entry { name: Some(name.stored().to_string()), ..self.entry.clone() });
        }
        if names.is_empty() {
            index.add(self.entry.clone());
        }
    }
}
