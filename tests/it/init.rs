//! `run --init`.

use crate::support::{both, until};

both!(it_reaps_and_is_first, |cx| {
    cx.busybox();
    cx.ctr("run --rm busybox sh -c 'echo $$'").prints("1\n");
    assert_ne!(cx.ctr("run --rm --init busybox sh -c 'echo $$'").succeeds(), "1");
    // The orphan says its number and ends; nobody but process 1 can reap it.
    let orphan = "sh -c '(sh -c \"echo \\$\\$ > /orphan\" &); exec sleep 1000'";
    cx.ctr(&format!("run -d --name box --init busybox {orphan}")).succeeds();
    until("the orphan is reaped", || {
        cx.ctr_args(["exec", "box", "sh", "-c", "[ -s /orphan ] && ! [ -e /proc/$(cat /orphan) ]"]).code == 0
    });
    // Its own command runs on.
    cx.ctr("inspect -f '{{.State.Status}}' box").prints("running\n");
    cx.ctr("rm -f box").prints("box\n");
});

both!(its_exit_code_is_the_commands, |cx| {
    cx.busybox();
    cx.ctr("run --rm --init busybox sh -c 'exit 9'").is(9, "", "");
    cx.ctr("run --rm --init busybox sh -c 'kill -9 $$'").is(137, "", "");
    cx.ctr("run --rm --init busybox sh -c 'kill -TERM $$'").is(143, "", "");
    cx.ctr("run --rm --init busybox nosuch").refuses(127, r#"[..]"nosuch"[..]"#);
    cx.ctr("run --rm --init busybox /etc/passwd").refuses(126, r#"[..]"/etc/passwd"[..]"#);
    // The container ends with its command, whatever else still runs.
    cx.ctr("run --rm --init busybox sh -c 'setsid sleep 1000 & exit 3'").is(3, "", "");
    cx.leaves_nothing();
});

// A signal between `run -d` and the moment when everything is in place is not lost.
both!(signals_reach_the_command_at_once, |cx| {
    cx.busybox();
    for n in 0..15 {
        let name = format!("box{n}");
        // As process 1 sleep would ignore it.
        cx.ctr(&format!("run -d --init --name {name} busybox sleep 1000")).succeeds();
        cx.ctr(&format!("kill -s TERM {name}")).prints(&format!("{name}\n"));
        cx.ctr(&format!("wait {name}")).prints("143\n");
    }
    // `stop` needs not wait for its time to be up.
    cx.ctr("run -d --init --name patient busybox sleep 1000").succeeds();
    cx.ctr("stop -t 1000 patient").prints("patient\n");
    cx.ctr("wait patient").prints("143\n");
});
