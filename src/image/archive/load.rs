//! `load`: all images of an archive, or none of them.
//!
//! An OCI image layout is preferred where an archive has both forms: the images keep their manifests,
//! and so their digests. Everything is brought into the store first; then one change of the index
//! names all of it, and what a failure leaves is taken away again.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;

use anyhow::{Context, Result};
use serde_json::json;

use super::members::{Archive, blob_name, missing};
use super::{CONTAINERD_NAME, Listed};
use crate::error::Failure;
use crate::image::blobs::{self, Temporary};
use crate::image::commit::{Complete, Ready};
use crate::image::digest::Digest;
use crate::image::index::{Descriptor, Index, List, REF_NAME};
use crate::image::layers::{self, Claim, Pinned};
use crate::image::manifest::{self, Document};
use crate::image::platform::{self, Platform};
use crate::image::reference::Reference;
use crate::image::trust;
use crate::image::unpack::{self, Compression, Powers};
use crate::image::{garbage, note};
use crate::store::{Lock, Store};

/// An image that was loaded.
#[derive(Debug)]
pub struct Loaded {
    pub id: Digest,
    /// Empty: it had no name in the archive.
    pub names: Vec<Reference>,
}

/// Loads all images of an archive; those for `platform` alone, where one is given. The process is in
/// the user's namespace.
///
/// # Errors
/// Neither kind of archive, a damaged one, a full disk. The store is as it was then.
pub fn load(store: &Store, source: File, platform: Option<&Platform>) -> Result<Vec<Loaded>> {
    blobs::prepare(store)?;
    let archive = Archive::open(source, &store.image_layout()).context("read the archive")?;
    let mut loading = Loading { store, archive, platform, made: HashSet::new() };
    let images = loading.images();
    let made = loading.made;
    let outcome = images.and_then(|images| {
        Index::change(store, |index| {
            for image in &images {
                image.enter(index);
            }
            Ok(())
        })?;
        Ok(images)
    });
    match outcome {
        Ok(images) => Ok(images.into_iter().map(|image| image.done(store)).collect()),
        Err(failure) => {
            // Nobody holds it any more; what others need stays.
            let _ = garbage::collect_of(store, &made);
            Err(failure)
        }
    }
}

/// An image of the archive that is in the store, and not in its index yet.
struct Found {
    names: Vec<Reference>,
    /// For each platform; the first is for this machine where any is.
    images: Vec<Ready>,
    /// The index that leads to them, and what keeps it and what else it leads to.
    list: Option<(Descriptor, Vec<Lock>)>,
}

impl Found {
    fn enter(&self, index: &mut Index) {
        let entries = || self.images.iter().map(|image| image.entry.clone()).collect();
        match &self.list {
            Some((descriptor, _)) if !self.names.is_empty() => {
                for name in &self.names {
                    let list = List {
                        name: name.stored().to_string(),
                        descriptor: descriptor.clone(),
                        is_made: false,
                        sources: BTreeMap::new(),
                    };
                    index.add_list(list, entries());
                }
            }
            _ => self.images.iter().for_each(|image| image.enter(index, &self.names)),
        }
    }

    fn done(self, store: &Store) -> Loaded {
        // There is at least one.
        let id = self.images[0].entry.image.clone();
        note(store, &id, "load", self.names.first().map(Reference::familiar).as_deref());
        Loaded { id, names: self.names }
    }
}

struct Loading<'a> {
    store: &'a Store,
    archive: Archive,
    platform: Option<&'a Platform>,
    /// Names of blobs and layers that were not there before.
    made: HashSet<String>,
}

struct Layer {
    pinned: Pinned,
    blob: Digest,
    size: u64,
    media_type: &'static str,
    /// Keeps the blob.
    lock: Lock,
}

impl Loading<'_> {
    fn images(&mut self) -> Result<Vec<Found>> {
        let listed: Option<Vec<Listed>> = match self.archive.document("manifest.json")? {
            Some(bytes) => Some(serde_json::from_slice(&bytes).context("damaged manifest.json")?),
            None => None,
        };
        if let Some(bytes) = self.archive.document("index.json")? {
            let Document::Index(entries) = manifest::parse(&bytes).context("index.json")? else {
                return Err(Failure::new("damaged archive: index.json is not an index").into());
            };
            trust::check_archive(if listed.is_some() { "docker-archive" } else { "oci-archive" })?;
            return self.layout(&entries, &listed.unwrap_or_default());
        }
        let Some(listed) = listed else {
            return Err(Failure::new("not an image archive: it has neither manifest.json nor index.json")
                .hint("a plain archive of files becomes an image with: ctr import FILE NAME")
                .into());
        };
        if listed.is_empty() {
            return Err(Failure::new("the archive has no image").into());
        }
        trust::check_archive("docker-archive")?;
        listed.iter().map(|image| self.listed(image)).collect()
    }

    /// The images of a layout; entries of one manifest are one image by several names. `listed` may know
    /// further names.
    fn layout(&mut self, entries: &[Descriptor], listed: &[Listed]) -> Result<Vec<Found>> {
        let mut tops: Vec<(&Descriptor, Vec<Reference>)> = Vec::new();
        for entry in entries {
            let name = name_of(entry);
            match tops.iter_mut().find(|(top, _)| top.digest == entry.digest) {
                Some((_, names)) => names.extend(name),
                None => tops.push((entry, name.into_iter().collect())),
            }
        }
        if tops.is_empty() {
            return Err(Failure::new("the archive has no image").into());
        }
        let mut all = Vec::new();
        for (top, mut names) in tops {
            let mut found = self.top(top)?;
            for image in listed.iter().filter(|image| image.is(&found)) {
                for tag in image.repo_tags.iter().flatten() {
                    let name = tag.parse::<Reference>()?.or_latest();
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
            }
            found.names = names;
            all.push(found);
        }
        Ok(all)
    }

    /// What one entry of the layout leads to.
    fn top(&mut self, top: &Descriptor) -> Result<Found> {
        let bytes = self.archive.blob(&top.digest)?;
        let entries = match manifest::parse(&bytes)? {
            Document::Manifest(_) => {
                let ready = self.manifest(&bytes)?;
                if let (Some(wanted), Some(own)) = (self.platform, &ready.entry.manifest.platform) {
                    let name = name_of(top).map_or_else(|| ready.entry.image.to_string(), |name| name.familiar());
                    own.check(wanted, &name)?;
                }
                return Ok(Found { names: Vec::new(), images: vec![ready], list: None });
            }
            Document::Index(entries) => entries,
        };
        let there = |entry: &&Descriptor| matches!(self.archive.member(&blob_name(&entry.digest)), Ok(Some(_)));
        let chosen: Vec<Descriptor> = match self.platform {
            Some(wanted) => vec![platform::choose(&entries, wanted)?.clone()],
            None => entries.iter().filter(there).cloned().collect(),
        };
        let (others, mut chosen): (Vec<_>, Vec<_>) = chosen.into_iter().partition(is_attestation);
        let host = Platform::host();
        // For this machine first, and an index that is all for others is one still.
        match platform::choose(&chosen, &host).map(|own| own.digest.clone()) {
            Ok(own) => chosen.sort_by_key(|entry| entry.digest != own),
            Err(failure) if chosen.is_empty() => {
                return Err(platform::choose(&entries, &host)
                    .map_or_else(Into::into, |own| missing(&blob_name(&own.digest)).context(failure)));
            }
            Err(_) => {}
        }
        let mut images = Vec::new();
        for entry in &chosen {
            let bytes = self.archive.blob(&entry.digest)?;
            if matches!(manifest::parse(&bytes)?, Document::Index(_)) {
                return Err(Failure::new("damaged archive: an index that leads to an index").into());
            }
            let mut ready = self.manifest(&bytes)?;
            // The index knows better: many tools write the variant there alone.
            ready.entry.manifest.platform = entry.platform.clone().or(ready.entry.manifest.platform);
            images.push(ready);
        }
        if self.platform.is_some() || (chosen.len() == 1 && others.is_empty() && entries.len() == 1) {
            return Ok(Found { names: Vec::new(), images, list: None });
        }
        let mut held = self.attestations(&others)?;
        held.push(self.document(&bytes)?);
        let list = Descriptor {
            media_type: manifest::index_type(&bytes).to_owned(),
            digest: top.digest.clone(),
            size: bytes.len() as u64,
            platform: None,
            annotations: None,
        };
        Ok(Found { names: Vec::new(), images, list: Some((list, held)) })
    }

    /// What stands in an index beside its images is kept as it is, for who gets the index from here.
    fn attestations(&mut self, entries: &[Descriptor]) -> Result<Vec<Lock>> {
        let mut held = Vec::new();
        for entry in entries {
            let bytes = self.archive.blob(&entry.digest)?;
            let Document::Manifest(manifest) = manifest::parse(&bytes)? else { continue };
            held.push(self.document(&bytes)?);
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                let bytes = self.archive.blob(&blob.digest)?;
                held.push(self.document(&bytes)?);
            }
        }
        Ok(held)
    }

    fn document(&mut self, bytes: &[u8]) -> Result<Lock> {
        let digest = Digest::of(bytes);
        self.will_make(&digest);
        Ok(blobs::put(self.store, bytes)?.1)
    }

    /// Takes down what is not there yet.
    fn will_make(&mut self, digest: &Digest) {
        if !blobs::path(self.store, digest).exists() {
            self.made.insert(digest.hex().to_owned());
        }
    }

    /// The image of an OCI manifest.
    fn manifest(&mut self, bytes: &[u8]) -> Result<Ready> {
        let Document::Manifest(manifest) = manifest::parse(bytes)? else {
            return Err(Failure::new("damaged archive: an index that leads to an index").into());
        };
        let config = self.archive.blob(&manifest.config.digest)?;
        let (_, diffs) = manifest::parse_config(&config, manifest.layers.len())?;
        let (mut layers, mut held) = (Vec::new(), Vec::new());
        for (descriptor, diff) in manifest.layers.iter().zip(&diffs) {
            let layer = self
                .layer(&blob_name(&descriptor.digest), diff, Some(&descriptor.digest))
                .with_context(|| format!("layer {:?}", descriptor.digest.short()))?;
            held.push(layer.lock);
            layers.push(layer.pinned);
        }
        let manifest_type =
            if manifest.media_type.is_empty() { manifest::OCI_MANIFEST } else { manifest.media_type.as_str() };
        self.complete(bytes, manifest_type, &config, layers, held)
    }

    /// The image of an entry of `manifest.json`: it gets a manifest here.
    fn listed(&mut self, image: &Listed) -> Result<Found> {
        let config = self.archive.needed(&image.config)?;
        let members = image.layers.clone().unwrap_or_default();
        let (parsed, diffs) = manifest::parse_config(&config, members.len())?;
        let mut names = Vec::new();
        for tag in image.repo_tags.iter().flatten() {
            names.push(tag.parse::<Reference>()?.or_latest());
        }
        if let Some(wanted) = self.platform {
            let name = names.first().map_or_else(|| Digest::of(&config).to_string(), Reference::familiar);
            Platform::of(&parsed).check(wanted, &name)?;
        }
        let (mut layers, mut held, mut descriptors) = (Vec::new(), Vec::new(), Vec::new());
        for (name, diff) in members.iter().zip(&diffs) {
            let layer = self.layer(name, diff, None).with_context(|| format!("layer {:?}", diff.short()))?;
            descriptors.push(json!({"mediaType": layer.media_type, "digest": layer.blob.as_str(), "size": layer.size}));
            held.push(layer.lock);
            layers.push(layer.pinned);
        }
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": manifest::OCI_MANIFEST,
            "config":
                {"mediaType": manifest::OCI_CONFIG, "digest": Digest::of(&config).as_str(), "size": config.len()},
            "layers": descriptors,
        }))?;
        let ready = self.complete(&manifest, manifest::OCI_MANIFEST, &config, layers, held)?;
        Ok(Found { names, images: vec![ready], list: None })
    }

    fn complete(
        &mut self,
        manifest: &[u8],
        manifest_type: &str,
        config: &[u8],
        layers: Vec<Pinned>,
        blobs: Vec<Lock>,
    ) -> Result<Ready> {
        self.will_make(&Digest::of(manifest));
        self.will_make(&Digest::of(config));
        Complete { manifest, manifest_type, config, layers, blobs, repo_digest: None, pulled: false }
            .prepare(self.store)
    }

    /// Brings a layer into the store, unless it is there.
    fn layer(&mut self, name: &str, diff: &Digest, expected: Option<&Digest>) -> Result<Layer> {
        let (store, archive) = (self.store, &self.archive);
        let member = archive.member(name)?.ok_or_else(|| missing(name))?;
        let _claim = Claim::wait(store, diff)?;
        // An archive that is not compressed is a blob of the same digest.
        let compression = archive.compression(member)?;
        let blob = expected.or((compression == Compression::None).then_some(diff));
        if let (Some(blob), Some(pinned)) = (blob, layers::pin(store, diff)?)
            && let Some(lock) = blobs::pin(store, blob)?
        {
            let media_type = manifest::layer_type(compression);
            return Ok(Layer { pinned, blob: blob.clone(), size: member.1, media_type, lock });
        }
        let temporary = Temporary::in_dir(&blobs::dir(store));
        let mut file = temporary.create()?;
        let unpacked = layers::temporary(store)?;
        let source = archive.reader(member);
        let done = unpack::stream(source, member.1, Some(&mut file), unpacked.path(), Powers::now(), |_| {})?;
        if done.diff != *diff {
            let why = format!("its files have the digest {}, the configuration says {diff}", done.diff);
            return Err(Failure::new(why).into());
        }
        if expected.is_some_and(|expected| *expected != done.blob) {
            return Err(Failure::new(format!("its blob has the digest {}", done.blob)).into());
        }
        self.will_make(&done.blob);
        if layers::find(store, diff)?.is_none() {
            self.made.insert(diff.hex().to_owned());
        }
        let lock = blobs::publish(store, &done.blob, &temporary)?;
        let pinned = layers::publish(store, diff, &done.blob, &unpacked, done.applied)?;
        let media_type = manifest::layer_type(done.compression);
        Ok(Layer { pinned, blob: done.blob, size: done.blob_size, media_type, lock })
    }
}

impl Listed {
    /// Whether it speaks of an image that was found in the layout: by its configuration's digest, which
    /// is in the member's name.
    fn is(&self, found: &Found) -> bool {
        let hex = self.config.rsplit('/').next().unwrap_or_default();
        let hex = hex.strip_suffix(".json").unwrap_or(hex);
        found.images.iter().any(|image| image.entry.image.hex() == hex)
    }
}

/// `BuildKit`'s attestations stand in an index as manifests of no platform.
fn is_attestation(entry: &Descriptor) -> bool {
    entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
}

/// The name that an entry of an OCI archive bears. The specification leaves the annotation's form
/// open: containerd and `BuildKit` write the full name into one of their own, podman writes it into
/// the standard one, and umoci and skopeo a tag alone, which says no repository.
fn name_of(entry: &Descriptor) -> Option<Reference> {
    let notes = entry.annotations.as_ref()?;
    let text = notes.get(CONTAINERD_NAME).or_else(|| notes.get(REF_NAME))?;
    let bytes = text.as_bytes();
    let digit_second = bytes.get(1).is_some_and(u8::is_ascii_digit);
    let only_a_tag = !text.contains(['/', ':'])
        && (text == "latest" || bytes.first()?.is_ascii_digit() || (bytes.first() == Some(&b'v') && digit_second));
    if only_a_tag {
        return None;
    }
    text.parse::<Reference>().ok().map(Reference::or_latest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn named(key: &str, value: &str) -> Option<String> {
        let entry = Descriptor {
            media_type: String::new(),
            digest: Digest::of(b""),
            size: 0,
            platform: None,
            annotations: Some(BTreeMap::from([(key.to_owned(), value.to_owned())])),
        };
        name_of(&entry).map(|name| name.to_string())
    }

    #[test]
    fn a_tag_alone_is_no_name() {
        assert_eq!(named(REF_NAME, "latest"), None);
        assert_eq!(named(REF_NAME, "1.2"), None);
        assert_eq!(named(REF_NAME, "v3"), None);
        assert_eq!(named(REF_NAME, "busybox").as_deref(), Some("docker.io/library/busybox:latest"));
        assert_eq!(named(REF_NAME, "quay.io/a/b:c").as_deref(), Some("quay.io/a/b:c"));
        assert_eq!(named("io.containerd.image.name", "quay.io/a/b:c").as_deref(), Some("quay.io/a/b:c"));
    }
}
