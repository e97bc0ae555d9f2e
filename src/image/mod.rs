//! Images: references, manifests, layers, pulls, archives.

use anyhow::{Result, bail};
use oci_spec::image::ImageConfiguration;

use crate::store::Store;

/// An image of the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// `sha256:` and the digest of its configuration.
    pub id: String,
    /// Full references, `docker.io/library/busybox:latest`.
    pub names: Vec<String>,
    pub config: ImageConfiguration,
    /// Names below `layers/`, topmost first, as `overlay`'s `lowerdir` wants them.
    pub layers: Vec<String>,
}

/// When to ask a registry (`--pull`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    Always,
    #[default]
    Missing,
    Never,
}

/// The image that a person means: by name, digest, id or the beginning of an id.
pub fn find(_store: &Store, _wanted: &str) -> Result<Option<Image>> {
    bail!("image::find is not built yet")
}

/// The image, pulled when the policy says so. Progress goes to standard error unless `quiet`.
pub fn obtain(
    _store: &Store,
    _wanted: &str,
    _policy: PullPolicy,
    _platform: Option<&str>,
    _quiet: bool,
) -> Result<Image> {
    bail!("image::obtain is not built yet")
}
