//! `ctr logs`.

use crate::support::{both, until};

both!(both_streams_apart, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sh -c 'echo one; echo two >&2; echo three'").succeeds();
    cx.until_status("box", "exited");
    cx.ctr("logs box").is(0, "one\nthree\n", "two\n");
});

both!(the_last_lines, |cx| {
    cx.busybox();
    cx.ctr("run --name box busybox seq 1 10").succeeds();
    cx.ctr("logs --tail 2 box").prints("9\n10\n");
    cx.ctr("logs -n 0 box").prints("");
    cx.ctr("logs -n all box").prints("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n");
    cx.ctr("logs -n 100 box").prints("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n");
    cx.ctr("logs -n x box").refuses(125, "[..]x[..]");
});

both!(followed, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sh -c 'echo one; while [ ! -e /go ]; do sleep 0.02; done; echo two; exit 1'")
        .succeeds();
    let follower = cx.spawn("logs -f box");
    follower.shows("one\n");
    cx.ctr("exec box touch /go").prints("");
    follower.wait().prints("one\ntwo\n");
    // At its end already: all of it, then the end.
    cx.ctr("logs -f box").prints("one\ntwo\n");
});

both!(with_times, |cx| {
    cx.busybox();
    cx.ctr("run --name box busybox sh -c 'echo early; sleep 1.1; echo late'").succeeds();
    let out = cx.ctr("logs -t box").succeeds();
    let lines: Vec<_> = out.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(lines.iter().map(|(_, text)| *text).collect::<Vec<_>>(), ["early", "late"]);
    let (early, late) = (lines[0].0, lines[1].0);
    assert!(early.len() == 30 && early.ends_with('Z') && early < late, "{out}");
    cx.ctr(&format!("logs --since {late} box")).prints("late\n");
    cx.ctr(&format!("logs --until {early} box")).prints("early\n");
    cx.ctr("logs --since 1h box").prints("early\nlate\n");
    cx.ctr("logs --until 1h box").prints("");
    cx.ctr("logs --since nonsense box").refuses(1, "[..]nonsense[..]");
});

both!(odd_bytes_and_long_lines, |cx| {
    cx.busybox();
    // A line longer than Docker's 16 KiB, one without its end, characters of several bytes.
    let script = "head -c 50000 /dev/zero | tr \"\\0\" x; echo; printf \"ä€😀\\n\"; printf \"no end\"";
    let direct = cx.ctr_args(["run", "--name", "box", "busybox", "sh", "-c", script]);
    let text = format!("{}\nä€😀\nno end", "x".repeat(50000));
    assert_eq!(direct.out(), text);
    assert_eq!(cx.ctr("logs box").out(), text);
});

both!(of_a_terminal, |cx| {
    cx.busybox();
    cx.ctr("run -d -t --name box busybox sh -c 'echo one; echo two >&2'").succeeds();
    cx.until_status("box", "exited");
    cx.ctr("logs box").prints("one\r\ntwo\r\n");
});

both!(rotated, |cx| {
    cx.busybox();
    cx.ctr("run --name box --log-opt max-size=10k --log-opt max-file=2 busybox sh -c 'seq 1 5000'").succeeds();
    let out = cx.ctr("logs box").succeeds();
    assert!(out.ends_with("\n4999\n5000") && out.len() < 24_000, "{} bytes", out.len());
    cx.ctr("run --name dd --log-driver none busybox echo hi").prints("hi\n");
    cx.ctr("logs dd").refuses(1, "[..]does not support reading");
    cx.ctr("run --log-driver nosuch busybox true").refuses(125, "[..]nosuch[..]");
});

both!(slow_clients_do_not_stop_the_container, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sh -c 'seq 1 200000; touch /done; sleep 1000'").succeeds();
    // Attached, and never reading: tmpfs is full of it if nobody bounds it.
    let reader = cx.spawn("logs -f box");
    until("it went on", || cx.ctr("exec box test -e /done").code == 0);
    reader.shows("\n200000\n");
    drop(reader);
});
