//! Where a registry has blobs already: repositories of it that images of the store came from or went to.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::image::digest::Digest;
use crate::image::index::Index;
use crate::image::manifest::{self, Document};
use crate::image::reference::Reference;
use crate::image::{blobs, layers};
use crate::store::Store;

/// Other repositories whose blobs are asked for; each makes the token's scope longer.
const MAX_SOURCES: usize = 16;

/// Which repositories are known to have which blobs.
#[derive(Debug, Default)]
pub struct Sources {
    /// By blob: repositories of the registry that is pushed to.
    near: BTreeMap<Digest, Vec<String>>,
}

impl Sources {
    /// `name`: where it is pushed to. `blobs`: those that are looked for, with their diff ids.
    ///
    /// # Errors
    /// A layer's record cannot be read.
    pub fn of(store: &Store, index: &Index, name: &Reference, wanted: &[(Digest, Digest)]) -> Result<Self> {
        let mut sources = Self::default();
        let blobs: BTreeSet<&Digest> = wanted.iter().map(|(blob, _)| blob).collect();
        for entry in &index.entries {
            let (Some(text), Some(_)) = (&entry.name, &entry.repo_digest) else { continue };
            let Ok(from) = text.parse::<Reference>() else { continue };
            if from.domain() != name.domain() {
                continue;
            }
            // What is damaged is no source.
            let Ok(Some(bytes)) = blobs::read(store, &entry.manifest.digest) else { continue };
            let Ok(Document::Manifest(manifest)) = manifest::parse(&bytes) else { continue };
            for layer in manifest.layers.iter().filter(|layer| blobs.contains(&layer.digest)) {
                sources.add_near(&layer.digest, &from.repository(), name);
            }
        }
        for (_, diff) in wanted {
            for blob in layers::find(store, diff)?.into_iter().flat_map(|record| record.packed) {
                for place in &blob.repositories {
                    sources.add_near(&blob.digest, place, name);
                }
            }
        }
        Ok(sources)
    }

    /// `place`: a repository with its host.
    fn add_near(&mut self, blob: &Digest, place: &str, name: &Reference) {
        let Some((domain, path)) = place.split_once('/') else { return };
        let all = self.near.entry(blob.clone()).or_default();
        if domain == name.domain() && path != name.path() && !all.iter().any(|known| known == path) {
            all.push(path.to_owned());
        }
    }

    /// All repositories that may be asked for something.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        let all: BTreeSet<&String> = self.near.values().filter_map(|paths| paths.first()).collect();
        all.into_iter().take(MAX_SOURCES).cloned().collect()
    }

    #[must_use]
    pub fn near(&self, blob: &Digest) -> Option<&str> {
        self.near.get(blob)?.first().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_of_the_same_registry_are_sources() {
        let name: Reference = "a.io/new/app:1".parse().expect("a name");
        let blob = Digest::of(b"x");
        let mut sources = Sources::default();
        for place in ["a.io/base/os", "a.io/new/app", "b.io/base/os", "a.io/other"] {
            sources.add_near(&blob, place, &name);
        }
        assert_eq!(sources.near(&blob), Some("base/os"));
        assert_eq!(sources.all(), ["base/os"]);
    }
}
