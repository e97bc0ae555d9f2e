//! `ctr create`, `ctr start`.

use crate::support::both;

both!(created_then_started, |cx| {
    cx.busybox();
    let id = cx.ctr("create --name box busybox echo ran").succeeds();
    cx.ctr("ps -a --format '{{.ID}} {{.Status}} {{.Names}}'").prints(&format!("{} Created box\n", &id[..12]));
    cx.ctr("logs box").prints("");
    cx.ctr("start box").prints("box\n");
    cx.until_status("box", "exited");
    cx.ctr("logs box").prints("ran\n");
    cx.ctr("start -a box").prints("ran\n");
    cx.ctr("logs box").prints("ran\nran\n");
});

both!(start_attached_gives_the_exit_code, |cx| {
    cx.busybox();
    cx.ctr("create --name box busybox sh -c 'echo out; echo err >&2; exit 4'").succeeds();
    cx.ctr("start -a box").is(4, "out\n", "err\n");
    cx.ctr("create -i --name in busybox cat").succeeds();
    cx.ctr_reads("start -ai in", "to and fro\n").prints("to and fro\n");
    cx.ctr_reads("start -ai in", "again\n").prints("again\n");
});

both!(several_at_once, |cx| {
    cx.busybox();
    for name in ["aa", "bb"] {
        cx.ctr(&format!("create --name {name} busybox sleep 1000")).succeeds();
    }
    cx.ctr("start aa nosuch bb").is(1, "aa\nbb\n", "ctr: [..]No such container: nosuch\n");
    cx.ctr("ps -q").succeeds();
    // One that runs already is fine, as with Docker.
    cx.ctr("start aa").prints("aa\n");
    cx.ctr("start -a aa bb").refuses(1, "[..]cannot start and attach multiple containers at once[..]");
    cx.ctr("rm -f aa bb").prints("aa\nbb\n");
});

both!(by_prefix_of_its_id, |cx| {
    cx.busybox();
    let id = cx.ctr("create busybox true").succeeds();
    for prefix in [&id[..], &id[..12], &id[..5]] {
        cx.ctr(&format!("start {prefix}")).prints(&format!("{prefix}\n"));
        cx.until_status(&id, "exited");
    }
});

both!(a_start_that_fails_says_why_and_can_be_tried_again, |cx| {
    cx.busybox();
    cx.ctr("create --name box busybox nosuch").succeeds();
    cx.ctr("start box").refuses(1, r#"[..]"nosuch"[..]executable file not found[..]"#);
    cx.ctr("inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Running}}' box").prints("created 127 false\n");
    cx.ctr("start -a box").refuses(127, r#"[..]"nosuch"[..]"#);
    cx.ctr("rm box").prints("box\n");
    cx.leaves_nothing();
});

both!(its_files_stay_from_start_to_start, |cx| {
    cx.busybox();
    cx.ctr("create --name box busybox sh -c 'echo line >> /file; wc -l < /file'").succeeds();
    cx.ctr("start -a box").prints("1\n");
    cx.ctr("start -a box").prints("2\n");
    cx.ctr("start -a box").prints("3\n");
});

both!(removed_at_its_end_although_created_first, |cx| {
    cx.busybox();
    cx.ctr("create --rm --name box busybox true").succeeds();
    cx.ctr("start -a box").prints("");
    cx.ctr("ps -aq").prints("");
    cx.leaves_nothing();
});

both!(create_with_a_bad_command_line_leaves_nothing, |cx| {
    cx.busybox();
    cx.ctr("create --name box --cap-add nosuch busybox true").refuses(125, "[..]CAP_NOSUCH[..]");
    cx.ctr("create --name box --pull never nosuchimage true").refuses(1, "[..]nosuchimage[..]");
    cx.ctr("create").refuses(1, "[..]requires at least 1 argument");
    cx.leaves_nothing();
});
