//! Manifests and indexes of registries and archives.
#![no_main]

use ctr::image::manifest::{self, Document};
use ctr::image::platform::{self, Platform};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Document::Index(entries)) = manifest::parse(bytes) {
        let _ = platform::choose(&entries, &Platform::host());
    }
});
