//! `ctr top`.

use crate::support::{both, until};

both!(the_container_s_processes_and_no_others, |cx| {
    cx.busybox();
    let id = cx.ctr("run -d --name web busybox sh -c 'sleep 1001 & sleep 1002; true'").succeeds();
    cx.ctr("run -d --name other busybox sleep 1003").succeeds();
    // Either may be the first to become what it is to be.
    until("its processes run", || {
        let top = cx.ctr("top web -o pid,args").out();
        // The shell's own words have both.
        let runs =
            |args: &str| top.lines().any(|line| line.split_once(' ').is_some_and(|(_, rest)| rest.trim() == args));
        runs("sleep 1001") && runs("sleep 1002")
    });
    // Docker's table: columns of twenty, the last one as long as it is.
    let top = cx.ctr("top web").succeeds();
    let lines: Vec<&str> = top.lines().collect();
    let head = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME"].map(|title| format!("{title:<20}")).concat();
    assert_eq!(lines[0], format!("{head}CMD"));
    assert_eq!(lines.len(), 4, "{top}");
    // By their numbers, which begin anew after the highest.
    assert!(lines[1..].iter().any(|line| line.ends_with("sh -c sleep 1001 & sleep 1002; true")), "{top}");
    let pid = cx.ctr("inspect -f '{{.State.Pid}}' web").succeeds();
    cx.ctr("container top web -o pid,comm --sort=comm")
        .prints(&format!("PID                 COMMAND\n{pid:<20}sh\n[..]sleep\n[..]sleep\n"));
    // Words without a dash, a list with blanks, options that exclude a choice of processes.
    assert!(cx.ctr("top web aux").succeeds().starts_with("USER                PID                 %CPU"));
    assert_eq!(cx.ctr("top web axf").succeeds().lines().count(), 4);
    assert_eq!(cx.ctr("top web -eo pid,args").succeeds().lines().count(), 4);
    assert_eq!(cx.ctr(&format!("top {}", &id[..12])).succeeds().lines().count(), 4);
    // exec's are the container's, too.
    cx.ctr("exec -d web sleep 1004").succeeds();
    until("it is there", || cx.ctr("top web -o pid,args").out().contains("sleep 1004"));
});

both!(what_cannot_be_shown, |cx| {
    cx.busybox();
    cx.ctr("run -d --name web busybox sleep 1000").succeeds();
    cx.ctr("create --name new busybox true").succeeds();
    cx.ctr("top nosuch").refuses(1, "No such container: nosuch");
    cx.ctr("top new").refuses(1, "container [..] is not running");
    cx.ctr("top").refuses(1, "'ctr top' requires at least 1 argument");
    cx.ctr("top web -o args").refuses(1, "Couldn't find PID field in ps output");
    cx.ctr("top web -o pid -o comm=PID").refuses(1, "specifying \"comm=PID\" is not allowed");
    cx.ctr("top web --nosuch").refuses(1, "ps: [..]");
    cx.ctr("top --nosuch web").refuses(125, "unknown flag: --nosuch");
});
