//! `image mount`: an image's files at a place where programs can look at them, read-only.
//!
//! Root's mounts are on the machine until they are unmounted or it goes down. An ordinary user's are in the
//! namespace of `ctr unshare` and end with it. Which are there is asked of the kernel
//! (`/proc/self/mountinfo`), and nothing is on record.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount as mount_at, umount2};
use nix::unistd::{chdir, fchdir};

use crate::image::digest::Digest;
use crate::image::{Image, layers, note};
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
/// A layer is missing, or the kernel refuses.
pub fn mount(store: &Store, image: &Image) -> Result<PathBuf> {
    let place = place(store, &image.id);
    if is_mounted(&place)? {
        return Ok(place);
    }
    let empty = empty(store)?;
    fs::create_dir_all(&place).with_context(|| format!("make {place:?}"))?;
    let layers: Vec<PathBuf> = image.layers.iter().map(|layer| image.home.layers().join(layer)).collect();
    overlay(&layers, &empty, &place).with_context(|| format!("mount the image at {place:?}"))?;
    note_of(store, image, "mount");
    Ok(place)
}

/// Layers (topmost first) as they look together, read-only, for this process alone, which is in a mount
/// namespace of its own.
///
/// # Errors
/// A layer is missing, or the kernel refuses.
pub fn view(store: &Store, layers: &[PathBuf]) -> Result<OwnedFd> {
    let place = layers::temporary(store)?;
    overlay(layers, &empty(store)?, place.path()).context("mount the image")?;
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
fn overlay(layers: &[PathBuf], empty: &Path, place: &Path) -> Result<()> {
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
    let done = mount_at(Some("overlay"), place, Some("overlay"), flags, Some(options.as_str()));
    fchdir(here)?;
    Ok(done?)
}

/// Ends an image's mount; false: it was not mounted.
///
/// # Errors
/// Somebody is at work there.
pub fn unmount(store: &Store, image: &Image, force: bool) -> Result<bool> {
    let place = place(store, &image.id);
    if !is_mounted(&place)? {
        let _ = fs::remove_dir(&place);
        return Ok(false);
    }
    let flags = if force { MntFlags::MNT_DETACH } else { MntFlags::empty() };
    umount2(&place, flags).with_context(|| format!("unmount {place:?}"))?;
    let _ = fs::remove_dir(&place);
    note_of(store, image, "unmount");
    Ok(true)
}

fn note_of(store: &Store, image: &Image, action: &str) {
    if let Ok(id) = image.id.parse::<Digest>() {
        note(store, &id, action, None);
    }
}

/// Ids of the images that are mounted, without `sha256:`.
///
/// # Errors
/// The kernel does not say.
pub fn mounted(store: &Store) -> Result<Vec<String>> {
    let dir = dir(store);
    let mut ids: Vec<String> = points()?
        .into_iter()
        .filter(|point| point.parent() == Some(&dir))
        .filter_map(|point| Some(point.file_name()?.to_str()?.to_owned()))
        .collect();
    ids.sort();
    ids.dedup();
    Ok(ids)
}

fn is_mounted(place: &PathBuf) -> Result<bool> {
    Ok(points()?.contains(place))
}

/// Where anything is mounted: proc_pid_mountinfo(5), the fifth field, in which spaces are `\040`.
fn points() -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let points = text.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(points.map(|point| point.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\").into()).collect())
}
