//! An index and all that it leads to: what is here is sent, and what only a registry has is mounted or
//! fetched from there. An image that was made here, in an index that was, goes as it would alone: its plain
//! layers are compressed, and the index names the manifest that it has by then.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::image::Image;
use super::{How, Push, Pushed, Report, Sources, To};
use crate::error::Failure;
use crate::image::blobs::{self, Checked};
use crate::image::digest::Digest;
use crate::image::index::{Descriptor, Index, List};
use crate::image::manifest::{self, Document, Manifest};
use crate::image::reference::Reference;
use crate::image::refetch;
use crate::registry::Repository;
use crate::registry::upload::Begun;
use crate::store::Store;

/// Pushes an index under a name. The process is in the user's namespace.
///
/// # Errors
/// The registry refuses or cannot be reached; a blob is nowhere any more.
pub fn push_list(store: &Store, list: &List, name: &Reference, report: &dyn Report) -> Result<Pushed> {
    let index = Index::read(store)?;
    let bytes = read(store, &list.descriptor.digest)?;
    let Document::Index(entries) = manifest::parse(&bytes)? else {
        return Err(Failure::new(format!("the manifest list {:?} is damaged", list.name)).into());
    };
    let mut near: Vec<String> = entries
        .iter()
        .flat_map(|entry| sources(&index, list, &entry.digest))
        .filter(|source| source.domain() == name.domain() && source.path() != name.path())
        .map(|source| source.path().to_owned())
        .collect();
    near.sort();
    near.dedup();
    let repository = Repository::for_push(name, &near)?;
    let push = Push { store, index: &index, name, how: How::default(), report };
    let mut to = To { repository, sources: Sources::default() };
    let (mut changed, mut why) = (BTreeMap::new(), None);
    for entry in &entries {
        let what = || entry.platform.as_ref().map_or_else(|| entry.digest.to_string(), ToString::to_string);
        let document = read(store, &entry.digest).with_context(what)?;
        let Document::Manifest(manifest) = manifest::parse(&document).with_context(what)? else {
            return Err(Failure::new("damaged manifest: indexes that lead to indexes").into());
        };
        if is_packed(store, &index, list, &entry.digest, &manifest) {
            let image = Image::read(store, &entry.digest).with_context(what)?;
            to.sources = push.sources(&image)?;
            let (bytes, media_type, lost) = push.blobs(&to, &image).with_context(what)?;
            let digest = Digest::of(&bytes);
            to.repository.put_manifest(digest.as_str(), &bytes, &media_type).with_context(what)?;
            if digest != entry.digest {
                let size = bytes.len() as u64;
                let new = Descriptor { media_type, digest, size, platform: None, annotations: None };
                changed.insert(entry.digest.clone(), new);
                why = why.or(lost);
            }
            continue;
        }
        let repository = &to.repository;
        let job = Job { store, repository, name, sources: sources(&index, list, &entry.digest), report };
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            job.blob(blob).with_context(|| format!("blob {:?}", blob.digest.short())).with_context(what)?;
        }
        repository.put_manifest(entry.digest.as_str(), &document, &entry.media_type).with_context(what)?;
    }
    let bytes = if changed.is_empty() { bytes } else { manifest::index_with(&bytes, &changed)? };
    to.repository.put_manifest(name.wanted(), &bytes, &list.descriptor.media_type)?;
    Ok(Pushed::of(name, &bytes, &list.descriptor.digest, why))
}

/// Whether an image goes as it would alone, and its manifest may change: one that was made here, of an index
/// that was; and one that lacks a blob here.
fn is_packed(store: &Store, index: &Index, list: &List, digest: &Digest, manifest: &Manifest) -> bool {
    let is_here = index.entries.iter().any(|entry| entry.manifest.digest == *digest);
    let lacks = || manifest.layers.iter().any(|layer| !blobs::path(store, &layer.digest).exists());
    is_here && ((list.is_made && !index.is_pulled(digest)) || lacks())
}

fn read(store: &Store, digest: &Digest) -> Result<Vec<u8>> {
    let missing = || Failure::new(format!("the manifest {:?} is not here any more", digest.short()));
    Ok(blobs::read_whole(store, digest)?.ok_or_else(missing)?)
}

/// Where the image of a manifest came from.
fn sources(index: &Index, list: &List, manifest: &Digest) -> Vec<Reference> {
    let noted = list.sources.get(manifest.as_str()).and_then(|source| source.parse().ok());
    let image = index.entries.iter().find(|entry| entry.manifest.digest == *manifest).map(|entry| &entry.image);
    noted.into_iter().chain(image.into_iter().flat_map(|image| refetch::sources(index, image))).collect()
}

struct Job<'a> {
    store: &'a Store,
    repository: &'a Repository,
    name: &'a Reference,
    sources: Vec<Reference>,
    report: &'a dyn Report,
}

impl Job<'_> {
    fn blob(&self, blob: &Descriptor) -> Result<()> {
        let (digest, short) = (&blob.digest, blob.digest.short());
        if self.repository.has_blob(digest)? {
            self.report.exists(short);
            return Ok(());
        }
        let here = self.sources.iter().filter(|source| source.domain() == self.name.domain());
        for source in here.filter(|source| source.path() != self.name.path()) {
            if let Ok(Begun::Mounted) = self.repository.begin(Some((digest, source.path()))) {
                self.report.mounted(short, source.path());
                return Ok(());
            }
        }
        let _held = match blobs::pin(self.store, digest)? {
            Some(lock) => lock,
            None => refetch::from(self.store, &self.sources, blob)?,
        };
        let Begun::Upload(upload) = self.repository.begin(None)? else { return Ok(()) };
        let mut content = Checked::open(self.store, digest).context("read it")?;
        self.report.begin(short, Some(blob.size));
        self.repository.send(upload, &mut content, &|bytes| self.report.sent(short, bytes))?;
        self.report.complete(short);
        Ok(())
    }
}
