//! Images: the index, the blobs that it leads to and their digests, the layers unpacked from them.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Finding, layers};
use crate::error;
use crate::image::blobs;
use crate::image::digest::{Digest, Hasher};
use crate::image::index::{Entry, Index};
use crate::image::manifest::{self, Document};
use crate::image::{parents, remove, repo_digests};
use crate::store::{Store, sweep, tree};

/// What was found of blobs: each is read once, however many images have it.
pub(super) struct Blobs<'a> {
    store: &'a Store,
    quick: bool,
    known: HashMap<Digest, Option<String>>,
}

pub(super) fn look(store: &Store, quick: bool) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let index = match Index::read(store) {
        Ok(index) => index,
        Err(e) => {
            let advice = "the images' blobs are whole as far as they are; load or pull the images again";
            found.push(Finding::lasting("images", error::message(&e), advice));
            return Ok(found);
        }
    };
    let mut blobs = Blobs { store, quick, known: HashMap::new() };
    let mut sources: HashMap<Digest, Digest> = HashMap::new();
    let mut seen = HashSet::new();
    for entry in index.entries.iter().filter(|entry| seen.insert(entry.image.clone())) {
        image(store, &index, entry, &mut blobs, &mut sources, &mut found);
    }
    layers::look(store, quick, &sources, &mut blobs, &mut found)?;
    // What an image that is damaged needs cannot be told.
    if found.is_empty() {
        unneeded(store, &mut found);
    }
    for path in [store.layers(), blobs::dir(store), store.image_layout()].iter().flat_map(|dir| sweep::garbage(dir)) {
        let problem = "left half made by a command that was killed";
        found.push(Finding::repairable(path.display().to_string(), problem, "remove it", move |_| {
            Ok(tree::remove(&path)?)
        }));
    }
    Ok(found)
}

/// What people call the image, and what would bring it here again.
fn called(index: &Index, entry: &Entry) -> (String, String) {
    let same = || index.entries.iter().filter(|other| other.image == entry.image);
    let name = same().find_map(|other| other.name.clone());
    let object = match &name {
        Some(name) => format!("image {name} ({})", entry.image.short()),
        None => format!("image {}", entry.image.short()),
    };
    let advice = match (repo_digests(same()).first(), name) {
        (Some(source), _) => format!("ctr pull {source} brings it again"),
        (None, Some(name)) => format!("load or build {name} again"),
        (None, None) => format!("ctr rmi -f {} removes it", entry.image.short()),
    };
    (object, advice)
}

/// The manifest, the configuration and the layers' blobs. `sources`: which blob each layer comes from.
fn image(
    store: &Store,
    index: &Index,
    entry: &Entry,
    blobs: &mut Blobs,
    sources: &mut HashMap<Digest, Digest>,
    found: &mut Vec<Finding>,
) {
    let (object, advice) = called(index, entry);
    let mut wrong = |what: &str, problem: String| {
        found.push(Finding::lasting(&object, format!("its {what} {problem}"), &advice));
    };
    for (what, digest) in [("manifest", &entry.manifest.digest), ("configuration", &entry.image)] {
        if let Some(problem) = blobs.problem(digest) {
            return wrong(what, problem);
        }
    }
    let parsed =
        blobs::read(store, &entry.manifest.digest).and_then(|bytes| manifest::parse(&bytes.unwrap_or_default()));
    let manifest = match parsed {
        Ok(Document::Manifest(manifest)) => manifest,
        Ok(Document::Index(_)) => return wrong("manifest", "is an index".to_owned()),
        Err(e) => return wrong("manifest", format!("cannot be read: {}", error::message(&e))),
    };
    let diffs = remove::diffs_of(store, &entry.image);
    if diffs.len() != manifest.layers.len() {
        return wrong("configuration", "does not fit its manifest: they differ in their layers".to_owned());
    }
    let folders = parents::name(&diffs).filter(|_| entry.parents);
    if folders.is_some_and(|name| !store.layers().join(name).is_dir()) {
        wrong("layer", "of left out folders is missing".to_owned());
    }
    for (diff, layer) in diffs.into_iter().zip(&manifest.layers) {
        if let Some(problem) = blobs.problem(&layer.digest) {
            wrong("layer's blob", format!("{} {problem}", layer.digest.short()));
        }
        sources.entry(diff).or_insert_with(|| layer.digest.clone());
    }
}

impl Blobs<'_> {
    /// What is wrong with a blob, as the sentence goes on; `None`: nothing.
    pub(super) fn problem(&mut self, digest: &Digest) -> Option<String> {
        if let Some(known) = self.known.get(digest) {
            return known.clone();
        }
        let problem = match self.digest_of(&blobs::path(self.store, digest)) {
            Ok(None) => None,
            Ok(Some(is)) if is == *digest => None,
            Ok(Some(is)) => Some(format!("is damaged: its bytes have the digest {is}")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Some("is missing".to_owned()),
            Err(e) => Some(format!("cannot be read: {e}")),
        };
        self.known.insert(digest.clone(), problem.clone());
        problem
    }

    /// `None`: it is there, and nobody asks for more.
    fn digest_of(&self, path: &Path) -> io::Result<Option<Digest>> {
        let mut file = File::open(path)?;
        if self.quick {
            return Ok(None);
        }
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok(Some(hasher.finish()));
            }
            hasher.update(&buffer[..count]);
        }
    }
}

/// Blobs and layers that neither an image nor a container needs.
fn unneeded(store: &Store, found: &mut Vec<Finding>) {
    // Where something is damaged that says what is needed, nothing is garbage.
    let Ok((blobs, layers)) = remove::unneeded(store) else { return };
    if blobs.is_empty() && layers.is_empty() {
        return;
    }
    let paths = blobs.iter().chain(&layers);
    let bytes: u64 = paths.map(size).sum();
    let problem = format!("{} blobs and {} layers, {bytes} bytes, that nothing needs", blobs.len(), layers.len());
    found.push(Finding::repairable("images", problem, "remove them", |store| {
        remove::collect(store).map(drop).context("remove what nothing needs")
    }));
}

fn size(path: &PathBuf) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => crate::container::size::tree(path),
        Ok(meta) => meta.size(),
        Err(_) => 0,
    }
}
