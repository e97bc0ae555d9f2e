//! `rmi`, and the garbage that it leaves: blobs and layers that nothing refers to any more.
//!
//! The order closes the races. First the index loses the image, under its lock. Then, the lock still
//! held, all that remains is looked through for what it needs: the other images, and the containers'
//! records. A `create` that wrote its record before that look is seen; one that writes it later finds
//! the image gone from the index ([`super::Image::is_there`]) and takes its record back. A pull that
//! is at work holds what it needs by shared locks, and what is locked stays.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oci_spec::image::ImageConfiguration;

use crate::container::config::{ContainerConfig, RootFs};
use crate::container::state;
use crate::error::Failure;
use crate::image::blobs::{self, Temporary};
use crate::image::digest::{Digest, chain_id, is_hex};
use crate::image::index::{Entry, Index};
use crate::image::manifest::{self, Document};
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::image::{additional, entry_for, layers, lookup, mapped, no_such_image, note, parents};
use crate::store::{Id, Lock, Store, names, record};

/// What was done, in Docker's lines: `Untagged: …`, `Deleted: …`.
pub type Report = Vec<String>;

/// Removes a name of an image, and the image with its last name. `platforms`: only those images of a name
/// that is for several; empty: all of them.
///
/// # Errors
/// `No such image`, or a container needs it; Docker's wording.
pub fn remove(store: &Store, wanted: &str, platforms: &[Platform], force: bool) -> Result<Report> {
    let mut untagged = None;
    let (mut report, gone) = Index::change(store, |index| {
        let listed = wanted.parse::<Reference>().ok().map(|name| name.stored().to_string());
        if let Some(list) = listed.as_deref().and_then(|name| index.list(name)).filter(|list| list.is_made).cloned() {
            index.untag(&list.name);
            let name = list.name.parse::<Reference>()?.familiar();
            return Ok((vec![format!("Untagged: {name}"), format!("Deleted: {}", list.descriptor.digest)], Vec::new()));
        }
        if !platforms.is_empty() {
            return platforms_of(store, index, wanted, platforms, force);
        }
        let entry = lookup(index, wanted)?.cloned().ok_or_else(|| read_only_or_absent(store, wanted))?;
        untagged = Some(entry.image.clone());
        take_out(store, index, &entry, wanted, force)
    })?;
    for image in report.iter().filter(|line| line.starts_with("Untagged: ")).filter_map(|_| untagged.as_ref()) {
        note(store, image, "untag", None);
    }
    // The configurations are blobs too, and needed to tell what the layers were.
    let diffs: Vec<Vec<Digest>> = gone.iter().map(|image| diffs_of(store, image)).collect();
    for image in &gone {
        note(store, image, "delete", None);
    }
    // A list that was made here leaves blobs too.
    let mut removed = if gone.is_empty() && report.len() < 2 { HashSet::new() } else { collect(store)? };
    for (image, diffs) in gone.iter().zip(diffs) {
        report.push(format!("Deleted: {image}"));
        report.extend(chains(&diffs, &removed));
        // A layer of two of them went once.
        for diff in diffs {
            removed.remove(diff.hex());
        }
    }
    Ok(report)
}

fn read_only_or_absent(store: &Store, wanted: &str) -> Failure {
    match additional::holder(store, wanted) {
        Some(dir) => Failure::new(format!("image {wanted:?} is in the read-only store {dir:?} and cannot be removed")),
        None => no_such_image(wanted),
    }
}

/// `--platform`: the images of these platforms lose the name, and go unless they have another.
fn platforms_of(
    store: &Store,
    index: &mut Index,
    wanted: &str,
    platforms: &[Platform],
    force: bool,
) -> Result<(Report, Vec<Digest>)> {
    let mut gone = Vec::new();
    for platform in platforms {
        let entry = entry_for(store, index, wanted, Some(platform))?.cloned().ok_or_else(|| no_such_image(wanted))?;
        let users = Users::of(store, &entry.image)?;
        in_use(&entry.image, &users, force)?;
        index.entries.retain(|other| other.image != entry.image || other.name != entry.name);
        if !index.entries.iter().any(|other| other.image == entry.image) {
            gone.push(entry.image.clone());
        }
        if let Some(name) = entry.name.as_deref().filter(|name| index.named(name).next().is_none()) {
            index.untag(name);
        }
    }
    Ok((Report::new(), gone))
}

/// A line for each layer of an image that went, the topmost first.
pub(super) fn chains(diffs: &[Digest], removed: &HashSet<String>) -> Vec<String> {
    (1..=diffs.len())
        .rev()
        .filter(|n| removed.contains(diffs[n - 1].hex()))
        .filter_map(|n| Some(format!("Deleted: {}", chain_id(&diffs[..n])?)))
        .collect()
}

/// Containers of an image.
#[derive(Default)]
struct Users {
    running: Option<Id>,
    stopped: Option<Id>,
}

impl Users {
    fn of(store: &Store, image: &Digest) -> Result<Self> {
        let mut users = Self::default();
        for (id, root) in containers(store)? {
            if matches!(&root, RootFs::Image { id, .. } if id == image.as_str()) {
                let slot = if state::is_alive(store, &id) { &mut users.running } else { &mut users.stopped };
                slot.get_or_insert(id);
            }
        }
        Ok(users)
    }

    fn any(&self) -> Option<&Id> {
        self.running.as_ref().or(self.stopped.as_ref())
    }
}

/// Docker's rules (moby, `daemon/images/image_delete.go`, its documented conflicts): by name, the
/// name goes, and the image with its last one; by id, all names go if they are of one repository.
/// Returns the lines, and the images that the index has no longer.
fn take_out(
    store: &Store,
    index: &mut Index,
    entry: &Entry,
    wanted: &str,
    force: bool,
) -> Result<(Report, Vec<Digest>)> {
    let image = &entry.image;
    let users = &Users::of(store, image)?;
    let of_image = |index: &Index| -> Vec<Entry> {
        index.entries.iter().filter(|e| e.image == *image && e.name.is_some()).cloned().collect()
    };
    let named = of_image(index);
    let by_id = is_id_of(wanted, image);
    let mut report = Vec::new();

    if by_id {
        let repositories: HashSet<String> =
            named.iter().filter_map(|e| Some(e.name.as_ref()?.parse::<Reference>().ok()?.repository())).collect();
        if repositories.len() > 1 && !force {
            return Err(conflict(image, "must be forced", "image is referenced in multiple repositories"));
        }
        in_use(image, users, force)?;
        for entry in &named {
            untag(index, entry, &mut report);
        }
        index.entries.retain(|e| e.image != *image);
        return Ok((report, vec![image.clone()]));
    }
    if let (1, false, Some(user)) = (named.len(), force, users.any()) {
        let why = format!(
            "conflict: unable to remove repository reference \"{wanted}\" (must force) - container {} is using its \
             referenced image {}",
            user.short(),
            image.short()
        );
        return Err(Failure::new(why)
            .hint("remove the container first, or take the name away with: ctr rmi -f")
            .into());
    }
    // Those for other platforms lose the name with it.
    let mut images: Vec<Digest> = vec![image.clone()];
    if let Some(name) = &entry.name {
        images.extend(index.named(name).map(|e| e.image.clone()).filter(|other| other != image));
        untag(index, entry, &mut report);
    }
    images.dedup();
    let mut gone = Vec::new();
    for image in images {
        let has_name = index.entries.iter().any(|e| e.image == image && e.name.is_some());
        // A running container keeps the image, without a name.
        if !has_name && in_use(&image, &Users::of(store, &image)?, force).is_ok() {
            index.entries.retain(|e| e.image != image);
            gone.push(image);
        }
    }
    Ok((report, gone))
}

pub(super) fn untag(index: &mut Index, entry: &Entry, report: &mut Report) {
    let Some(name) = &entry.name else { return };
    index.untag(name);
    if let Ok(reference) = name.parse::<Reference>() {
        report.push(format!("Untagged: {}", reference.familiar()));
        if let Some(digest) = entry.repo_digest.clone().filter(|_| reference.digest().is_none()) {
            report.push(format!("Untagged: {}", reference.with_digest(digest).familiar()));
        }
    }
}

/// Whether what was written is the image's id rather than a name.
pub(super) fn is_id_of(wanted: &str, image: &Digest) -> bool {
    let hex = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    is_hex(hex) && image.hex().starts_with(hex)
}

fn in_use(image: &Digest, users: &Users, force: bool) -> Result<()> {
    if let Some(id) = &users.running {
        let why = format!("image is being used by running container {}", id.short());
        return Err(conflict(image, "cannot be forced", &why));
    }
    match &users.stopped {
        Some(id) if !force => {
            let why = format!("image is being used by stopped container {}", id.short());
            Err(conflict(image, "must be forced", &why))
        }
        _ => Ok(()),
    }
}

fn conflict(image: &Digest, how: &str, why: &str) -> anyhow::Error {
    Failure::new(format!("conflict: unable to delete {} ({how}) - {why}", image.short())).into()
}

/// The root of every container that has a record.
pub(super) fn containers(store: &Store) -> Result<Vec<(Id, RootFs)>> {
    let mut all = Vec::new();
    for id in names::ids(store)? {
        let path = store.container(&id).join("config.json");
        if let Some(config) = record::read::<ContainerConfig>(&path)? {
            all.push((id, config.root));
        }
    }
    Ok(all)
}

/// The layers of an image that is not damaged.
pub(crate) fn diffs_of(store: &Store, image: &Digest) -> Vec<Digest> {
    config_of(store, image).and_then(|config| manifest::diff_ids(&config).ok()).unwrap_or_default()
}

/// The configuration of an image that is not damaged. Its digest is not computed: whoever could write
/// there could write the index too.
fn config_of(store: &Store, image: &Digest) -> Option<ImageConfiguration> {
    serde_json::from_slice(&blobs::read(store, image).ok().flatten()?).ok()
}

/// What the images and the containers need: names of blobs and of layers.
#[derive(Default)]
struct Needed {
    blobs: HashSet<String>,
    layers: HashSet<String>,
    /// What a damaged image needs cannot be told: then no blob, or no layer, is garbage.
    all_blobs: bool,
    all_layers: bool,
}

impl Needed {
    fn now(store: &Store, index: &Index) -> Result<Self> {
        let mut needed = Self::default();
        for entry in &index.entries {
            needed.blobs.insert(entry.image.hex().to_owned());
            needed.all_blobs |= !needed.manifest(store, &entry.manifest.digest).is_ok_and(|is_there| is_there);
            match config_of(store, &entry.image).and_then(|config| manifest::diff_ids(&config).ok()) {
                Some(diffs) => {
                    needed.layers.extend(parents::name(&diffs));
                    needed.layers.extend(diffs.iter().map(|diff| diff.hex().to_owned()));
                    needed.stand_ins(store, &entry.manifest.digest, &diffs);
                }
                None => needed.all_layers = true,
            }
        }
        for list in &index.lists {
            needed.blobs.insert(list.descriptor.digest.hex().to_owned());
            let document = blobs::read(store, &list.descriptor.digest).ok().flatten();
            match document.map(|bytes| manifest::parse(&bytes)) {
                // Of most of what an index leads to nothing is here.
                Some(Ok(Document::Index(entries))) => {
                    for entry in entries {
                        needed.all_blobs |= needed.manifest(store, &entry.digest).is_err();
                    }
                }
                _ => needed.all_blobs = true,
            }
        }
        for (_, root) in containers(store)? {
            if let RootFs::Image { layers, .. } = root {
                needed.layers.extend(layers);
            }
        }
        Ok(needed)
    }
}

impl Needed {
    fn has_blob(&self, name: &str) -> bool {
        self.all_blobs || self.blobs.contains(name)
    }

    fn has_layer(&self, name: &str) -> bool {
        self.all_layers || self.layers.contains(name)
    }

    /// What layers were unpacked from whose blobs are not here: the only archives of them.
    fn stand_ins(&mut self, store: &Store, manifest: &Digest, diffs: &[Digest]) {
        let bytes = blobs::read(store, manifest).ok().flatten().unwrap_or_default();
        let Ok(Document::Manifest(manifest)) = manifest::parse(&bytes) else { return };
        for (layer, diff) in manifest.layers.iter().zip(diffs) {
            if !blobs::path(store, &layer.digest).exists() {
                let blob = layers::find(store, diff).ok().flatten().and_then(|record| record.blob);
                self.blobs.extend(blob.map(|blob| blob.hex().to_owned()));
            }
        }
    }

    /// A manifest and the blobs that it leads to; false: it is not here.
    fn manifest(&mut self, store: &Store, digest: &Digest) -> Result<bool> {
        let Some(bytes) = blobs::read(store, digest)? else { return Ok(false) };
        self.blobs.insert(digest.hex().to_owned());
        if let Document::Manifest(manifest) = manifest::parse(&bytes)? {
            let all = manifest.layers.iter().chain([&manifest.config]);
            self.blobs.extend(all.map(|blob| blob.digest.hex().to_owned()));
        }
        Ok(true)
    }
}

/// Paths of the blobs and of the layers that nothing needs, and nobody is at work on.
///
/// # Errors
/// What is needed cannot be told.
pub fn unneeded(store: &Store) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let layout = store.image_layout();
    let _lock = Lock::shared(&layout).with_context(|| format!("lock {layout:?}"))?;
    let needed = Needed::now(store, &Index::read(store)?)?;
    let is_free = |path: &PathBuf| Lock::try_exclusive(path).is_ok_and(|lock| lock.is_some());
    let blobs = entries(&blobs::dir(store))?.into_iter().filter(|name| is_hex(name) && !needed.has_blob(name));
    let blobs = blobs.map(|name| blobs::dir(store).join(name)).filter(is_free).collect();
    let is_layer = |name: &String| is_hex(name.strip_suffix("-parents").unwrap_or(name));
    let layers = entries(&store.layers())?.into_iter().filter(|name| is_layer(name) && !needed.has_layer(name));
    let layers = layers.map(|name| store.layers().join(name)).filter(is_free).collect();
    Ok((blobs, layers))
}

/// Removes blobs and layers that nothing needs; returns the names of the layers.
///
/// # Errors
/// What is needed cannot be told: then nothing is removed.
pub fn collect(store: &Store) -> Result<HashSet<String>> {
    collect_if(store, |_| true)
}

/// [`collect`] for blobs and layers of these names alone.
///
/// # Errors
/// As [`collect`].
pub(super) fn collect_of(store: &Store, names: &HashSet<String>) -> Result<HashSet<String>> {
    collect_if(store, |name| names.contains(name))
}

fn collect_if(store: &Store, is_asked: impl Fn(&str) -> bool) -> Result<HashSet<String>> {
    let layout = store.image_layout();
    let mut removed = HashSet::new();
    // Renamed out of the way under the lock, removed after it: a tree takes its time.
    let mut doomed = Vec::new();
    {
        let _lock = Lock::exclusive(&layout).with_context(|| format!("lock {layout:?}"))?;
        let needed = Needed::now(store, &Index::read(store)?)?;
        for name in entries(&blobs::dir(store))? {
            let path = blobs::dir(store).join(&name);
            let is_free = is_hex(&name) && !needed.has_blob(&name) && is_asked(&name);
            if is_free && Lock::try_exclusive(&path).is_ok_and(|l| l.is_some()) {
                let _ = std::fs::remove_file(&path);
            }
        }
        for name in entries(&store.layers())? {
            let path = store.layers().join(&name);
            if let Some(layer) = name.strip_suffix(".json").filter(|layer| is_hex(layer) && is_asked(layer)) {
                // The record of a layer whose folder was lost, unless somebody makes that layer anew.
                let is_there = |name: &str| store.layers().join(name).exists();
                if !needed.has_layer(layer) && !is_there(layer) && !is_there(&format!("{layer}.lock")) {
                    let _ = std::fs::remove_file(&path);
                }
                continue;
            }
            // A copy for other ids goes with what it is a copy of.
            let of = mapped::original(&name).unwrap_or(&name);
            let layer = of.strip_suffix("-parents").unwrap_or(of);
            if !is_hex(layer) || !is_asked(layer) || needed.has_layer(&name) || needed.has_layer(of) {
                continue;
            }
            // Held until it has lost its name.
            if let Ok(Some(_unused)) = Lock::try_exclusive(&path) {
                let gone = Temporary::in_dir(&store.layers());
                std::fs::rename(&path, gone.path()).with_context(|| format!("remove {path:?}"))?;
                let _ = std::fs::remove_file(path.with_extension("json"));
                doomed.push(gone);
                removed.insert(name);
            }
        }
    }
    drop(doomed);
    Ok(removed)
}

fn entries(dir: &Path) -> Result<Vec<String>> {
    match std::fs::read_dir(dir) {
        Ok(entries) => Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e).with_context(|| format!("read {dir:?}")),
    }
}
