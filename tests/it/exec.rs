//! `ctr exec`.

use crate::support::both;

both!(runs_beside, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box -e FROM=run -w /tmp busybox sleep 1000").succeeds();
    cx.ctr("exec box sh -c 'echo out; echo err >&2; exit 6'").is(6, "out\n", "err\n");
    cx.ctr("exec box sh -c 'pwd; echo $FROM; hostname' ").succeeds();
    cx.ctr("exec box pwd").prints("/tmp\n");
    cx.ctr("exec -e FROM=exec -e MORE=x box sh -c 'echo $FROM $MORE'").prints("exec x\n");
    cx.ctr("exec -w /etc box pwd").prints("/etc\n");
    cx.ctr("exec -u alice box sh -c 'id -un; id -Gn; echo $HOME'").prints("alice\nalice audio staff\n/home/alice\n");
    cx.ctr("exec -u 7:8 box sh -c 'id -u; id -g'").prints("7\n8\n");
    cx.ctr("exec box cat /proc/1/comm").prints("sleep\n");
    cx.ctr("exec box sh -c 'kill -9 $$'").is(137, "", "");
});

both!(has_what_the_container_has, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box --cap-drop ALL --cap-add CHOWN --security-opt no-new-privileges busybox sleep 1000")
        .succeeds();
    cx.ctr("exec box sh -c 'grep -E \"^(CapEff|CapBnd|CapInh|NoNewPrivs|Seccomp):\" /proc/self/status | cut -f2'")
        .prints("0000000000000000\n0000000000000001\n0000000000000001\n1\n2\n");
    let all = cx.ctr("exec --privileged box sh -c 'grep CapEff /proc/self/status | cut -f2'").succeeds();
    assert!(all.starts_with("000001"), "{all}");
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "uts", "user"] {
        let line = format!("sh -c 'readlink /proc/self/ns/{name}; readlink /proc/1/ns/{name}'");
        let out = cx.ctr(&format!("exec --privileged box {line}")).succeeds();
        let (mine, first) = out.split_once('\n').unwrap();
        assert_eq!(mine, first, "{name}");
    }
    cx.ctr("exec box ls /proc/self/fd").prints("0\n1\n2\n3\n");
});

both!(standard_input, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sleep 1000").succeeds();
    cx.ctr_reads("exec -i box cat", "there and back\n").prints("there and back\n");
    cx.ctr_reads("exec box cat", "nobody reads it\n").prints("");
    let big = "x".repeat(3_000_000);
    assert_eq!(cx.ctr_reads("exec -i box cat", &big).out().len(), big.len());
});

both!(what_cannot_run, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sleep 1000").succeeds();
    cx.ctr("exec box nosuch").refuses(127, r#"[..]"nosuch"[..]executable file not found in $PATH[..]"#);
    cx.ctr("exec box /etc/passwd").refuses(126, r#"[..]"/etc/passwd"[..]permission denied[..]"#);
    cx.ctr("exec -w /no/such box true").refuses(126, "[..]/no/such[..]");
    cx.ctr("exec -w relative box true").refuses(126, "[..]relative[..]");
    cx.ctr("exec -u nosuch box true").refuses(126, "[..]unable to find user nosuch[..]");
    cx.ctr("exec -u 0:nosuch box true").refuses(126, "[..]unable to find group nosuch[..]");
    cx.ctr("exec -d -u nosuch box true").refuses(126, "[..]unable to find user nosuch[..]");
    cx.ctr("exec box").refuses(1, "[..]requires at least 2 arguments");
    cx.ctr("kill box").prints("box\n");
    cx.until_status("box", "exited");
    cx.ctr("exec box true").refuses(1, "[..]ontainer [..] is not running[..]");
});

both!(detached, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sleep 1000").succeeds();
    cx.ctr("exec -d box sh -c 'echo done > /done'").prints("");
    crate::support::until("it ran", || cx.ctr("exec box cat /done").out() == "done\n");
});

both!(many_at_once, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sleep 1000").succeeds();
    let all: Vec<_> = (0..20).map(|n| (n, cx.spawn(&format!("exec box sh -c 'echo {n}; exit {n}'")))).collect();
    for (n, running) in all {
        running.wait().is(n, &format!("{n}\n"), "");
    }
    crate::support::until("no zombie is left", || cx.ctr("exec box sh -c 'ps -o stat | grep Z'").code == 1);
});

both!(ends_with_the_container, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sleep 1000").succeeds();
    let running = cx.spawn("exec box sh -c 'echo in; sleep 1000'");
    running.shows("in");
    cx.ctr("kill box").prints("box\n");
    running.wait().is(137, "in\n", "");
});

both!(outlives_its_client, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sleep 1000").succeeds();
    let running = cx.spawn("exec box sh -c 'echo in; sleep 0.3; echo late > /late; sleep 1000'");
    running.shows("in");
    drop(running);
    crate::support::until("it goes on", || cx.ctr("exec box cat /late").out() == "late\n");
});

// A process of the container can stop another one before that has executed anything: `exec` must
// not wait for ever, and leaves nothing of it behind.
both!(a_process_that_is_stopped_while_it_is_made_is_given_up, |cx| {
    cx.busybox();
    let run = "run -d --name box busybox sh -c 'while :; do kill -STOP -1 2>/dev/null; done'";
    let id = cx.ctr(run).succeeds();
    // Detached it waits for the beginning only: one that was stopped after that has begun.
    let mut late = cx.ctr("exec -d box cat");
    crate::support::until("one is stopped before it has begun", || {
        if late.code == 0 {
            late = cx.ctr("exec -d box cat");
        }
        late.code != 0
    });
    late.refuses(126, "the process did not begin in time and was killed");
    assert!(late.err().contains("\nhint: "), "{late}");
    // Until it executes, a process has the words of the monitor that made it.
    let stopped = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let read = |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        read("cmdline").contains(&format!("ctr-monitor\0{id}")) && read("status").contains("\nState:\tT")
    });
    assert_eq!(stopped.map(|entry| entry.path()).collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
    cx.ctr("rm -f box").succeeds();
});
