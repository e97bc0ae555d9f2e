//! Images: what they are called, what they are made of, how they come here and how they leave.
//!
//! The store is an OCI image layout (`image/`) that other tools can read, and beside it the layers,
//! each unpacked once (`layers/<diff id hex>/`). An image is there when the index names it
//! ([`index`]); whatever it needs was complete and on the disk before.
//!
//! - names: [`reference`], [`digest`], [`platform`]
//! - what is stored: [`index`], [`manifest`], [`blobs`], [`layers`], [`parents`]; what is shared by
//!   all users: [`additional`]
//! - how it comes: [`pull`] from a registry, [`archive`] (`load`), [`import`], [`make`] (`commit`); all
//!   of them through [`unpack`] and [`commit`]
//! - whether it may come: [`trust`], policy and signatures
//! - how trees become archives: [`pack`]
//! - how it goes to others: [`push`] to a registry
//! - how it goes: [`remove`], [`prune`], and what is left then: [`garbage`]
//!
//! `run` and `create` need [`find`] and [`obtain`]; after writing their own record of an image's
//! layers they ask [`Image::is_there`], which closes the race with a removal.

pub mod additional;
pub mod alike;
pub mod ancestry;
pub mod archive;
pub mod blobs;
pub mod change;
mod commit;
pub mod compressed;
pub mod difference;
pub mod digest;
pub mod garbage;
pub mod history;
pub mod import;
pub mod index;
mod inspect;
pub mod layers;
pub mod list;
pub mod make;
pub mod manifest;
pub mod manifests;
pub mod mapped;
pub mod mount;
pub mod obtain;
pub mod overview;
pub mod pack;
mod parallel;
pub mod parents;
pub mod platform;
pub mod prune;
pub mod pull;
pub mod push;
pub mod reference;
pub mod refetch;
pub mod remove;
pub mod tag;
mod trust;
pub mod unpack;

use anyhow::{Context, Result};
use oci_spec::image::ImageConfiguration;

pub use self::inspect::inspect;
pub use self::obtain::obtain;

use self::digest::{Digest, is_hex};
use self::index::{Entry, Index, Stamp};
use self::platform::Platform;
use self::reference::Reference;
use crate::error::Failure;
use crate::events;
use crate::store::Store;

/// An image of the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// `sha256:` and the digest of its configuration.
    pub id: String,
    /// Full references, `docker.io/library/busybox:latest`.
    pub names: Vec<String>,
    /// `docker.io/library/busybox@sha256:…`: what registries know it by.
    pub repo_digests: Vec<String>,
    pub config: ImageConfiguration,
    /// Names below `layers/`, topmost first, as `overlay`'s `lowerdir` wants them; whole paths of an
    /// image of an additional store.
    pub layers: Vec<String>,
    /// Bytes of all layers' files.
    pub size: u64,
    /// The store that has it: the own one, or an additional one.
    pub home: Store,
    /// The index in which it was found.
    seen: Stamp,
}

/// When to ask a registry (`--pull`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    Always,
    #[default]
    Missing,
    Never,
}

/// The image that a person means: by name, digest, id or the beginning of an id. Reads the index and
/// one blob.
///
/// # Errors
/// Neither a reference nor an id; an id's beginning that fits several images; a damaged store.
pub fn find(store: &Store, wanted: &str) -> Result<Option<Image>> {
    find_for(store, wanted, None)
}

/// [`find`], and of a name that is for several platforms the image for this one.
///
/// # Errors
/// As [`find`]; Docker's sentence where the image is for another platform.
pub fn find_for(store: &Store, wanted: &str, platform: Option<&Platform>) -> Result<Option<Image>> {
    let index = Index::read(store)?;
    if let Some(entry) = entry_for(store, &index, wanted, platform)? {
        return open(store, &index, entry).map(Some);
    }
    additional::find(store, wanted, platform)
}

/// The entry that [`find_for`] means.
///
/// # Errors
/// As [`find_for`].
pub fn entry_for<'a>(
    store: &Store,
    index: &'a Index,
    wanted: &str,
    platform: Option<&Platform>,
) -> Result<Option<&'a Entry>> {
    if let Some(entry) = by_that_name(store, index, wanted, platform)? {
        return Ok(Some(entry));
    }
    // An alias, or an image from another place that is searched.
    if wanted.parse::<Reference>().is_ok() && Reference::is_short(wanted) {
        for name in pull::candidates(wanted)? {
            if let Some(entry) = by_that_name(store, index, &name.to_string(), platform)? {
                return Ok(Some(entry));
            }
        }
    }
    Ok(None)
}

fn by_that_name<'a>(
    store: &Store,
    index: &'a Index,
    wanted: &str,
    platform: Option<&Platform>,
) -> Result<Option<&'a Entry>> {
    let Some(found) = lookup(index, wanted)? else { return of_made_list(store, index, wanted, platform) };
    let Some(platform) = platform else { return Ok(Some(found)) };
    let is_for = |entry: &&Entry| entry.manifest.platform.as_ref().is_some_and(|own| own.satisfies(platform));
    let same_name = found.name.as_deref().filter(|_| !remove::is_id_of(wanted, &found.image));
    let fits = same_name.and_then(|name| index.named(name).find(is_for));
    let entry = fits.or_else(|| Some(found).filter(is_for));
    if entry.is_none() {
        let own = found.manifest.platform.clone().unwrap_or_default();
        let name = wanted.parse::<Reference>().map_or_else(|_| wanted.to_owned(), |n| n.or_latest().familiar());
        own.check(platform, &name)?;
    }
    Ok(entry.or(Some(found)))
}

/// A list that was made here leads to an image if that is here by another name.
fn of_made_list<'a>(
    store: &Store,
    index: &'a Index,
    wanted: &str,
    platform: Option<&Platform>,
) -> Result<Option<&'a Entry>> {
    let Ok(name) = wanted.parse::<Reference>() else { return Ok(None) };
    let Some(list) = index.list(&name.stored().to_string()) else { return Ok(None) };
    let Some(bytes) = blobs::read(store, &list.descriptor.digest)? else { return Ok(None) };
    let manifest::Document::Index(entries) = manifest::parse(&bytes)? else { return Ok(None) };
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let Ok(chosen) = platform::choose(&entries, &wanted) else { return Ok(None) };
    Ok(index.entries.iter().find(|entry| entry.manifest.digest == chosen.digest))
}

/// Docker's sentence for what is no image's name or id.
#[must_use]
pub fn no_such_image(wanted: &str) -> Failure {
    let name = wanted.parse::<Reference>().map_or_else(|_| wanted.to_owned(), |name| name.or_latest().familiar());
    Failure::new(format!("No such image: {name}"))
}

/// The entry of the index that a person means.
///
/// # Errors
/// As [`find`].
pub fn lookup<'a>(index: &'a Index, wanted: &str) -> Result<Option<&'a Entry>> {
    // A reference goes before an id's beginning, as with Docker: `cafe` may be a repository.
    let hex = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    let is_id = is_hex(hex) && hex.len() <= 64;
    let whole_id = is_id && hex.len() == 64;
    let reference = if whole_id { None } else { Some(wanted.parse::<Reference>()) };
    match reference {
        Some(Ok(reference)) => {
            let name = reference.stored();
            let full = name.to_string();
            let by_name = index.entries.iter().find(|e| e.name.as_deref() == Some(&full));
            if let Some(entry) = by_name.or_else(|| by_digest(index, &name)) {
                return Ok(Some(entry));
            }
        }
        Some(Err(error)) if !is_id => return Err(error.into()),
        _ => {}
    }
    if !is_id {
        return Ok(None);
    }
    let mut found: Option<&Entry> = None;
    for entry in index.entries.iter().filter(|e| e.image.hex().starts_with(hex)) {
        if found.is_some_and(|other| other.image != entry.image) {
            return Err(Failure::new(format!("multiple images found with the id prefix {wanted:?}"))
                .hint("give more digits of the id, or the name")
                .into());
        }
        found = Some(entry);
    }
    Ok(found)
}

/// An image that was pulled by tag can be named by the digest that the tag led to.
fn by_digest<'a>(index: &'a Index, name: &Reference) -> Option<&'a Entry> {
    let digest = name.digest()?;
    index.entries.iter().find(|entry| {
        let same = entry.repo_digest.as_ref() == Some(digest) || entry.manifest.digest == *digest;
        same && entry
            .name
            .as_deref()
            .and_then(|n| n.parse::<Reference>().ok())
            .is_some_and(|n| n.repository() == name.repository())
    })
}

/// An entry with all that is known of its image.
///
/// # Errors
/// Its configuration is not there or damaged.
pub fn open(store: &Store, index: &Index, entry: &Entry) -> Result<Image> {
    let id = entry.image.to_string();
    let bytes = blobs::read(store, &entry.image)?.ok_or_else(|| {
        Failure::new(format!("image {:?} is damaged: its configuration is missing", entry.image.short()))
    })?;
    let config: ImageConfiguration =
        serde_json::from_slice(&bytes).with_context(|| format!("image {id:?} is damaged"))?;
    let diffs = manifest::diff_ids(&config)?;
    let same = || index.entries.iter().filter(|e| e.image == entry.image);
    Ok(Image {
        id,
        names: same().filter_map(|e| e.name.clone()).filter(|name| !name.contains('@')).collect(),
        repo_digests: repo_digests(same()),
        config,
        layers: layer_names(entry, &diffs),
        size: entry.size,
        home: store.clone(),
        seen: index.stamp(),
    })
}

/// `repository@digest` of each entry that came from a registry, each once.
pub fn repo_digests<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<String> {
    let mut all: Vec<String> = entries
        .filter_map(|e| {
            let name: Reference = e.name.as_deref()?.parse().ok()?;
            Some(name.with_digest(e.repo_digest.clone()?).to_string())
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

/// What an overlay of the image is made of, topmost first.
fn layer_names(entry: &Entry, diffs: &[Digest]) -> Vec<String> {
    let parents = parents::name(diffs).filter(|_| entry.parents);
    let seen = diffs.iter().rev().take(entry.depth.unwrap_or(usize::MAX)).map(|diff| diff.hex().to_owned());
    let mut names: Vec<String> = parents.into_iter().collect();
    // An image can have the same layer twice (an empty one, mostly), and overlayfs refuses that;
    // what the lower of the two would add is there already.
    for name in seen {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

impl Image {
    /// Whether the store still has the image. Who has written down its layers and is then told yes
    /// keeps them: a removal first takes the image out of the index, and looks for containers that
    /// need its layers only then.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn is_there(&self) -> Result<bool> {
        // Mostly nobody changed the index in between: then a stat is all it takes.
        if Stamp::now(&self.home) == self.seen {
            return Ok(true);
        }
        Ok(Index::read(&self.home)?.entries.iter().any(|e| e.image.as_str() == self.id))
    }
}

/// Records what happened to an image that is there or was a moment ago. `name`: what it is called in
/// the event; `None`: by its id.
fn note(store: &Store, image: &Digest, action: &str, name: Option<&str>) {
    let config = blobs::read(store, image).ok().flatten();
    let config = config.and_then(|bytes| serde_json::from_slice::<ImageConfiguration>(&bytes).ok());
    let labels = config.and_then(|config| config.labels_of_config().cloned()).unwrap_or_default();
    events::image(store, image.as_str(), name.unwrap_or(image.as_str()), action, &labels.into_iter().collect());
}

/// A full or read-only disk ends the command as a failure of the engine, whichever command it is.
#[must_use]
pub fn disk_full(error: anyhow::Error) -> anyhow::Error {
    let errno = |e: &std::io::Error| e.raw_os_error();
    let full = error.chain().any(|cause| {
        let errno = cause
            .downcast_ref()
            .and_then(errno)
            .or_else(|| cause.downcast_ref::<nix::errno::Errno>().map(|e| *e as i32));
        matches!(errno, Some(libc::ENOSPC | libc::EDQUOT | libc::EROFS))
    });
    if !full {
        return error;
    }
    let message = format!("{error:#}");
    Failure::new(message)
        .hint("make room in the storage root, or pass --root DIR for another place")
        .exit(crate::error::exit::ENGINE)
        .into()
}
