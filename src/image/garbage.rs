//! Garbage: blobs and layers that no image, no container and no mount needs any more.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oci_spec::image::ImageConfiguration;

use crate::container::config::{ContainerConfig, RootFs};
use crate::image::blobs::{self, Temporary};
use crate::image::digest::{Digest, is_hex};
use crate::image::index::Index;
use crate::image::manifest::{self, Document};
use crate::image::{layers, mapped, mount, parents};
use crate::store::{Id, Lock, Store, names, record};

/// The root of every container that has a record.
pub(super) fn containers(store: &Store) -> Result<Vec<(Id, RootFs)>> {
    let mut all = Vec::new();
    for id in names::ids(store)? {
        let path = store.container(&id).join("config.json");
        if let Some(config) = record::read::<ContainerConfig>(&path)? {
            all.push((id, config.root));
        }
    }
    Ok(all)
}

/// The layers of an image that is not damaged.
pub(crate) fn diffs_of(store: &Store, image: &Digest) -> Vec<Digest> {
    config_of(store, image).and_then(|config| manifest::diff_ids(&config).ok()).unwrap_or_default()
}

/// The configuration of an image that is not damaged. Its digest is not computed: whoever could write
/// there could write the index too.
fn config_of(store: &Store, image: &Digest) -> Option<ImageConfiguration> {
    serde_json::from_slice(&blobs::read(store, image).ok().flatten()?).ok()
}

/// What the images and the containers need: names of blobs and of layers.
#[derive(Default)]
struct Needed {
    blobs: HashSet<String>,
    layers: HashSet<String>,
    /// What a damaged image needs cannot be told: then no blob, or no layer, is garbage.
    all_blobs: bool,
    all_layers: bool,
}

impl Needed {
    fn now(store: &Store, index: &Index) -> Result<Self> {
        let mut needed = Self::default();
        for entry in &index.entries {
            needed.blobs.insert(entry.image.hex().to_owned());
            needed.all_blobs |= !needed.manifest(store, &entry.manifest.digest).is_ok_and(|is_there| is_there);
            match config_of(store, &entry.image).and_then(|config| manifest::diff_ids(&config).ok()) {
                Some(diffs) => {
                    needed.layers.extend(parents::name(&diffs));
                    needed.layers.extend(diffs.iter().map(|diff| diff.hex().to_owned()));
                    needed.stand_ins(store, &entry.manifest.digest, &diffs);
                }
                None => needed.all_layers = true,
            }
        }
        for list in &index.lists {
            needed.blobs.insert(list.descriptor.digest.hex().to_owned());
            let document = blobs::read(store, &list.descriptor.digest).ok().flatten();
            match document.map(|bytes| manifest::parse(&bytes)) {
                // Of most of what an index leads to nothing is here.
                Some(Ok(Document::Index(entries))) => {
                    for entry in entries {
                        needed.all_blobs |= needed.manifest(store, &entry.digest).is_err();
                    }
                }
                _ => needed.all_blobs = true,
            }
        }
        for (_, root) in containers(store)? {
            if let RootFs::Image { layers, .. } = root {
                needed.layers.extend(layers);
            }
        }
        // One that is mounted is not removed; where it was all the same, what is seen there stays.
        for image in mount::everywhere(store)?.into_keys().filter_map(|id| format!("sha256:{id}").parse().ok()) {
            let diffs = diffs_of(store, &image);
            needed.layers.extend(parents::name(&diffs));
            needed.layers.extend(diffs.iter().map(|diff| diff.hex().to_owned()));
            needed.blobs.insert(image.hex().to_owned());
        }
        Ok(needed)
    }
}

impl Needed {
    fn has_blob(&self, name: &str) -> bool {
        self.all_blobs || self.blobs.contains(name)
    }

    fn has_layer(&self, name: &str) -> bool {
        self.all_layers || self.layers.contains(name)
    }

    /// What layers were unpacked from whose blobs are not here: the only archives of them.
    fn stand_ins(&mut self, store: &Store, manifest: &Digest, diffs: &[Digest]) {
        let bytes = blobs::read(store, manifest).ok().flatten().unwrap_or_default();
        let Ok(Document::Manifest(manifest)) = manifest::parse(&bytes) else { return };
        for (layer, diff) in manifest.layers.iter().zip(diffs) {
            if !blobs::path(store, &layer.digest).exists() {
                let blob = layers::find(store, diff).ok().flatten().and_then(|record| record.blob);
                self.blobs.extend(blob.map(|blob| blob.hex().to_owned()));
            }
        }
    }

    /// A manifest and the blobs that it leads to; false: it is not here.
    fn manifest(&mut self, store: &Store, digest: &Digest) -> Result<bool> {
        let Some(bytes) = blobs::read(store, digest)? else { return Ok(false) };
        self.blobs.insert(digest.hex().to_owned());
        if let Document::Manifest(manifest) = manifest::parse(&bytes)? {
            let all = manifest.layers.iter().chain([&manifest.config]);
            self.blobs.extend(all.map(|blob| blob.digest.hex().to_owned()));
        }
        Ok(true)
    }
}

/// Paths of the blobs and of the layers that nothing needs, and nobody is at work on.
///
/// # Errors
/// What is needed cannot be told.
pub fn unneeded(store: &Store) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let layout = store.image_layout();
    let _lock = Lock::shared(&layout).with_context(|| format!("lock {layout:?}"))?;
    let needed = Needed::now(store, &Index::read(store)?)?;
    let is_free = |path: &PathBuf| Lock::try_exclusive(path).is_ok_and(|lock| lock.is_some());
    let blobs = entries(&blobs::dir(store))?.into_iter().filter(|name| is_hex(name) && !needed.has_blob(name));
    let blobs = blobs.map(|name| blobs::dir(store).join(name)).filter(is_free).collect();
    let is_layer = |name: &String| is_hex(name.strip_suffix("-parents").unwrap_or(name));
    let layers = entries(&store.layers())?.into_iter().filter(|name| is_layer(name) && !needed.has_layer(name));
    let layers = layers.map(|name| store.layers().join(name)).filter(is_free).collect();
    Ok((blobs, layers))
}

/// What was removed.
#[derive(Debug, Default)]
pub struct Collected {
    /// Names below `layers/`.
    pub layers: HashSet<String>,
    /// Of blobs and of layers' files.
    pub bytes: u64,
}

/// Removes blobs and layers that nothing needs.
///
/// # Errors
/// What is needed cannot be told: then nothing is removed.
pub fn collect(store: &Store) -> Result<Collected> {
    collect_if(store, |_| true)
}

/// [`collect`] for blobs and layers of these names alone.
///
/// # Errors
/// As [`collect`].
pub(super) fn collect_of(store: &Store, names: &HashSet<String>) -> Result<Collected> {
    collect_if(store, |name| names.contains(name))
}

fn collect_if(store: &Store, is_asked: impl Fn(&str) -> bool) -> Result<Collected> {
    let layout = store.image_layout();
    let mut removed = Collected::default();
    // Renamed out of the way under the lock, removed after it: a tree takes its time.
    let mut doomed = Vec::new();
    {
        let _lock = Lock::exclusive(&layout).with_context(|| format!("lock {layout:?}"))?;
        let needed = Needed::now(store, &Index::read(store)?)?;
        for name in entries(&blobs::dir(store))? {
            let path = blobs::dir(store).join(&name);
            let is_free = is_hex(&name) && !needed.has_blob(&name) && is_asked(&name);
            if is_free && Lock::try_exclusive(&path).is_ok_and(|l| l.is_some()) {
                let size = std::fs::metadata(&path).map_or(0, |meta| meta.len());
                removed.bytes += std::fs::remove_file(&path).map_or(0, |()| size);
            }
        }
        let names = entries(&store.layers())?;
        // A copy may go after the layer whose record says how large both are.
        let unneeded = names.iter().filter(|name| is_hex(name) && is_asked(name) && !needed.has_layer(name));
        let sizes: HashMap<String, u64> = unneeded.map(|name| (name.clone(), size(store, name))).collect();
        for name in names {
            let path = store.layers().join(&name);
            if let Some(layer) = name.strip_suffix(".json").filter(|layer| is_hex(layer) && is_asked(layer)) {
                // The record of a layer whose folder was lost, unless somebody makes that layer anew.
                let is_there = |name: &str| store.layers().join(name).exists();
                if !needed.has_layer(layer) && !is_there(layer) && !is_there(&format!("{layer}.lock")) {
                    let _ = std::fs::remove_file(&path);
                }
                continue;
            }
            // A copy for other ids goes with what it is a copy of.
            let of = mapped::original(&name).unwrap_or(&name);
            let layer = of.strip_suffix("-parents").unwrap_or(of);
            if !is_hex(layer) || !is_asked(layer) || needed.has_layer(&name) || needed.has_layer(of) {
                continue;
            }
            // Held until it has lost its name.
            if let Ok(Some(_unused)) = Lock::try_exclusive(&path) {
                let gone = Temporary::in_dir(&store.layers());
                std::fs::rename(&path, gone.path()).with_context(|| format!("remove {path:?}"))?;
                let _ = std::fs::remove_file(path.with_extension("json"));
                doomed.push(gone);
                removed.bytes += sizes.get(of).copied().unwrap_or_default();
                removed.layers.insert(name);
            }
        }
    }
    drop(doomed);
    Ok(removed)
}

/// Bytes of a layer's files; 0 where nobody knows.
fn size(store: &Store, name: &str) -> u64 {
    let diff = format!("sha256:{name}").parse::<Digest>().ok();
    diff.and_then(|diff| layers::find(store, &diff).ok().flatten()).map_or(0, |record| record.size)
}

fn entries(dir: &Path) -> Result<Vec<String>> {
    match std::fs::read_dir(dir) {
        Ok(entries) => Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e).with_context(|| format!("read {dir:?}")),
    }
}
