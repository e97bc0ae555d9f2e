//! How much space containers take: what they wrote, and with the layers below.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::container::config::{ContainerConfig, RootFs};
use crate::store::Store;

/// Sizes of containers; a layer that several share is looked at once.
#[derive(Debug)]
pub struct Sizes<'a> {
    store: &'a Store,
    layers: HashMap<String, u64>,
}

impl<'a> Sizes<'a> {
    /// Enters the user's own user namespace, for the files of its other ids: call it from a process
    /// of one thread.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn enter(store: &'a Store) -> Result<Self> {
        crate::userns::enter(store)?;
        Ok(Self { store, layers: HashMap::new() })
    }

    /// Bytes of what the container wrote.
    #[must_use]
    pub fn written(&self, config: &ContainerConfig) -> u64 {
        match &config.root {
            RootFs::Image { .. } => tree(&self.store.container(&config.id).join("upper")),
            RootFs::Directory { .. } => 0,
        }
    }

    /// Bytes of what the container wrote, and of its whole tree.
    #[must_use]
    pub fn of(&mut self, config: &ContainerConfig) -> (u64, u64) {
        match &config.root {
            RootFs::Image { layers, .. } => {
                let written = self.written(config);
                let below: u64 = layers.iter().map(|layer| self.layer(layer)).sum();
                (written, written + below)
            }
            RootFs::Directory { path } => (0, tree(Path::new(path))),
        }
    }

    fn layer(&mut self, name: &str) -> u64 {
        if let Some(size) = self.layers.get(name) {
            return *size;
        }
        let size = tree(&self.store.layers().join(name));
        self.layers.insert(name.to_owned(), size);
        size
    }
}

/// Bytes of all regular files in a tree, each file with several names once. What cannot be read, or
/// goes away meanwhile, is not counted.
#[must_use]
pub fn tree(root: &Path) -> u64 {
    let mut seen = HashSet::new();
    let mut total = 0;
    let mut folders: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                folders.push(entry.path());
            } else if meta.is_file() && (meta.nlink() == 1 || seen.insert((meta.dev(), meta.ino()))) {
                total += meta.len();
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_file_with_two_names_counts_once() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("a")).unwrap();
        std::fs::write(home.path().join("a/x"), "12345").unwrap();
        std::fs::hard_link(home.path().join("a/x"), home.path().join("y")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", home.path().join("z")).unwrap();
        assert_eq!(super::tree(home.path()), 5);
    }
}
