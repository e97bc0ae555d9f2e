//! One layer: asked for, mounted, or sent.

use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};

use super::content::{Packed, Stoppable};
use super::{How, Report, Sources};
use crate::error::{self, Failure};
use crate::image::alike;
use crate::image::blobs::{self, Checked};
use crate::image::digest::Digest;
use crate::image::index::Descriptor;
use crate::image::layers::{self, PackedBlob};
use crate::image::manifest;
use crate::image::unpack::Compression;
use crate::registry::Repository;
use crate::registry::upload::{Begun, Content};
use crate::store::{Lock, Store};

pub struct Job<'a> {
    pub store: &'a Store,
    pub repository: &'a Repository,
    pub sources: &'a Sources,
    pub how: How,
    pub diff: &'a Digest,
    pub layer: &'a Descriptor,
    pub report: &'a dyn Report,
    pub stop: &'a AtomicBool,
    /// As its registry has it: it is not compressed for being plain.
    pub pulled: bool,
    /// Brings back the blob that the store has no more.
    pub refetch: &'a dyn Fn() -> Result<Lock>,
    /// Told why another archive of the layer has to do.
    pub instead: &'a dyn Fn(&anyhow::Error),
}

/// What is sent, and where it is.
struct From<'a> {
    home: &'a Store,
    layer: &'a Descriptor,
    pulled: bool,
}

enum Sent {
    /// What the registry has in the end.
    As(Descriptor),
    /// The blob is not here and cannot be had.
    Lost(anyhow::Error),
}

impl Job<'_> {
    /// What the registry has in the end.
    pub fn run(&self) -> Result<Descriptor> {
        let own = From { home: self.store, layer: self.layer, pulled: self.pulled };
        let lost = match self.send_from(&own)? {
            Sent::As(descriptor) => return Ok(descriptor),
            Sent::Lost(error) => error,
        };
        let Some(other) = alike::find(self.store, self.diff, &self.layer.digest)? else { return Err(lost) };
        let is_same = other.descriptor.digest == self.layer.digest;
        if !is_same {
            (self.instead)(&lost);
        }
        let from = From { home: &other.home, layer: &other.descriptor, pulled: self.pulled && is_same };
        match self.send_from(&from)? {
            Sent::As(descriptor) => Ok(descriptor),
            Sent::Lost(_) => Err(lost),
        }
    }

    fn send_from(&self, &From { home, layer, pulled }: &From<'_>) -> Result<Sent> {
        let digest = &layer.digest;
        let mut held = blobs::pin(home, digest)?;
        let stored = match &held {
            Some(_) => alike::compression(home, digest).with_context(|| format!("read blob {:?}", digest.short()))?,
            None => by_type(&layer.media_type),
        };
        let How { format, level, force, .. } = self.how;
        let becomes = match stored {
            Compression::None => !pulled || force || level.is_some(),
            is => force && (is != format || level.is_some()),
        };
        if !becomes {
            if self.is_there(digest)? {
                return Ok(Sent::As(layer.clone()));
            }
            let begun = self.begin(digest)?;
            if let Begun::Upload(upload) = begun {
                let _held = match self.fetched(&mut held) {
                    Ok(lock) => lock,
                    Err(lost) => return Ok(Sent::Lost(lost)),
                };
                let content = Checked::open(home, digest).context("read its blob")?;
                self.report.begin(self.diff.short(), content.length());
                self.send(upload, content)?;
            }
            return Ok(Sent::As(layer.clone()));
        }
        let describe = |digest: Digest, size| {
            let media_type = manifest::layer_type(format).to_owned();
            Sent::As(Descriptor { media_type, digest, size, platform: None, annotations: None })
        };
        let level = self.how.level();
        let record = layers::find(self.store, self.diff)?;
        let known = record.into_iter().flat_map(|record| record.packed).find(|it| it.is(format, level));
        if let Some(known) = &known
            && self.is_there(&known.digest)?
        {
            return Ok(describe(known.digest.clone(), known.size));
        }
        let begun = match &known {
            Some(known) => self.begin(&known.digest)?,
            None => self.repository.begin(None)?,
        };
        match (begun, known) {
            (Begun::Upload(upload), _) => {
                let _held = match self.fetched(&mut held) {
                    Ok(lock) => lock,
                    Err(lost) => return Ok(Sent::Lost(lost)),
                };
                let path = blobs::path(home, digest);
                let content = Packed::open(&path, self.diff, stored, format, level).context("read its blob")?;
                self.report.begin(self.diff.short(), None);
                let (digest, size) = self.send(upload, content)?;
                remember(self.store, self.diff, &digest, size, Some((format, level)), None)?;
                Ok(describe(digest, size))
            }
            (Begun::Mounted, Some(known)) => Ok(describe(known.digest, known.size)),
            (Begun::Mounted, None) => Err(Failure::new("the registry mounts what nobody asked for").into()),
        }
    }

    fn is_there(&self, digest: &Digest) -> Result<bool> {
        let is = self.repository.has_blob(digest)?;
        if is {
            self.report.exists(self.diff.short());
        }
        Ok(is)
    }

    /// Mounted, where another repository is known to have it and the registry gives it.
    fn begin(&self, digest: &Digest) -> Result<Begun> {
        let Some(from) = self.sources.near(digest) else { return self.repository.begin(None) };
        match self.repository.begin(Some((digest, from))) {
            Ok(Begun::Mounted) => {
                self.report.mounted(self.diff.short(), from);
                Ok(Begun::Mounted)
            }
            Ok(upload) => Ok(upload),
            // The other repository may not be ours to read any more.
            Err(_) => self.repository.begin(None),
        }
    }

    fn send(&self, upload: crate::registry::upload::Upload, content: impl Content) -> Result<(Digest, u64)> {
        let short = self.diff.short();
        let mut content = Stoppable { inner: content, stop: self.stop };
        let sent = self.repository.send(upload, &mut content, &|bytes| self.report.sent(short, bytes))?;
        self.report.complete(short);
        Ok(sent)
    }

    /// The blob's lock; where the store has the blob no more, it is fetched from where its image came from.
    fn fetched(&self, held: &mut Option<Lock>) -> Result<Lock> {
        held.take().map_or_else(|| (self.refetch)(), Ok)
    }
}

fn by_type(media_type: &str) -> Compression {
    match media_type.rsplit(['+', '.']).next() {
        Some("gzip") => Compression::Gzip,
        Some("zstd") => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Notes beside a layer what its blob is called in registries.
fn remember(
    store: &Store,
    diff: &Digest,
    digest: &Digest,
    size: u64,
    made: Option<(Compression, i32)>,
    place: Option<&str>,
) -> Result<()> {
    layers::note(store, diff, |record| {
        let known = record.packed.iter().position(|blob| blob.digest == *digest);
        let mut blob = match known {
            Some(n) => record.packed.remove(n),
            None => PackedBlob { digest: digest.clone(), size, made: None, repositories: Vec::new() },
        };
        if let Some((format, level)) = made {
            record.packed.retain(|other| !other.is(format, level));
            blob.made = PackedBlob::maker(format, level);
        }
        if let Some(place) = place {
            blob.repositories.retain(|known| known != place);
            blob.repositories.insert(0, place.to_owned());
            blob.repositories.truncate(8);
        }
        record.packed.insert(0, blob);
        record.packed.truncate(8);
    })
}

/// Notes that a repository has these layers now. That it cannot be noted costs time at most.
pub fn remember_place(store: &Store, diffs: &[Digest], layers: &[Descriptor], place: &str) {
    for (diff, layer) in diffs.iter().zip(layers) {
        if let Err(e) = remember(store, diff, &layer.digest, layer.size, None, Some(place)) {
            error::warn(&format!("layer {}: {}", diff.short(), error::message(&e)));
        }
    }
}
