//! Configurations of images: as many layers as the manifest has, and digests that can be names of files.
#![no_main]

use ctr::image::manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (layers, bytes) = input;
    let layers = usize::from(layers % 4);
    if let Ok((_, diffs)) = manifest::parse_config(bytes, layers) {
        assert_eq!(diffs.len(), layers);
        assert!(diffs.iter().all(|diff| diff.hex().len() == 64 && diff.hex().bytes().all(|b| b.is_ascii_hexdigit())));
    }
});
