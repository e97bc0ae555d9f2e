//! Archives of images, as `load` reads them: nothing but the store is touched, and it can be read afterwards.
#![no_main]

use std::fs::File;
use std::io::{Seek, Write};

use ctr::image::archive::load::load;
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
    let loaded = load(&store, file, None);
    let index = Index::read(&store).unwrap();
    match loaded {
        Ok(loaded) => assert!(loaded.iter().all(|image| index.entries.iter().any(|entry| entry.image == image.id))),
        Err(_) => assert!(index.entries.is_empty(), "all of it or nothing"),
    }
    let mut names: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["root", "run"]);
    tree::remove(&root).unwrap();
});
