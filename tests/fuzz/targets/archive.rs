//! Archives of images, as `load` reads them: nothing but the store is touched, and it can be read afterwards.
#![no_main]

use std::fs::File;
use std::io::{Seek, Write};

use ctr::image::archive;
use ctr::image::index::Index;
use ctr::store::{Store, tree};
use libfuzzer_sys::fuzz_target;
use nix::sys::memfd::{MFdFlags, memfd_create};

fuzz_target!(|bytes: &[u8]| {
    let place = tempfile::tempdir().unwrap();
    let (root, run) = (place.path().join("root"), place.path().join("run"));
    let store = Store::open(Some(&root), Some(&run)).unwrap();
    let mut file = File::from(memfd_create("archive", MFdFlags::empty()).unwrap());
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    let mut loaded = Vec::new();
    let _ = archive::load(&store, file, None, |image| loaded.push(image.id));
    let index = Index::read(&store).unwrap();
    for image in loaded {
        assert!(index.entries.iter().any(|entry| entry.image == image));
    }
    let mut names: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["root", "run"]);
    tree::remove(&root).unwrap();
});
