//! `push`: an image of the store into a registry.
//!
//! What came from a registry goes there byte for byte: its blobs are in the store as they came. Where one
//! is not, and nobody has it, another archive of the layer does. A layer that was made here is compressed while it is sent ([`content`]); its compressed digest is remembered
//! beside the layer, so that the next push only asks whether the registry has it.

mod content;
pub(in crate::image) mod image;
mod layer;
mod list;
mod sources;

pub use self::list::push_list;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};

use self::content::Document as Small;
use self::image::Image;
use self::layer::Job;
use self::sources::Sources;
use crate::error::{self, Failure};
use crate::events;
use crate::image::additional;
use crate::image::digest::Digest;
use crate::image::index::{Descriptor, Index};
use crate::image::parallel;
use crate::image::platform::{self, Platform};
use crate::image::reference::Reference;
use crate::image::refetch;
use crate::image::unpack::Compression;
use crate::registry::Repository;
use crate::registry::upload::Begun;
use crate::store::Store;

/// Layers in work at once, as Docker has it.
const AT_ONCE: usize = 5;

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

/// How it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct How {
    /// What is not compressed becomes this.
    pub format: Compression,
    /// `None`: the format's usual one.
    pub level: Option<i32>,
    /// So does what is compressed otherwise.
    pub force: bool,
}

impl Default for How {
    fn default() -> Self {
        Self { format: Compression::Gzip, level: None, force: false }
    }
}

impl How {
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
    /// Why that is another digest than the one that it was pulled by.
    pub warning: Option<String>,
}

impl Pushed {
    /// What was sent last. `old`: what it was pulled by; `lost`: why a layer went otherwise, if one did.
    fn of(name: &Reference, manifest: &[u8], old: &Digest, lost: Option<String>) -> Self {
        let digest = Digest::of(manifest);
        let warning = lost.filter(|_| digest != *old).map(|why| {
            let name = name.familiar();
            format!(
                "{name}: its digest there is {digest} and not {old}, because a layer went in another compression: {why}"
            )
        });
        Self { digest, size: manifest.len(), warning }
    }
}

/// The names of a repository's images, with a tag each.
///
/// # Errors
/// It has none: Docker's sentence.
pub fn tags(store: &Store, repository: &Reference) -> Result<Vec<Reference>> {
    let index = Index::read(store)?;
    let names = index.entries.into_iter().filter_map(|entry| entry.name).chain(index.lists.into_iter().map(|l| l.name));
    let names = names.filter_map(|name| name.parse::<Reference>().ok());
    let mut tags: Vec<Reference> =
        names.filter(|name| name.repository() == repository.repository() && name.tag().is_some()).collect();
    if tags.is_empty() {
        let name = repository.familiar_repository();
        let hint = match additional::of_repository(store, repository) {
            Some((dir, one)) => format!("{one} is in the read-only store {dir:?}: push it by its tag"),
            None => format!("give an image this name with: ctr tag IMAGE {name}"),
        };
        return Err(Failure::new(format!("An image does not exist locally with the tag: {name}")).hint(hint).into());
    }
    tags.sort();
    tags.dedup();
    Ok(tags)
}

/// Pushes an image under a name that it has here; one for several platforms with all of them, or for
/// `platform` alone. The process is in the user's namespace.
///
/// # Errors
/// There is no such image; the registry refuses or cannot be reached. What was uploaded until then the
/// registry keeps, and a further try goes on from there.
pub fn push(
    store: &Store,
    name: &Reference,
    platform: Option<&Platform>,
    how: How,
    report: &dyn Report,
) -> Result<Pushed> {
    let index = Index::read(store)?;
    let stored = name.stored().to_string();
    let push = Push { store, index: &index, name, how, report };
    let (pushed, labels) = match index.list(&stored) {
        Some(list) if platform.is_none() => (push_list(store, list, name, report)?, BTreeMap::new()),
        _ => {
            let named: Vec<Descriptor> = index.named(&stored).map(|entry| entry.manifest.clone()).collect();
            if named.is_empty() {
                return Err(Failure::new(format!("tag does not exist: {}", name.familiar()))
                    .hint("list what is there with: ctr images")
                    .into());
            }
            let wanted = platform.cloned().unwrap_or_else(Platform::host);
            let chosen = if named.len() > 1 { platform::choose(&named, &wanted)? } else { &named[0] };
            let image = Image::read(store, &chosen.digest)?;
            if let Some(wanted) = platform {
                image.platform.check(wanted, &name.familiar())?;
            }
            let to = push.connect(&image)?;
            (push.image(&to, &image)?, image.labels)
        }
    };
    Index::change(store, |index| {
        for entry in index.entries.iter_mut().filter(|entry| entry.name.as_deref() == Some(&stored)) {
            entry.repo_digest = Some(pushed.digest.clone());
        }
        Ok(())
    })?;
    events::image(store, &name.familiar(), &name.familiar_repository(), "push", &labels);
    Ok(pushed)
}

struct Push<'a> {
    store: &'a Store,
    index: &'a Index,
    name: &'a Reference,
    how: How,
    report: &'a dyn Report,
}

/// The repository that is pushed to, and those beside it.
struct To {
    repository: Repository,
    sources: Sources,
}

impl Push<'_> {
    fn sources(&self, image: &Image) -> Result<Sources> {
        let blobs = image.manifest.layers.iter().zip(&image.diffs);
        let blobs: Vec<(Digest, Digest)> = blobs.map(|(layer, diff)| (layer.digest.clone(), diff.clone())).collect();
        Sources::of(self.store, self.index, self.name, &blobs)
    }

    fn connect(&self, image: &Image) -> Result<To> {
        let sources = self.sources(image)?;
        Ok(To { repository: Repository::for_push(self.name, &sources.all())?, sources })
    }

    fn image(&self, to: &To, image: &Image) -> Result<Pushed> {
        let (bytes, media_type, lost) = self.blobs(to, image)?;
        to.repository.put_manifest(self.name.wanted(), &bytes, &media_type)?;
        Ok(Pushed::of(self.name, &bytes, &Digest::of(&image.bytes), lost))
    }

    /// All but the manifest, and what that is now: its bytes and its type, and why it is not as it was.
    fn blobs(&self, to: &To, image: &Image) -> Result<(Vec<u8>, String, Option<String>)> {
        let lost = Mutex::new(None);
        let descriptors = self.layers(to, image, &lost)?;
        send_document(&to.repository, &image.manifest.config.digest, &image.config).context("configuration")?;
        let (bytes, media_type) = image.manifest_with(&descriptors)?;
        layer::remember_place(self.store, &image.diffs, &descriptors, &self.name.repository());
        Ok((bytes, media_type, lost.into_inner().unwrap_or_default()))
    }

    /// All layers, several at once; bottom first.
    fn layers(&self, to: &To, image: &Image, lost: &Mutex<Option<String>>) -> Result<Vec<Descriptor>> {
        let pulled = self.index.is_pulled(&Digest::of(&image.bytes));
        let instead = |why: &anyhow::Error| {
            if let Ok(mut lost) = lost.lock() {
                lost.get_or_insert_with(|| error::message(why));
            }
        };
        for diff in image.diffs.iter().rev() {
            self.report.prepare(diff.short());
        }
        let stop = AtomicBool::new(false);
        let place_of = |diff: &Digest| image.diffs.iter().position(|other| other == diff);
        let count = image.diffs.len().min(image.manifest.layers.len());
        let sent = parallel::each(count, AT_ONCE, &stop, |n| {
            let (diff, layer) = (&image.diffs[n], &image.manifest.layers[n]);
            // The same layer twice is sent once.
            if place_of(diff) != Some(n) {
                return Ok(None);
            }
            let (store, report, how) = (self.store, self.report, self.how);
            let To { repository, sources } = to;
            let refetch = || refetch::blob(store, self.index, &image.id, layer);
            let (stop, refetch, instead) = (&stop, &refetch, &instead);
            let job = Job { store, repository, sources, how, diff, layer, report, stop, pulled, refetch, instead };
            job.run().map(Some).with_context(|| format!("layer {:?}", diff.short()))
        })?;
        let of = |diff: &Digest| sent.get(place_of(diff)?)?.clone();
        let all: Option<Vec<Descriptor>> = image.diffs.iter().map(of).collect();
        all.ok_or_else(|| Failure::new("a layer was not sent").into())
    }
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
