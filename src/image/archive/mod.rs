//! Archives of images: what `docker save`, `podman save` and `skopeo` write, and what is written for
//! them.
//!
//! Two shapes: docker-archive (`manifest.json` names a configuration, names and layers) and
//! oci-archive (an OCI image layout; its blobs bear their digests). Docker's of today is both at once,
//! and so is the one that [`save`] writes: the layout keeps every digest, the other half is for
//! readers that know no layout.

pub mod load;
mod members;
pub mod save;

use serde::{Deserialize, Serialize};

/// An entry of `manifest.json` (Docker image specification v1.2).
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// containerd's annotation for the full name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
