//! The image that is pushed, and its manifest with layers that are called otherwise by then.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use crate::error::Failure;
use crate::image::blobs;
use crate::image::digest::Digest;
use crate::image::index::Descriptor;
use crate::image::make::Format;
use crate::image::manifest::{self, Document, Manifest};
use crate::image::platform::Platform;
use crate::store::Store;

/// What of an image a push needs.
pub struct Image {
    pub id: Digest,
    pub bytes: Vec<u8>,
    pub manifest: Manifest,
    pub media_type: String,
    pub config: Vec<u8>,
    pub platform: Platform,
    pub labels: BTreeMap<String, String>,
    /// Bottom first.
    pub diffs: Vec<Digest>,
}

impl Image {
    /// By its manifest.
    ///
    /// # Errors
    /// Something of it is missing or damaged.
    pub fn read(store: &Store, digest: &Digest) -> Result<Self> {
        let missing = |what: &str| {
            Failure::new(format!("image {:?} is damaged: its {what} is missing", digest.short()))
                .hint("pull or load it again")
        };
        let bytes = blobs::read_whole(store, digest)?.ok_or_else(|| missing("manifest"))?;
        let Document::Manifest(manifest) = manifest::parse(&bytes)? else {
            return Err(Failure::new(format!("image {:?} is damaged: its manifest is none", digest.short())).into());
        };
        let config = blobs::read_whole(store, &manifest.config.digest)?.ok_or_else(|| missing("configuration"))?;
        let (parsed, diffs) = manifest::parse_config(&config, manifest.layers.len())?;
        let labels = parsed.labels_of_config().cloned().unwrap_or_default().into_iter().collect();
        let media_type = match manifest.media_type.as_str() {
            "" => manifest::OCI_MANIFEST.to_owned(),
            known => known.to_owned(),
        };
        let (id, platform) = (manifest.config.digest.clone(), Platform::of(&parsed));
        Ok(Self { id, bytes, manifest, media_type, config, platform, labels, diffs })
    }

    /// The manifest with these layers: the very same bytes, where they are its own.
    ///
    /// # Errors
    /// It is damaged.
    pub fn manifest_with(&self, layers: &[Descriptor]) -> Result<(Vec<u8>, String)> {
        let changed: Vec<bool> =
            self.manifest.layers.iter().zip(layers).map(|(old, new)| old.digest != new.digest).collect();
        if !changed.contains(&true) {
            return Ok((self.bytes.clone(), self.media_type.clone()));
        }
        let mut whole: Value = serde_json::from_slice(&self.bytes)?;
        // Docker's own format has no name for zstd.
        let is_oci =
            self.media_type != manifest::DOCKER_MANIFEST || layers.iter().any(|l| l.media_type.ends_with("zstd"));
        let (format, media_type) =
            if is_oci { (Format::Oci, manifest::OCI_MANIFEST) } else { (Format::Docker, manifest::DOCKER_MANIFEST) };
        whole["mediaType"] = media_type.into();
        if is_oci && self.media_type == manifest::DOCKER_MANIFEST {
            whole["config"]["mediaType"] = manifest::OCI_CONFIG.into();
        }
        let described = layers.iter().zip(&changed).zip(whole["layers"].as_array().into_iter().flatten());
        let described: Vec<Value> = described
            .map(|((new, changed), old)| {
                let media_type = format.layer(&new.media_type);
                if *changed {
                    // What was noted of the old bytes is not true of the new ones.
                    return json!({"mediaType": media_type, "digest": new.digest.as_str(), "size": new.size});
                }
                let mut same = old.clone();
                same["mediaType"] = media_type.into();
                same
            })
            .collect();
        whole["layers"] = described.into();
        Ok((serde_json::to_vec(&whole)?, media_type.to_owned()))
    }
}
