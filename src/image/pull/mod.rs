//! `pull`: an image from a registry into the store.
//!
//! Each layer is fetched once, whoever pulls at the same time, and once in all, however often a pull is
//! interrupted: what came of it is kept ([`partial`]), and the rest is asked for.

mod all;
mod fetch;
pub mod partial;
mod reuse;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};

use self::fetch::{Fetched, Pull};
use crate::config::registries::Registries;
use crate::error::{self, Failure};
use crate::events;
use crate::image::blobs;
use crate::image::commit::Complete;
use crate::image::digest::Digest;
use crate::image::index::{Descriptor, Index};
use crate::image::layers::{Claim, Pinned};
use crate::image::manifest::{self, Document, Manifest};
use crate::image::parallel;
use crate::image::platform::{self, Platform};
use crate::image::reference::Reference;
use crate::image::trust;
use crate::image::unpack::Powers;
use crate::registry::{self, Found, Repository};
use crate::store::{Lock, Store};

pub use self::all::pull_all;

/// Layers in work at once, as Docker has it.
const AT_ONCE: usize = 3;

/// Who is told how a pull gets on. Layers go by the twelve digits that people see.
pub trait Report: Sync {
    /// The layer has to be fetched, of so many bytes.
    fn begin(&self, layer: &str, size: u64);
    /// The store has it already.
    fn exists(&self, layer: &str);
    /// So many more bytes came.
    fn bytes(&self, layer: &str, more: u64);
    /// So many more bytes of its archive were unpacked.
    fn unpacked(&self, layer: &str, more: u64);
    /// So many of its bytes other layers have: they are not fetched.
    fn reused(&self, layer: &str, bytes: u64, of: u64);
    /// What an earlier pull has left of it, or another layer has, is of no use: it is fetched from its
    /// beginning.
    fn again(&self, layer: &str);
    fn complete(&self, layer: &str);
}

/// What a pull came to.
#[derive(Debug)]
pub struct Pulled {
    /// The digest that the name led to: of an index, where it is one.
    pub digest: Digest,
    /// False: the store had this very image under this name.
    pub newer: bool,
}

/// What a name may mean, the likeliest first: one without a registry means what `registries.conf` says,
/// and without that file Docker Hub's.
///
/// # Errors
/// It is not a name; the file cannot be understood.
pub fn candidates(text: &str) -> Result<Vec<Reference>> {
    if !Reference::is_short(text) {
        return Ok(vec![text.parse::<Reference>()?.or_latest()]);
    }
    Ok(Registries::read()?.candidates(text)?.into_iter().map(Reference::or_latest).collect())
}

/// Does something with the first of several names that it can be done with.
///
/// # Errors
/// The last one's, where it can be done with none.
pub fn first<T>(names: &[Reference], act: impl Fn(&Reference) -> Result<T>) -> Result<T> {
    let mut rest = names.iter().peekable();
    while let Some(name) = rest.next() {
        match act(name) {
            Err(e) if rest.peek().is_some() => error::warn(&format!("{name}: {}", error::message(&e))),
            other => return other,
        }
    }
    Err(Failure::new("there is no registry to search").into())
}

/// Pulls an image. The process is in the user's namespace.
///
/// # Errors
/// The registry refuses or cannot be reached; there is no image for the platform; what came is not
/// what its digest says; the disk is full. Nothing is changed then, but whole layers stay for the
/// next try.
pub fn pull(store: &Store, name: &Reference, platform: Option<&Platform>, report: &dyn Report) -> Result<Pulled> {
    blobs::prepare(store)?;
    let Found { repository, manifest: top, media_type } = registry::find(name)?;
    let digest = Digest::of(&top);
    let is_single = matches!(manifest::parse_sent(&top, &media_type)?, Document::Manifest(_));
    let (bytes, manifest) = resolve(&repository, top, platform)?;
    let mut digests = vec![digest.clone(), Digest::of(&bytes)];
    digests.dedup();
    trust::check(name, &repository, &digests)?;
    let (config, _held) = configuration(store, &repository, &manifest.config.digest)?;
    manifest::check_size(&manifest.config, &config)?;
    let (parsed, diffs) = manifest::parse_config(&config, manifest.layers.len())?;
    // What an index chose is for the platform that the index says; nobody chose a single image.
    if let Some(wanted) = platform.filter(|_| is_single) {
        Platform::of(&parsed).check(wanted, &name.familiar())?;
    }
    let image = manifest.config.digest.clone();
    let stored = name.stored().to_string();
    let newer = !Index::read(store)?
        .entries
        .iter()
        .any(|e| e.name.as_deref() == Some(&stored) && e.image == image && e.repo_digest.as_ref() == Some(&digest));

    let fetched = fetch_all(store, &repository, name, &manifest.layers, &diffs, report)?;
    let (layers, locks): (Vec<Pinned>, Vec<Option<Lock>>) = fetched.into_iter().unzip();
    let manifest_type =
        if manifest.media_type.is_empty() { manifest::OCI_MANIFEST } else { manifest.media_type.as_str() };
    let complete = Complete {
        manifest: &bytes,
        manifest_type,
        config: &config,
        layers,
        blobs: locks.into_iter().flatten().collect(),
        repo_digest: Some(digest.clone()),
        pulled: true,
    };
    complete.commit(store, std::slice::from_ref(name))?;
    let labels = parsed.labels_of_config().cloned().unwrap_or_default().into_iter().collect();
    // Docker's form of this one: by its name, with the repository's as an attribute.
    events::image(store, &name.familiar(), &name.familiar_repository(), "pull", &labels);
    Ok(Pulled { digest, newer })
}

/// The image's configuration, fetched by one process alone, and what keeps it in the store.
fn configuration(store: &Store, repository: &Repository, digest: &Digest) -> Result<(Vec<u8>, Option<Lock>)> {
    let there = || -> Result<_> {
        let held = blobs::pin(store, digest)?;
        let config = blobs::read(store, digest)?.filter(|config| Digest::of(config) == *digest);
        Ok(config.map(|config| (config, held)))
    };
    if let Some(found) = there()? {
        return Ok(found);
    }
    let _claim = Claim::wait(store, digest)?;
    if let Some(found) = there()? {
        return Ok(found);
    }
    let config = repository.document(digest)?;
    let (_, held) = blobs::put(store, &config)?;
    Ok((config, Some(held)))
}

/// From what the name led to, to the manifest of one platform.
fn resolve(repository: &Repository, top: Vec<u8>, platform: Option<&Platform>) -> Result<(Vec<u8>, Manifest)> {
    let mut bytes = top;
    // An index may lead to another one; not for ever.
    for _ in 0..3 {
        match manifest::parse(&bytes)? {
            Document::Manifest(manifest) => return Ok((bytes, manifest)),
            Document::Index(entries) => {
                let wanted = platform.cloned().unwrap_or_else(Platform::host);
                let chosen = platform::choose(&entries, &wanted)?;
                bytes = repository.manifest(chosen.digest.as_str())?.0;
                manifest::check_size(chosen, &bytes)?;
            }
        }
    }
    Err(Failure::new("damaged manifest: indexes that lead to indexes").into())
}

/// All layers, several at once; bottom first.
fn fetch_all(
    store: &Store,
    repository: &Repository,
    name: &Reference,
    descriptors: &[Descriptor],
    diffs: &[Digest],
    report: &dyn Report,
) -> Result<Vec<Fetched>> {
    let stop = AtomicBool::new(false);
    let (powers, donors) = (Powers::now(), OnceLock::new());
    let pull = Pull { store, repository, name, layers: descriptors, donors, powers, report, stop: &stop };
    parallel::each(diffs.len().min(descriptors.len()), AT_ONCE, &stop, |n| {
        let descriptor = &descriptors[n];
        pull.layer(descriptor, &diffs[n]).with_context(|| format!("layer {:?}", descriptor.digest.short()))
    })
}
