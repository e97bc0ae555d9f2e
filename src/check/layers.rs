//! Layers: there, with their records, and with as many bytes as these say. One that is not can be
//! unpacked again, where its blob is good.

use std::collections::HashMap;
use std::fs::File;

use anyhow::{Context, Result, bail};

use super::Finding;
use super::images::{Blobs, Source};
use crate::container::size;
use crate::image::blobs::{self, Temporary};
use crate::image::digest::Digest;
use crate::image::index::Index;
use crate::image::layers::{self, LayerRecord};
use crate::image::refetch;
use crate::image::unpack::{self, Applied, Powers};
use crate::store::{Store, record};

/// `sources`: the layers that images need, and where each comes from.
pub(super) fn look(
    store: &Store,
    quick: bool,
    sources: &HashMap<Digest, Source>,
    blobs: &mut Blobs,
    found: &mut Vec<Finding>,
) -> Result<()> {
    for (diff, source) in sources {
        let Some(problem) = problem(store, diff, quick) else { continue };
        let object = format!("layer {}", diff.short());
        let has_blob = blobs.problem(&source.blob.digest).is_none();
        if !has_blob && !source.is_remote {
            // The image says how to come by its blob again.
            found.push(Finding::lasting(object, problem, "it comes back with its image"));
            continue;
        }
        // An archive may have a file twice: then the record counts both, and the files are right.
        if problem.is_partial && has_blob && !is_really(store, diff, &source.blob.digest)? {
            continue;
        }
        let (diff, blob, image) = (diff.clone(), source.blob.clone(), source.image.clone());
        let words = if has_blob { "unpack it again from its blob" } else { "fetch and unpack it again" };
        found.push(Finding::repairable(object, problem, words, move |store| {
            if !has_blob {
                refetch::blob(store, &Index::read(store)?, &image, &blob)?;
            }
            restore(store, &diff, &blob.digest)
        }));
    }
    Ok(())
}

struct Problem {
    words: String,
    /// It has files, but fewer bytes than its record says.
    is_partial: bool,
}

impl From<Problem> for String {
    fn from(problem: Problem) -> Self {
        problem.words
    }
}

fn problem(store: &Store, diff: &Digest, quick: bool) -> Option<Problem> {
    let whole = |words: String| Some(Problem { words, is_partial: false });
    let dir = layers::dir(store, diff);
    if !dir.is_dir() {
        return whole("it is missing".into());
    }
    let known: Result<Option<LayerRecord>> = record::read(&dir.with_extension("json"));
    let record = match known {
        Ok(Some(record)) => record,
        Ok(None) => return whole("its record is missing".into()),
        Err(e) => return whole(crate::error::message(&e)),
    };
    match layers::find(store, diff) {
        Ok(Some(_)) => {}
        _ => return whole("the machine went down before it was on the disk".into()),
    }
    if quick {
        return None;
    }
    let bytes = size::tree(&dir);
    let words = format!("its files have {bytes} bytes, its record says {}", record.size);
    (bytes != record.size).then_some(Problem { words, is_partial: true })
}

/// Whether the files differ from those that its blob has.
fn is_really(store: &Store, diff: &Digest, blob: &Digest) -> Result<bool> {
    let (unpacked, _) = unpack(store, diff, blob)?;
    Ok(size::tree(unpacked.path()) != size::tree(&layers::dir(store, diff)))
}

fn unpack(store: &Store, diff: &Digest, blob: &Digest) -> Result<(Temporary, Applied)> {
    let path = blobs::path(store, blob);
    let source = File::open(&path).with_context(|| format!("open {path:?}"))?;
    let unpacked = layers::temporary(store)?;
    let done = unpack::stream(source, u64::MAX, None, unpacked.path(), Powers::now(), |_| {})?;
    if done.diff != *diff {
        bail!("what its blob {} has is another layer: {}", blob.short(), done.diff);
    }
    Ok((unpacked, done.applied))
}

/// Puts a new one in its place. Who runs on the old one goes on with that.
fn restore(store: &Store, diff: &Digest, blob: &Digest) -> Result<()> {
    let _claim = layers::Claim::wait(store, diff)?;
    let (unpacked, applied) = unpack(store, diff, blob)?;
    layers::discard(store, &layers::dir(store, diff))?;
    let pinned = layers::publish(store, diff, blob, &unpacked, applied)?;
    layers::sync(store, &mut [pinned])
}
