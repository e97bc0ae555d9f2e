//! `ctr wait`.

use crate::support::both;

both!(says_the_exit_code, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sh -c 'while [ ! -e /go ]; do sleep 0.02; done; exit 42'").succeeds();
    let waiting: Vec<_> = (0..3).map(|_| cx.spawn("wait box")).collect();
    cx.ctr("exec box touch /go").prints("");
    for running in waiting {
        running.wait().prints("42\n");
    }
    // At its end already.
    cx.ctr("wait box").prints("42\n");
    cx.ctr("wait box nosuch").is(1, "42\n", "ctr: [..]No such container: nosuch\n");
});

both!(for_one_that_removes_itself, |cx| {
    cx.busybox();
    cx.ctr("run -d --rm -i --name box busybox sh -c 'while [ ! -e /go ]; do sleep 0.02; done; exit 7'").succeeds();
    let running = cx.spawn("wait box");
    crate::support::until("it waits", || {
        std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).is_ok_and(|stat| stat.contains(") S "))
    });
    cx.ctr("exec box touch /go").prints("");
    running.wait().prints("7\n");
    cx.leaves_nothing();
});
