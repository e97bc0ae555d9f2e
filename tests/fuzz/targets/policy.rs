//! `policy.json`: what is understood asks for something of every image, and what is not is refused.
#![no_main]

use std::path::Path;

use ctr::config::policy::{Policy, Requirement};
use ctr::image::reference::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(policy) = Policy::parse(Path::new("/policy.json"), text) else { return };
    for name in ["busybox", "localhost:5000/a/b:1", "www.example.com/a/b/c"] {
        let name: Reference = name.parse().unwrap();
        let requirements = policy.of(&name);
        assert!(!requirements.is_empty());
        for requirement in requirements {
            if let Requirement::Sigstore(wanted) = requirement {
                assert!(!wanted.keys.is_empty());
                let other: Reference = "other.example.net/x:1".parse().unwrap();
                let _ = (wanted.identity.accepts(&name, &name), wanted.identity.accepts(&name, &other));
            }
        }
    }
});
