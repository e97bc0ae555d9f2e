//! Manifests and indexes as registries and archives hold them: OCI and Docker's schema 2.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::image::digest::Digest;
use crate::image::index::Descriptor;
use crate::image::unpack::Compression;

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// An index with other manifests in the place of some, by their digests.
///
/// # Errors
/// It is damaged.
pub fn index_with(bytes: &[u8], changed: &BTreeMap<Digest, Descriptor>) -> Result<Vec<u8>> {
    let mut whole: serde_json::Value = serde_json::from_slice(bytes)?;
    for entry in whole["manifests"].as_array_mut().into_iter().flatten() {
        let old = entry["digest"].as_str().and_then(|digest| digest.parse::<Digest>().ok());
        let Some(new) = old.and_then(|old| changed.get(&old)) else { continue };
        entry["mediaType"] = new.media_type.as_str().into();
        entry["digest"] = new.digest.as_str().into();
        entry["size"] = new.size.into();
    }
    Ok(serde_json::to_vec(&whole)?)
}

/// The media type of a layer's blob.
#[must_use]
pub fn layer_type(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "application/vnd.oci.image.layer.v1.tar",
        Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    }
}

/// Layers of an image: overlayfs takes some 500, Docker 127.
const MAX_LAYERS: usize = 500;
/// Bytes of a blob, so that sums of lies do not overflow: a pebibyte.
const MAX_SIZE: u64 = 1 << 50;

/// What a manifest's address can lead to.
#[derive(Debug)]
pub enum Document {
    Manifest(Manifest),
    Index(Vec<Descriptor>),
}

/// One image: its configuration and its layers, bottom first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<Vec<Descriptor>>,
}

/// Reads a manifest or an index.
///
/// # Errors
/// Neither of them, an artifact that is no image, or Docker's schema 1.
pub fn parse(bytes: &[u8]) -> Result<Document> {
    let probe: Probe = serde_json::from_slice(bytes).context("damaged manifest")?;
    if probe.schema_version == 1 || probe.media_type.contains("docker.distribution.manifest.v1") {
        return Err(Failure::new("the image has a manifest of Docker's schema 1, which was given up in 2019")
            .hint("push it again with a present-day tool, which writes schema 2 or OCI")
            .into());
    }
    let kind = probe.media_type;
    let is_called = |names: [&str; 2]| {
        let why = format!("damaged manifest: it calls itself {kind:?}, which it is not");
        if kind.is_empty() || names.contains(&kind.as_str()) { Ok(()) } else { Err(Failure::new(why)) }
    };
    match (probe.manifests, probe.config, probe.layers) {
        // A document that is both would be read one way here and the other way elsewhere
        // (CVE-2021-41190).
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
            Err(Failure::new("damaged manifest: it is an index and a manifest at once").into())
        }
        (Some(manifests), None, None) => {
            is_called([OCI_INDEX, DOCKER_LIST])?;
            Ok(Document::Index(manifests))
        }
        (None, Some(_), Some(_)) => {
            is_called([OCI_MANIFEST, DOCKER_MANIFEST])?;
            let manifest: Manifest = serde_json::from_slice(bytes).context("damaged manifest")?;
            let kind = &manifest.config.media_type;
            if !kind.is_empty() && !kind.contains("image.config") && !kind.contains("container.image.v1") {
                return Err(Failure::new(format!("not a container image but an artifact of type {kind:?}")).into());
            }
            if let Some(layer) = manifest.layers.iter().find(|l| l.media_type.contains("encrypted")) {
                return Err(Failure::new(format!(
                    "layer {:?} is encrypted, which is not supported",
                    layer.digest.short()
                ))
                .into());
            }
            if manifest.layers.len() > MAX_LAYERS {
                return Err(Failure::new(format!("the image has more than {MAX_LAYERS} layers")).into());
            }
            if let Some(blob) = manifest.layers.iter().chain([&manifest.config]).find(|blob| blob.size > MAX_SIZE) {
                let why = format!("damaged manifest: blob {:?} has {} bytes", blob.digest.short(), blob.size);
                return Err(Failure::new(why).into());
            }
            Ok(Document::Manifest(manifest))
        }
        _ => Err(Failure::new("damaged manifest: neither an image nor an index of images").into()),
    }
}

/// [`parse`] of what a registry sent as `media_type`, which must not contradict it: others could go by that
/// (CVE-2021-41190).
///
/// # Errors
/// As [`parse`]; it is called what it is not.
pub fn parse_sent(bytes: &[u8], media_type: &str) -> Result<Document> {
    let document = parse(bytes)?;
    let others = match document {
        Document::Index(_) => [OCI_MANIFEST, DOCKER_MANIFEST],
        Document::Manifest(_) => [OCI_INDEX, DOCKER_LIST],
    };
    if others.contains(&media_type) {
        let why = format!("damaged manifest: the registry calls it {media_type:?}, which it is not");
        return Err(Failure::new(why).into());
    }
    Ok(document)
}

/// Whether a document is as long as the one that leads to it says.
///
/// # Errors
/// It is not.
pub fn check_size(descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
    let (said, is) = (descriptor.size, bytes.len());
    if said == is as u64 {
        return Ok(());
    }
    Err(Failure::new(format!("blob {:?} has {is} bytes, the manifest says {said}", descriptor.digest.short())).into())
}

/// The media type of an index; where it names none, the standard's.
#[must_use]
pub fn index_type(bytes: &[u8]) -> &'static str {
    let is_dockers = serde_json::from_slice::<Probe>(bytes).is_ok_and(|probe| probe.media_type == DOCKER_LIST);
    if is_dockers { DOCKER_LIST } else { OCI_INDEX }
}

/// Reads a configuration, and its diff ids, bottom first.
///
/// # Errors
/// Damage, or another number of diff ids than `layers`.
pub fn parse_config(bytes: &[u8], layers: usize) -> Result<(ImageConfiguration, Vec<Digest>)> {
    let config: ImageConfiguration = serde_json::from_slice(bytes).context("damaged image configuration")?;
    let diffs = diff_ids(&config)?;
    if diffs.len() != layers {
        return Err(Failure::new(format!(
            "damaged image configuration: it has {} layers, the manifest {layers}",
            diffs.len()
        ))
        .into());
    }
    Ok((config, diffs))
}

/// The digests of the layers' archives, bottom first.
///
/// # Errors
/// One that is not a digest.
pub fn diff_ids(config: &ImageConfiguration) -> Result<Vec<Digest>> {
    let diffs = config.rootfs().diff_ids().iter().map(|diff| Ok(diff.parse()?));
    diffs.collect::<Result<_>>().context("damaged image configuration")
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn error(text: &str) -> String {
        format!("{:#}", parse(text.replace('D', D).as_bytes()).expect_err(text))
    }

    #[test]
    fn both_kinds_are_read() {
        let manifest = r#"{"schemaVersion":2,"config":{"digest":"D","size":1},"layers":[{"digest":"D","size":2}]}"#;
        assert!(matches!(parse(manifest.replace('D', D).as_bytes()), Ok(Document::Manifest(m)) if m.layers.len() == 1));
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(matches!(parse(index.as_bytes()), Ok(Document::Index(i)) if i.is_empty()));
    }

    #[test]
    fn what_is_no_image_is_refused_and_named() {
        assert!(error(r#"{"schemaVersion":1,"fsLayers":[]}"#).contains("schema 1"));
        assert!(error(r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#).contains("at once"));
        assert!(error("{}").contains("neither"));
        assert!(error("[").contains("damaged"));
        let chart = r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"D","size":1},"layers":[]}"#;
        assert!(error(chart).contains("helm"));
        assert!(error(r#"{"config":{"digest":"../x","size":1},"layers":[]}"#).contains("not a digest"));
    }
}
