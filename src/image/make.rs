//! Images that are made here: a further layer on those of an image, or the same ones with another
//! configuration.

use std::fs::File;
use std::io::{self, Read, Write};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::error::Failure;
use crate::image::additional;
use crate::image::blobs::{self, Temporary};
use crate::image::commit::Complete;
use crate::image::digest::Digest;
use crate::image::index::{Descriptor, Index};
use crate::image::layers::{self, Pinned};
use crate::image::manifest::{self, Document, Manifest};
use crate::image::pack::tar::{Output, Writer};
use crate::image::reference::Reference;
use crate::image::unpack::{self, Compression, Powers, queue};
use crate::store::{Lock, Store};
use crate::sys::signals;

/// Which specification the manifest is written by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Oci,
    /// Docker's image manifest, version 2, schema 2.
    Docker,
}

/// The image that the new one begins with, kept from being removed meanwhile.
pub struct Base {
    /// Its whole configuration.
    pub config: Map<String, Value>,
    layers: Vec<Descriptor>,
    pinned: Vec<Pinned>,
    blobs: Vec<Lock>,
}

/// What the new one is.
#[derive(Debug)]
pub struct Wanted<'a> {
    pub name: Option<&'a Reference>,
    /// The configuration's `config`.
    pub config: Map<String, Value>,
    pub author: &'a str,
    pub comment: &'a str,
    /// What made its layer, for the history.
    pub created_by: String,
    pub format: Format,
}

/// A layer in the store.
pub struct Layer {
    pinned: Pinned,
    blob: Lock,
    descriptor: Descriptor,
}

/// The image with this id.
///
/// # Errors
/// It was removed, or is damaged. The process is in the user's namespace.
pub fn base(store: &Store, id: &str) -> Result<Base> {
    let mut index = Index::read(store)?;
    let is_here = |index: &Index| index.entries.iter().any(|entry| entry.image.as_str() == id);
    if !is_here(&index)
        && let Some(image) = additional::find(store, id, None)?
    {
        additional::adopt(store, &image)?;
        index = Index::read(store)?;
    }
    let gone = || Failure::new(format!("No such image: {id}")).hint("the container's image was removed: pull it again");
    let entry = index.entries.iter().find(|entry| entry.image.as_str() == id).ok_or_else(gone)?;
    let document = blobs::read(store, &entry.manifest.digest)?.ok_or_else(gone)?;
    let Document::Manifest(Manifest { layers, .. }) = manifest::parse(&document)? else {
        bail!("image {id:?} is damaged: its manifest is none");
    };
    let config = blobs::read(store, &entry.image)?.ok_or_else(gone)?;
    let (_, diffs) = manifest::parse_config(&config, layers.len())?;
    let mut pinned = Vec::new();
    let mut held = Vec::new();
    for (diff, layer) in diffs.iter().zip(&layers) {
        pinned.push(layers::pin(store, diff)?.ok_or_else(gone)?);
        // A blob that is not here any more can be had from where the image came from.
        held.extend(blobs::pin(store, &layer.digest)?);
    }
    let config = serde_json::from_slice(&config).context("damaged image configuration")?;
    Ok(Base { config, layers, pinned, blobs: held })
}

/// Makes a layer of the archive that `fill` writes, which returns whether it has anything in it;
/// packed, hashed and unpacked at the same time. `None`: it is empty.
///
/// # Errors
/// What `fill` returns; the disk is full; the command was interrupted.
pub fn layer(store: &Store, fill: impl FnOnce(&mut Writer<Feed>) -> Result<bool> + Send) -> Result<Option<Layer>> {
    let blob = Temporary::in_dir(&blobs::dir(store));
    let mut file = blob.create()?;
    let unpacked = layers::temporary(store)?;
    let (input, output) = queue::pair();
    let (filled, done) = std::thread::scope(|threads| {
        let filling = threads.spawn(move || -> Result<bool> {
            let mut writer = Writer::new(Feed { chunk: input.buffer(), filled: 0, queue: input });
            let has_any = fill(&mut writer)?;
            writer.finish().context("write the layer")?;
            Ok(has_any)
        });
        let done = unpack::stream(output, u64::MAX, Some(&mut file), unpacked.path(), Powers::now(), |_| {})
            .context("unpack the layer");
        (filling.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), done)
    });
    // Where unpacking failed, filling did because of it, and with a broken pipe.
    let has_any = match (filled, &done) {
        (Err(error), Err(_)) if !is_broken_pipe(&error) => return Err(error),
        (Err(error), Ok(_)) => return Err(error),
        (Err(_), Err(_)) => true,
        (Ok(has_any), _) => has_any,
    };
    let done = done?;
    if !has_any {
        return Ok(None);
    }
    let lock = blobs::publish(store, &done.blob, &blob)?;
    let pinned = layers::publish(store, &done.diff, &done.blob, &unpacked, done.applied)?;
    let descriptor = Descriptor {
        media_type: manifest::layer_type(Compression::None).to_owned(),
        digest: done.blob,
        size: done.blob_size,
        platform: None,
        annotations: None,
    };
    Ok(Some(Layer { pinned, blob: lock, descriptor }))
}

/// Enters the image into the index; returns its id.
///
/// # Errors
/// The disk is full or refuses.
pub fn image(store: &Store, base: Base, layer: Option<Layer>, wanted: &Wanted<'_>) -> Result<Digest> {
    let Base { config: base_config, mut layers, mut pinned, mut blobs } = base;
    let is_empty = layer.is_none();
    if let Some(layer) = layer {
        layers.push(layer.descriptor);
        pinned.push(layer.pinned);
        blobs.push(layer.blob);
    }
    let diffs: Vec<&str> = pinned.iter().map(|layer| layer.diff.as_str()).collect();
    let config = configuration(&base_config, wanted, &diffs, is_empty);
    for layer in &mut layers {
        layer.media_type = wanted.format.layer(&layer.media_type);
    }
    let (manifest_type, config_type) = match wanted.format {
        Format::Oci => (manifest::OCI_MANIFEST, manifest::OCI_CONFIG),
        Format::Docker => (manifest::DOCKER_MANIFEST, "application/vnd.docker.container.image.v1+json"),
    };
    let document = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": {"mediaType": config_type, "digest": Digest::of(&config).as_str(), "size": config.len()},
        "layers": layers,
    }))?;
    let complete = Complete {
        manifest: &document,
        manifest_type,
        config: &config,
        layers: pinned,
        blobs,
        repo_digest: None,
        pulled: false,
    };
    complete.commit(store, wanted.name.cloned().as_slice())
}

fn configuration(base: &Map<String, Value>, wanted: &Wanted<'_>, diffs: &[&str], is_empty: bool) -> Vec<u8> {
    let now = jiff::Timestamp::now().to_string();
    let mut whole = Map::from_iter([("created".to_owned(), json!(now))]);
    if !wanted.author.is_empty() {
        whole.insert("author".into(), wanted.author.into());
    }
    for key in ["architecture", "os", "variant", "os.version", "os.features"] {
        if let Some(value) = base.get(key) {
            whole.insert(key.into(), value.clone());
        }
    }
    let mut step = Map::from_iter([("created".to_owned(), json!(now))]);
    for (key, text) in
        [("created_by", wanted.created_by.as_str()), ("author", wanted.author), ("comment", wanted.comment)]
    {
        if !text.is_empty() {
            step.insert(key.into(), text.into());
        }
    }
    if is_empty {
        step.insert("empty_layer".into(), true.into());
    }
    let mut history = base.get("history").and_then(Value::as_array).cloned().unwrap_or_default();
    history.push(step.into());
    whole.insert("config".into(), wanted.config.clone().into());
    whole.insert("rootfs".into(), json!({"type": "layers", "diff_ids": diffs}));
    whole.insert("history".into(), history.into());
    Value::Object(whole).to_string().into_bytes()
}

impl Format {
    /// What this format calls a layer that another may have named.
    pub(super) fn layer(self, media_type: &str) -> String {
        const OCI: &str = "application/vnd.oci.image.layer.v1.tar";
        const DOCKER: &str = "application/vnd.docker.image.rootfs.diff.tar";
        let ends = [("+gzip", ".gzip"), ("+zstd", ".zstd"), ("", "")];
        let known = ends.iter().find(|(oci, docker)| {
            media_type.strip_prefix(OCI) == Some(*oci) || media_type.strip_prefix(DOCKER) == Some(*docker)
        });
        match (known, self) {
            (Some((oci, _)), Self::Oci) => format!("{OCI}{oci}"),
            (Some((_, docker)), Self::Docker) => format!("{DOCKER}{docker}"),
            (None, _) => media_type.to_owned(),
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(broken))
}

/// Where a layer's archive is written to: the stages that hash and unpack it.
pub struct Feed {
    queue: queue::Input,
    chunk: Vec<u8>,
    filled: usize,
}

impl Feed {
    fn send(&mut self) -> io::Result<()> {
        if signals::caught().is_some() {
            return Err(io::Error::other("interrupted"));
        }
        if self.filled == 0 {
            return Ok(());
        }
        let mut chunk = std::mem::replace(&mut self.chunk, self.queue.buffer());
        chunk.truncate(self.filled);
        self.filled = 0;
        self.queue.send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Feed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(self.chunk.len() - self.filled);
        self.chunk[self.filled..self.filled + n].copy_from_slice(&bytes[..n]);
        self.filled += n;
        if self.filled == self.chunk.len() {
            self.send()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

impl Output for Feed {
    fn copy(&mut self, mut file: &File, size: u64) -> io::Result<u64> {
        let mut done = 0;
        while done < size {
            let room = usize::try_from(size - done).unwrap_or(usize::MAX).min(self.chunk.len() - self.filled);
            let n = file.read(&mut self.chunk[self.filled..self.filled + room])?;
            if n == 0 {
                break;
            }
            self.filled += n;
            done += n as u64;
            if self.filled == self.chunk.len() {
                self.send()?;
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_called_as_the_format_has_it() {
        let names = |format: Format| {
            ["application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar", "x/y"]
                .map(|name| format.layer(name))
        };
        assert_eq!(
            names(Format::Docker),
            [
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "application/vnd.docker.image.rootfs.diff.tar",
                "x/y"
            ]
        );
        assert_eq!(
            names(Format::Oci),
            ["application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar", "x/y"]
        );
    }
}
