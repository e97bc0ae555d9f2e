//! `ctr pause`, `ctr unpause`, and what the other commands do with a paused container.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Sandbox, both, until};

const COUNTS: &str = "sh -c 'trap \"echo hup\" HUP; i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done'";

fn last_line(cx: &Sandbox, name: &str) -> String {
    cx.ctr(&format!("logs {name}")).succeeds().lines().last().unwrap_or_default().to_owned()
}

fn pid(cx: &Sandbox, name: &str) -> i32 {
    cx.ctr(&format!("inspect -f '{{{{.State.Pid}}}}' {name}")).succeeds().parse().unwrap()
}

fn state(cx: &Sandbox, name: &str) -> String {
    let fields = "{{.State.Status}} {{.State.Running}} {{.State.Paused}}";
    cx.ctr(&format!("inspect -f '{fields}' {name}")).succeeds()
}

both!(nothing_runs_until_it_goes_on, |cx| {
    cx.busybox();
    let id = cx.ctr(&format!("run -d --name web busybox {COUNTS}")).succeeds();
    cx.ctr("run -d --name db busybox sleep 1000").succeeds();
    cx.until_logged("web", "3");
    // What fails in the middle of a list stops nothing.
    let failures = format!("ctr: No such container: nosuch\nctr: Container {id} is already paused\n");
    cx.ctr("pause web nosuch web db").is(1, "web\ndb\n", &failures);
    assert_eq!(state(cx, "web"), "paused true true");
    // What it wrote before, its monitor may log a moment later.
    let mut before = String::new();
    until("it stands still", || {
        before = last_line(cx, "web");
        std::thread::sleep(Duration::from_millis(300));
        last_line(cx, "web") == before
    });
    cx.ctr("ps --format '{{.Names}} {{.State}} {{.Status}}'")
        .prints("db paused Up [..] (Paused)\nweb paused Up [..] (Paused)\n");
    cx.ctr("ps -q --filter status=running").prints("");
    assert_eq!(cx.ctr("ps -q --filter status=paused").succeeds().lines().count(), 2);
    // Docker's answers to what a paused container cannot do.
    cx.ctr("exec web true").refuses(1, "Container web is paused, unpause the container before exec");
    cx.ctr("start web").refuses(1, "cannot start a paused container, try unpause instead");
    cx.ctr("attach web").refuses(1, "cannot attach to a paused container, unpause it first");
    cx.ctr("rm web").refuses(1, "cannot remove container \"/web\": container is paused and must be unpaused first");
    // And to what it can.
    cx.ctr("rename web www").prints("");
    // Whether it was just asleep, nobody knows.
    assert!(cx.ctr("top www -o pid,args").succeeds().contains("sh -c trap"));
    cx.ctr("stats --no-stream --format '{{.Name}} {{.CPUPerc}}' www").prints("www 0.00%\n");
    cx.ctr("container unpause www db").prints("www\ndb\n");
    assert_eq!(state(cx, "www"), "running true false");
    until("it goes on", || last_line(cx, "www") != before);
    cx.ctr("unpause www").refuses(1, &format!("Container {id} is not paused"));
    cx.ctr("exec www true").prints("");
    cx.ctr("container pause -a").prints("[..]\n[..]\n");
    cx.ctr("unpause --all").prints("[..]\n[..]\n");
    cx.ctr("pause").refuses(1, "'ctr pause' requires at least 1 argument");
    cx.ctr("unpause").refuses(1, "'ctr unpause' requires at least 1 argument");
});

both!(what_ends_a_paused_one, |cx| {
    cx.busybox();
    for name in ["stopped", "killed", "removed", "restarted"] {
        cx.ctr(&format!("run -d --name {name} busybox sleep 1000")).succeeds();
    }
    cx.ctr("pause stopped killed removed restarted").prints("stopped\nkilled\nremoved\nrestarted\n");
    cx.ctr("stop -t 1 stopped").prints("stopped\n");
    cx.ctr("kill killed").prints("killed\n");
    cx.ctr("rm -f removed").prints("removed\n");
    let before = pid(cx, "restarted");
    cx.ctr("restart -t 0 restarted").prints("restarted\n");
    assert_ne!(pid(cx, "restarted"), before);
    cx.until_status("killed", "exited");
    cx.ctr("ps -a --format '{{.Names}} {{.State}}'").prints("restarted running\nkilled exited\nstopped exited\n");
    let not_running = "container [..] is not running";
    cx.ctr("pause stopped").refuses(1, not_running);
    cx.ctr("unpause stopped").refuses(1, "Container [..] is not paused");
    cx.ctr("create --name new busybox true").succeeds();
    cx.ctr("pause new").refuses(1, not_running);
});

both!(a_signal_wakes_it_unless_it_has_one_of_its_own, |cx| {
    cx.busybox();
    cx.ctr(&format!("run -d --name plain busybox {COUNTS}")).succeeds();
    cx.ctr(&format!("run -d --name own --stop-signal USR1 busybox {COUNTS}")).succeeds();
    cx.until_logged("plain", "1");
    cx.until_logged("own", "1");
    cx.ctr("pause plain own").prints("plain\nown\n");
    cx.ctr("kill -s HUP plain own").prints("plain\nown\n");
    assert_eq!(state(cx, "plain"), "running true false");
    assert_eq!(state(cx, "own"), "paused true true");
    cx.until_logged("plain", "hup");
    assert!(!cx.ctr("logs own").succeeds().contains("hup"));
    cx.ctr("unpause own").prints("own\n");
    cx.until_logged("own", "hup");
});

both!(one_that_dies_while_it_is_paused, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sleep 1000").succeeds();
    cx.ctr("pause box").prints("box\n");
    kill(Pid::from_raw(pid(cx, "box")), Signal::SIGKILL).unwrap();
    // On cgroup v1 it dies when it is thawed; elsewhere it is gone already.
    let _ = cx.ctr("unpause box");
    cx.until_status("box", "exited");
    cx.ctr("inspect -f '{{.State.ExitCode}} {{.State.Paused}}' box").prints("137 false\n");
    cx.ctr("start box").prints("box\n");
    // Its monitor dies, and takes it along.
    cx.ctr("pause box").prints("box\n");
    let (first, stat) = (pid(cx, "box"), |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/stat")));
    let text = stat(first).unwrap();
    let monitor = text.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap();
    kill(Pid::from_raw(monitor), Signal::SIGKILL).unwrap();
    cx.until_status("box", "exited");
    until("its process is gone", || stat(first).map_or(true, |stat| stat.contains(") Z ")));
    cx.ctr("start box").prints("box\n");
    cx.ctr("exec box true").prints("");
});

both!(processes_that_fork_all_the_time, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sh -c 'while :; do (true) & (true); wait; done'").succeeds();
    for _ in 0..3 {
        cx.ctr("pause box").prints("box\n");
        let seen = || cx.ctr("top box -o pid,args").succeeds();
        // One that was about to die when the others were stopped may do so a moment later.
        until("they stand still", || {
            let before = seen();
            std::thread::sleep(Duration::from_millis(100));
            seen() == before
        });
        cx.ctr("unpause box").prints("box\n");
    }
    cx.ctr("rm -f box").prints("box\n");
});

both!(who_paused_it_was_killed_before_that_was_recorded, |cx| {
    if !cx.is_root() {
        // Only a frozen cgroup can be told.
        return;
    }
    cx.busybox();
    let id = cx.ctr("run -d --name box busybox sleep 1000").succeeds();
    let state = std::path::Path::new("/sys/fs/cgroup/freezer/ctr").join(&id).join("freezer.state");
    if !state.exists() {
        crate::support::skipped("no cgroup v1 freezer");
        return;
    }
    std::fs::write(&state, "FROZEN").unwrap();
    cx.ctr("unpause box").prints("box\n");
    assert_eq!(std::fs::read_to_string(&state).unwrap(), "THAWED\n");
    std::fs::write(&state, "FROZEN").unwrap();
    cx.ctr("pause box").prints("box\n");
    cx.ctr("unpause box").prints("box\n");
    std::fs::write(&state, "FROZEN").unwrap();
    cx.ctr("rm -f box").prints("box\n");
});
