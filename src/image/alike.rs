//! Other archives of a layer: the same files in another compression. They stand in for a blob that is not
//! here and cannot be had: a pull fetches no layer whose files are here already, whatever they came in.

use std::fs::File;
use std::io::{self, BufReader, Read};

use anyhow::Result;

use crate::image::digest::{Digest, Hasher};
use crate::image::index::{Descriptor, Index};
use crate::image::manifest::{self, Document};
use crate::image::unpack::{Compression, Decoder};
use crate::image::{additional, blobs, garbage, layers};
use crate::store::{Lock, Store};

/// A blob that unpacks to the layer.
pub struct Alike {
    /// The store that has it.
    pub home: Store,
    pub descriptor: Descriptor,
    pub compression: Compression,
    /// It stays while this is held.
    pub held: Lock,
}

/// Any blob that unpacks to the layer `diff`, of the own store or of an additional one; `wanted` before others.
///
/// # Errors
/// The own store's index cannot be read.
pub fn find(store: &Store, diff: &Digest, wanted: &Digest) -> Result<Option<Alike>> {
    if let Some(found) = within(store, diff, wanted)? {
        return Ok(Some(found));
    }
    // What is wrong with a store that nobody asked for does not matter here.
    Ok(additional::stores(store).iter().find_map(|home| within(home, diff, wanted).ok().flatten()))
}

/// [`find`] in one store.
///
/// # Errors
/// Its index cannot be read.
pub fn within(store: &Store, diff: &Digest, wanted: &Digest) -> Result<Option<Alike>> {
    let mut candidates = vec![wanted.clone()];
    candidates.extend(layers::find(store, diff).ok().flatten().and_then(|record| record.blob));
    for entry in Index::read(store)?.entries {
        // What is damaged has nothing to give.
        let Ok(Some(bytes)) = blobs::read(store, &entry.manifest.digest) else { continue };
        let Ok(Document::Manifest(manifest)) = manifest::parse(&bytes) else { continue };
        let diffs = garbage::diffs_of(store, &entry.image);
        let same = diffs.iter().zip(manifest.layers).filter(|(other, _)| *other == diff).map(|(_, layer)| layer.digest);
        candidates.extend(same);
    }
    for digest in candidates {
        let Ok(Some(held)) = blobs::pin(store, &digest) else { continue };
        let Ok(Some((compression, size))) = unpacks_to(store, &digest, diff) else { continue };
        let media_type = manifest::layer_type(compression).to_owned();
        let descriptor = Descriptor { media_type, digest, size, platform: None, annotations: None };
        return Ok(Some(Alike { home: store.clone(), descriptor, compression, held }));
    }
    Ok(None)
}

/// How a blob is compressed, and its size, if it is that layer's: a manifest can say anything.
fn unpacks_to(store: &Store, blob: &Digest, diff: &Digest) -> io::Result<Option<(Compression, u64)>> {
    let compression = compression(store, blob)?;
    let file = File::open(blobs::path(store, blob))?;
    let size = file.metadata()?.len();
    let mut plain = Decoder::new(BufReader::with_capacity(256 << 10, file), compression)?;
    let (mut hasher, mut buffer) = (Hasher::default(), vec![0; 256 << 10]);
    loop {
        match plain.read(&mut buffer)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    Ok((hasher.finish() == *diff).then_some((compression, size)))
}

/// How a blob of the store is compressed, by its first bytes.
///
/// # Errors
/// It cannot be read.
pub fn compression(store: &Store, digest: &Digest) -> io::Result<Compression> {
    let mut start = Vec::new();
    File::open(blobs::path(store, digest))?.take(8).read_to_end(&mut start)?;
    Compression::detect(&start)
}
