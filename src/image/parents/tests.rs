//! Stacks of layers, and what their merged folders must look like.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use tempfile::TempDir;

use super::*;
use crate::image::unpack::stream;

/// An archive's entries: folders with a mode, empty files without.
type Entries<'a> = &'a [(&'a str, Option<u32>)];

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Store::open(Some(&dir.path().join("root")), Some(&dir.path().join("run"))).expect("store");
    (dir, store)
}

fn layer(store: &Store, entries: Entries<'_>) -> Pinned {
    let mut archive = tar::Builder::new(Vec::new());
    for (n, (name, mode)) in (1..).zip(entries) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(if mode.is_some() { tar::EntryType::Directory } else { tar::EntryType::Regular });
        header.set_mode(mode.unwrap_or(0o644));
        header.set_mtime(n);
        header.set_size(0);
        archive.append_data(&mut header, name, &b""[..]).expect("archive");
    }
    let bytes = archive.into_inner().expect("archive");
    let folder = layers::temporary(store).expect("folder");
    let done = stream(&bytes[..], u64::MAX, None, folder.path(), Powers::now(), |_| {}).expect("unpack");
    layers::publish(store, &done.diff, &done.blob, &folder, done.applied).expect("publish")
}

/// The layer of folders for these layers, bottom first.
fn made(store: &Store, stack: &[Entries<'_>]) -> Option<PathBuf> {
    let stack: Vec<Pinned> = stack.iter().map(|entries| layer(store, entries)).collect();
    let stack: Vec<&Pinned> = stack.iter().collect();
    make(store, &stack, Powers::now()).expect("make")?;
    let diffs: Vec<Digest> = stack.iter().map(|layer| layer.diff.clone()).collect();
    Some(store.layers().join(name(&diffs).expect("name")))
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("there").permissions().mode() & 0o7777
}

#[test]
fn left_out_folders_keep_what_the_layer_below_says() {
    let (_dir, store) = store();
    let base: Entries<'_> = &[("./", Some(0o711)), ("tmp", Some(0o1777)), ("srv", Some(0o750)), ("srv/a", Some(0o700))];
    let made = made(&store, &[base, &[("tmp/x", None), ("srv/a/y", None)]]).expect("needed");
    assert_eq!(mode(&made), 0o711);
    assert_eq!(mode(&made.join("tmp")), 0o1777);
    assert_eq!(mode(&made.join("srv")), 0o750);
    assert_eq!(mode(&made.join("srv/a")), 0o700);
    assert_eq!(std::fs::metadata(made.join("srv")).expect("there").mtime(), 3);
    assert!(!made.join("tmp/x").exists(), "folders alone");
}

#[test]
fn complete_archives_need_nothing() {
    let (_dir, store) = store();
    let base: Entries<'_> = &[("./", Some(0o711)), ("a", Some(0o700))];
    assert_eq!(made(&store, &[base]), None);
    assert_eq!(made(&store, &[base, &[("./", Some(0o755)), ("a", Some(0o711)), ("a/b", None)]]), None);
    assert_eq!(made(&store, &[&[("x/y", None)], &[("x/z", None)]]), None, "nobody says what x is");
}

#[test]
fn what_is_hidden_says_nothing() {
    let (_dir, store) = store();
    let base: Entries<'_> = &[("a", Some(0o700)), ("o", Some(0o700)), ("o/i", Some(0o700))];
    let stack: &[Entries<'_>] =
        &[base, &[(".wh.a", None), ("o", Some(0o711)), ("o/.wh..wh..opq", None)], &[("a/b", None), ("o/i/x", None)]];
    let made = made(&store, stack).expect("for o, which the middle layer has");
    assert!(!made.join("a").exists(), "the base's folder was removed");
    assert_eq!(mode(&made.join("o")), 0o711);
    assert!(!made.join("o/i").exists() || mode(&made.join("o/i")) == 0o755, "hidden by the opaque folder");
}
