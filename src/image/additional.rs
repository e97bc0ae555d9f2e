//! Additional stores: images that all users of a machine share and nobody changes through here. Such a
//! store is a storage root like the own one (`ctr --root DIR pull …` fills it).
//!
//! Where they are, in this order: `CTR_ADDITIONAL_IMAGE_STORES` (paths, separated by colons),
//! `/usr/share/ctr/images`, and `additionalimagestores` of containers-storage.conf(5), of which those
//! count that have this form. They are looked at when the own store does not have an image.
//!
//! What is verified on use: the store's folders, its index, and every layer that is used in place belong to
//! root or to this user, and nobody else can write to them; the bytes of the configuration and of the manifest have
//! the digests by which the index names them. The files inside a layer are not read again: who owns
//! its folder vouches for them, as for the programs in /usr.
//!
//! Root uses the layers in place. An ordinary user cannot: their files belong to ids that its user namespace
//! has not, and overlayfs copies no such file up. Its first use of an image unpacks the compressed layers of
//! the additional store into its own, whose digests are verified on the way; nothing crosses the network.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::unistd::geteuid;
use serde::Deserialize;

use crate::error::{self, Failure};
use crate::image::blobs::{self, Temporary};
use crate::image::commit::Complete;
use crate::image::digest::Digest;
use crate::image::index::{Entry, Index};
use crate::image::layers::{self, Claim, Pinned};
use crate::image::manifest::{self, Document};
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::image::unpack::{self, Powers};
use crate::image::{Image, alike, entry_for, open};
use crate::store::{Lock, Store};
use crate::userns;

/// The setting.
pub const VARIABLE: &str = "CTR_ADDITIONAL_IMAGE_STORES";
const DEFAULT: &str = "/usr/share/ctr/images";

#[derive(Default, Deserialize)]
#[serde(default)]
struct StorageConf {
    storage: Storage,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Storage {
    options: Options,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Options {
    additionalimagestores: Vec<PathBuf>,
}

/// The additional stores that are there and can be trusted. One that cannot is warned of.
#[must_use]
pub fn stores(own: &Store) -> Vec<Store> {
    let set = std::env::var_os(VARIABLE).unwrap_or_default();
    let set: Vec<PathBuf> = std::env::split_paths(&set).collect();
    let mut stores: Vec<Store> = Vec::new();
    for dir in set.into_iter().chain([DEFAULT.into()]).chain(configured()) {
        let is_known = dir == own.root() || stores.iter().any(|store| store.root() == dir);
        let store = Store::at(dir, own.run().to_owned());
        if is_known || !store.root().is_absolute() || !store.image_layout().join("index.json").exists() {
            continue;
        }
        match is_trusted(&store) {
            Ok(()) => stores.push(store),
            Err(e) => error::warn(&format!("the image store {:?} is not used: {}", store.root(), error::message(&e))),
        }
    }
    stores
}

/// `additionalimagestores`: the user's file replaces the machine's.
fn configured() -> Vec<PathBuf> {
    let own = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let own = own.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")));
    let named = std::env::var_os("CONTAINERS_STORAGE_CONF").map(PathBuf::from);
    let of_user = own.map(|dir| dir.join("containers/storage.conf")).filter(|_| !userns::is_host_root());
    let machine = ["/etc/containers/storage.conf", "/usr/share/containers/storage.conf"].map(PathBuf::from);
    let text = named.into_iter().chain(of_user).chain(machine).find_map(|path| fs::read_to_string(path).ok());
    // Another tool's file: what it has beside this is not for us to judge.
    let conf: StorageConf = text.and_then(|text| toml::from_str(&text).ok()).unwrap_or_default();
    conf.storage.options.additionalimagestores
}

fn is_trusted(store: &Store) -> Result<()> {
    let layout = store.image_layout();
    for path in [store.root(), &layout, &layout.join("index.json"), &store.layers()] {
        belongs(path)?;
    }
    Ok(())
}

/// Root's or this user's, and nobody else's to write.
fn belongs(path: &Path) -> Result<()> {
    let meta = fs::metadata(path).with_context(|| format!("look at {path:?}"))?;
    let me = userns::outer_uid();
    // Seen from a user namespace, the machine's root is nobody.
    let is_root = meta.uid() == 0 || (!userns::is_host_root() && meta.uid() == overflow_uid());
    let is_mine = meta.uid() == me || meta.uid() == geteuid().as_raw();
    if !is_root && !is_mine {
        return Err(Failure::new(format!("{path:?} belongs to uid {}, not to root", meta.uid())).into());
    }
    if meta.mode() & 0o022 != 0 {
        let why = format!("others can write to {path:?} (mode {:o})", meta.mode() & 0o7777);
        return Err(Failure::new(why).hint(format!("chmod go-w {path:?}")).into());
    }
    Ok(())
}

/// What an id looks like that a user namespace has not: `/proc/sys/kernel/overflowuid`, user_namespaces(7).
fn overflow_uid() -> u32 {
    let text = fs::read_to_string("/proc/sys/kernel/overflowuid").unwrap_or_default();
    text.trim().parse().unwrap_or(65534)
}

/// The additional store that has an image.
#[must_use]
pub fn holder(own: &Store, wanted: &str) -> Option<PathBuf> {
    let has = |store: &Store| {
        let index = Index::read(store).ok()?;
        entry_for(store, &index, wanted, None).ok().flatten().map(|_| store.root().to_owned())
    };
    stores(own).iter().find_map(has)
}

/// An additional store that has an image of a repository, and that image's name.
#[must_use]
pub fn of_repository(own: &Store, repository: &Reference) -> Option<(PathBuf, String)> {
    let has = |store: &Store| {
        let names = Index::read(store).ok()?.entries.into_iter().filter_map(|entry| entry.name?.parse().ok());
        let mut same = names.filter(|name: &Reference| name.repository() == repository.repository());
        same.find(|name| name.tag().is_some()).map(|name| (store.root().to_owned(), name.familiar()))
    };
    stores(own).iter().find_map(has)
}

/// The image that a person means, from the first additional store that has it.
///
/// # Errors
/// It is not what its digests say, or somebody could have changed it.
pub fn find(own: &Store, wanted: &str, platform: Option<&Platform>) -> Result<Option<Image>> {
    for store in stores(own) {
        let index = Index::read(&store)?;
        let Some(entry) = entry_for(&store, &index, wanted, platform)? else { continue };
        let checked = || format!("image {wanted:?} of the store {:?}", store.root());
        verify(&store, entry).with_context(checked)?;
        let mut image = open(&store, &index, entry)?;
        for layer in &mut image.layers {
            let dir = store.layers().join(&*layer);
            // Who only unpacks from the blobs needs no right to look into them.
            if userns::is_host_root() {
                belongs(&dir).with_context(checked)?;
            }
            *layer = dir.to_string_lossy().into_owned();
        }
        return Ok(Some(image));
    }
    Ok(None)
}

/// The image that a person means, where an additional store has it and the own one does not.
///
/// # Errors
/// As [`find`].
pub fn only_there(own: &Store, wanted: &str, platform: Option<&Platform>) -> Result<Option<Image>> {
    let index = Index::read(own)?;
    let listed = wanted.parse::<Reference>().is_ok_and(|name| index.list(&name.stored().to_string()).is_some());
    if listed || entry_for(own, &index, wanted, None)?.is_some() {
        return Ok(None);
    }
    find(own, wanted, platform)
}

/// The digests of the documents.
fn verify(store: &Store, entry: &Entry) -> Result<()> {
    for digest in [&entry.manifest.digest, &entry.image] {
        let bytes = blobs::read(store, digest)?;
        let is = bytes.map(|bytes| Digest::of(&bytes));
        if is.as_ref() != Some(digest) {
            return Err(Failure::new(format!("it is damaged: its document {:?} is another one", digest.short())).into());
        }
    }
    Ok(())
}

/// Whether an image that [`find`] found has to come into the own store before it can run.
#[must_use]
pub fn must_be_adopted(own: &Store, image: &Image) -> bool {
    image.home.root() != own.root() && !userns::is_host_root()
}

/// Brings an image of an additional store into the own one, by the name that it has there. The process is
/// in the user's namespace.
///
/// # Errors
/// A blob is missing or damaged there, the disk is full.
pub fn adopt(own: &Store, image: &Image) -> Result<()> {
    let from = &image.home;
    blobs::prepare(own)?;
    let index = Index::read(from)?;
    let entry = index.entries.iter().find(|entry| entry.image.as_str() == image.id);
    let entry = entry.ok_or_else(|| Failure::new(format!("No such image: {}", image.id)))?;
    verify(from, entry)?;
    let read = |digest: &Digest| blobs::read(from, digest).map(Option::unwrap_or_default);
    let (bytes, config) = (read(&entry.manifest.digest)?, read(&entry.image)?);
    let Document::Manifest(manifest) = manifest::parse(&bytes)? else {
        return Err(Failure::new(format!("image {:?} is damaged", entry.image.short())).into());
    };
    let (_, diffs) = manifest::parse_config(&config, manifest.layers.len())?;
    let (mut pinned, mut held) = (Vec::new(), Vec::new());
    for (descriptor, diff) in manifest.layers.iter().zip(&diffs) {
        let (layer, lock) = layer(own, from, &descriptor.digest, diff)
            .with_context(|| format!("layer {:?} of the store {:?}", descriptor.digest.short(), from.root()))?;
        pinned.push(layer);
        held.extend(lock);
    }
    // A name that means another image here goes on meaning it.
    let taken = Index::read(own)?;
    let free = image.names.iter().filter(|name| taken.named(name).next().is_none());
    let names: Vec<Reference> = free.filter_map(|name| name.parse().ok()).collect();
    let complete = Complete {
        manifest: &bytes,
        manifest_type: &entry.manifest.media_type,
        config: &config,
        layers: pinned,
        blobs: held,
        repo_digest: entry.repo_digest.clone(),
        pulled: index.is_pulled(&entry.manifest.digest),
    };
    complete.commit(own, &names).map(drop)
}

fn layer(own: &Store, from: &Store, blob: &Digest, diff: &Digest) -> Result<(Pinned, Option<Lock>)> {
    let _claim = Claim::wait(own, diff)?;
    if let Some(pinned) = layers::pin(own, diff)? {
        return Ok((pinned, blobs::pin(own, blob)?));
    }
    // Its files may have been there already when the image came, out of another image's blob.
    let other = if blobs::path(from, blob).exists() { None } else { alike::within(from, diff, blob)? };
    let blob = other.as_ref().map_or(blob, |other| &other.descriptor.digest);
    let path = blobs::path(from, blob);
    let source = File::open(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Failure::new("its archive is not there, and no other one of its files").hint(
            format!("fetch it as who owns that store: ctr --root {} save IMAGE >/dev/null", from.root().display()),
        ),
        _ => Failure::new(format!("read {path:?}")).source(e),
    })?;
    let temporary = Temporary::in_dir(&blobs::dir(own));
    let mut file = temporary.create()?;
    let unpacked = layers::temporary(own)?;
    let done = unpack::stream(source, u64::MAX, Some(&mut file), unpacked.path(), Powers::now(), |_| {})?;
    if done.blob != *blob || done.diff != *diff {
        return Err(Failure::new("it is damaged: it is not what its digest says").into());
    }
    let lock = blobs::publish(own, blob, &temporary)?;
    Ok((layers::publish(own, diff, &done.blob, &unpacked, done.applied)?, Some(lock)))
}

/// The image as this process can use its layers, brought into the own store where it must be. The process
/// is in the user's namespace.
///
/// # Errors
/// As [`adopt`].
pub fn within_reach(own: &Store, image: Image) -> Result<Image> {
    if !must_be_adopted(own, &image) {
        return Ok(image);
    }
    adopt(own, &image)?;
    let found = crate::image::find(own, &image.id)?;
    found.ok_or_else(|| Failure::new(format!("No such image: {}", image.id)).into())
}
