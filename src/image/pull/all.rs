//! `pull --all-platforms`: all that an index leads to, and the index.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::{Pulled, Report, configuration, fetch_all, pull};
use crate::error::Failure;
use crate::events;
use crate::image::blobs;
use crate::image::commit::{Complete, Ready};
use crate::image::digest::Digest;
use crate::image::index::{Descriptor, Entry, Index, List};
use crate::image::manifest::{self, Document, Manifest};
use crate::image::platform::{self, Platform};
use crate::image::reference::Reference;
use crate::image::trust;
use crate::registry::{self, Found, Repository};
use crate::store::{Lock, Store};

/// Pulls an image for every platform that it is for. The process is in the user's namespace.
///
/// # Errors
/// As [`pull`].
pub fn pull_all(store: &Store, name: &Reference, report: &dyn Report) -> Result<Pulled> {
    blobs::prepare(store)?;
    let Found { repository, manifest: top, media_type } = registry::find(name)?;
    let Document::Index(mut entries) = manifest::parse_sent(&top, &media_type)? else {
        return pull(store, name, None, report);
    };
    let digest = Digest::of(&top);
    let stored = name.stored().to_string();
    let newer = Index::read(store)?.list(&stored).is_none_or(|list| list.descriptor.digest != digest);
    // For this machine first: that is what the name alone means from then on.
    if let Ok(own) = platform::choose(&entries, &Platform::host()).map(|own| own.digest.clone()) {
        entries.sort_by_key(|entry| entry.digest != own);
    }
    let mut images: Vec<Ready> = Vec::new();
    let mut held: Vec<Lock> = Vec::new();
    for entry in &entries {
        let what = || entry.platform.as_ref().map_or_else(|| entry.digest.to_string(), Platform::to_string);
        let bytes = repository.manifest(entry.digest.as_str()).with_context(what)?.0;
        let Document::Manifest(manifest) = manifest::parse(&bytes).with_context(what)? else { continue };
        trust::check(name, &repository, &[digest.clone(), entry.digest.clone()])?;
        if entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown") {
            held.extend(as_it_is(store, &repository, &bytes, &manifest)?);
        } else {
            let mut ready = image(store, &repository, name, &bytes, &manifest, &digest, report).with_context(what)?;
            // The index knows better: many tools write the variant there alone.
            ready.entry.manifest.platform = entry.platform.clone().or(ready.entry.manifest.platform);
            images.push(ready);
        }
    }
    if images.is_empty() {
        return Err(Failure::new(format!("{} is an index without an image", name.familiar())).into());
    }
    held.push(blobs::put(store, &top)?.1);
    let descriptor = Descriptor {
        media_type: manifest::index_type(&top).to_owned(),
        digest: digest.clone(),
        size: top.len() as u64,
        platform: None,
        annotations: None,
    };
    Index::change(store, |index| {
        let entries: Vec<Entry> = images.iter().map(|image| image.entry.clone()).collect();
        index.add_list(List { name: stored, descriptor, is_made: false, sources: BTreeMap::new() }, entries);
        Ok(())
    })?;
    events::image(store, &name.familiar(), &name.familiar_repository(), "pull", &BTreeMap::new());
    Ok(Pulled { digest, newer })
}

fn image(
    store: &Store,
    repository: &Repository,
    name: &Reference,
    bytes: &[u8],
    manifest: &Manifest,
    index: &Digest,
    report: &dyn Report,
) -> Result<Ready> {
    let (config, _held) = configuration(store, repository, &manifest.config.digest)?;
    manifest::check_size(&manifest.config, &config)?;
    let (_, diffs) = manifest::parse_config(&config, manifest.layers.len())?;
    let fetched = fetch_all(store, repository, name, &manifest.layers, &diffs, report)?;
    let (layers, locks): (Vec<_>, Vec<_>) = fetched.into_iter().unzip();
    let manifest_type =
        if manifest.media_type.is_empty() { manifest::OCI_MANIFEST } else { manifest.media_type.as_str() };
    let complete = Complete {
        manifest: bytes,
        manifest_type,
        config: &config,
        layers,
        blobs: locks.into_iter().flatten().collect(),
        repo_digest: Some(index.clone()),
        pulled: true,
    };
    complete.prepare(store)
}

/// What stands in an index beside its images (attestations): small documents, kept for who gets the index
/// from here.
fn as_it_is(store: &Store, repository: &Repository, bytes: &[u8], manifest: &Manifest) -> Result<Vec<Lock>> {
    let mut held = vec![blobs::put(store, bytes)?.1];
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        held.push(match blobs::pin(store, &blob.digest)? {
            Some(lock) => lock,
            None => blobs::put(store, &repository.document(&blob.digest)?)?.1,
        });
    }
    Ok(held)
}
