//! `save`: images of the store as one archive, blobs as they were pulled or made, nothing packed anew.
//! Where a layer's blob is not here and cannot be had, another archive of the layer stands in its place.
//!
//! The documents stand in front, so that who reads the archive as it comes knows what the blobs are.
//! The same images give the same bytes: times are zero, and every blob is there once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Write};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::members::blob_name;
use super::{CONTAINERD_NAME, Listed};
use crate::error;
use crate::image::blobs::Checked;
use crate::image::digest::Digest;
use crate::image::index::{Descriptor, Entry, Index, List, REF_NAME};
use crate::image::manifest::{self, Document};
use crate::image::pack::tar::Writer;
use crate::image::platform::Platform;
use crate::image::push::image::Image;
use crate::image::reference::Reference;
use crate::image::unpack::tar::{Entry as Member, Kind};
use crate::image::{additional, alike, blobs, entry_for, no_such_image, note, refetch};
use crate::store::{Lock, Store};

/// What readers the archive is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Docker's of today: an image layout that `manifest.json` describes once more.
    #[default]
    Docker,
    /// The image layout alone; names stand in it in full, as podman writes them.
    Oci,
}

/// An image to be saved, by some of its names.
#[derive(Debug)]
struct Saved {
    /// The own store, or an additional one.
    home: Store,
    entry: Entry,
    names: BTreeSet<Reference>,
    /// What the names lead to, where that is an index.
    list: Option<List>,
}

/// Images that are ready to be written: every blob is there, and stays.
pub struct Archive {
    format: Format,
    images: Vec<Saved>,
    /// What each of the images is made of.
    listed: Vec<Contents>,
    /// In the order that they are written in, and where each is.
    blobs: Vec<(Digest, Source)>,
    /// What stands in for layers' blobs that are not here, by their digests.
    alike: HashMap<Digest, Descriptor>,
    /// Why what is written has another digest than what was pulled.
    pub warning: Option<String>,
    held: Vec<Lock>,
}

/// What a blob is read from.
enum Source {
    Store(Store),
    Document(Vec<u8>),
}

struct Contents {
    /// As it is written.
    manifest: Descriptor,
    layers: Vec<Descriptor>,
    diffs: Vec<Digest>,
}

/// Looks for the images. A repository without a tag means all its tags, as with Docker. Compressed layers
/// that were dropped to save space come back from where the image came from.
///
/// # Errors
/// There is no such image; it is for another platform; a blob is missing.
pub fn gather(store: &Store, wanted: &[String], platform: Option<&Platform>, format: Format) -> Result<Archive> {
    let index = Index::read(store)?;
    let mut images: Vec<Saved> = Vec::new();
    for wanted in wanted {
        if select(store, &index, wanted, platform, &mut images)? {
            continue;
        }
        let elsewhere = additional::find(store, wanted, platform)?.ok_or_else(|| no_such_image(wanted))?.home;
        select(&elsewhere, &Index::read(&elsewhere)?, wanted, platform, &mut images)?;
    }
    let mut archive = Archive {
        format,
        images: Vec::new(),
        listed: Vec::new(),
        blobs: Vec::new(),
        alike: HashMap::new(),
        warning: None,
        held: Vec::new(),
    };
    for mut image in images {
        let home = &image.home;
        let its = if home.root() == store.root() { index.clone() } else { Index::read(home)? };
        let contents = archive.manifest(home, &its, &image.entry)?;
        if let Some(list) = &mut image.list {
            archive.list(home, &its, list)?;
        }
        image.entry.manifest = contents.manifest.clone();
        archive.listed.push(contents);
        archive.images.push(image);
    }
    Ok(archive)
}

/// False: there is no such image in this store.
fn select(
    store: &Store,
    index: &Index,
    wanted: &str,
    platform: Option<&Platform>,
    images: &mut Vec<Saved>,
) -> Result<bool> {
    let add = |entry: &Entry, name: Option<Reference>, images: &mut Vec<Saved>| {
        let list = name.as_ref().filter(|_| platform.is_none()).and_then(|name| index.list(&name.to_string())).cloned();
        let same = |saved: &&mut Saved| {
            let digest = |list: &Option<List>| list.as_ref().map(|list| list.descriptor.digest.clone());
            saved.entry.image == entry.image && digest(&saved.list) == digest(&list)
        };
        match images.iter_mut().find(same) {
            Some(saved) => saved.names.extend(name),
            None => images.push(Saved {
                home: store.clone(),
                entry: entry.clone(),
                names: name.into_iter().collect(),
                list,
            }),
        }
    };
    let reference = wanted.parse::<Reference>().ok();
    let repository = reference.as_ref().filter(|name| name.tag().is_none() && name.digest().is_none());
    let mut seen = BTreeSet::new();
    let tagged = repository.into_iter().flat_map(|repository| {
        let repository = repository.repository();
        let names = index.entries.iter().filter_map(|entry| entry.name.as_deref()?.parse::<Reference>().ok());
        names.filter(move |name| name.tag().is_some() && name.repository() == repository)
    });
    for name in tagged {
        if seen.insert(name.clone())
            && let Some(entry) = entry_for(store, index, &name.to_string(), platform)?
        {
            add(entry, Some(name), images);
        }
    }
    if !seen.is_empty() {
        return Ok(true);
    }
    let Some(entry) = entry_for(store, index, wanted, platform)? else { return Ok(false) };
    // An id or a digest names the image and none of its tags.
    let own = entry.name.as_deref().and_then(|name| name.parse::<Reference>().ok());
    let by_name =
        reference.is_some_and(|name| name.tag().is_some() && name.digest().is_none() && Some(name.stored()) == own);
    add(entry, own.filter(|_| by_name), images);
    Ok(true)
}

impl Archive {
    /// Takes in what a manifest leads to.
    fn manifest(&mut self, store: &Store, index: &Index, entry: &Entry) -> Result<Contents> {
        let short = entry.image.short();
        let damaged = || format!("image {short:?} is damaged");
        fetch(store, index, &entry.image, &entry.manifest)?;
        let bytes = blobs::read(store, &entry.manifest.digest)?.unwrap_or_default();
        let Document::Manifest(manifest) = manifest::parse(&bytes).with_context(damaged)? else {
            anyhow::bail!("{}: its manifest is an index", damaged());
        };
        fetch(store, index, &entry.image, &manifest.config)?;
        let config = blobs::read(store, &manifest.config.digest)?.unwrap_or_default();
        let (_, diffs) = manifest::parse_config(&config, manifest.layers.len()).with_context(damaged)?;
        let mut layers = Vec::new();
        for (layer, diff) in manifest.layers.iter().zip(&diffs) {
            layers.push(self.layer(store, index, &entry.image, layer, diff)?);
        }
        self.add(store, &manifest.config.digest)?;
        let is_same = manifest.layers.iter().zip(&layers).all(|(old, new)| old.digest == new.digest);
        if is_same {
            self.add(store, &entry.manifest.digest)?;
            return Ok(Contents { manifest: entry.manifest.clone(), layers: manifest.layers, diffs });
        }
        let (bytes, media_type) = Image::read(store, &entry.manifest.digest)?.manifest_with(&layers)?;
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        if !self.blobs.iter().any(|(known, _)| *known == digest) {
            self.blobs.push((digest.clone(), Source::Document(bytes)));
        }
        let manifest = Descriptor { media_type, digest, size, ..entry.manifest.clone() };
        Ok(Contents { manifest, layers, diffs })
    }

    /// Takes in a layer's blob, or another archive of the layer where that is not here and cannot be had.
    fn layer(
        &mut self,
        store: &Store,
        index: &Index,
        image: &Digest,
        layer: &Descriptor,
        diff: &Digest,
    ) -> Result<Descriptor> {
        if let Some(known) = self.alike.get(&layer.digest) {
            return Ok(known.clone());
        }
        let Err(lost) = fetch(store, index, image, layer) else {
            self.add(store, &layer.digest)?;
            return Ok(layer.clone());
        };
        let Some(other) = alike::find(store, diff, &layer.digest)? else { return Err(lost) };
        if other.descriptor.digest != layer.digest {
            self.warning.get_or_insert_with(|| {
                let why = error::message(&lost);
                format!("the digest is not the one that was pulled, because a layer is in another compression: {why}")
            });
        }
        self.add(&other.home, &other.descriptor.digest)?;
        self.alike.insert(layer.digest.clone(), other.descriptor.clone());
        Ok(other.descriptor)
    }

    /// Takes in all of an index that is here: most have no one's need for every platform.
    fn list(&mut self, store: &Store, index: &Index, list: &mut List) -> Result<()> {
        let bytes = blobs::read(store, &list.descriptor.digest)?.unwrap_or_default();
        let Document::Index(entries) = manifest::parse(&bytes).with_context(|| format!("{} is damaged", list.name))?
        else {
            anyhow::bail!("{} is damaged: it is no index", list.name);
        };
        let mut changed = BTreeMap::new();
        for descriptor in entries {
            if let Some(entry) = index.entries.iter().find(|entry| entry.manifest.digest == descriptor.digest) {
                let contents = self.manifest(store, index, entry)?;
                if contents.manifest.digest != descriptor.digest {
                    changed.insert(descriptor.digest, contents.manifest);
                }
            } else if let Some(bytes) = blobs::read(store, &descriptor.digest)? {
                let Ok(Document::Manifest(manifest)) = manifest::parse(&bytes) else { continue };
                let all: Vec<&Digest> = manifest.layers.iter().chain([&manifest.config]).map(|b| &b.digest).collect();
                if all.iter().all(|digest| blobs::path(store, digest).exists()) {
                    self.add(store, &descriptor.digest)?;
                    all.into_iter().try_for_each(|digest| self.add(store, digest))?;
                }
            }
        }
        if changed.is_empty() {
            return self.add(store, &list.descriptor.digest);
        }
        let bytes = manifest::index_with(&bytes, &changed)?;
        (list.descriptor.digest, list.descriptor.size) = (Digest::of(&bytes), bytes.len() as u64);
        self.blobs.push((list.descriptor.digest.clone(), Source::Document(bytes)));
        Ok(())
    }

    fn add(&mut self, store: &Store, digest: &Digest) -> Result<()> {
        if self.blobs.iter().any(|(known, _)| known == digest) {
            return Ok(());
        }
        let lock = blobs::pin(store, digest)?.with_context(|| format!("blob {:?} is missing", digest.short()))?;
        self.held.push(lock);
        self.blobs.push((digest.clone(), Source::Store(store.clone())));
        Ok(())
    }

    /// Writes the archive. Each image's saving is an event.
    ///
    /// # Errors
    /// As write(2); a blob is not what it is called.
    pub fn write(&self, store: &Store, out: File) -> Result<()> {
        let mut out = Writer::new(out);
        let mut put = |name: &str, bytes: &[u8]| document(&mut out, name, bytes);
        put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        put("index.json", self.index().to_string().as_bytes())?;
        if self.format == Format::Docker {
            put("manifest.json", &serde_json::to_vec(&self.manifest_json())?)?;
            let repositories = self.repositories();
            if !repositories.is_empty() {
                put("repositories", &serde_json::to_vec(&repositories)?)?;
            }
        }
        for folder in ["blobs/", "blobs/sha256/"] {
            out.add(&member(Kind::Directory, folder, 0), None).context("write the archive")?;
        }
        for (digest, source) in &self.blobs {
            let mut put = |size, data: &mut dyn Read| {
                out.add_from(&member(Kind::File, &blob_name(digest), size), data).context("write the archive")
            };
            match source {
                Source::Document(bytes) => put(bytes.len() as u64, &mut bytes.as_slice())?,
                Source::Store(home) => {
                    let blob = Checked::open(home, digest);
                    let mut blob = blob.with_context(|| format!("read blob {:?}", digest.short()))?;
                    put(blob.size(), &mut blob)?;
                }
            }
        }
        out.finish().context("write the archive")?;
        for image in &self.images {
            note(store, &image.entry.image, "save", None);
        }
        Ok(())
    }

    /// The layout's index: an entry for each name of an image, or one without.
    fn index(&self) -> Value {
        let mut entries = Vec::new();
        for image in &self.images {
            let top = image.list.as_ref().map_or(&image.entry.manifest, |list| &list.descriptor);
            let mut entry = json!({"mediaType": top.media_type, "digest": top.digest.as_str(), "size": top.size});
            if let (None, Some(platform)) = (&image.list, &top.platform) {
                entry["platform"] = json!(platform);
            }
            if image.names.is_empty() {
                entries.push(entry.clone());
            }
            for name in &image.names {
                let short = if self.format == Format::Docker { name.tag() } else { None };
                let short = short.map_or_else(|| name.to_string(), str::to_owned);
                entry["annotations"] = json!({CONTAINERD_NAME: name.to_string(), REF_NAME: short});
                entries.push(entry.clone());
            }
        }
        json!({"schemaVersion": 2, "mediaType": manifest::OCI_INDEX, "manifests": entries})
    }

    /// Docker's description of the same images.
    fn manifest_json(&self) -> Vec<Value> {
        let listed = |(image, contents): (&Saved, &Contents)| {
            let tags: Vec<String> = image.names.iter().map(Reference::familiar).collect();
            let listed = Listed {
                config: blob_name(&image.entry.image),
                repo_tags: (!tags.is_empty()).then_some(tags),
                layers: Some(contents.layers.iter().map(|layer| blob_name(&layer.digest)).collect()),
            };
            let sources: BTreeMap<&str, Value> = contents
                .diffs
                .iter()
                .zip(&contents.layers)
                .map(|(diff, layer)| {
                    let source =
                        json!({"mediaType": layer.media_type, "size": layer.size, "digest": layer.digest.as_str()});
                    (diff.as_str(), source)
                })
                .collect();
            let mut listed = json!(listed);
            listed["LayerSources"] = json!(sources);
            listed
        };
        self.images.iter().zip(&self.listed).map(listed).collect()
    }

    /// For readers of Docker's first format: each name, and the topmost layer.
    fn repositories(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (image, contents) in self.images.iter().zip(&self.listed) {
            let Some(top) = contents.layers.last() else { continue };
            for name in &image.names {
                let Some(tag) = name.tag() else { continue };
                let tags = all.entry(name.familiar_repository()).or_default();
                tags.insert(tag.to_owned(), top.digest.hex().to_owned());
            }
        }
        all
    }
}

/// Brings a blob back that is not here.
fn fetch(store: &Store, index: &Index, image: &Digest, blob: &Descriptor) -> Result<()> {
    if blobs::path(store, &blob.digest).exists() {
        return Ok(());
    }
    refetch::blob(store, index, image, blob).map(drop)
}

fn document(out: &mut Writer<File>, name: &str, bytes: &[u8]) -> Result<()> {
    let mut file =
        nix::sys::memfd::memfd_create(c"document", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).map(File::from)?;
    file.write_all(bytes)?;
    std::io::Seek::rewind(&mut file)?;
    out.add(&member(Kind::File, name, bytes.len() as u64), Some(&file)).context("write the archive")
}

fn member(kind: Kind, name: &str, size: u64) -> Member {
    let mut member = Member::new(kind, name.into());
    member.mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
    member.size = size;
    member
}
