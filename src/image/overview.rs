//! What `images --tree` shows: each image once, with all its names and its platforms.

use std::collections::HashSet;

use anyhow::Result;
use jiff::Timestamp;

use crate::image::digest::Digest;
use crate::image::index::{Entry, Index, List};
use crate::image::list::{Filter, fits};
use crate::image::manifest::{self, Document};
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::image::{blobs, prune};
use crate::store::Store;

/// An image, for one platform or for several.
#[derive(Debug)]
pub struct Top {
    /// As people write them; empty: dangling.
    pub names: Vec<String>,
    /// Of the index, or the image's id.
    pub id: Digest,
    created: Option<Timestamp>,
    pub parts: Vec<Part>,
}

/// What it is on one platform.
#[derive(Debug, Clone)]
pub struct Part {
    pub platform: String,
    pub id: Digest,
    /// Bytes of its blobs that are here, compressed as they are.
    pub content: u64,
    /// Bytes of its layers' files.
    pub unpacked: u64,
    pub is_here: bool,
    /// A container was made from it.
    pub is_used: bool,
}

/// All images that pass the filters, newest first.
///
/// # Errors
/// The index or the containers' records cannot be read.
pub fn tops(store: &Store, filters: &[Filter]) -> Result<Vec<Top>> {
    let index = Index::read(store)?;
    let used = prune::used(store)?;
    let mut tops: Vec<Top> = Vec::new();
    for entry in index.entries.iter().filter(|entry| fits(store, entry, filters)) {
        let list = entry.name.as_deref().and_then(|name| index.list(name));
        let id = list.map_or(&entry.image, |list| &list.descriptor.digest);
        let name = entry.name.as_deref().and_then(|name| name.parse::<Reference>().ok()).map(|name| name.familiar());
        if let Some(top) = tops.iter_mut().find(|top| top.id == *id) {
            top.names.extend(name.filter(|name| !top.names.contains(name)));
            continue;
        }
        let parts = match list {
            Some(list) => of_list(store, &index, list, &used),
            None => vec![part(store, entry, &used)],
        };
        let created = entry.created.as_deref().and_then(|time| time.parse().ok());
        tops.push(Top { names: name.into_iter().collect(), id: id.clone(), created, parts });
    }
    tops.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.names.cmp(&b.names)));
    Ok(tops)
}

/// Those that are here and those that are not.
fn of_list(store: &Store, index: &Index, list: &List, used: &HashSet<String>) -> Vec<Part> {
    let bytes = blobs::read(store, &list.descriptor.digest).ok().flatten().unwrap_or_default();
    let Ok(Document::Index(entries)) = manifest::parse(&bytes) else { return Vec::new() };
    let parts = entries.into_iter().filter_map(|descriptor| {
        if let Some(entry) = index.entries.iter().find(|entry| entry.manifest.digest == descriptor.digest) {
            return Some(part(store, entry, used));
        }
        let platform = descriptor.platform.filter(|platform| platform.os != "unknown")?;
        Some(Part {
            platform: platform.to_string(),
            id: descriptor.digest,
            content: 0,
            unpacked: 0,
            is_here: false,
            is_used: false,
        })
    });
    parts.collect()
}

fn part(store: &Store, entry: &Entry, used: &HashSet<String>) -> Part {
    let bytes = blobs::read(store, &entry.manifest.digest).ok().flatten().unwrap_or_default();
    let mut content = bytes.len() as u64;
    if let Ok(Document::Manifest(manifest)) = manifest::parse(&bytes) {
        let all = manifest.layers.iter().chain([&manifest.config]);
        let there = all.filter_map(|blob| std::fs::metadata(blobs::path(store, &blob.digest)).ok());
        content += there.map(|meta| meta.len()).sum::<u64>();
    }
    Part {
        platform: entry.manifest.platform.as_ref().map(Platform::to_string).unwrap_or_default(),
        id: entry.image.clone(),
        content,
        unpacked: entry.size,
        is_here: true,
        is_used: used.contains(entry.image.as_str()),
    }
}
