//! `ctr version`, `ctr info`.

use crate::support::both;

both!(version_says_which, |cx| {
    let out = cx.ctr("version").succeeds();
    assert!(out.contains(env!("CARGO_PKG_VERSION")), "{out}");
});
