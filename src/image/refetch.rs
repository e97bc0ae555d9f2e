//! Blobs that are not here any more, or not as their digest says, from where their image came from.

use std::io::{Read, Write};

use anyhow::{Context, Result};

use crate::error::Failure;
use crate::image::blobs::{self, Temporary};
use crate::image::digest::{Digest, Hasher};
use crate::image::index::{Descriptor, Index};
use crate::image::reference::Reference;
use crate::image::repo_digests;
use crate::registry::Repository;
use crate::store::{Lock, Store};

/// Where an image came from: its names by digest in their registries.
#[must_use]
pub fn sources(index: &Index, image: &Digest) -> Vec<Reference> {
    let same = index.entries.iter().filter(|entry| entry.image == *image);
    repo_digests(same).iter().filter_map(|name| name.parse().ok()).collect()
}

/// Fetches one blob of an image (of no size: a configuration); one that is here is replaced once the new one is whole and right.
///
/// # Errors
/// The image came from no registry, or no registry that it came from has the blob.
pub fn blob(store: &Store, index: &Index, image: &Digest, blob: &Descriptor) -> Result<Lock> {
    from(store, &sources(index, image), blob).with_context(|| format!("image {:?}", image.short()))
}

/// [`blob`], of what came from one of these.
///
/// # Errors
/// There is none, or none that has the blob.
pub fn from(store: &Store, sources: &[Reference], blob: &Descriptor) -> Result<Lock> {
    let mut failure = None;
    for source in sources {
        match fetch(store, source, blob) {
            Ok(lock) => return Ok(lock),
            Err(e) => failure = Some(e.context(format!("fetch it from {}", source.familiar_repository()))),
        }
    }
    let what = format!("its blob {:?} is missing", blob.digest.short());
    match failure {
        Some(failure) => Err(failure.context(what)),
        None => Err(Failure::new(what).hint("the image came from no registry: load or build it again").into()),
    }
}

fn fetch(store: &Store, source: &Reference, blob: &Descriptor) -> Result<Lock> {
    let repository = Repository::for_pull(source)?;
    let temporary = Temporary::in_dir(&blobs::dir(store));
    let mut file = temporary.create()?;
    let mut hasher = Hasher::default();
    let mut take = |bytes: &[u8]| -> Result<()> {
        hasher.update(bytes);
        file.write_all(bytes).context("write the blob")
    };
    if is_manifest(&blob.media_type) {
        take(&repository.manifest(blob.digest.as_str())?.0)?;
    } else if blob.size == 0 {
        take(&repository.document(&blob.digest)?)?;
    } else {
        // An endless one is not what the digest says, and must not fill the disk.
        let mut reader = repository.blob_from(&blob.digest, blob.size, 0)?.take(blob.size.saturating_add(1));
        let mut buffer = vec![0; 128 << 10];
        loop {
            match reader.read(&mut buffer)? {
                0 => break,
                n => take(&buffer[..n])?,
            }
        }
    }
    let is = hasher.finish();
    if is != blob.digest {
        return Err(Failure::new(format!("the registry sent something else: its digest is {is}")).into());
    }
    file.sync_all().context("write the blob")?;
    blobs::publish(store, &blob.digest, &temporary)
}

fn is_manifest(media_type: &str) -> bool {
    use crate::image::manifest::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
    matches!(media_type, DOCKER_LIST | DOCKER_MANIFEST | OCI_INDEX | OCI_MANIFEST)
}
