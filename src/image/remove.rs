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

use crate::container::config::{ContainerConfig, RootFs};
use crate::container::state;
use crate::error::Failure;
use crate::image::blobs::{self, Temporary};
use crate::image::digest::{Digest, chain_id, is_hex};
use crate::image::index::{Entry, Index};
use crate::image::manifest::{self, Document};
use crate::image::reference::Reference;
use crate::image::{lookup, mapped, no_such_image, note, parents};
use crate::store::{Id, Lock, Store, names, record};

/// What was done, in Docker's lines: `Untagged: …`, `Deleted: …`.
pub type Report = Vec<String>;

/// Removes a name of an image, and the image with its last name.
///
/// # Errors
/// `No such image`, or a container needs it; Docker's wording.
pub fn remove(store: &Store, wanted: &str, force: bool) -> Result<Report> {
    let mut users = None;
    let mut of = None;
    let (mut report, gone) = Index::change(store, |index| {
        let entry = lookup(index, wanted)?.cloned().ok_or_else(|| no_such_image(wanted))?;
        of = Some(entry.image.clone());
        let users = users.insert(Users::of(store, &entry.image)?);
        take_out(index, &entry, wanted, users, force)
    })?;
    for image in report.iter().filter(|line| line.starts_with("Untagged: ")).filter_map(|_| of.as_ref()) {
        note(store, image, "untag", None);
    }
    if let Some(image) = gone {
        note(store, &image, "delete", None);
        report.push(format!("Deleted: {image}"));
        // The configuration is a blob too, and needed to tell what the layers were.
        let diffs = diffs_of(store, &image);
        let removed = collect(store)?;
        report.extend(chains(&diffs, &removed));
    }
    Ok(report)
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
/// Returns the lines, and the image if the index has it no longer.
fn take_out(
    index: &mut Index,
    entry: &Entry,
    wanted: &str,
    users: &Users,
    force: bool,
) -> Result<(Report, Option<Digest>)> {
    let image = &entry.image;
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
    } else {
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
        let name = entry.name.clone();
        for entry in named.iter().filter(|e| e.name == name) {
            untag(index, entry, &mut report);
        }
        if !of_image(index).is_empty() {
            return Ok((report, None));
        }
        // A running container keeps the image, without a name.
        if in_use(image, users, force).is_err() {
            return Ok((report, None));
        }
    }
    index.entries.retain(|e| e.image != *image);
    Ok((report, Some(image.clone())))
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

pub(crate) fn diffs_of(store: &Store, image: &Digest) -> Vec<Digest> {
    let config = blobs::read(store, image).ok().flatten();
    let config = config.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    config.and_then(|config| manifest::diff_ids(&config).ok()).unwrap_or_default()
}

/// What the images and the containers need: names of blobs and of layers.
#[derive(Default)]
struct Needed {
    blobs: HashSet<String>,
    layers: HashSet<String>,
}

impl Needed {
    fn now(store: &Store, index: &Index) -> Result<Self> {
        let mut needed = Self::default();
        for entry in &index.entries {
            needed.blobs.insert(entry.image.hex().to_owned());
            if !needed.manifest(store, &entry.manifest.digest)? {
                let why = format!("image {:?} is damaged: its manifest is missing", entry.image.short());
                return Err(Failure::new(why).into());
            }
            let diffs = diffs_of(store, &entry.image);
            needed.layers.extend(parents::name(&diffs));
            needed.layers.extend(diffs.iter().map(|diff| diff.hex().to_owned()));
        }
        for list in &index.lists {
            needed.blobs.insert(list.descriptor.digest.hex().to_owned());
            // Of most of what an index leads to nothing is here.
            let Some(bytes) = blobs::read(store, &list.descriptor.digest)? else { continue };
            if let Document::Index(entries) = manifest::parse(&bytes)? {
                for entry in entries {
                    needed.manifest(store, &entry.digest)?;
                }
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
    let blobs = entries(&blobs::dir(store))?.into_iter().filter(|name| is_hex(name) && !needed.blobs.contains(name));
    let blobs = blobs.map(|name| blobs::dir(store).join(name)).filter(is_free).collect();
    let is_layer = |name: &String| is_hex(name.strip_suffix("-parents").unwrap_or(name));
    let layers = entries(&store.layers())?.into_iter().filter(|name| is_layer(name) && !needed.layers.contains(name));
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
pub fn collect_of(store: &Store, names: &HashSet<String>) -> Result<HashSet<String>> {
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
            let is_free = is_hex(&name) && !needed.blobs.contains(&name) && is_asked(&name);
            if is_free && Lock::try_exclusive(&path).is_ok_and(|l| l.is_some()) {
                let _ = std::fs::remove_file(&path);
            }
        }
        for name in entries(&store.layers())? {
            let path = store.layers().join(&name);
            // A copy for other ids goes with what it is a copy of.
            let of = mapped::original(&name).unwrap_or(&name);
            let layer = of.strip_suffix("-parents").unwrap_or(of);
            if !is_hex(layer) || !is_asked(layer) || needed.layers.contains(&name) || needed.layers.contains(of) {
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
