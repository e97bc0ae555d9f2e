//! `ctr stats`.

use std::time::Duration;

use crate::support::{Terminal, both, until};

const HEAD: &str = "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT";

both!(what_is_used, |cx| {
    cx.busybox();
    let id = cx.ctr("run -d --name busy busybox sh -c 'while :; do :; done'").succeeds();
    cx.ctr("run -d --name idle busybox sleep 1000").succeeds();
    cx.ctr("create --name new busybox true").succeeds();
    let table = cx.ctr("stats --no-stream").succeeds();
    assert!(table.starts_with(HEAD), "{table}");
    let names: Vec<_> = table.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(names, ["idle", "busy"], "{table}");
    let percent = |name: &str| -> f64 {
        let text = cx.ctr(&format!("stats --no-stream --format '{{{{.CPUPerc}}}}' {name}")).succeeds();
        text.strip_suffix('%').unwrap().parse().unwrap()
    };
    // How much is left for it here, nobody knows; sooner or later it is more than nothing.
    until("it is seen to be busy", || percent("busy") > 3.0);
    assert!(percent("idle") < 3.0);
    let fields = "{{.Container}}|{{.ID}}|{{.Name}}|{{.PIDs}}|{{.MemUsage}}|{{.NetIO}}|{{.BlockIO}}";
    cx.ctr(&format!("container stats --no-stream --format '{fields}' busy"))
        .prints(&format!("busy|{}|busy|1|[..]iB / [..]iB|[..]B / [..]B|[..]B / [..]B\n", &id[..12]));
    cx.ctr("stats --no-stream --no-trunc --format '{{.ID}}' busy").prints(&format!("{id}\n"));
    cx.ctr("stats --no-stream --format json new").prints(&format!(
        "{{\"BlockIO\":\"0B / 0B\",\"CPUPerc\":\"0.00%\",\"Container\":\"new\",\"ID\":\"{}\",\"MemPerc\":\"0.00%\",\
         \"MemUsage\":\"0B / 0B\",\"Name\":\"new\",\"NetIO\":\"0B / 0B\",\"PIDs\":\"0\"}}\n",
        "[..]"
    ));
    cx.ctr("stats --no-stream -a --format 'table {{.Name}}\\t{{.PIDs}}'")
        .prints("NAME      PIDS\nnew       0\nidle      1\nbusy      1\n");
    // One that is not there: nothing is shown of the others.
    cx.ctr("stats --no-stream busy nosuch idle gone").is(
        1,
        "",
        "ctr: No such container: nosuch\nctr: No such container: gone\n",
    );
    cx.ctr("stats --no-stream --format '{{.Nosuch}}' busy").refuses(1, "failed to execute template: [..]Nosuch[..]");
    cx.ctr("rm -f busy idle new").succeeds();
    cx.ctr("stats --no-stream").prints(&format!("{HEAD}   MEM %     NET I/O   BLOCK I/O   PIDS\n"));
    cx.ctr("stats --no-stream --format json").prints("");
});

both!(memory_and_network_are_counted, |cx| {
    cx.busybox();
    let fills = "sh -c 'x=$(head -c 30000000 /dev/zero | tr \"\\0\" x); echo ready; while :; do sleep 0.1; done'";
    cx.ctr(&format!("run -d --name box busybox {fills}")).succeeds();
    cx.until_logged("box", "ready");
    let usage = cx.ctr("stats --no-stream --format '{{.MemUsage}}' box").succeeds();
    let used: f64 = usage.split("MiB").next().unwrap().parse().unwrap_or_else(|e| panic!("{usage}: {e}"));
    assert!((28.0..200.0).contains(&used), "{usage}");
    // The host's interfaces are not the container's.
    cx.ctr("run -d --name host --network host busybox sleep 1000").succeeds();
    cx.ctr("run -d --name none --network none busybox sleep 1000").succeeds();
    cx.ctr("stats --no-stream --format '{{.NetIO}}' host none").prints("0B / 0B\n0B / 0B\n");
});

both!(processes_that_come_and_go, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sh -c 'while :; do (true) & (true) & (true); wait; done'").succeeds();
    for _ in 0..3 {
        cx.ctr("stats --no-stream --format '{{.Name}} {{.CPUPerc}} {{.PIDs}}' box").prints("box [..]% [..]\n");
    }
});

both!(drawn_in_place_until_interrupted, |cx| {
    cx.busybox();
    cx.ctr("run -d --name web busybox sleep 1000").succeeds();
    cx.ctr("run -d --name gone busybox sleep 1000").succeeds();
    let terminal = Terminal::open(cx);
    terminal.line("clear; $ctr stats web gone");
    terminal.shows("CONTAINER ID   NAME");
    terminal.shows("gone      0.00%");
    // Removed while it is looked at, it is drawn on without figures; each frame over the last one.
    cx.ctr("rm -f gone").prints("gone\n");
    terminal.shows("gone      --        -- / --");
    assert_eq!(terminal.screen().matches("CONTAINER ID").count(), 1, "{}", terminal.screen());
    // However small the terminal becomes.
    terminal.resize(1, 1);
    std::thread::sleep(Duration::from_millis(1500));
    terminal.resize(80, 24);
    terminal.shows("CONTAINER ID   NAME");
    terminal.keys(&["C-c"]);
    terminal.line("echo the code is $?");
    terminal.shows("the code is 130");
});

both!(a_reader_that_leaves, |cx| {
    cx.busybox();
    cx.ctr("run -d --name web busybox sleep 1000").succeeds();
    // No orders for terminals in a pipe: a frame after the other.
    let ran = cx.host("$ctr stats --format '{{.Name}}' | head -n 3");
    ran.prints("web\nweb\nweb\n");
    let running = cx.spawn("stats");
    std::thread::sleep(Duration::from_millis(700));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(running.pid()), nix::sys::signal::SIGINT).unwrap();
    let ran = running.wait();
    assert_eq!(ran.code, 130, "{ran}");
    until("it is there still", || cx.ctr("ps --format '{{.Names}}'").out() == "web\n");
});
