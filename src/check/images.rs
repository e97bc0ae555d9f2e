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
use crate::image::index::{Descriptor, Entry, Index};
use crate::image::manifest::{self, Document};
use crate::image::{garbage, parents, refetch, repo_digests};
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
    let mut sources: HashMap<Digest, Source> = HashMap::new();
    let mut seen = HashSet::new();
    for entry in index.entries.iter().filter(|entry| seen.insert(entry.image.clone())) {
        image(store, &index, entry, &mut blobs, &mut sources, &mut found);
    }
    for list in &index.lists {
        if let Some(problem) = blobs.problem(&list.descriptor.digest) {
            let advice = format!("pull or make {} again", list.name);
            found.push(Finding::lasting(
                format!("manifest list {}", list.name),
                format!("its document {problem}"),
                advice,
            ));
        }
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

/// Where a layer comes from.
pub(super) struct Source {
    pub blob: Descriptor,
    /// An image that has it.
    pub image: Digest,
    /// A registry has it too.
    pub is_remote: bool,
}

/// The manifest, the configuration and the layers' blobs. `sources`: where each layer comes from.
fn image(
    store: &Store,
    index: &Index,
    entry: &Entry,
    blobs: &mut Blobs,
    sources: &mut HashMap<Digest, Source>,
    found: &mut Vec<Finding>,
) {
    let (object, advice) = called(index, entry);
    let is_remote = !refetch::sources(index, &entry.image).is_empty();
    let mut bad = |what: &str, problem: String, blob: Option<&Descriptor>| {
        let problem = format!("its {what} {problem}");
        found.push(match blob.filter(|_| is_remote) {
            Some(blob) => fetchable(&object, problem, &entry.image, blob),
            None => Finding::lasting(&object, problem, &advice),
        });
    };
    // A document is asked for without its size.
    let config = Descriptor {
        media_type: manifest::OCI_CONFIG.to_owned(),
        digest: entry.image.clone(),
        size: 0,
        platform: None,
        annotations: None,
    };
    for (what, blob) in [("manifest", &entry.manifest), ("configuration", &config)] {
        if let Some(problem) = blobs.problem(&blob.digest) {
            return bad(what, problem, Some(blob));
        }
    }
    let parsed =
        blobs::read(store, &entry.manifest.digest).and_then(|bytes| manifest::parse(&bytes.unwrap_or_default()));
    let manifest = match parsed {
        Ok(Document::Manifest(manifest)) => manifest,
        Ok(Document::Index(_)) => return bad("manifest", "is an index".to_owned(), None),
        Err(e) => return bad("manifest", format!("cannot be read: {}", error::message(&e)), None),
    };
    let diffs = garbage::diffs_of(store, &entry.image);
    if diffs.len() != manifest.layers.len() {
        return bad("configuration", "does not fit its manifest: they differ in their layers".to_owned(), None);
    }
    let folders = parents::name(&diffs).filter(|_| entry.parents);
    if folders.is_some_and(|name| !store.layers().join(name).is_dir()) {
        bad("layer", "of left out folders is missing".to_owned(), None);
    }
    for (diff, layer) in diffs.into_iter().zip(&manifest.layers) {
        match blobs.problem(&layer.digest) {
            None => {}
            // Dropped to save space (`image prune --blobs`), or never there: it can be had again.
            Some(problem) if is_remote && problem == MISSING => {}
            Some(problem) => {
                bad("layer's blob", format!("{} {problem}", layer.digest.short()), Some(layer));
            }
        }
        let source = || Source { blob: layer.clone(), image: entry.image.clone(), is_remote };
        let known = sources.entry(diff).or_insert_with(source);
        if is_remote && !known.is_remote {
            *known = source();
        }
    }
}

const MISSING: &str = "is missing";

/// What a registry can mend: this one blob is fetched again.
fn fetchable(object: &str, problem: String, image: &Digest, blob: &Descriptor) -> Finding {
    let (image, blob) = (image.clone(), blob.clone());
    Finding::repairable(object, problem, "fetch it again", move |store| {
        refetch::blob(store, &Index::read(store)?, &image, &blob).map(drop)
    })
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
            Err(e) if e.kind() == io::ErrorKind::NotFound => Some(MISSING.to_owned()),
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
    let Ok((blobs, layers)) = garbage::unneeded(store) else { return };
    if blobs.is_empty() && layers.is_empty() {
        return;
    }
    let paths = blobs.iter().chain(&layers);
    let bytes: u64 = paths.map(size).sum();
    let problem = format!("{} blobs and {} layers, {bytes} bytes, that nothing needs", blobs.len(), layers.len());
    found.push(Finding::repairable("images", problem, "remove them", |store| {
        garbage::collect(store).map(drop).context("remove what nothing needs")
    }));
}

fn size(path: &PathBuf) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => crate::container::size::tree(path),
        Ok(meta) => meta.size(),
        Err(_) => 0,
    }
}
