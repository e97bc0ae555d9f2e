//! `ctr wait`.

use std::path::Path;

use crate::support::{Running, both, until};

/// Waits until the command has so many descriptors of a kind and sleeps: before it has all that it waits
/// for, it does not.
#[track_caller]
fn until_it_waits(running: &Running, kind: &str, count: usize) {
    let process = Path::new("/proc").join(running.pid().to_string());
    until("it waits", || {
        let open = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let open = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        open.filter(|to| to.to_str().is_some_and(|to| to.starts_with(kind))).count() == count
            && std::fs::read_to_string(process.join("stat")).is_ok_and(|stat| stat.contains(") S "))
    });
}

/// To a container's monitor.
const CONNECTION: &str = "socket:";
/// For changes of its records.
const WATCH: &str = "anon_inode:inotify";

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
    until_it_waits(&running, CONNECTION, 1);
    cx.ctr("exec box touch /go").prints("");
    running.wait().prints("7\n");
    cx.leaves_nothing();
});

both!(several_each_with_its_own, |cx| {
    cx.busybox();
    let waits = "busybox sh -c 'while [ ! -e /go ]; do sleep 0.02; done; exit";
    cx.ctr(&format!("run -d --name aa {waits} 3'")).succeeds();
    cx.ctr(&format!("run -d --rm --name bb {waits} 4'")).succeeds();
    let running = cx.spawn("wait aa nosuch bb");
    // The second one ends, and is gone, long before it is its turn.
    until_it_waits(&running, CONNECTION, 2);
    cx.ctr("exec bb touch /go").prints("");
    until("it is gone", || cx.ctr("ps -aq --filter name=bb").out().is_empty());
    cx.ctr("exec aa touch /go").prints("");
    running.wait().is(1, "3\n4\n", "ctr: No such container: nosuch\n");
    cx.ctr("wait --latest").prints("3\n");
    cx.ctr("wait").refuses(1, "'ctr wait' requires at least 1 argument");
});

both!(for_a_condition, |cx| {
    cx.busybox();
    cx.ctr("create --name box busybox sleep 1000").succeeds();
    cx.ctr("wait --condition created box").prints("-1\n");
    let wait = |condition: &str, command: &str| {
        let running = cx.spawn(&format!("wait --condition {condition} box"));
        until_it_waits(&running, WATCH, 1);
        cx.ctr(command).prints("box\n");
        running.wait()
    };
    wait("running", "start box").prints("-1\n");
    wait("paused", "pause box").prints("-1\n");
    wait("running --condition exited", "unpause box").prints("-1\n");
    wait("stopped,paused", "kill box").prints("137\n");
    cx.ctr("wait --condition exited --interval 1s box").prints("137\n");
    wait("removing -i 20", "rm box").prints("-1\n");
    cx.ctr("wait --condition running box").refuses(1, "No such container: box");
    cx.ctr("create --name box busybox true").succeeds();
    wait("running", "rm box").refuses(1, "No such container: [..]");
    cx.ctr("wait --condition foo box")
        .refuses(125, "invalid argument \"foo\" for \"--condition\" flag: unknown container state: foo");
});
