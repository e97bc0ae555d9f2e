//! `ctr container exists`, `image exists`, `network exists`; `secret exists` is in `secret`.

use crate::support::{Image, both};

both!(the_answer_is_the_exit_code, |cx| {
    let is = |line: &str, code: i32| cx.ctr(line).is(code, "", "");
    is("network exists bridge", 0);
    is("network exists front", 1);
    is("image exists busybox", 1);
    cx.busybox();
    let id = cx.ctr("create --name box busybox true").succeeds();
    let network = cx.ctr("network create front").succeeds();
    for wanted in ["box", &id, &id[..12]] {
        is(&format!("container exists {wanted}"), 0);
    }
    for wanted in ["busybox", "busybox:latest", "docker.io/library/busybox", &Image::busybox().id()] {
        is(&format!("image exists {wanted}"), 0);
    }
    is(&format!("network exists {network}"), 0);
    is("container exists busybox", 1);
    is("image exists box", 1);
    is("image exists UPPER", 1);
    cx.ctr("container exists").refuses(1, "[..]requires[..]1 argument[..]");
});
