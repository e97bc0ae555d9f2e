//! `ctr wait`.

use crate::support::both;

both!(says_the_exit_code, |cx| {
    cx.busybox();
    cx.ctr("run -d --name c busybox sh -c 'while [ ! -e /go ]; do sleep 0.02; done; exit 42'").succeeds();
    let waiting: Vec<_> = (0..3).map(|_| cx.spawn("wait c")).collect();
    cx.ctr("exec c touch /go").prints("");
    for running in waiting {
        running.wait().prints("42\n");
    }
    // At its end already.
    cx.ctr("wait c").prints("42\n");
    cx.ctr("wait c nosuch").is(1, "42\n", "ctr: [..]No such container: nosuch\n");
});

both!(for_one_that_removes_itself, |cx| {
    cx.busybox();
    cx.ctr("run -d --rm -i --name c busybox sh -c 'while [ ! -e /go ]; do sleep 0.02; done; exit 7'").succeeds();
    let running = cx.spawn("wait c");
    crate::support::until("it waits", || {
        std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).is_ok_and(|stat| stat.contains(") S "))
    });
    cx.ctr("exec c touch /go").prints("");
    running.wait().prints("7\n");
    cx.leaves_nothing();
});
