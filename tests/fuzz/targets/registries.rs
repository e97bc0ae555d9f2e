//! `registries.conf`: whatever it says, an image is asked for where a name can lead, and last at no mirror.
//! A first line such as `# host/name:tag` says what is asked for beside the usual names.
#![no_main]

use std::path::Path;

use ctr::config::registries::Registries;
use ctr::image::reference::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(registries) = Registries::of_file(Path::new("/registries.conf"), text) else { return };
    let own = text.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or("a");
    for wanted in [own, "busybox", "a/b:1", "localhost:5000/a/b", "www.example.com/a/b/c:2"] {
        let candidates = registries.candidates(wanted).unwrap_or_default();
        for name in candidates.into_iter().chain(wanted.parse::<Reference>()).map(Reference::or_latest) {
            let _ = registries.is_insecure(name.domain());
            let Ok(endpoints) = registries.endpoints(&name) else { continue };
            assert!(endpoints.iter().rev().skip(1).all(|endpoint| endpoint.is_mirror));
            assert!(endpoints.last().is_some_and(|endpoint| !endpoint.is_mirror));
            for endpoint in &endpoints {
                // It becomes an address; the tag and the digest that were asked for are what is asked for.
                let full = endpoint.reference.to_string();
                assert_eq!(endpoint.reference.wanted(), name.wanted());
                assert!(full.bytes().all(|b| b.is_ascii_graphic()), "{full:?}");
                assert!(endpoint.reference.path().split('/').all(|step| step != "." && step != ".."), "{full:?}");
            }
            // A registry that may not be asked may not be pushed to.
            assert!(registries.itself(&name).is_ok(), "{name}");
        }
    }
});
