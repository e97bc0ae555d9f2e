//! `load`: archives that `docker save`, `podman save` and `skopeo` write.
//!
//! Two shapes: docker-archive (`manifest.json` names a configuration, names and layers) and
//! oci-archive (an OCI image layout; its blobs bear their digests). An archive's members come in
//! any order, so one that cannot be read at random (standard input, or compressed) is first
//! decompressed into a temporary file of the store.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::json;

use crate::error::Failure;
use crate::image::blobs::{self, Temporary};
use crate::image::commit::Complete;
use crate::image::digest::Digest;
use crate::image::index::{Descriptor, REF_NAME};
use crate::image::layers::{self, Claim, Pinned};
use crate::image::manifest::{self, Document};
use crate::image::note;
use crate::image::platform::{self, Platform};
use crate::image::reference::Reference;
use crate::image::unpack::path::clean;
use crate::image::unpack::tar::{Kind, Reader};
use crate::image::unpack::{self, Compression, Decoder, Powers};
use crate::store::{Lock, Store};

/// Members that are remembered: an image has some hundred at most.
const MAX_MEMBERS: usize = 100_000;
/// Links from member to member that are followed.
const MAX_LINKS: usize = 8;

/// An image that was loaded.
#[derive(Debug)]
pub struct Loaded {
    pub id: Digest,
    /// Empty: it had no name in the archive.
    pub names: Vec<Reference>,
}

/// Loads all images of an archive; `each` is told of every one when it is in the store. The process
/// is in the user's namespace.
///
/// # Errors
/// Neither kind of archive, a damaged one, a full disk. Images before that stay loaded.
pub fn load(store: &Store, source: File, platform: Option<&Platform>, mut each: impl FnMut(Loaded)) -> Result<()> {
    blobs::prepare(store)?;
    let spool = Temporary::in_dir(&store.image_layout());
    let archive = Archive::open(source, &spool).context("read the archive")?;
    // Docker writes both forms into one archive; its own one has all names.
    if let Some(bytes) = archive.document("manifest.json")? {
        let images: Vec<Listed> = serde_json::from_slice(&bytes).context("damaged manifest.json")?;
        for image in images {
            each(docker(store, &archive, &image)?);
        }
        return Ok(());
    }
    if let Some(bytes) = archive.document("index.json")? {
        let Document::Index(entries) = manifest::parse(&bytes).context("index.json")? else {
            return Err(Failure::new("damaged archive: index.json is not an index").into());
        };
        for entry in entries {
            each(oci(store, &archive, &entry, platform)?);
        }
        return Ok(());
    }
    Err(Failure::new("not an image archive: it has neither manifest.json nor index.json")
        .hint("a plain archive of files becomes an image with: ctr import FILE NAME")
        .into())
}

/// An entry of `manifest.json` (Docker image specification v1.2).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

fn docker(store: &Store, archive: &Archive, image: &Listed) -> Result<Loaded> {
    let config = archive.needed(&image.config)?;
    let members = image.layers.clone().unwrap_or_default();
    let (_, diffs) = manifest::parse_config(&config, members.len())?;
    let mut names = Vec::new();
    for tag in image.repo_tags.iter().flatten() {
        names.push(tag.parse::<Reference>()?.or_latest());
    }
    let mut layers = Vec::new();
    let mut held = Vec::new();
    let mut descriptors = Vec::new();
    for (name, diff) in members.iter().zip(&diffs) {
        let layer = layer(store, archive, name, diff, None).with_context(|| format!("layer {:?}", diff.short()))?;
        descriptors.push(json!({"mediaType": layer.media_type, "digest": layer.blob.as_str(), "size": layer.size}));
        held.push(layer.lock);
        layers.push(layer.pinned);
    }
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": manifest::OCI_MANIFEST,
        "config": {"mediaType": manifest::OCI_CONFIG, "digest": Digest::of(&config).as_str(), "size": config.len()},
        "layers": descriptors,
    }))?;
    let complete = Complete {
        manifest: &manifest,
        manifest_type: manifest::OCI_MANIFEST,
        config: &config,
        layers,
        blobs: held,
        repo_digest: None,
    };
    let id = complete.commit(store, &names)?;
    note_loaded(store, &id, &names);
    Ok(Loaded { id, names })
}

fn oci(store: &Store, archive: &Archive, entry: &Descriptor, platform: Option<&Platform>) -> Result<Loaded> {
    let names: Vec<Reference> = name_of(entry).into_iter().collect();
    let mut digest = entry.digest.clone();
    // An index in the index: an image for several platforms.
    for _ in 0..2 {
        let bytes = archive.blob(&digest)?;
        let manifest = match manifest::parse(&bytes)? {
            Document::Manifest(manifest) => manifest,
            Document::Index(entries) => {
                let wanted = platform.cloned().unwrap_or_else(Platform::host);
                digest = platform::choose(&entries, &wanted)?.digest.clone();
                continue;
            }
        };
        let config = archive.blob(&manifest.config.digest)?;
        let (_, diffs) = manifest::parse_config(&config, manifest.layers.len())?;
        let mut layers = Vec::new();
        let mut held = Vec::new();
        for (descriptor, diff) in manifest.layers.iter().zip(&diffs) {
            let member = member_name(&descriptor.digest);
            let layer = layer(store, archive, &member, diff, Some(&descriptor.digest))
                .with_context(|| format!("layer {:?}", descriptor.digest.short()))?;
            held.push(layer.lock);
            layers.push(layer.pinned);
        }
        let manifest_type =
            if manifest.media_type.is_empty() { manifest::OCI_MANIFEST } else { manifest.media_type.as_str() };
        let complete =
            Complete { manifest: &bytes, manifest_type, config: &config, layers, blobs: held, repo_digest: None };
        let id = complete.commit(store, &names)?;
        note_loaded(store, &id, &names);
        return Ok(Loaded { id, names });
    }
    Err(Failure::new("damaged archive: an index that leads to an index").into())
}

fn note_loaded(store: &Store, image: &Digest, names: &[Reference]) {
    let name = names.first().map(Reference::familiar);
    note(store, image, "load", name.as_deref());
}

/// The name that an entry of an OCI archive bears. The specification leaves the annotation's form
/// open: containerd and BuildKit write the full name into one of their own, podman writes it into
/// the standard one, and umoci and skopeo a tag alone, which says no repository.
fn name_of(entry: &Descriptor) -> Option<Reference> {
    let notes = entry.annotations.as_ref()?;
    let text = notes.get("io.containerd.image.name").or_else(|| notes.get(REF_NAME))?;
    let bytes = text.as_bytes();
    let digit_second = bytes.get(1).is_some_and(u8::is_ascii_digit);
    let only_a_tag = !text.contains(['/', ':'])
        && (text == "latest" || bytes.first()?.is_ascii_digit() || (bytes.first() == Some(&b'v') && digit_second));
    if only_a_tag {
        return None;
    }
    text.parse::<Reference>().ok().map(Reference::or_latest)
}

fn member_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

struct Layer {
    pinned: Pinned,
    blob: Digest,
    size: u64,
    media_type: &'static str,
    /// Keeps the blob.
    lock: Lock,
}

/// Brings a layer into the store, unless it is there.
fn layer(store: &Store, archive: &Archive, name: &str, diff: &Digest, expected: Option<&Digest>) -> Result<Layer> {
    let member = archive.member(name)?.ok_or_else(|| missing(name))?;
    let _claim = Claim::wait(store, diff)?;
    // An archive that is not compressed is a blob of the same digest.
    let compression = archive.compression(member)?;
    let blob = expected.or((compression == Compression::None).then_some(diff));
    if let (Some(blob), Some(pinned)) = (blob, layers::pin(store, diff)?)
        && let Some(lock) = blobs::pin(store, blob)?
    {
        let media_type = manifest::layer_type(compression);
        return Ok(Layer { pinned, blob: blob.clone(), size: member.1, media_type, lock });
    }
    let temporary = Temporary::in_dir(&blobs::dir(store));
    let mut file = temporary.create()?;
    let unpacked = layers::temporary(store)?;
    let source = archive.reader(member);
    let done = unpack::stream(source, member.1, Some(&mut file), unpacked.path(), Powers::now(), |_| {})?;
    if done.diff != *diff {
        return Err(
            Failure::new(format!("its files have the digest {}, the configuration says {diff}", done.diff)).into()
        );
    }
    if expected.is_some_and(|expected| *expected != done.blob) {
        return Err(Failure::new(format!("its blob has the digest {}", done.blob)).into());
    }
    let lock = blobs::publish(store, &done.blob, &temporary)?;
    let pinned = layers::publish(store, diff, &unpacked, done.applied)?;
    let media_type = manifest::layer_type(done.compression);
    Ok(Layer { pinned, blob: done.blob, size: done.blob_size, media_type, lock })
}

fn missing(name: &str) -> anyhow::Error {
    Failure::new(format!("damaged archive: it has no member {name:?}")).into()
}

/// An archive that can be read at random.
struct Archive {
    file: File,
    /// Where a member's data start, and how many bytes they are.
    files: HashMap<Vec<u8>, (u64, u64)>,
    links: HashMap<Vec<u8>, Vec<u8>>,
}

impl Archive {
    fn open(mut source: File, spool: &Temporary) -> Result<Self> {
        let plain = source.metadata()?.is_file() && {
            let mut start = [0; 8];
            let n = source.read_at(&mut start, 0)?;
            Compression::detect(&start[..n])? == Compression::None
        };
        if plain {
            source.seek(SeekFrom::Start(0))?;
            return Self::index(source);
        }
        let mut input = BufReader::with_capacity(1 << 17, source);
        let compression = Compression::detect(io::BufRead::fill_buf(&mut input)?)?;
        let mut decoder = Decoder::new(input, compression)?;
        let mut file = spool.create()?;
        io::copy(&mut decoder, &mut file).context("decompress it")?;
        file.flush()?;
        file.seek(SeekFrom::Start(0))?;
        Self::index(file)
    }

    fn index(file: File) -> Result<Self> {
        let mut archive = Self { file, files: HashMap::new(), links: HashMap::new() };
        let length = archive.file.metadata()?.len();
        // Small: it is refilled behind each member's data, which are not read here.
        let mut reader = Reader::new(BufReader::with_capacity(2048, archive.file.try_clone()?));
        while let Some(entry) = reader.next_entry()? {
            let start = reader.seek_past()?;
            let Ok(path) = clean(&entry.path) else { continue };
            match entry.kind {
                Kind::File => {
                    if length.saturating_sub(start) < entry.size {
                        return Err(Failure::new("it ends too early").into());
                    }
                    archive.files.insert(path, (start, entry.size));
                }
                Kind::Symlink => {
                    let (folder, _) = unpack::path::split(&path);
                    if let Ok(target) = clean(&[folder, b"/", &entry.link].concat()) {
                        archive.links.insert(path, target);
                    }
                }
                Kind::HardLink => {
                    if let Ok(target) = clean(&entry.link) {
                        archive.links.insert(path, target);
                    }
                }
                _ => {}
            }
            if archive.files.len() + archive.links.len() > MAX_MEMBERS {
                return Err(Failure::new(format!("it has more than {MAX_MEMBERS} members")).into());
            }
        }
        Ok(archive)
    }

    /// Where a member's data are; old archives share layers by links.
    fn member(&self, name: &str) -> Result<Option<(u64, u64)>> {
        let mut path = clean(name.as_bytes()).with_context(|| format!("member {name:?}"))?;
        for _ in 0..MAX_LINKS {
            if let Some(place) = self.files.get(&path) {
                return Ok(Some(*place));
            }
            match self.links.get(&path) {
                Some(target) => path = target.clone(),
                None => break,
            }
        }
        Ok(None)
    }

    fn reader(&self, (start, size): (u64, u64)) -> impl Read {
        Section { file: &self.file, position: start, end: start + size }
    }

    fn compression(&self, (start, size): (u64, u64)) -> Result<Compression> {
        let mut bytes = [0; 8];
        let n = self.file.read_at(&mut bytes[..usize::try_from(size).unwrap_or(8).min(8)], start)?;
        Ok(Compression::detect(&bytes[..n])?)
    }

    fn document(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(place) = self.member(name)? else { return Ok(None) };
        blobs::bounded(self.reader(place)).with_context(|| format!("member {name:?}")).map(Some)
    }

    fn needed(&self, name: &str) -> Result<Vec<u8>> {
        self.document(name)?.ok_or_else(|| missing(name))
    }

    fn blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let name = member_name(digest);
        let bytes = self.needed(&name)?;
        let is = Digest::of(&bytes);
        if is == *digest {
            return Ok(bytes);
        }
        Err(Failure::new(format!("damaged archive: member {name:?} has the digest {is}")).into())
    }
}

/// A part of a file.
struct Section<'a> {
    file: &'a File,
    position: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX).min(into.len());
        let n = self.file.read_at(&mut into[..left], self.position)?;
        self.position += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn named(key: &str, value: &str) -> Option<String> {
        let entry = Descriptor {
            media_type: String::new(),
            digest: Digest::of(b""),
            size: 0,
            platform: None,
            annotations: Some(BTreeMap::from([(key.to_owned(), value.to_owned())])),
        };
        name_of(&entry).map(|name| name.to_string())
    }

    #[test]
    fn a_tag_alone_is_no_name() {
        assert_eq!(named(REF_NAME, "latest"), None);
        assert_eq!(named(REF_NAME, "1.2"), None);
        assert_eq!(named(REF_NAME, "v3"), None);
        assert_eq!(named(REF_NAME, "busybox").as_deref(), Some("docker.io/library/busybox:latest"));
        assert_eq!(named(REF_NAME, "quay.io/a/b:c").as_deref(), Some("quay.io/a/b:c"));
        assert_eq!(named("io.containerd.image.name", "quay.io/a/b:c").as_deref(), Some("quay.io/a/b:c"));
    }
}
