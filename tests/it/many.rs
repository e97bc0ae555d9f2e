//! Many at once.

use crate::support::both;

both!(fifty_runs_at_once, |cx| {
    cx.busybox();
    let all: Vec<_> = (0..50).map(|n| (n, cx.spawn(&format!("run --rm busybox sh -c 'echo {n}; exit {n}'")))).collect();
    for (n, running) in all {
        running.wait().is(n, &format!("{n}\n"), "");
    }
    cx.ctr("ps -aq").prints("");
    cx.leaves_nothing();
});

both!(twenty_that_run_then_stop, |cx| {
    cx.busybox();
    let all: Vec<_> = (0..20).map(|n| cx.spawn(&format!("run -d --init --name n{n} busybox sleep 1000"))).collect();
    for running in all {
        running.wait().succeeds();
    }
    assert_eq!(cx.ctr("ps -q").succeeds().lines().count(), 20);
    let names: Vec<_> = (0..20).map(|n| format!("n{n}")).collect();
    let out = cx.ctr(&format!("rm -f {}", names.join(" "))).succeeds();
    assert_eq!(out.lines().count(), 20);
    cx.leaves_nothing();
});

both!(commands_of_every_kind_on_one_container, |cx| {
    cx.busybox();
    for _ in 0..3 {
        cx.ctr("run -d --init --name box busybox sleep 1000").succeeds();
        let lines = [
            "ps -a",
            "inspect box",
            "logs box",
            "stop -t 1 box",
            "kill box",
            "rm -f box",
            "start box",
            "exec box true",
            "rename box d",
            "rm -f d",
        ];
        let all: Vec<_> = lines.iter().map(|line| cx.spawn(line)).collect();
        for running in all {
            let ran = running.wait();
            // Each finds one state or the other, and says so; none is confused.
            assert!(ran.code == 0 || ran.err().starts_with("ctr: ") || ran.code == 137, "{ran}");
            assert!(!ran.err().contains("damaged") && !ran.err().contains("panicked"), "{ran}");
        }
        let left = cx.ctr("ps -aq").succeeds();
        for id in left.lines() {
            cx.ctr(&format!("rm -f {id}")).prints(&format!("{id}\n"));
        }
        cx.leaves_nothing();
    }
});
