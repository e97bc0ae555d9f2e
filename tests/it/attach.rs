//! `ctr attach` without a terminal; with one: `interactive.rs`.

use nix::sys::signal::Signal;

use crate::support::{both, until};

both!(sees_what_comes, |cx| {
    cx.busybox();
    cx.ctr(
        "run -d -i --name box busybox sh -c 'while read line; do [ $line != stop ] || exit 5; echo got $line; done'",
    )
    .succeeds();
    let mut first = cx.spawn("attach box");
    first.write("one\n");
    first.shows("got one");
    let second = cx.spawn("attach --no-stdin box");
    until("the second is there", || {
        first.write("again\n");
        second.has_shown("got again")
    });
    // The end of one client's input is not the end of the container's, as it was started without it.
    first.write("stop\n");
    let ran = first.wait();
    assert!(ran.code == 5 && ran.out().starts_with("got one\n"), "{ran}");
    assert_eq!(second.wait().code, 5);
});

both!(passes_signals_on, |cx| {
    cx.busybox();
    cx.ctr(
        "run -d --name box busybox sh -c 'trap \"echo got it; exit 5\" INT; while :; do echo tick; sleep 0.02; done'",
    )
    .succeeds();
    let running = cx.spawn("attach --no-stdin box");
    // It is joined when it has seen something.
    running.shows("tick");
    running.signal(Signal::SIGINT);
    let ran = running.wait();
    assert!(ran.code == 5 && ran.out().ends_with("got it\n"), "{ran}");
});

both!(signals_that_are_the_client_s_alone, |cx| {
    cx.busybox();
    let script = "busybox sh -c 'trap \"exit 5\" INT TERM; while :; do echo tick; sleep 0.02; done'";
    for line in [format!("run --name box --sig-proxy=false {script}"), "attach --no-stdin --sig-proxy=false box".into()]
    {
        let running = cx.spawn(&line);
        running.shows("tick");
        running.signal(Signal::SIGTERM);
        assert_eq!(running.wait().code, 143, "{line}");
        cx.ctr("ps --format '{{.Names}}'").prints("box\n");
    }
});

both!(only_what_runs, |cx| {
    cx.busybox();
    cx.ctr("create --name box busybox true").succeeds();
    cx.ctr("attach box").refuses(1, "[..]cannot attach to a stopped container, start it first[..]");
});

both!(a_client_that_dies_takes_nothing_with_it, |cx| {
    cx.busybox();
    let running = cx.spawn(
        "run --name box busybox sh -c 'echo ready; while [ ! -e /go ]; do sleep 0.02; done; echo after; exit 2'",
    );
    running.shows("ready");
    running.signal(Signal::SIGKILL);
    running.wait();
    cx.ctr("ps --format '{{.Names}} {{.State}}'").prints("box running\n");
    cx.ctr("exec box touch /go").prints("");
    cx.until_status("box", "exited");
    cx.ctr("logs box").prints("ready\nafter\n");
    cx.ctr("inspect -f '{{.State.ExitCode}}' box").prints("2\n");
});

both!(more_clients_than_descriptors_wait_without_a_busy_loop, |cx| {
    cx.busybox();
    cx.host("ulimit -n 40; $ctr run -d --name box busybox sleep 1000").succeeds();
    let pid = cx.ctr("inspect -f '{{.State.Pid}}' box").succeeds();
    let field = |pid: &str, at: usize| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().split_whitespace().nth(at - 3).unwrap().parse().unwrap()
    };
    let monitor = field(&pid, 4).to_string();
    let clients: Vec<_> = (0..50).map(|_| cx.spawn("attach --no-stdin box")).collect();
    // Those that it has let in hold all that it may have.
    let refused = cx.spawn("exec box echo in");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let ticks = || field(&monitor, 14) + field(&monitor, 15);
    let before = ticks();
    std::thread::sleep(std::time::Duration::from_secs(1));
    let spent = ticks() - before;
    assert!(spent < 30, "the monitor was busy for {spent} of 100 ticks");
    drop(clients);
    let _ = refused.wait();
    cx.ctr("exec box echo in").prints("in\n");
});
