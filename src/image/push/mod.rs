//! `push`: an image of the store into a registry.
//!
//! What came from a registry goes there byte for byte: its blobs are in the store as they came. A layer
//! that was made here is compressed while it is sent ([`content`]); its compressed digest is remembered
//! beside the layer, so that the next push only asks whether the registry has it.

mod content;
mod layer;
mod list;

pub use self::list::push_list;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use self::content::Document as Small;
use self::layer::Job;
use crate::error::Failure;
use crate::events;
use crate::image::blobs;
use crate::image::digest::Digest;
use crate::image::index::{Descriptor, Entry, Index};
use crate::image::layers;
use crate::image::make::Format;
use crate::image::manifest::{self, Document, Manifest};
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::image::unpack::Compression;
use crate::registry::Repository;
use crate::registry::upload::Begun;
use crate::store::Store;

/// Layers in work at once, as Docker has it.
const AT_ONCE: usize = 5;
/// Other repositories whose blobs are asked for; each makes the token's scope longer.
const MAX_SOURCES: usize = 16;

/// Who is told how a push gets on. Layers go by the first twelve digits of their diff ids.
pub trait Report: Sync {
    fn prepare(&self, layer: &str);
    /// The registry had it already.
    fn exists(&self, layer: &str);
    /// It was taken over from another repository of the registry.
    fn mounted(&self, layer: &str, from: &str);
    /// It is sent now: so many bytes, where that is known.
    fn begin(&self, layer: &str, size: Option<u64>);
    /// So many bytes of it are sent.
    fn sent(&self, layer: &str, bytes: u64);
    fn complete(&self, layer: &str);
}

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// What is not compressed becomes this.
    pub format: Compression,
    /// `None`: the format's usual one.
    pub level: Option<i32>,
    /// So does what is compressed otherwise.
    pub force: bool,
}

impl Default for Packing {
    fn default() -> Self {
        Self { format: Compression::Gzip, level: None, force: false }
    }
}

impl Packing {
    /// The level that is used.
    #[must_use]
    pub fn level(&self) -> i32 {
        self.level.unwrap_or(match self.format {
            Compression::Zstd => 3,
            _ => 6,
        })
    }
}

/// What the registry calls the image now.
#[derive(Debug)]
pub struct Pushed {
    pub digest: Digest,
    /// Bytes of its manifest.
    pub size: usize,
}

/// The names of a repository's images, with a tag each.
///
/// # Errors
/// It has none: Docker's sentence.
pub fn tags(store: &Store, repository: &Reference) -> Result<Vec<Reference>> {
    let names = Index::read(store)?.entries.into_iter().filter_map(|entry| entry.name?.parse::<Reference>().ok());
    let mut tags: Vec<Reference> =
        names.filter(|name| name.repository() == repository.repository() && name.tag().is_some()).collect();
    if tags.is_empty() {
        let name = repository.familiar_repository();
        return Err(Failure::new(format!("An image does not exist locally with the tag: {name}"))
            .hint(format!("give an image this name with: ctr tag IMAGE {name}"))
            .into());
    }
    tags.sort();
    tags.dedup();
    Ok(tags)
}

/// Pushes an image under a name that it has here. The process is in the user's namespace.
///
/// # Errors
/// There is no such image; the registry refuses or cannot be reached. What was uploaded until then the
/// registry keeps, and a further try goes on from there.
pub fn push(
    store: &Store,
    name: &Reference,
    platform: Option<&Platform>,
    packing: Packing,
    report: &dyn Report,
) -> Result<Pushed> {
    let index = Index::read(store)?;
    let stored = name.stored().to_string();
    let entry = index.entries.iter().find(|entry| entry.name.as_deref() == Some(&stored)).ok_or_else(|| {
        Failure::new(format!("tag does not exist: {}", name.familiar())).hint("list what is there with: ctr images")
    })?;
    let image = Image::read(store, entry)?;
    if let Some(wanted) = platform {
        image.platform.check(wanted, &name.familiar())?;
    }
    let sources = Sources::of(store, &index, name, &image)?;
    let repository = Repository::for_push(name, &sources.all())?;

    let descriptors = push_layers(store, &repository, &image, &sources, packing, report)?;
    send_document(&repository, &image.manifest.config.digest, &image.config).context("configuration")?;
    let (bytes, media_type) = image.manifest_with(&descriptors)?;
    repository.put_manifest(name.wanted(), &bytes, &media_type)?;
    let digest = Digest::of(&bytes);

    layer::remember_place(store, &image.diffs, &descriptors, &name.repository());
    Index::change(store, |index| {
        for entry in index.entries.iter_mut().filter(|e| e.name.as_deref() == Some(&stored) && e.image == image.id) {
            entry.repo_digest = Some(digest.clone());
        }
        Ok(())
    })?;
    events::image(store, &name.familiar(), &name.familiar_repository(), "push", &image.labels);
    Ok(Pushed { digest, size: bytes.len() })
}

/// What of an image a push needs.
struct Image {
    id: Digest,
    bytes: Vec<u8>,
    manifest: Manifest,
    media_type: String,
    config: Vec<u8>,
    platform: Platform,
    labels: BTreeMap<String, String>,
    /// Bottom first.
    diffs: Vec<Digest>,
}

impl Image {
    fn read(store: &Store, entry: &Entry) -> Result<Self> {
        let missing = |what: &str| {
            Failure::new(format!("image {:?} is damaged: its {what} is missing", entry.image.short()))
                .hint("pull or load it again")
        };
        let bytes = blobs::read(store, &entry.manifest.digest)?.ok_or_else(|| missing("manifest"))?;
        let Document::Manifest(manifest) = manifest::parse(&bytes)? else {
            return Err(
                Failure::new(format!("image {:?} is damaged: its manifest is none", entry.image.short())).into()
            );
        };
        let config = blobs::read(store, &manifest.config.digest)?.ok_or_else(|| missing("configuration"))?;
        let (parsed, diffs) = manifest::parse_config(&config, manifest.layers.len())?;
        let labels = parsed.labels_of_config().cloned().unwrap_or_default().into_iter().collect();
        let media_type = match manifest.media_type.as_str() {
            "" => entry.manifest.media_type.clone(),
            known => known.to_owned(),
        };
        let (id, platform) = (entry.image.clone(), Platform::of(&parsed));
        Ok(Self { id, bytes, manifest, media_type, config, platform, labels, diffs })
    }

    /// The manifest with these layers: the very same bytes, where they are its own.
    fn manifest_with(&self, layers: &[Descriptor]) -> Result<(Vec<u8>, String)> {
        let changed: Vec<bool> =
            self.manifest.layers.iter().zip(layers).map(|(old, new)| old.digest != new.digest).collect();
        if !changed.contains(&true) {
            return Ok((self.bytes.clone(), self.media_type.clone()));
        }
        let mut whole: Value = serde_json::from_slice(&self.bytes)?;
        // Docker's own format has no name for zstd.
        let is_oci =
            self.media_type != manifest::DOCKER_MANIFEST || layers.iter().any(|l| l.media_type.ends_with("zstd"));
        let (format, media_type) =
            if is_oci { (Format::Oci, manifest::OCI_MANIFEST) } else { (Format::Docker, manifest::DOCKER_MANIFEST) };
        whole["mediaType"] = media_type.into();
        if is_oci && self.media_type == manifest::DOCKER_MANIFEST {
            whole["config"]["mediaType"] = manifest::OCI_CONFIG.into();
        }
        let described = layers.iter().zip(&changed).zip(whole["layers"].as_array().into_iter().flatten());
        let described: Vec<Value> = described
            .map(|((new, changed), old)| {
                let media_type = format.layer(&new.media_type);
                if *changed {
                    // What was noted of the old bytes is not true of the new ones.
                    return json!({"mediaType": media_type, "digest": new.digest.as_str(), "size": new.size});
                }
                let mut same = old.clone();
                same["mediaType"] = media_type.into();
                same
            })
            .collect();
        whole["layers"] = described.into();
        Ok((serde_json::to_vec(&whole)?, media_type.to_owned()))
    }
}

/// Which repositories are known to have which blobs.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// By blob: repositories of the registry that is pushed to.
    near: BTreeMap<Digest, Vec<String>>,
    /// By blob: images of the store that came from a registry.
    anywhere: BTreeMap<Digest, Vec<Reference>>,
}

impl Sources {
    fn of(store: &Store, index: &Index, name: &Reference, image: &Image) -> Result<Self> {
        let mut sources = Self::default();
        let wanted: BTreeSet<&Digest> = image.manifest.layers.iter().map(|layer| &layer.digest).collect();
        for entry in &index.entries {
            let (Some(text), Some(_)) = (&entry.name, &entry.repo_digest) else { continue };
            let Ok(from) = text.parse::<Reference>() else { continue };
            // What is damaged is no source.
            let Ok(Some(bytes)) = blobs::read(store, &entry.manifest.digest) else { continue };
            let Ok(Document::Manifest(manifest)) = manifest::parse(&bytes) else { continue };
            for layer in manifest.layers.into_iter().filter(|layer| wanted.contains(&layer.digest)) {
                sources.add_near(&layer.digest, &from.repository(), name);
                sources.anywhere.entry(layer.digest).or_default().push(from.clone());
            }
        }
        for diff in &image.diffs {
            for blob in layers::find(store, diff)?.into_iter().flat_map(|record| record.packed) {
                for place in &blob.repositories {
                    sources.add_near(&blob.digest, place, name);
                }
            }
        }
        Ok(sources)
    }

    /// `place`: a repository with its host.
    fn add_near(&mut self, blob: &Digest, place: &str, name: &Reference) {
        let Some((domain, path)) = place.split_once('/') else { return };
        let all = self.near.entry(blob.clone()).or_default();
        if domain == name.domain() && path != name.path() && !all.iter().any(|known| known == path) {
            all.push(path.to_owned());
        }
    }

    /// All repositories that may be asked for something.
    fn all(&self) -> Vec<String> {
        let all: BTreeSet<&String> = self.near.values().filter_map(|paths| paths.first()).collect();
        all.into_iter().take(MAX_SOURCES).cloned().collect()
    }

    fn near(&self, blob: &Digest) -> Option<&str> {
        self.near.get(blob)?.first().map(String::as_str)
    }

    fn anywhere(&self, blob: &Digest) -> &[Reference] {
        self.anywhere.get(blob).map_or(&[], Vec::as_slice)
    }
}

/// All layers, several at once; bottom first.
fn push_layers(
    store: &Store,
    repository: &Repository,
    image: &Image,
    sources: &Sources,
    packing: Packing,
    report: &dyn Report,
) -> Result<Vec<Descriptor>> {
    let count = image.diffs.len();
    for diff in image.diffs.iter().rev() {
        report.prepare(diff.short());
    }
    let results: Vec<Mutex<Option<Descriptor>>> = image.diffs.iter().map(|_| Mutex::new(None)).collect();
    let failure: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let (Some(diff), Some(layer)) = (image.diffs.get(n), image.manifest.layers.get(n)) else { return };
            // The same layer twice is sent once.
            if image.diffs[..n].contains(diff) {
                continue;
            }
            let job = Job { store, repository, sources, packing, diff, layer, report, stop: &stop };
            match job.run().with_context(|| format!("layer {:?}", diff.short())) {
                Ok(done) => {
                    if let Ok(mut result) = results[n].lock() {
                        *result = Some(done);
                    }
                }
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    // The first failure is the cause; those behind it only stopped.
                    if let Ok(mut failure) = failure.lock() {
                        failure.get_or_insert(error);
                    }
                }
            }
        }
    };
    std::thread::scope(|threads| {
        for _ in 0..AT_ONCE.min(count) {
            threads.spawn(work);
        }
    });
    if let Some(error) = failure.into_inner().ok().flatten() {
        return Err(error);
    }
    let done: Vec<Option<Descriptor>> = results.into_iter().map(|result| result.into_inner().ok().flatten()).collect();
    let mut all = Vec::new();
    for (n, diff) in image.diffs.iter().enumerate() {
        let first = image.diffs.iter().position(|other| other == diff).unwrap_or(n);
        all.push(done[first].clone().ok_or_else(|| Failure::new("a layer was not sent"))?);
    }
    Ok(all)
}

/// A small blob, which is asked for first as well.
fn send_document(repository: &Repository, digest: &Digest, bytes: &[u8]) -> Result<()> {
    if repository.has_blob(digest)? {
        return Ok(());
    }
    match repository.begin(None)? {
        Begun::Mounted => Ok(()),
        Begun::Upload(upload) => repository.send(upload, &mut Small::new(bytes), &|_| {}).map(drop),
    }
}

#[cfg(test)]
mod tests;
