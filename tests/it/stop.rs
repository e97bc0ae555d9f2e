//! `ctr stop`, `ctr kill`.

use std::time::{Duration, Instant};

use crate::support::both;

const TRAPS: &str = "sh -c 'trap \"echo stopped; exit 3\" TERM; trap \"echo hup\" HUP; trap \"echo usr; exit 4\" USR1; echo ready; while :; do sleep 0.02; done'";

both!(asks_first, |cx| {
    cx.busybox();
    cx.ctr(&format!("run -d --name c busybox {TRAPS}")).succeeds();
    cx.until_logged("c", "ready");
    cx.ctr("stop c").prints("c\n");
    cx.ctr("inspect -f '{{.State.Status}} {{.State.ExitCode}}' c").prints("exited 3\n");
    cx.ctr("logs c").prints("ready\nstopped\n");
    // One that does not run is fine.
    cx.ctr("stop c").prints("c\n");
});

both!(then_kills, |cx| {
    cx.busybox();
    // The first process of a container gets no signal that it has no handler for.
    cx.ctr("run -d --name c busybox sleep 1000").succeeds();
    let begin = Instant::now();
    cx.ctr("stop -t 1 c").prints("c\n");
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(8), "{took:?}");
    cx.ctr("inspect -f '{{.State.ExitCode}}' c").prints("137\n");
    cx.ctr("start c").prints("c\n");
    cx.ctr("stop --time 0 c").prints("c\n");
});

both!(with_the_containers_own_signal_and_time, |cx| {
    cx.busybox();
    cx.ctr(&format!("run -d --name c --stop-signal USR1 busybox {TRAPS}")).succeeds();
    cx.until_logged("c", "ready");
    cx.ctr("stop c").prints("c\n");
    cx.ctr("inspect -f '{{.State.ExitCode}}' c").prints("4\n");
    cx.ctr("run -d --name d --stop-timeout 0 busybox sleep 1000").succeeds();
    let begin = Instant::now();
    cx.ctr("stop d").prints("d\n");
    assert!(begin.elapsed() < Duration::from_secs(5));
    cx.ctr("start d").prints("d\n");
    cx.ctr("stop -s KILL d").prints("d\n");
});

both!(with_init_a_sleep_ends_at_once, |cx| {
    cx.busybox();
    cx.ctr("run -d --init --name c busybox sleep 1000").succeeds();
    let begin = Instant::now();
    cx.ctr("stop c").prints("c\n");
    assert!(begin.elapsed() < Duration::from_secs(5));
    cx.ctr("inspect -f '{{.State.ExitCode}}' c").prints("143\n");
});

both!(kill_sends_any_signal, |cx| {
    cx.busybox();
    cx.ctr(&format!("run -d --name c busybox {TRAPS}")).succeeds();
    cx.until_logged("c", "ready");
    for name in ["HUP", "SIGHUP", "hup", "1"] {
        cx.ctr(&format!("kill -s {name} c")).prints("c\n");
    }
    cx.until_logged("c", "hup");
    cx.ctr("kill --signal nosuch c").refuses(1, "[..]nvalid signal: nosuch");
    cx.ctr("kill --signal 999 c").refuses(1, "[..]nvalid signal: 999");
    cx.ctr("kill c").prints("c\n");
    cx.until_status("c", "exited");
    cx.ctr("inspect -f '{{.State.ExitCode}}' c").prints("137\n");
    cx.ctr("kill c").refuses(1, "[..]ontainer [..] is not running");
});

both!(what_is_not_there, |cx| {
    for command in ["stop", "kill", "start", "rm", "wait", "logs", "attach", "rename x"] {
        let line = if command == "rename x" { "rename nosuch x".to_owned() } else { format!("{command} nosuch") };
        cx.ctr(&line).refuses(1, "[..]No such container: nosuch");
    }
    cx.ctr("exec nosuch true").refuses(1, "[..]No such container: nosuch");
    cx.ctr("rm -f nosuch").is(0, "", "");
});

both!(several_of_them_at_once_do_not_add_up, |cx| {
    cx.busybox();
    for n in 0..4 {
        cx.ctr(&format!("run -d --name cc{n} busybox sleep 1000")).succeeds();
    }
    let begin = Instant::now();
    let out = cx.ctr("stop -t 1 cc0 cc1 cc2 cc3").succeeds();
    assert_eq!(out.lines().count(), 4, "{out}");
    assert!(begin.elapsed() < Duration::from_millis(3500), "{:?}", begin.elapsed());
});
