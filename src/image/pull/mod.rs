//! `pull`: an image from a registry into the store.

mod all;
#[cfg(test)]
mod tests;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};

use crate::config::registries::Registries;
use crate::error::{self, Failure};
use crate::events;
use crate::image::blobs::{self, Temporary};
use crate::image::commit::Complete;
use crate::image::digest::Digest;
use crate::image::index::{Descriptor, Index};
use crate::image::layers::{self, Claim, Pinned};
use crate::image::manifest::{self, Document, Manifest};
use crate::image::platform::{self, Platform};
use crate::image::reference::Reference;
use crate::image::trust;
use crate::image::unpack::{self, Powers};
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
    let Found { repository, manifest: top, .. } = registry::find(name)?;
    let digest = Digest::of(&top);
    let is_single = matches!(manifest::parse(&top)?, Document::Manifest(_));
    let (bytes, manifest) = resolve(&repository, top, platform)?;
    let mut digests = vec![digest.clone(), Digest::of(&bytes)];
    digests.dedup();
    trust::check(name, &repository, &digests)?;
    let config = match blobs::read(store, &manifest.config.digest)? {
        Some(config) if Digest::of(&config) == manifest.config.digest => config,
        _ => repository.document(&manifest.config.digest)?,
    };
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

    let fetched = fetch_all(store, &repository, &manifest.layers, &diffs, report)?;
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
    };
    complete.commit(store, std::slice::from_ref(name))?;
    let labels = parsed.labels_of_config().cloned().unwrap_or_default().into_iter().collect();
    // Docker's form of this one: by its name, with the repository's as an attribute.
    events::image(store, &name.familiar(), &name.familiar_repository(), "pull", &labels);
    Ok(Pulled { digest, newer })
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
            }
        }
    }
    Err(Failure::new("damaged manifest: indexes that lead to indexes").into())
}

type Fetched = (Pinned, Option<Lock>);

/// All layers, several at once; bottom first.
fn fetch_all(
    store: &Store,
    repository: &Repository,
    descriptors: &[Descriptor],
    diffs: &[Digest],
    report: &dyn Report,
) -> Result<Vec<Fetched>> {
    let results: Vec<Mutex<Option<Fetched>>> = diffs.iter().map(|_| Mutex::new(None)).collect();
    let failure: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let powers = Powers::now();
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let (Some(descriptor), Some(diff)) = (descriptors.get(n), diffs.get(n)) else { return };
            let outcome = fetch(store, repository, descriptor, diff, powers, (report, &stop))
                .with_context(|| format!("layer {:?}", descriptor.digest.short()));
            match outcome {
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
        for _ in 0..AT_ONCE.min(diffs.len()) {
            threads.spawn(work);
        }
    });
    if let Some(error) = failure.into_inner().ok().flatten() {
        return Err(error);
    }
    let done: Option<Vec<Fetched>> = results.into_iter().map(|result| result.into_inner().ok().flatten()).collect();
    done.ok_or_else(|| Failure::new("a layer was not fetched").into())
}

fn fetch(
    store: &Store,
    repository: &Repository,
    descriptor: &Descriptor,
    diff: &Digest,
    powers: Powers,
    (report, stop): (&dyn Report, &AtomicBool),
) -> Result<Fetched> {
    let short = descriptor.digest.short();
    let have = |pinned| -> Result<Fetched> {
        report.exists(short);
        Ok((pinned, blobs::pin(store, &descriptor.digest)?))
    };
    // Without the claim first: a layer that is there needs none.
    if let Some(pinned) = layers::pin(store, diff)? {
        return have(pinned);
    }
    report.begin(short, descriptor.size);
    let _claim = Claim::wait(store, diff)?;
    if let Some(pinned) = layers::pin(store, diff)? {
        return have(pinned);
    }
    let blob = Temporary::in_dir(&blobs::dir(store));
    let mut file = blob.create()?;
    let unpacked = layers::temporary(store)?;
    let source = Stoppable { inner: repository.blob(&descriptor.digest, descriptor.size)?, stop };
    let told = |n| report.bytes(short, n);
    let done = unpack::stream(source, descriptor.size, Some(&mut file), unpacked.path(), powers, told)?;
    if done.blob != descriptor.digest {
        return Err(Failure::new(format!("the registry sent something else: its digest is {}", done.blob)).into());
    }
    if done.diff != *diff {
        return Err(
            Failure::new(format!("its files have the digest {}, the configuration says {diff}", done.diff)).into()
        );
    }
    let lock = blobs::publish(store, &done.blob, &blob)?;
    let pinned = layers::publish(store, diff, &unpacked, done.applied)?;
    report.complete(short);
    Ok((pinned, Some(lock)))
}

/// Ends when another layer failed.
struct Stoppable<'a, R> {
    inner: R,
    stop: &'a AtomicBool,
}

impl<R: std::io::Read> std::io::Read for Stoppable<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(std::io::Error::other("stopped, because another layer failed"));
        }
        self.inner.read(into)
    }
}
