//! `image prune`: all images at once that no container needs, and what each takes.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Result;
use jiff::Timestamp;
use oci_spec::image::ImageConfiguration;

use crate::container::config::RootFs;
use crate::error;
use crate::image::digest::Digest;
use crate::image::garbage::{self, collect};
use crate::image::index::{Entry, Index};
use crate::image::remove::{self, Report};
use crate::image::{blobs, compressed, layers, mount, note};
use crate::store::Store;

/// What was removed.
#[derive(Debug, Default)]
pub struct Pruned {
    /// `Untagged: …`, `Deleted: …`.
    pub report: Report,
    /// Bytes of layers' files, and of blobs: the compressed layers and the documents.
    pub reclaimed: u64,
}

/// Removes images that no container was made from and that are not mounted: those without a name, or with `all` each of them.
/// `fits`: labels and the time it was built at. The process is in the user's namespace.
///
/// # Errors
/// The records of images or containers cannot be read: then nothing is removed.
pub fn prune(
    store: &Store,
    all: bool,
    fits: impl Fn(&BTreeMap<String, String>, Option<Timestamp>) -> bool,
) -> Result<Pruned> {
    let mut pruned = Pruned::default();
    let mut gone: Vec<(Digest, Report)> = Vec::new();
    Index::change(store, |index| {
        let mut used = used(store)?;
        used.extend(mount::everywhere(store)?.into_keys().map(|id| format!("sha256:{id}")));
        let mut images: Vec<Digest> = Vec::new();
        for entry in &index.entries {
            if !used.contains(entry.image.as_str()) && !images.contains(&entry.image) {
                images.push(entry.image.clone());
            }
        }
        for image in images {
            let entries: Vec<Entry> = index.entries.iter().filter(|e| e.image == image).cloned().collect();
            let is_named = entries.iter().any(|entry| entry.name.is_some());
            if (is_named && !all) || !fits(&labels(store, &image), created(&entries)) {
                continue;
            }
            let mut report = Report::new();
            for entry in &entries {
                remove::untag(index, entry, &mut report);
            }
            index.entries.retain(|entry| entry.image != image);
            gone.push((image, report));
        }
        Ok(())
    })?;
    let diffs: Vec<Vec<Digest>> = gone.iter().map(|(image, _)| garbage::diffs_of(store, image)).collect();
    for (image, report) in &gone {
        for _ in report {
            note(store, image, "untag", None);
        }
        note(store, image, "delete", None);
    }
    if gone.is_empty() {
        // What an interrupted command left is nobody's either.
        if compressed::unreferenced(store)?.0 > 0 {
            pruned.reclaimed = collect(store)?.bytes;
        }
        return Ok(pruned);
    }
    let mut removed = collect(store)?;
    pruned.reclaimed = removed.bytes;
    for ((image, report), diffs) in gone.into_iter().zip(diffs) {
        pruned.report.extend(report);
        pruned.report.push(format!("Deleted: {image}"));
        pruned.report.extend(remove::chains(&diffs, &removed.layers));
        // A layer that two of them had went once.
        for diff in diffs {
            removed.layers.remove(diff.hex());
        }
    }
    Ok(pruned)
}

fn created(entries: &[Entry]) -> Option<Timestamp> {
    entries.first()?.created.as_deref()?.parse().ok()
}

/// Ids of the images that containers were made from.
///
/// # Errors
/// A container's record cannot be read.
pub fn used(store: &Store) -> Result<HashSet<String>> {
    let image = |root| if let RootFs::Image { id, .. } = root { Some(id) } else { None };
    Ok(garbage::containers(store)?.into_iter().filter_map(|(_, root)| image(root)).collect())
}

fn labels(store: &Store, image: &Digest) -> BTreeMap<String, String> {
    let config = blobs::read(store, image).ok().flatten();
    let config = config.and_then(|bytes| serde_json::from_slice::<ImageConfiguration>(&bytes).ok());
    let labels = config.as_ref().and_then(|config| config.labels_of_config().cloned());
    labels.unwrap_or_default().into_iter().collect()
}

/// One image of the store, and what of it is its own.
#[derive(Debug)]
pub struct Space {
    /// One of its entries: the first that has a name.
    pub entry: Entry,
    /// Bytes of all its layers' files, each layer once.
    pub size: u64,
    /// Of those that other images have too.
    pub shared: u64,
    /// Names below `layers/`.
    layers: HashSet<String>,
}

/// All images and the space they take.
#[derive(Debug, Default)]
pub struct Spaces {
    pub images: Vec<Space>,
    sizes: HashMap<String, u64>,
}

impl Spaces {
    /// # Errors
    /// The index cannot be read. An image that is damaged takes what its layers take that are there.
    pub fn of(store: &Store) -> Result<Self> {
        let index = Index::read(store)?;
        let mut spaces = Self::default();
        for entry in &index.entries {
            if let Some(same) = spaces.images.iter_mut().find(|space| space.entry.image == entry.image) {
                if same.entry.name.is_none() {
                    same.entry = entry.clone();
                }
                continue;
            }
            let diffs = garbage::diffs_of(store, &entry.image);
            for diff in &diffs {
                if !spaces.sizes.contains_key(diff.hex()) {
                    spaces.sizes.insert(diff.hex().to_owned(), size(store, diff));
                }
            }
            let layers = diffs.iter().map(|diff| diff.hex().to_owned()).collect();
            spaces.images.push(Space { entry: entry.clone(), size: 0, shared: 0, layers });
        }
        let mut owners: HashMap<&str, u32> = HashMap::new();
        for layer in spaces.images.iter().flat_map(|space| &space.layers) {
            *owners.entry(layer).or_default() += 1;
        }
        let sums: Vec<(u64, u64)> = spaces
            .images
            .iter()
            .map(|space| {
                let sum = |least: u32| -> u64 {
                    space
                        .layers
                        .iter()
                        .filter(|layer| owners[layer.as_str()] >= least)
                        .map(|layer| spaces.sizes[layer])
                        .sum()
                };
                (sum(1), sum(2))
            })
            .collect();
        for (space, (size, shared)) in spaces.images.iter_mut().zip(sums) {
            (space.size, space.shared) = (size, shared);
        }
        Ok(spaces)
    }

    /// Bytes of the layers of those images that `counts`, each layer once.
    #[must_use]
    pub fn total(&self, counts: impl Fn(&Space) -> bool) -> u64 {
        let layers: HashSet<&String> =
            self.images.iter().filter(|space| counts(space)).flat_map(|s| &s.layers).collect();
        layers.into_iter().map(|layer| self.sizes[layer]).sum()
    }
}

/// Bytes of a layer's files; 0 where it is not there.
fn size(store: &Store, diff: &Digest) -> u64 {
    match layers::find(store, diff) {
        Ok(record) => record.map_or(0, |record| record.size),
        Err(e) => {
            error::warn(&format!("layer {}: {}", diff.short(), error::message(&e)));
            0
        }
    }
}
