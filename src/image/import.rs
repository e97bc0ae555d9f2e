//! `import`: a plain archive of files becomes an image of one layer.
//!
//! The layer's blob is kept as it came, compressed or not: its bytes are what a push has to give
//! again, and recompressing would cost time for nothing.

use std::io::{self, Read};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::error::Failure;
use crate::image::blobs::{self, Temporary};
use crate::image::commit::Complete;
use crate::image::digest::Digest;
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::image::unpack::foreign::{self, Foreign};
use crate::image::unpack::{self, Powers};
use crate::image::{change, layers, manifest, note};
use crate::store::Store;

/// What the image shall be.
#[derive(Debug)]
pub struct Wanted {
    pub name: Option<Reference>,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// For the history.
    pub message: String,
    pub platform: Platform,
}

/// Makes an image of an archive; returns its id. The process is in the user's namespace.
///
/// # Errors
/// A damaged archive, a change that makes no sense, a full disk.
pub fn import(store: &Store, mut source: impl Read, wanted: &Wanted) -> Result<Digest> {
    if wanted.name.as_ref().is_some_and(|name| name.digest().is_some()) {
        return Err(Failure::new("refusing to create a tag with a digest reference").into());
    }
    // What is wrong with the words is said before the archive is read.
    let mut config = Map::new();
    change::apply(&mut config, &wanted.changes)?;
    blobs::prepare(store)?;

    let blob = Temporary::in_dir(&blobs::dir(store));
    let mut file = blob.create()?;
    let unpacked = layers::temporary(store)?;
    let mut start = Vec::new();
    source.by_ref().take(8).read_to_end(&mut start).context("import the archive")?;
    let program = foreign::program(&start);
    let whole = io::Cursor::new(start).chain(source);
    let mut unpack = |source: &mut dyn Read| {
        unpack::stream(source, u64::MAX, Some(&mut file), unpacked.path(), Powers::now(), |_| {})
    };
    let done = match program {
        Some(program) => Foreign::start(program, whole, &blobs::dir(store)).and_then(|mut plain| unpack(&mut plain)),
        None => unpack(&mut { whole }),
    };
    let done = done.context("import the archive")?;
    if done.blob_size == 0 {
        return Err(Failure::new("import the archive: it is empty").into());
    }
    let lock = blobs::publish(store, &done.blob, &blob)?;
    let layer = layers::publish(store, &done.diff, &unpacked, done.applied)?;

    let config = configuration(wanted, &config, &done.diff);
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": manifest::OCI_MANIFEST,
        "config": {"mediaType": manifest::OCI_CONFIG, "digest": Digest::of(&config).as_str(), "size": config.len()},
        "layers": [{
            "mediaType": manifest::layer_type(done.compression),
            "digest": done.blob.as_str(),
            "size": done.blob_size,
        }],
    }))?;
    let complete = Complete {
        manifest: &manifest,
        manifest_type: manifest::OCI_MANIFEST,
        config: &config,
        layers: vec![layer],
        blobs: vec![lock],
        repo_digest: None,
    };
    let image = complete.commit(store, wanted.name.as_slice())?;
    note(store, &image, "import", None);
    Ok(image)
}

fn configuration(wanted: &Wanted, config: &Map<String, Value>, diff: &Digest) -> Vec<u8> {
    let now = jiff::Timestamp::now().to_string();
    let mut whole = json!({
        "created": now,
        "architecture": wanted.platform.architecture,
        "os": wanted.platform.os,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [diff.as_str()]},
        "history": [{"created": now, "comment": wanted.message}],
    });
    if let Some(variant) = &wanted.platform.variant {
        whole["variant"] = Value::String(variant.clone());
    }
    whole.to_string().into_bytes()
}
