//! Layers, compressed or not: whatever the archive says, nothing but its own folder is touched.
#![no_main]

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use ctr::image::unpack::{self, Powers};
use ctr::store::tree;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let place = tempfile::tempdir().unwrap();
    let (inside, canary) = (place.path().join("layer"), place.path().join("canary"));
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(&canary, "sings").unwrap();
    let before = canary.metadata().unwrap();
    let _ = unpack::stream(bytes, 1 << 20, None, &inside, Powers::now(), |_| ());
    let after = canary.metadata().unwrap();
    assert_eq!(std::fs::read(&canary).unwrap(), b"sings");
    assert_eq!((before.ctime(), before.ctime_nsec(), before.nlink()), (after.ctime(), after.ctime_nsec(), after.nlink()));
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2);
    std::fs::set_permissions(&inside, PermissionsExt::from_mode(0o700)).unwrap();
    tree::remove(&inside).unwrap();
});
