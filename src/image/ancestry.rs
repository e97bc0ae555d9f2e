//! `image tree`: the layers of an image, and which other images have them too.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::image::digest::Digest;
use crate::image::index::Index;
use crate::image::reference::Reference;
use crate::image::{Image, garbage, layers, manifest};
use crate::store::Store;

/// A layer of an image, on what is below it.
#[derive(Debug)]
pub struct Node {
    pub diff: Digest,
    /// Bytes of its files.
    pub size: u64,
    /// Images that end with it.
    pub top_of: Vec<String>,
    /// Other images that go on from it; empty for [`children`].
    pub also_in: Vec<String>,
    /// What is built on it.
    pub above: Vec<Node>,
}

/// Every image's layers, bottom first, and its names.
struct Known(Vec<(Vec<Digest>, Vec<String>)>);

impl Known {
    fn of(store: &Store) -> Result<Self> {
        let index = Index::read(store)?;
        let ids: BTreeSet<&Digest> = index.entries.iter().map(|entry| &entry.image).collect();
        let names = |id: &Digest| -> Vec<String> {
            let same = index.entries.iter().filter(|entry| entry.image == *id);
            let names = same.filter_map(|entry| entry.name.as_deref()?.parse::<Reference>().ok());
            let names: BTreeSet<String> = names.map(|name| name.familiar()).collect();
            if names.is_empty() { vec![id.short().to_owned()] } else { names.into_iter().collect() }
        };
        Ok(Self(ids.into_iter().map(|id| (garbage::diffs_of(store, id), names(id))).collect()))
    }

    fn names(&self, fits: impl Fn(&[Digest]) -> bool) -> Vec<String> {
        let mut names: Vec<String> =
            self.0.iter().filter(|(diffs, _)| fits(diffs)).flat_map(|(_, names)| names.clone()).collect();
        names.sort();
        names
    }

    fn node(&self, store: &Store, chain: &[Digest]) -> Option<Node> {
        let diff = chain.last()?;
        Some(Node {
            diff: diff.clone(),
            size: layers::find(store, diff).ok().flatten().map_or(0, |record| record.size),
            top_of: self.names(|diffs| diffs == chain),
            also_in: Vec::new(),
            above: Vec::new(),
        })
    }
}

/// The image's own layers, bottom first.
///
/// # Errors
/// The index cannot be read.
pub fn layers_of(store: &Store, image: &Image) -> Result<Vec<Node>> {
    let known = Known::of(store)?;
    let diffs = manifest::diff_ids(&image.config)?;
    let nodes = (1..=diffs.len()).filter_map(|n| {
        let chain = &diffs[..n];
        let mut node = known.node(&image.home, chain)?;
        node.also_in = known.names(|other| {
            let has = other.starts_with(chain) || other.contains(&chain[n - 1]);
            has && other != diffs && other != chain
        });
        Some(node)
    });
    Ok(nodes.collect())
}

/// What is built on the image: the layer that it ends with, and above it those of other images.
///
/// # Errors
/// The index cannot be read.
pub fn children(store: &Store, image: &Image) -> Result<Option<Node>> {
    fn grow(known: &Known, store: &Store, chain: &[Digest], node: &mut Node) {
        let n = chain.len();
        let longer = known.0.iter().filter(|(diffs, _)| diffs.len() > n && diffs.starts_with(chain));
        let next: BTreeSet<&Digest> = longer.map(|(diffs, _)| &diffs[n]).collect();
        for diff in next {
            let chain = [chain, std::slice::from_ref(diff)].concat();
            if let Some(mut child) = known.node(store, &chain) {
                grow(known, store, &chain, &mut child);
                node.above.push(child);
            }
        }
    }
    let known = Known::of(store)?;
    let diffs = manifest::diff_ids(&image.config)?;
    let Some(mut root) = known.node(&image.home, &diffs) else { return Ok(None) };
    grow(&known, store, &diffs, &mut root);
    Ok(Some(root))
}
