//! Where the certificates of registries lie: docker.com, "Verify repository client with certificates",
//! and containers-certs.d(5).

use std::path::{Path, PathBuf};

/// Folders that may hold certificates for one registry: Docker's and containers' `certs.d`.
#[must_use]
pub fn folders(domain: &str) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        ["/etc/containers/certs.d", "/etc/docker/certs.d"].iter().map(|d| Path::new(d).join(domain)).collect();
    folders.extend(super::own("certs.d").map(|dir| dir.join(domain)));
    folders.extend(super::docker().map(|dir| dir.join("certs.d").join(domain)));
    folders
}
