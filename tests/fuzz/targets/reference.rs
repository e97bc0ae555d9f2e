//! Names of images: what is read is the same when it is written and read again, in each of its forms.
#![no_main]

use ctr::image::reference::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(name) = text.parse::<Reference>() else { return };
    let again = |form: &str| form.parse::<Reference>().unwrap_or_else(|e| panic!("{form:?}: {e}"));
    assert_eq!(again(&name.to_string()).to_string(), name.to_string());
    assert_eq!(again(&name.familiar()).to_string(), name.to_string());
    assert_eq!(again(&name.repository()).repository(), name.repository());
    let full = name.or_latest();
    assert_eq!(again(&full.stored().to_string()).stored().to_string(), full.stored().to_string());
    // They become parts of addresses and of paths.
    for part in [full.domain(), full.path(), full.wanted()] {
        assert!(!part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic()), "{part:?}");
        assert!(part.split('/').all(|step| step != "." && step != ".."), "{part:?}");
    }
});
