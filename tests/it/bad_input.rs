//! What a person gets wrong: one line that says what and why, and the exit code that Docker has.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::support::both;

both!(unknown_words, |cx| {
    // As Docker: 125 for flags, 1 for commands that there are not and for the number of arguments.
    cx.ctr("nosuch").refuses(1, "[..]nosuch[..]");
    cx.ctr("--nosuch ps").refuses(125, "[..]--nosuch[..]");
    cx.ctr("ps --nosuch").refuses(125, "[..]--nosuch[..]");
    cx.ctr("run --nosuch busybox").refuses(125, "[..]--nosuch[..]");
    cx.ctr("run").refuses(1, "[..]");
    cx.ctr("ps extra").refuses(1, "[..]accepts no arguments[..]");
    cx.ctr("run --name").refuses(125, "[..]--name[..]");
    cx.ctr("stop").refuses(1, "[..]");
});

both!(flags_that_are_known_and_not_there_yet, |cx| {
    cx.busybox();
    for (flag, name) in [
        ("--network slirp4netns", "network"),
        ("--restart always", "restart"),
        ("--health-cmd true", "health-cmd"),
        ("-v named:/data", "volume"),
        ("--volumes-from x", "volumes-from"),
        ("--gpus all", "gpu"),
        ("--runtime kata", "runtime"),
    ] {
        let ran = cx.ctr(&format!("run --rm {flag} busybox true"));
        ran.refuses(125, &format!("[..]{name}[..]"));
    }
    cx.ctr("ps -aq").prints("");
});

both!(references, |cx| {
    for bad in ["a:b:c", "a@b", "a//b", "-x", "a:", "http://x/y", "a b", "x@sha256:12"] {
        let ran = cx.ctr_args(["pull", "-q", "--", bad]);
        ran.fails_saying(1, "invalid reference format");
        let ran = cx.ctr_args(["run", "--rm", "--", bad, "true"]);
        ran.fails_saying(125, "invalid reference format");
    }
});

both!(sizes_and_numbers, |cx| {
    cx.busybox();
    for flag in [
        "--memory 99999999999999999999",
        "--memory -5",
        "--memory x",
        "--memory 5q",
        "--cpus x",
        "--cpus -1",
        "--pids-limit x",
        "--shm-size 0x10",
        "--shm-size -1",
        "--ulimit nofile=x",
        "--stop-timeout x",
        "--oom-score-adj 5000",
        "--cpu-shares -4",
        "--tmpfs relative",
        "--tmpfs /t:size=x",
        "-e =value",
        "--add-host nocolon",
        "--sysctl novalue",
        "--log-opt novalue",
        "--label =x",
        "--detach-keys nonsense-",
        "--mount type=nosuch,dst=/x",
        "--mount dst=/x,nosuch=1",
        "--mount type=bind,dst=/x",
        "--platform a/b/c/d",
        "--stop-signal NOSUCH",
        "--pid nosuch",
        "--ipc nosuch",
        "--uts nosuch",
        "--userns nosuch",
        "--env-file /no/such",
        "-w relative",
        "--hostname -bad-",
    ] {
        let ran = cx.ctr(&format!("run --rm {flag} busybox true"));
        ran.refuses(125, "[..]");
    }
    cx.ctr("ps -aq").prints("");
    cx.ctr("logs --tail -5x nosuch").refuses(1, "[..]");
    cx.ctr("stop -t x nosuch").refuses(125, "[..]x[..]");
    cx.ctr("ps -n x").refuses(125, "[..]x[..]");
});

both!(volumes, |cx| {
    cx.busybox();
    for (volume, says) in [
        ("/a:/b:/c", "/a:/b:/c"),
        (":/x", ":/x"),
        ("/etc:", "/etc:"),
        ("", ""),
        ("/etc:/x:ro,rw", "ro"),
        ("/proc/nosuch:/x", "/proc/nosuch"),
        ("relative/path:/x", "relative/path"),
    ] {
        cx.ctr_args(["run", "--rm", "-v", volume, "busybox", "true"]).fails_saying(125, says);
    }
});

both!(long_names, |cx| {
    cx.busybox();
    let (most, long) = ("x".repeat(255), "x".repeat(256));
    let says = format!("Invalid container name ({long}): it has 256 characters, 255 are allowed");
    cx.ctr_args(["create", "--name", &long, "busybox"]).refuses(1, &says);
    cx.ctr_args(["create", "--name", &most, "busybox", "true"]).succeeds();
    cx.ctr_args(["rename", &most, &long]).refuses(1, &says);
    let wrong = format!("Invalid container name (-{long}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
    cx.ctr_args(["create", &format!("--name=-{long}"), "busybox"]).refuses(1, &wrong);
});

both!(names_that_are_not_utf8, |cx| {
    cx.busybox();
    let odd = OsString::from_vec(b"od\xffd".to_vec());
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    for (before, after, code) in [
        (words(&["run", "--name"]), words(&["busybox", "true"]), 125),
        (words(&["run", "--rm"]), words(&["true"]), 125),
        (words(&["pull"]), vec![], 1),
        (words(&["logs"]), vec![], 1),
        (words(&["rm"]), vec![], 1),
    ] {
        let ran = cx.ctr_args(before.into_iter().chain([odd.clone()]).chain(after));
        assert!(ran.code == code || ran.code == 125, "{ran}");
        assert!(ran.stdout.is_empty() && ran.err().starts_with("ctr: "), "{ran}");
    }
    let word = OsString::from_vec(vec![0xff, 0xfe]);
    let ran = cx.ctr_args(words(&["run", "--rm", "busybox", "echo"]).into_iter().chain([word]));
    assert!(ran.stdout == b"\xff\xfe\n" || ran.code == 125, "{ran}");
    cx.leaves_nothing();
});

both!(an_argument_that_is_too_long, |cx| {
    cx.busybox();
    // One word may have 128 KiB, all of them together a quarter of the stack.
    let long = "x".repeat(100_000);
    let ran = cx.ctr_args(["run", "--rm", "busybox", "sh", "-c", "echo ${#0}", &long]);
    ran.prints("100000\n");
    let variable = format!("A={long}");
    cx.ctr_args(["run", "--rm", "-e", &variable, "busybox", "sh", "-c", "echo ${#A}"]).prints("100000\n");
});

both!(roots_that_cannot_be, |cx| {
    let mut command = cx.host_command(crate::support::binary());
    command.args(["--root", "/proc/nosuch", "--runroot", "/proc/nosuch2", "ps"]);
    let ran = crate::support::Running::start(command, cx.cwd()).wait();
    assert!(ran.code != 0 && ran.stdout.is_empty() && ran.err().contains("/proc/nosuch"), "{ran}");
});

both!(closed_streams, |cx| {
    cx.busybox();
    cx.host(
        "$ctr ps >&- 2>/dev/null || true; $ctr run --rm busybox true <&- >/dev/null; $ctr run --rm busybox echo x 2>&-",
    )
    .prints("x\n");
    cx.leaves_nothing();
});
