//! `ctr restart`.

use std::time::{Duration, Instant};

use crate::support::{both, until};

const TRAPS: &str =
    "sh -c 'trap \"echo term; exit 3\" TERM; trap \"echo usr; exit 4\" USR1; echo ready; while :; do sleep 0.02; done'";

both!(stops_and_starts, |cx| {
    cx.busybox();
    cx.ctr(&format!("run -d --name web busybox {TRAPS}")).succeeds();
    cx.until_logged("web", "ready");
    // Its first word comes a moment after it was started.
    let until_logs = |wanted: &str| until(&format!("it logs {wanted:?}"), || cx.ctr("logs web").succeeds() == wanted);
    cx.ctr("restart web").prints("web\n");
    until_logs("ready\nterm\nready");
    cx.ctr("inspect -f '{{.State.Status}} {{.RestartCount}}' web").prints("running 0\n");
    cx.ctr("restart -s USR1 web").prints("web\n");
    until_logs("ready\nterm\nready\nusr\nready");
    // One that does not run is started; others go on past one that is not there.
    cx.ctr("create --name new busybox sleep 1000").succeeds();
    cx.ctr("container restart -t 0 new nosuch web new").is(1, "new\nweb\nnew\n", "ctr: No such container: nosuch\n");
    cx.ctr("ps --format '{{.Names}}'").prints("new\nweb\n");
    cx.ctr("restart").refuses(1, "'ctr restart' requires at least 1 argument");
    cx.ctr("restart -s nosuch web").refuses(1, "[..]nvalid signal: nosuch");
});

both!(those_that_ignore_it_are_killed_together, |cx| {
    cx.busybox();
    for name in ["aa", "bb", "cc"] {
        cx.ctr(&format!("run -d --name {name} busybox sleep 1000")).succeeds();
    }
    let begin = Instant::now();
    // One after the other they would take 18 seconds.
    cx.ctr("restart -t 6 aa bb cc").prints("aa\nbb\ncc\n");
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(5900) && took < Duration::from_secs(17), "{took:?}");
    assert_eq!(cx.ctr("restart --time 0 -a").succeeds().lines().count(), 3);
});

both!(one_that_removes_itself_is_kept, |cx| {
    cx.busybox();
    cx.ctr("run -d --rm --name box busybox sleep 1000").succeeds();
    cx.ctr("restart -t 0 box").prints("box\n");
    cx.ctr("ps --format '{{.Names}}'").prints("box\n");
    // Two at once come one after the other.
    let both = [cx.spawn("restart -t 0 box"), cx.spawn("restart -t 0 box")];
    for one in both {
        one.wait().prints("box\n");
    }
    cx.ctr("stop -t 0 box").prints("box\n");
    cx.ctr("ps -aq").prints("");
});
