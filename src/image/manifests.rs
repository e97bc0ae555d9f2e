//! `manifest`: indexes that are put together here, of images of the store or of registries.
//!
//! Such an index is a document of the store and a name for it in the store's index. What it leads to is
//! here as far as its images are; of an image of a registry only the manifest is fetched.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, Result};
use oci_spec::image::ImageConfiguration;
use serde_json::{Map, Value, json};

use crate::error::Failure;
use crate::image::digest::Digest;
use crate::image::index::{Descriptor, Index, List};
use crate::image::manifest::{self, Document};
use crate::image::platform::{self, Platform};
use crate::image::reference::Reference;
use crate::image::{blobs, entry_for, garbage};
use crate::registry::{self, Found};
use crate::store::{Lock, Store};

/// What can be said of an image in an index beside what its configuration says.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    pub architecture: Option<String>,
    pub os: Option<String>,
    pub variant: Option<String>,
    pub os_version: Option<String>,
    pub os_features: Vec<String>,
    pub features: Vec<String>,
    /// `key=value`.
    pub annotations: Vec<(String, String)>,
}

/// A manifest, and where it was found.
struct Member {
    descriptor: Value,
    /// The repository that has it, of one that is not here.
    source: Option<String>,
    _held: Vec<Lock>,
}

impl Member {
    fn note_source(&self, sources: &mut BTreeMap<String, String>) {
        if let (Some(source), Some(digest)) = (&self.source, self.descriptor["digest"].as_str()) {
            sources.insert(digest.to_owned(), source.clone());
        }
    }
}

/// Makes an index, or goes on with one (`amend`); returns its full name.
///
/// # Errors
/// There is one of that name, or an image by it; an image that cannot be found. Docker's wording.
pub fn create(store: &Store, name: &Reference, images: &[String], all: bool, amend: bool) -> Result<Reference> {
    blobs::prepare(store)?;
    let name = name.clone().or_latest();
    if name.digest().is_some() {
        return Err(Failure::new("refusing to create a tag with a digest reference").into());
    }
    let full = name.to_string();
    let index = Index::read(store)?;
    let is_made = index.list(&full).is_some_and(|list| list.is_made);
    if is_made && !amend {
        return Err(Failure::new("refusing to amend an existing manifest list with no --amend flag").into());
    }
    if !is_made && (index.list(&full).is_some() || index.named(&full).next().is_some()) {
        return Err(Failure::new(format!("{:?} is an image", name.familiar()))
            .hint("give the manifest list another name, or take the image's away with ctr rmi")
            .into());
    }
    let found = members(store, images, all)?;
    change(store, &name, true, |entries, sources| {
        for member in &found {
            member.note_source(sources);
            join(entries, member.descriptor.clone());
        }
        Ok(())
    })?;
    Ok(name)
}

/// Adds images to an index; returns its new digest.
///
/// # Errors
/// There is no such index, or no such image.
pub fn add(store: &Store, name: &Reference, images: &[String], all: bool, notes: &Notes) -> Result<Digest> {
    existing(store, name)?;
    let found = members(store, images, all)?;
    change(store, name, false, |entries, sources| {
        for member in &found {
            member.note_source(sources);
            let mut descriptor = member.descriptor.clone();
            notes.apply(&mut descriptor);
            join(entries, descriptor);
        }
        Ok(())
    })
}

/// Says more of one of an index's images; returns the index's new digest.
///
/// # Errors
/// There is no such index, or the image is not in it.
pub fn annotate(store: &Store, name: &Reference, image: &str, notes: &Notes) -> Result<Digest> {
    existing(store, name)?;
    let digests = digests_of(store, image)?;
    change(store, name, false, |entries, _| {
        let entry = entries.iter_mut().find(|entry| digests.iter().any(|digest| entry["digest"] == digest.as_str()));
        notes.apply(entry.ok_or_else(|| not_in(image, name))?);
        Ok(())
    })
}

/// Takes an image out of an index; returns the index's new digest.
///
/// # Errors
/// There is no such index, or the image is not in it.
pub fn take_out(store: &Store, name: &Reference, image: &str) -> Result<Digest> {
    existing(store, name)?;
    let digests = digests_of(store, image)?;
    change(store, name, false, |entries, _| {
        let before = entries.len();
        entries.retain(|entry| !digests.iter().any(|digest| entry["digest"] == digest.as_str()));
        if entries.len() == before {
            return Err(not_in(image, name));
        }
        Ok(())
    })
}

/// Removes an index that was made here.
///
/// # Errors
/// There is none; Docker's wording.
pub fn delete(store: &Store, name: &Reference) -> Result<()> {
    let list = existing(store, name)?;
    Index::change(store, |index| {
        index.untag(&list.name);
        Ok(())
    })?;
    // Manifests that were fetched for it go with it.
    garbage::collect(store).map(drop)
}

/// The index that was made here by this name.
///
/// # Errors
/// There is none; Docker's wording.
pub fn existing(store: &Store, name: &Reference) -> Result<List> {
    let name = name.clone().or_latest();
    let list = Index::read(store)?.list(&name.to_string()).filter(|list| list.is_made).cloned();
    list.ok_or_else(|| Failure::new(format!("No such manifest: {name}")).into())
}

fn not_in(image: &str, name: &Reference) -> anyhow::Error {
    Failure::new(format!("manifest for image {image} does not exist in {name}")).into()
}

/// Replaces the document that a name leads to.
fn change(
    store: &Store,
    name: &Reference,
    make: bool,
    change: impl FnOnce(&mut Vec<Value>, &mut BTreeMap<String, String>) -> Result<()>,
) -> Result<Digest> {
    let full = name.clone().or_latest().to_string();
    let mut old = HashSet::new();
    let digest = Index::change(store, |index| {
        let list = index.list(&full).filter(|list| list.is_made).cloned();
        let mut entries = match &list {
            None if make => Vec::new(),
            None => return Err(Failure::new(format!("No such manifest: {name}")).into()),
            Some(list) => {
                old.insert(list.descriptor.digest.hex().to_owned());
                entries(store, list)?
            }
        };
        let mut sources = list.map(|list| list.sources).unwrap_or_default();
        change(&mut entries, &mut sources)?;
        let is_dockers = |entry: &Value| entry["mediaType"] == manifest::DOCKER_MANIFEST;
        let media_type = if !entries.is_empty() && entries.iter().all(is_dockers) {
            manifest::DOCKER_LIST
        } else {
            manifest::OCI_INDEX
        };
        let document = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries});
        let bytes = serde_json::to_vec_pretty(&document)?;
        let (digest, _lock) = blobs::put(store, &bytes)?;
        let descriptor = Descriptor {
            media_type: media_type.to_owned(),
            digest: digest.clone(),
            size: bytes.len() as u64,
            platform: None,
            annotations: None,
        };
        index.lists.retain(|list| list.name != full);
        index.lists.push(List { name: full.clone(), descriptor, is_made: true, sources });
        Ok(digest)
    })?;
    old.remove(digest.hex());
    garbage::collect_of(store, &old)?;
    Ok(digest)
}

fn entries(store: &Store, list: &List) -> Result<Vec<Value>> {
    let damaged = || format!("the manifest list {:?} is damaged", list.name);
    let bytes = blobs::read(store, &list.descriptor.digest)?.with_context(damaged)?;
    let mut document: Map<String, Value> = serde_json::from_slice(&bytes).with_context(damaged)?;
    match document.remove("manifests") {
        Some(Value::Array(entries)) => Ok(entries),
        _ => anyhow::bail!(damaged()),
    }
}

/// An image is in an index once; whoever adds it again means the newer one.
fn join(entries: &mut Vec<Value>, new: Value) {
    match entries.iter_mut().find(|entry| entry["digest"] == new["digest"]) {
        Some(old) => *old = new,
        None => entries.push(new),
    }
}

/// The manifests that images mean, of the store before a registry's. Of an index the one for this machine,
/// or all.
fn members(store: &Store, images: &[String], all: bool) -> Result<Vec<Member>> {
    let mut found = Vec::new();
    for image in images {
        let image = image.strip_prefix("docker://").unwrap_or(image);
        if let Some(members) = local(store, image, all)? {
            found.extend(members);
        } else {
            let name: Reference = image.parse()?;
            found.extend(remote(store, &name.or_latest(), all).with_context(|| format!("image {image:?}"))?);
        }
    }
    Ok(found)
}

fn local(store: &Store, image: &str, all: bool) -> Result<Option<Vec<Member>>> {
    let index = Index::read(store)?;
    let Some(entry) = entry_for(store, &index, image, None)? else { return Ok(None) };
    let list = entry.name.as_deref().filter(|_| all).and_then(|name| index.list(name));
    let name = list.map(|list| list.name.clone());
    let entries = index.entries.iter().filter(|other| match &name {
        Some(name) => other.name.as_ref() == Some(name),
        None => std::ptr::eq(*other, entry),
    });
    let member = |entry: &crate::image::index::Entry| -> Result<Member> {
        let bytes = blobs::read(store, &entry.image)?.unwrap_or_default();
        let config: ImageConfiguration =
            serde_json::from_slice(&bytes).with_context(|| format!("image {image:?} is damaged"))?;
        let held = blobs::pin(store, &entry.manifest.digest)?;
        let found = (entry.manifest.media_type.as_str(), &entry.manifest.digest, entry.manifest.size);
        Ok(Member { descriptor: descriptor(found, &config), source: None, _held: held.into_iter().collect() })
    };
    entries.map(member).collect::<Result<Vec<_>>>().map(Some)
}

fn remote(store: &Store, name: &Reference, all: bool) -> Result<Vec<Member>> {
    let Found { repository, manifest: top, .. } = registry::find(name)?;
    let documents = match manifest::parse(&top)? {
        Document::Manifest(_) => vec![top],
        Document::Index(entries) => {
            let chosen: Vec<&Descriptor> =
                if all { entries.iter().collect() } else { vec![platform::choose(&entries, &Platform::host())?] };
            chosen
                .iter()
                .map(|entry| repository.manifest(entry.digest.as_str()).map(|(bytes, _)| bytes))
                .collect::<Result<_>>()?
        }
    };
    let mut found = Vec::new();
    for bytes in documents {
        let Document::Manifest(manifest) = manifest::parse(&bytes)? else {
            return Err(Failure::new("damaged manifest: indexes that lead to indexes").into());
        };
        let config = repository.document(&manifest.config.digest)?;
        let config: ImageConfiguration = serde_json::from_slice(&config).context("damaged image configuration")?;
        let (digest, held) = blobs::put(store, &bytes)?;
        let media_type =
            if manifest.media_type.is_empty() { manifest::OCI_MANIFEST } else { manifest.media_type.as_str() };
        let descriptor = descriptor((media_type, &digest, bytes.len() as u64), &config);
        found.push(Member { descriptor, source: Some(name.repository()), _held: vec![held] });
    }
    Ok(found)
}

fn descriptor((media_type, digest, size): (&str, &Digest, u64), config: &ImageConfiguration) -> Value {
    let mut platform = json!(Platform::of(config));
    if let Some(version) = config.os_version() {
        platform["os.version"] = version.as_str().into();
    }
    json!({"mediaType": media_type, "digest": digest.as_str(), "size": size, "platform": platform})
}

/// The digests by which an index may know an image: its own, or that of one that a name leads to.
fn digests_of(store: &Store, image: &str) -> Result<Vec<Digest>> {
    let image = image.strip_prefix("docker://").unwrap_or(image);
    if let Ok(digest) = image.parse::<Digest>() {
        return Ok(vec![digest]);
    }
    let mut digests = Vec::new();
    let index = Index::read(store)?;
    if let Some(entry) = entry_for(store, &index, image, None)? {
        let same = |other: &&crate::image::index::Entry| other.name.is_some() && other.name == entry.name;
        digests.extend(index.entries.iter().filter(same).map(|entry| entry.manifest.digest.clone()));
        digests.push(entry.manifest.digest.clone());
        return Ok(digests);
    }
    let name = image.parse::<Reference>()?.or_latest();
    if let Some(digest) = name.digest() {
        return Ok(vec![digest.clone()]);
    }
    let bytes = registry::find(&name)?.manifest;
    digests.push(Digest::of(&bytes));
    if let Document::Index(entries) = manifest::parse(&bytes)? {
        digests.extend(platform::choose(&entries, &Platform::host()).map(|entry| entry.digest.clone()));
    }
    Ok(digests)
}

impl Notes {
    fn apply(&self, entry: &mut Value) {
        let words = [
            ("architecture", &self.architecture),
            ("os", &self.os),
            ("variant", &self.variant),
            ("os.version", &self.os_version),
        ];
        for (key, value) in words {
            if let Some(value) = value {
                entry["platform"][key] = value.as_str().into();
            }
        }
        for (key, list) in [("os.features", &self.os_features), ("features", &self.features)] {
            if !list.is_empty() {
                entry["platform"][key] = list.clone().into();
            }
        }
        for (key, value) in &self.annotations {
            entry["annotations"][key.as_str()] = value.as_str().into();
        }
    }
}

/// A manifest or index as it is: of what was made here, of the store, or of a registry; with its bytes'
/// digest.
///
/// # Errors
/// There is none.
pub fn document(store: &Store, wanted: &str) -> Result<Vec<u8>> {
    let name = wanted.strip_prefix("docker://").unwrap_or(wanted);
    let reference = name.parse::<Reference>().map(Reference::or_latest);
    let index = Index::read(store)?;
    if let Ok(reference) = &reference
        && let Some(list) = index.list(&reference.stored().to_string())
        && let Some(bytes) = blobs::read(store, &list.descriptor.digest)?
    {
        return Ok(bytes);
    }
    if let Some(entry) = entry_for(store, &index, name, None).ok().flatten()
        // What is known by a registry's index is better shown as the registry has it.
        && entry.repo_digest.is_none()
        && let Some(bytes) = blobs::read(store, &entry.manifest.digest)?
    {
        return Ok(bytes);
    }
    let reference = reference?;
    Ok(registry::find(&reference)?.manifest)
}

/// One manifest of an index that was made here.
///
/// # Errors
/// There is no such index, or the manifest is not in it.
pub fn member(store: &Store, list: &Reference, manifest: &str) -> Result<Vec<u8>> {
    let found = existing(store, list)?;
    let digests = digests_of(store, manifest)?;
    let is_in = |entry: &Value| digests.iter().find(|digest| entry["digest"] == digest.as_str()).cloned();
    let digest = entries(store, &found)?.iter().find_map(is_in).ok_or_else(|| not_in(manifest, list))?;
    by_digest(store, list, &digest)
}

/// A manifest of the store, or of the repository that an index is in.
///
/// # Errors
/// It is in neither.
pub fn by_digest(store: &Store, name: &Reference, digest: &Digest) -> Result<Vec<u8>> {
    match blobs::read(store, digest)? {
        Some(bytes) => Ok(bytes),
        None => Ok(registry::find(&name.with_digest(digest.clone()))?.manifest),
    }
}
