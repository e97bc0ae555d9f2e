//! `image mount`: an image's files at a place where programs can look at them, read-only.
//!
//! Root's mounts are on the machine until they are unmounted or it goes down. An ordinary user's are in the
//! namespace of `ctr unshare` and end with it. Which are there is asked of the kernel
//! (`/proc/self/mountinfo`), and nothing is on record. What is mounted keeps its layers: `remove` refuses, and
//! unmounts it first where it is forced.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount as mount_at, umount2};
use nix::unistd::{chdir, fchdir};

use crate::image::digest::{Digest, is_hex};
use crate::image::{Image, layers, no_such_image, note};
use crate::store::Store;
use crate::{sys, userns};

/// Where images are mounted.
fn dir(store: &Store) -> PathBuf {
    store.root().join("mounts")
}

/// Where an image is, or would be.
#[must_use]
pub fn place(store: &Store, id: &str) -> PathBuf {
    dir(store).join(id.trim_start_matches("sha256:"))
}

/// Mounts an image, unless it is; returns where.
///
/// # Errors
/// A layer is missing, or the kernel refuses; the image was removed meanwhile.
pub fn mount(store: &Store, image: &Image) -> Result<PathBuf> {
    let place = place(store, &image.id);
    let layers: Vec<PathBuf> = image.layers.iter().map(|layer| image.home.layers().join(layer)).collect();
    let source = source(&layers)?;
    match source_at(&place)? {
        Some(there) if there == source => return Ok(place),
        // Its layers were removed, and came back as others: nothing can be seen there any more.
        Some(_) => umount2(&place, MntFlags::MNT_DETACH).with_context(|| format!("unmount {place:?}"))?,
        None => {}
    }
    let empty = empty(store)?;
    fs::create_dir_all(&place).with_context(|| format!("make {place:?}"))?;
    overlay(&layers, &empty, &place, &source).with_context(|| format!("mount the image at {place:?}"))?;
    // Who removes an image looks at the mounts after it has left the index: one of the two sees the other.
    if !image.is_there()? {
        detach(store, image.id.trim_start_matches("sha256:"))?;
        return Err(no_such_image(&image.id).into());
    }
    note_of(store, &image.id, "mount");
    Ok(place)
}

/// What a mount of these layers is called in mountinfo: other layers in their place make another name.
fn source(layers: &[PathBuf]) -> Result<String> {
    let mut text = String::new();
    for layer in layers {
        let meta = fs::metadata(layer).with_context(|| format!("open layer {layer:?}"))?;
        // Numbers of files are given again, times of birth are not; a file system may have none.
        let _ = write!(text, "{}:{}:{:?} ", meta.dev(), meta.ino(), meta.created().ok());
    }
    Ok(format!("ctr-{}", &Digest::of(text.as_bytes()).hex()[..16]))
}

/// Layers (topmost first) as they look together, read-only, for this process alone, which is in a mount
/// namespace of its own.
///
/// # Errors
/// A layer is missing, or the kernel refuses.
pub fn view(store: &Store, layers: &[PathBuf]) -> Result<OwnedFd> {
    let place = layers::temporary(store)?;
    overlay(layers, &empty(store)?, place.path(), "overlay").context("mount the image")?;
    let tree = sys::mount::copy_tree(place.path(), false);
    umount2(place.path(), MntFlags::MNT_DETACH)?;
    Ok(tree?)
}

/// A folder with nothing in it; it stays, since overlayfs reads it for as long as it is mounted.
fn empty(store: &Store) -> Result<PathBuf> {
    let empty = dir(store).join("empty");
    fs::create_dir_all(&empty).with_context(|| format!("make {empty:?}"))?;
    Ok(empty)
}

/// `empty`: a folder with nothing in it, since overlayfs wants two layers or more.
fn overlay(layers: &[PathBuf], empty: &Path, place: &Path, source: &str) -> Result<()> {
    let mut opened: Vec<OwnedFd> = Vec::new();
    for path in layers.iter().map(PathBuf::as_path).chain([empty]) {
        opened.push(File::open(path).with_context(|| format!("open layer {path:?}"))?.into());
    }
    if layers.is_empty() {
        opened.push(File::open(place)?.into());
    }
    let names: Vec<String> = opened.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    let mut options = format!("lowerdir={}", names.join(":"));
    if !userns::in_first() {
        options += ",userxattr";
    }
    // By numbers: paths of many layers are longer than mount(2) takes.
    let here = File::open(".")?;
    chdir("/proc/self/fd")?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV;
    let done = mount_at(Some(source), place, Some("overlay"), flags, Some(options.as_str()));
    fchdir(here)?;
    Ok(done?)
}

/// Ends an image's mount; false: it was not mounted. `id`: without `sha256:`; the image need not be there any more.
///
/// # Errors
/// Somebody is at work there.
pub fn unmount(store: &Store, id: &str, force: bool) -> Result<bool> {
    let place = place(store, id);
    if source_at(&place)?.is_none() {
        let _ = fs::remove_dir(&place);
        return Ok(false);
    }
    let flags = if force { MntFlags::MNT_DETACH } else { MntFlags::empty() };
    umount2(&place, flags).with_context(|| format!("unmount {place:?}"))?;
    let _ = fs::remove_dir(&place);
    note_of(store, id, "unmount");
    Ok(true)
}

/// Ends an image's mounts in all namespaces; who is at work there stays so until it leaves.
///
/// # Errors
/// The kernel refuses.
pub fn detach(store: &Store, id: &str) -> Result<()> {
    let place = place(store, id);
    let was_there = whereabouts(store, id)?.is_some();
    while source_at(&place)?.is_some() {
        umount2(&place, MntFlags::MNT_DETACH).with_context(|| format!("unmount {place:?}"))?;
    }
    // A folder that is a mount point elsewhere alone can be removed, and takes those mounts with it: rmdir(2)
    // says EBUSY of this process's own mount namespace only.
    match fs::remove_dir(&place) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).with_context(|| format!("unmount {place:?}")),
        _ => {}
    }
    if was_there {
        note_of(store, id, "unmount");
    }
    Ok(())
}

fn note_of(store: &Store, id: &str, action: &str) {
    if let Ok(id) = format!("sha256:{}", id.trim_start_matches("sha256:")).parse::<Digest>() {
        note(store, &id, action, None);
    }
}

/// Ids of the images that are mounted, without `sha256:`.
///
/// # Errors
/// The kernel does not say.
pub fn mounted(store: &Store) -> Result<Vec<String>> {
    let dir = dir(store);
    let mut ids: Vec<String> = points("self")?
        .into_iter()
        .filter(|(point, _)| point.parent() == Some(&dir))
        .filter_map(|(point, _)| Some(point.file_name()?.to_str()?.to_owned()))
        .collect();
    ids.sort();
    ids.dedup();
    Ok(ids)
}

/// In whose mount namespace an image is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    Own,
    /// A process that is in it.
    Of(i32),
}

/// Ids (without `sha256:`) of the images that are mounted in any mount namespace that can be looked into.
///
/// # Errors
/// The kernel does not say what is mounted here.
pub fn everywhere(store: &Store) -> Result<HashMap<String, Namespace>> {
    // Whatever is mounted has its folder, and mostly there is none.
    let folders = fs::read_dir(dir(store)).into_iter().flatten().flatten();
    let folders = folders.filter_map(|folder| folder.file_name().into_string().ok());
    let mut rest: HashSet<String> = folders.filter(|name| is_hex(name)).collect();
    let mut found = HashMap::new();
    if rest.is_empty() {
        return Ok(found);
    }
    let mut look = |points: Vec<(PathBuf, String)>, namespace| {
        for (point, _) in points {
            let id = point.strip_prefix(dir(store)).ok().and_then(Path::to_str).and_then(|id| rest.take(id));
            if let Some(id) = id {
                found.insert(id, namespace);
            }
        }
        rest.is_empty()
    };
    if look(points("self")?, Namespace::Own) {
        return Ok(found);
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for name in processes.filter_map(|process| process.file_name().into_string().ok()) {
        let Ok(pid) = name.parse::<i32>() else { continue };
        // One that has ended meanwhile has no mounts.
        if points(&name).is_ok_and(|points| look(points, Namespace::Of(pid))) {
            break;
        }
    }
    Ok(found)
}

/// In whose mount namespace this image is mounted; `None`: it is not.
///
/// # Errors
/// As [`everywhere`].
pub fn whereabouts(store: &Store, id: &str) -> Result<Option<Namespace>> {
    let id = id.trim_start_matches("sha256:");
    Ok(if place(store, id).exists() { everywhere(store)?.remove(id) } else { None })
}

/// What is mounted at a place: its source.
fn source_at(place: &Path) -> Result<Option<String>> {
    Ok(points("self")?.into_iter().rev().find(|(point, _)| point == place).map(|(_, source)| source))
}

/// Where anything is mounted, and its source: proc_pid_mountinfo(5), the fifth field, in which spaces are `\040`, and
/// the second one after the hyphen.
fn points(process: &str) -> Result<Vec<(PathBuf, String)>> {
    let path = format!("/proc/{process}/mountinfo");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let point = |line: &str| {
        let (fields, source) = line.split_once(" - ")?;
        let point = fields.split(' ').nth(4)?;
        let point = point.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
        Some((point.into(), source.split(' ').nth(1)?.to_owned()))
    };
    Ok(text.lines().filter_map(point).collect())
}
