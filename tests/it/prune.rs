//! `ctr container prune`.

use crate::support::both;

const NOTHING: &str = "Total reclaimed space: 0B\n";

both!(those_that_do_not_run, |cx| {
    cx.busybox();
    cx.ctr("run -d --name runs busybox sleep 1000").succeeds();
    cx.ctr("run -d --name paused busybox sleep 1000").succeeds();
    cx.ctr("pause paused").prints("paused\n");
    let exited = cx.ctr("create --name exited --label a=1 busybox sh -c 'head -c 2000 /dev/zero > /tmp/x'").succeeds();
    cx.ctr("start -a exited").prints("");
    let created = cx.ctr("create --name created --label b busybox true").succeeds();
    let warning = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] ";
    for answer in ["", "n\n", "yes\n", "\n"] {
        cx.ctr_reads("container prune", answer).prints(warning);
    }
    for filter in ["label=a=2", "label=c", "label=a --filter label=b", "until=1h", "label!=a --filter label!=b"] {
        cx.ctr(&format!("container prune -f --filter {filter}")).prints(NOTHING);
    }
    cx.ctr("container prune -f --filter name=x").refuses(1, "invalid filter 'name'");
    cx.ctr("container prune -f --filter until=x").refuses(1, "invalid filter 'until=x'[..]");
    cx.ctr("container prune -f --filter x")
        .refuses(125, "invalid argument \"x\" for \"--filter\" flag: bad format of filter (expected name=value)");
    cx.ctr("container prune -f x").refuses(1, "'ctr container prune' accepts no arguments");
    cx.ctr("container prune --force --filter label!=a --filter until=0s")
        .prints(&format!("Deleted Containers:\n{created}\n\n{NOTHING}"));
    cx.ctr_reads("container prune", "y\n")
        .prints(&format!("{warning}Deleted Containers:\n{exited}\n\nTotal reclaimed space: 2kB\n"));
    cx.ctr("ps -a --format '{{.Names}}'").prints("paused\nruns\n");
    cx.ctr("container prune -f").prints(NOTHING);
});

both!(a_thousand_of_them, |cx| {
    cx.busybox();
    cx.ctr("run -d --name runs busybox sleep 1000").succeeds();
    // Ten commands, so that each is done in a moment.
    for n in 0..10 {
        let create =
            format!("for n in $(seq {} {}); do $ctr create --name n$n busybox true; done", n * 100 + 1, n * 100 + 100);
        cx.host(&create).succeeds();
    }
    assert_eq!(cx.ctr("ps -aq").succeeds().lines().count(), 1001);
    assert_eq!(cx.ctr("ps -a --format '{{.Names}}'").succeeds().lines().next(), Some("n1000"));
    cx.ctr("ps -a --filter name=n1000 --format '{{.Names}} {{.Status}}'").prints("n1000 Created\n");
    cx.ctr("inspect -f '{{.Name}}' n500").prints("/n500\n");
    let out = cx.ctr("container prune -f").succeeds();
    assert_eq!(out.lines().count(), 1003, "{out}");
    cx.ctr("ps -a --format '{{.Names}}'").prints("runs\n");
});
