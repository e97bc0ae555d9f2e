//! Bytes through `run`, `exec` and `attach`: all of them, in their order, and nobody in the way of
//! another. How fast: tests/bench/streams.sh.

use std::io::Write;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::support::{Sandbox, both, digest, until};

/// More than all pipes and windows hold, and no page like another.
fn big(cx: &Sandbox) -> (PathBuf, String) {
    let mut bytes = Vec::with_capacity(8 << 20);
    for n in 0..1_000_000u32 {
        writeln!(bytes, "{:07}", n.wrapping_mul(2_654_435_761) % 10_000_000).unwrap();
    }
    (cx.make_file("big", &bytes), digest(&bytes).replace("sha256:", ""))
}

both!(every_byte_arrives, |cx| {
    cx.busybox();
    let (big, sum) = big(cx);
    let (size, big) = (std::fs::metadata(&big).unwrap().len(), big.display());
    cx.ctr(&format!("run -d --name box -v {big}:/big:ro busybox sleep 1000")).succeeds();
    let check = |script: String| {
        let ran = cx.host(&script);
        assert!(ran.code == 0 && ran.stderr.is_empty() && ran.out().starts_with(&sum), "{ran}");
    };
    for log in ["--log-driver none", "--log-opt max-size=1m", "--log-driver local"] {
        let run = format!("$ctr run --rm {log} -v {big}:/big:ro");
        check(format!("{run} busybox cat /big | sha256sum"));
        check(format!("{run} busybox cat /big >out; sha256sum <out"));
        check(format!("{run} -i busybox cat <{big} | sha256sum"));
        check(format!("cat {big} | {run} -i busybox sha256sum"));
    }
    // Pages cannot be moved to a file that is appended to; a line before, so that it counts.
    check(format!(
        "echo >out; $ctr run --rm --log-driver none -v {big}:/big:ro busybox cat /big >>out; tail -n +2 out | sha256sum"
    ));
    // Both to one place: over one way, in the order that they were read.
    check(format!("$ctr run --rm -v {big}:/big:ro busybox cat /big 2>&1 | sha256sum"));
    check("$ctr exec box cat /big | sha256sum".into());
    check("$ctr exec box cat /big >out; sha256sum <out".into());
    check(format!("$ctr exec -i box cat <{big} | sha256sum"));
    check(format!("cat {big} | $ctr exec -i box sha256sum"));
    check(format!(
        "$ctr run -d -i --name in --log-driver none busybox sh -c 'read l; head -c {size} | sha256sum' >/dev/null; \
         {{ echo; cat {big}; }} | $ctr attach in"
    ));
});

both!(both_streams_stay_apart, |cx| {
    cx.busybox();
    let script = "for i in 1 2 3 4 5 6 7 8; do seq 1 20000; seq 20001 40000 >&2; done; exit 3";
    let expected =
        |range: std::ops::RangeInclusive<u32>| range.map(|n| n.to_string() + "\n").collect::<String>().repeat(8);
    let (out, err) = (expected(1..=20_000), expected(20_001..=40_000));
    let ran = cx.ctr_args(["run", "--name", "box", "busybox", "sh", "-c", script]);
    assert!(ran.code == 3 && ran.out() == out && ran.err() == err, "{} {}", ran.stdout.len(), ran.stderr.len());
    let ran = cx.ctr("logs box");
    assert!(ran.out() == out && ran.err() == err, "{} {}", ran.stdout.len(), ran.stderr.len());
    cx.ctr("run -d --name other busybox sleep 1000").succeeds();
    let ran = cx.ctr_args(["exec", "other", "sh", "-c", script]);
    assert!(ran.code == 3 && ran.out() == out && ran.err() == err, "{} {}", ran.stdout.len(), ran.stderr.len());
});

both!(a_program_that_reads_no_more_is_told_of_as_by_a_pipe, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sleep 1000").succeeds();
    // Each ends though `yes` never would.
    cx.host("yes | $ctr run --rm -i busybox head -n 1").is(0, "y\n", "");
    cx.host("yes | $ctr exec -i box head -n 1").is(0, "y\n", "");
    cx.host("yes | $ctr run --rm -i busybox sh -c 'exec <&-; sleep 0.2; echo on'").is(0, "on\n", "");
    // Its end comes through, and so does an empty one.
    cx.ctr_reads("run --rm -i busybox wc -c", "12345").prints("5\n");
    cx.ctr_reads("run --rm -i busybox wc -c", "").prints("0\n");
    cx.ctr_reads("exec -i box wc -c", "12345").prints("5\n");
    cx.host("$ctr run --rm -i busybox wc -c </dev/null").prints("0\n");
    cx.host("head -c 3000000 /dev/zero >in; $ctr run --rm -i busybox wc -c <in").prints("3000000\n");
});

both!(one_that_stands_still_stops_no_other, |cx| {
    cx.busybox();
    let script = "while read l && [ $l != go ]; do echo here; done; seq 1 300000; touch /done; read l";
    cx.ctr(&format!("run -d -i --name box busybox sh -c '{script}'")).succeeds();
    let still = cx.spawn("attach --no-stdin box");
    let mut typing = cx.spawn("attach box");
    // It is attached when it hears what is said from then on.
    until("the other one is attached", || {
        typing.write("who\n");
        still.has_shown("here\n")
    });
    let stopped = cx.spawn("exec box seq 1 1000000");
    stopped.shows("1\n");
    stopped.signal(Signal::SIGSTOP);
    still.signal(Signal::SIGSTOP);
    typing.write("go\n");
    until("the container went on", || cx.ctr("exec box test -e /done").code == 0);
    typing.shows("\n300000\n");
    stopped.signal(Signal::SIGCONT);
    assert!(stopped.wait().out().ends_with("\n1000000\n"));
    typing.write("stop\n");
    assert_eq!(typing.wait().code, 0);
    still.signal(Signal::SIGCONT);
    assert_eq!(still.wait().code, 0);
});

both!(who_started_it_holds_it_back_and_loses_nothing, |cx| {
    cx.busybox();
    for log in ["--log-driver none", ""] {
        let script = "echo up; while [ ! -e /go ]; do sleep 0.02; done; seq 1 500000; exit 5";
        let running = cx.spawn(&format!("run --rm --name box {log} busybox sh -c '{script}'"));
        running.shows("up\n");
        running.signal(Signal::SIGSTOP);
        cx.ctr("exec box touch /go").prints("");
        // A stopped reader is no reason for others to wait.
        cx.ctr("exec box echo in").prints("in\n");
        running.signal(Signal::SIGCONT);
        let ran = running.wait();
        let expected: String = (1..=500_000).map(|n| n.to_string() + "\n").collect();
        assert!(ran.code == 5 && ran.out() == "up\n".to_owned() + &expected, "{}", ran.stdout.len());
    }
});

both!(who_started_it_dies_and_it_goes_on, |cx| {
    cx.busybox();
    for log in ["none", "json-file"] {
        let script = "'echo up; read l; seq 1 100000; touch /done; sleep 1000'";
        let running = cx.spawn(&format!("run -i --name {log} --log-driver {log} busybox sh -c {script}"));
        running.shows("up\n");
        running.signal(Signal::SIGKILL);
        running.wait();
        until("it went on without a reader", || cx.ctr(&format!("exec {log} test -e /done")).code == 0);
    }
});
