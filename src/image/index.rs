//! `image/index.json`: the images of the store, an OCI image index whose entries are manifests. An
//! image with two names has two entries; one without a name has one that bears none.
//!
//! A name that leads to an image for several platforms has an entry that is an index in turn, and
//! behind it one for each of those platforms that are here, the one for this machine first. Another
//! tool that looks for the name meets the index.
//!
//! It is replaced as a whole under the image folder's lock and read without. Each entry carries in
//! annotations of our own what the hot paths would otherwise read from other files.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::image::digest::Digest;
use crate::image::manifest::{DOCKER_LIST, OCI_INDEX};
use crate::image::platform::Platform;
use crate::store::record::{self, Durability};
use crate::store::{Lock, Store};

/// The full reference, by the OCI image specification, annotations.md.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The digest of the configuration: what people know as the image's id.
const IMAGE_ID: &str = "ctr.image-id";
/// The digest that the registry knows the image by; of an index, where the name leads to one.
const REPO_DIGEST: &str = "ctr.repo-digest";
/// When the image was built, as its configuration says.
const CREATED: &str = "org.opencontainers.image.created";
/// Bytes of all its layers' files.
const SIZE: &str = "ctr.size";
/// How many layers, from the top, are seen; absent: all.
const DEPTH: &str = "ctr.depth";
/// Set when the layers' left out folders have a layer of their own (`parents`).
const PARENTS: &str = "ctr.parents";
/// Set when its manifest came from a registry, byte for byte.
const PULLED: &str = "ctr.pulled";
/// Set on an index that was made here.
const MADE: &str = "ctr.made";
/// Where the manifests of an index that was made here were found, as a JSON object.
const SOURCES: &str = "ctr.sources";

/// What an index and the entries of a manifest point with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// One image, by one of its names.
#[derive(Debug, Clone)]
pub struct Entry {
    pub manifest: Descriptor,
    /// Full reference; `None`: dangling.
    pub name: Option<String>,
    pub image: Digest,
    pub repo_digest: Option<Digest>,
    pub created: Option<String>,
    pub size: u64,
    pub depth: Option<usize>,
    pub parents: bool,
    /// Its manifest came from a registry: it goes to others as it is, whatever its layers are packed with.
    pub pulled: bool,
}

/// A name that leads to an index: images for several platforms.
#[derive(Debug, Clone)]
pub struct List {
    /// Full reference.
    pub name: String,
    /// Of the index, whose bytes are a blob.
    pub descriptor: Descriptor,
    /// Made here (`manifest create`): none of its images is here by this name.
    pub is_made: bool,
    /// By the manifest's digest: the repository that it was found in, of one that was made here.
    pub sources: BTreeMap<String, String>,
}

/// All images.
#[derive(Debug, Clone, Default)]
pub struct Index {
    pub entries: Vec<Entry>,
    pub lists: Vec<List>,
    /// Which file this was read from; a replaced index has another.
    stamp: Stamp,
}

/// What tells one index file from the next: it is always replaced, never changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp(u64, i64, i64, u64);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OnDisk {
    schema_version: u32,
    #[serde(default = "index_type")]
    media_type: String,
    manifests: Vec<Descriptor>,
}

fn index_type() -> String {
    "application/vnd.oci.image.index.v1+json".to_owned()
}

fn path(store: &Store) -> PathBuf {
    store.image_layout().join("index.json")
}

impl Stamp {
    /// That of the index as it is now.
    #[must_use]
    pub fn now(store: &Store) -> Self {
        std::fs::metadata(path(store)).map(|m| Self::of(&m)).unwrap_or_default()
    }

    fn of(meta: &std::fs::Metadata) -> Self {
        Self(meta.ino(), meta.ctime(), meta.ctime_nsec(), meta.size())
    }
}

impl Index {
    /// The images as they are now.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn read(store: &Store) -> Result<Self> {
        let path = path(store);
        let (bytes, stamp) = match std::fs::File::open(&path) {
            Ok(mut file) => {
                let mut bytes = Vec::new();
                let stamp = file.metadata().map(|m| Stamp::of(&m));
                let read = io::Read::read_to_end(&mut file, &mut bytes);
                read.and(stamp).map(|stamp| (bytes, stamp))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => Err(e),
        }
        .with_context(|| format!("read {path:?}"))?;
        let on_disk: OnDisk = serde_json::from_slice(&bytes)
            .map_err(|e| Failure::new("damaged image index").source(e))
            .with_context(|| format!("read {path:?}"))?;
        let (lists, entries): (Vec<_>, Vec<_>) = on_disk.manifests.into_iter().partition(is_index);
        let mut entries: Vec<Entry> = entries.into_iter().filter_map(Entry::from_descriptor).collect();
        drop_nameless(&mut entries);
        let lists = lists.into_iter().filter_map(List::from_descriptor).collect();
        Ok(Self { entries, lists, stamp })
    }

    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Changes the index: `change` gets it as it is, locked, and what it leaves is written.
    ///
    /// # Errors
    /// The index cannot be locked, read or written, and what `change` returns: nothing is written then.
    pub fn change<T>(store: &Store, change: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let layout = store.image_layout();
        let _lock = Lock::exclusive(&layout).with_context(|| format!("lock {layout:?}"))?;
        let mut index = Self::read(store)?;
        let outcome = change(&mut index)?;
        index.write(store)?;
        Ok(outcome)
    }

    fn write(self, store: &Store) -> Result<()> {
        let lists = self.lists.into_iter().map(List::into_descriptor);
        let manifests = lists.chain(self.entries.into_iter().map(Entry::into_descriptor)).collect();
        let text = serde_json::to_vec(&OnDisk { schema_version: 2, media_type: index_type(), manifests })?;
        let path = path(store);
        record::replace(&path, &text, Durability::Synced).with_context(|| format!("write {path:?}"))
    }

    /// Adds an entry; whoever had its name loses it. An image that loses its last name stays as a
    /// dangling one.
    pub fn add(&mut self, new: Entry) {
        if let Some(name) = new.name.clone() {
            self.untag(&name);
        }
        self.join(new);
    }

    /// Gives a name to an image for several platforms: `entries` are those that are here, the one for
    /// this machine first.
    pub fn add_list(&mut self, list: List, entries: Vec<Entry>) {
        self.untag(&list.name);
        for entry in entries {
            self.join(Entry { name: Some(list.name.clone()), ..entry });
        }
        self.lists.push(list);
    }

    /// Several manifests can lead to one image: that one is dangling while it has no name by any of them.
    fn join(&mut self, new: Entry) {
        self.entries.retain(|e| !(e.name.is_none() && e.image == new.image));
        if new.name.is_some() || !self.entries.iter().any(|e| e.image == new.image) {
            self.entries.push(new);
        }
    }

    /// Takes a name away; the images that had it are left, dangling when they have no other name.
    pub fn untag(&mut self, name: &str) {
        self.lists.retain(|list| list.name != name);
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.entries).into_iter().partition(|e| e.name.as_deref() == Some(name));
        self.entries = kept;
        for old in gone {
            if !self.entries.iter().any(|e| e.image == old.image) {
                self.entries.push(Entry { name: None, ..old });
            }
        }
    }

    /// The entries that bear a name: several where it is for several platforms.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |e| e.name.as_deref() == Some(name))
    }

    /// Whether a manifest is as a registry has it. Of what came before that was noted, its digest tells.
    #[must_use]
    pub fn is_pulled(&self, manifest: &Digest) -> bool {
        let mut same = self.entries.iter().filter(|entry| entry.manifest.digest == *manifest);
        same.any(|entry| entry.pulled || entry.repo_digest.as_ref() == Some(manifest))
    }

    /// The index that a name leads to.
    #[must_use]
    pub fn list(&self, name: &str) -> Option<&List> {
        self.lists.iter().find(|list| list.name == name)
    }
}

/// An image that has a name is not dangling too, though an older index may say so.
fn drop_nameless(entries: &mut Vec<Entry>) {
    if entries.iter().all(|entry| entry.name.is_some()) {
        return;
    }
    let named: HashSet<Digest> = entries.iter().filter(|e| e.name.is_some()).map(|e| e.image.clone()).collect();
    entries.retain(|entry| entry.name.is_some() || !named.contains(&entry.image));
}

fn is_index(descriptor: &Descriptor) -> bool {
    matches!(descriptor.media_type.as_str(), OCI_INDEX | DOCKER_LIST)
}

impl List {
    fn from_descriptor(mut descriptor: Descriptor) -> Option<Self> {
        let mut notes = descriptor.annotations.take().unwrap_or_default();
        let sources = notes.remove(SOURCES).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Some(Self { name: notes.remove(REF_NAME)?, is_made: notes.remove(MADE).is_some(), sources, descriptor })
    }

    fn into_descriptor(self) -> Descriptor {
        let sources = serde_json::to_string(&self.sources).ok().filter(|_| !self.sources.is_empty());
        let notes = [(REF_NAME, Some(self.name)), (MADE, self.is_made.then(|| "yes".to_owned())), (SOURCES, sources)];
        let notes = notes.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        Descriptor { annotations: Some(notes), ..self.descriptor }
    }
}

impl Entry {
    fn from_descriptor(mut manifest: Descriptor) -> Option<Self> {
        let mut notes = manifest.annotations.take().unwrap_or_default();
        Some(Self {
            name: notes.remove(REF_NAME),
            // An entry that another tool wrote is not an image that we could run.
            image: notes.remove(IMAGE_ID)?.parse().ok()?,
            repo_digest: notes.remove(REPO_DIGEST).and_then(|d| d.parse().ok()),
            created: notes.remove(CREATED),
            size: notes.remove(SIZE).and_then(|s| s.parse().ok()).unwrap_or(0),
            depth: notes.remove(DEPTH).and_then(|s| s.parse().ok()),
            parents: notes.remove(PARENTS).is_some(),
            pulled: notes.remove(PULLED).is_some(),
            manifest,
        })
    }

    fn into_descriptor(self) -> Descriptor {
        let notes = [
            (REF_NAME, self.name),
            (IMAGE_ID, Some(self.image.to_string())),
            (REPO_DIGEST, self.repo_digest.map(|d| d.to_string())),
            (CREATED, self.created),
            (SIZE, Some(self.size.to_string())),
            (DEPTH, self.depth.map(|d| d.to_string())),
            (PARENTS, self.parents.then(|| "yes".to_owned())),
            (PULLED, self.pulled.then(|| "yes".to_owned())),
        ];
        let notes = notes.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        Descriptor { annotations: Some(notes), ..self.manifest }
    }
}
