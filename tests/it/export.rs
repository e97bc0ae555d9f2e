//! `ctr export`.

use std::os::unix::fs::PermissionsExt;

use crate::disk_full::small_disk_beside;
use crate::support::{Entry, Image, Sandbox, Terminal, both, until};

fn container(cx: &Sandbox) {
    let image = Image::small(
        "tree:1",
        [
            Entry::dir("t/", 0o750).owner(1000, 50).time(1_000_000_000, 0),
            Entry::file("t/f", 0o4755, "data\n").owner(1000, 50).time(1_000_000_001, 5),
            Entry::hard_link("t/hard", "t/f"),
            Entry::symlink("t/soft", "../../../outside"),
            Entry::fifo("t/pipe", 0o600),
            Entry::file("t/attr", 0o644, "x").xattr("user.note", "kept\0\n"),
            Entry::dir("v/", 0o755),
            Entry::file("v/below", 0o644, "below\n"),
        ],
    );
    cx.load(&image);
    let mounts = format!("-v {}:/v --tmpfs /w", cx.dir.display());
    cx.ctr(&format!("run -d --name box {mounts} tree:1 sleep 1000")).succeeds();
    cx.ctr("create --name off tree:1 true").succeeds();
}

both!(all_of_the_tree_and_nothing_else, |cx| {
    container(cx);
    cx.ctr("exec box sh -c 'echo new > /t/new; rm /etc/group; echo x > /w/x'").prints("");
    let listing = "tar tv --full-time --numeric-owner | grep ' t/' | sed 's/  */ /g'";
    let seen = "drwxr-x--- 1000/50 0 2001-09-09 01:46:40 t/
-rw-r--r-- 0/0 1 [..] t/attr
-rwsr-xr-x 1000/50 5 2001-09-09 01:46:41 t/f
hrwsr-xr-x 1000/50 0 2001-09-09 01:46:41 t/hard link to t/f
prw------- 0/0 0 [..] t/pipe
lrwxrwxrwx 0/0 0 [..] t/soft -> ../../../outside
";
    cx.set("TZ", "UTC");
    cx.host(&format!("$ctr export off | {listing}")).prints(seen);
    // What is mounted is left out, and what lies below it is the container's.
    cx.host("$ctr export box > a.tar; tar tf a.tar | grep -E '^(v|w|proc|dev|sys|etc|t/new)/?' | grep -v '^dev/.'")
        .prints(
            "dev/\netc/\netc/hostname\netc/hosts\netc/passwd\netc/resolv.conf\nproc/\nsys/\nt/new\nv/\nv/below\nw/\n",
        );
    cx.host("tar xOf a.tar t/new v/below etc/hosts; tar tf a.tar | head -n 1").prints("new\nbelow\n.dockerenv\n");
    cx.host("tar xf a.tar --xattrs -O t/attr; mkdir x; tar xf a.tar --xattrs --xattrs-include=* -C x t/attr; getfattr -n user.note --only-values x/t/attr 2>/dev/null | head -c 4 || :").succeeds();
    // What comes back is an image of it.
    cx.host("$ctr export box | $ctr import - flat:1").succeeds();
    cx.ctr("run --rm flat:1 sh -c 'cat /t/new /t/f; stat -c \"%a %u:%g %h\" /t/f /t'")
        .prints("new\ndata\n4755 1000:50 2\n750 1000:50 2\n");
});

both!(to_a_file_or_a_pipe, |cx| {
    container(cx);
    cx.ctr("export -o out.tar off").prints("");
    let path = cx.cwd().join("out.tar");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    cx.host(
        "tar tf out.tar | grep -c t/f; $ctr container export --output out.tar off; $ctr export off | cmp - out.tar",
    )
    .prints("1\n");
    cx.ctr("export -o missing/out off")
        .refuses(1, "failed to export container: invalid output path: stat missing: no such file or directory");
    cx.ctr("export -o /dev/null off").refuses(1, "failed to export container: cannot write to a character device file");
    cx.ctr("export -o . off").refuses(1, "failed to export container: cannot write to a directory");
    cx.ctr("export nope").refuses(1, "No such container: nope");
    cx.host("$ctr export off | head -c 100 | wc -c").prints("100\n");
    let names = std::fs::read_dir(cx.cwd()).unwrap().count();
    assert_eq!(names, 1, "only out.tar");
    let terminal = Terminal::open(cx);
    terminal.line("$ctr export off; echo $?");
    terminal.shows("ctr: cowardly refusing to save to a terminal. Use the -o flag or redirect\n1");
});

both!(interrupted_it_leaves_nothing, |cx| {
    container(cx);
    cx.ctr("exec box sh -c 'head -c 300000000 /dev/zero > /large'").prints("");
    cx.make_file("cwd/kept.tar", "kept");
    // Its reader does not read: it stands in the middle.
    cx.host("mkfifo pipe").succeeds();
    let reader = cx.host_command("sh").args(["-c", "exec sleep 1000 < pipe"]).current_dir(cx.cwd()).spawn();
    let mut reader = reader.unwrap();
    let mut running = cx.spawn("export -o pipe box");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(running.runs());
    running.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(running.wait().code, 130);
    reader.kill().unwrap();
    reader.wait().unwrap();
    for signal in ["INT", "KILL"] {
        cx.host(&format!("(timeout -s {signal} 0.15 $ctr export -o kept.tar box || :) 2>/dev/null; ls"))
            .prints("kept.tar\npipe\n");
        let there = std::fs::read(cx.cwd().join("kept.tar")).unwrap();
        assert!(there == b"kept" || there.len() > 300_000_000, "the old one or the new one, whole");
    }
    cx.ctr("rm -f box").prints("box\n");
});

both!(while_files_change, |cx| {
    cx.busybox();
    let churn = "mkdir /c; while :; do head -c 3000000 /dev/zero > /c/f; : > /c/f; mkdir -p /c/d/e; echo x > /c/d/e/g; mv /c/d /c/z; ln -s /etc /c/d; rm -rf /c/z /c/d; mkfifo /c/p; rm /c/p; done";
    cx.ctr_args(["run", "-d", "--name", "box", "busybox", "sh", "-c", churn]).succeeds();
    until("it is at work", || cx.ctr("exec box test -e /c/f").code == 0);
    for _ in 0..10 {
        // Every archive is whole, whatever happened meanwhile.
        cx.host("$ctr export box 2>err > a.tar; tar tf a.tar > list; grep -qx bin/busybox list; grep -v 'became shorter' err || :").prints("");
        cx.host("$ctr cp box:/c - 2>/dev/null | tar t >/dev/null; rm -rf out; $ctr cp box:/c out 2>err || cat err; test -L out/d || test ! -e out/d/passwd").prints("");
    }
});

both!(on_a_full_disk, |cx| {
    cx.busybox();
    if !small_disk_beside(cx) {
        return;
    }
    cx.ctr("run -d --name box busybox sh -c 'head -c 25000000 /dev/urandom > /noise; sleep 1000'").succeeds();
    until("it has written", || cx.ctr("exec box stat -c %s /noise").out() == "25000000\n");
    let place = cx.root().join("here");
    std::fs::create_dir(&place).unwrap();
    std::os::unix::fs::chown(&place, Some(cx.account.uid), Some(cx.account.gid)).unwrap();
    let place = place.display();
    cx.ctr("exec box sh -c 'head -c 25000000 /dev/urandom > /more'").prints("");
    let ran = cx.ctr(&format!("export -o {place}/a.tar box"));
    assert!(ran.code == 1 && ran.err().to_lowercase().contains("no space left on device"), "{ran}");
    let ran = cx.ctr(&format!("cp box:/noise {place}/copy"));
    assert!(ran.code == 1 && ran.err().to_lowercase().contains("no space left on device"), "{ran}");
    std::fs::remove_file(cx.root().join("here/copy")).unwrap();
    assert_eq!(std::fs::read_dir(cx.root().join("here")).unwrap().count(), 0);
    let ran = cx.ctr("commit box full:1");
    ran.fails_saying(125, "no space left on device");
    cx.ctr("images -q full").prints("");
    cx.ctr("exec box echo alive").prints("alive\n");
    cx.ctr("exec box rm /noise /more").prints("");
    cx.ctr("commit box small:1").succeeds();
    cx.ctr("rm -f box").prints("box\n");
    std::fs::remove_dir(cx.root().join("here")).unwrap();
});

both!(names_that_are_not_text, |cx| {
    cx.busybox();
    let script =
        "mkdir \"/$(printf 'd\\377')\"; touch \"/$(printf 'd\\377/caf\\351')\"; ln -s \"$(printf '\\376')\" /link";
    cx.ctr_args(["run", "--name", "c", "busybox", "sh", "-c", script]).prints("");
    let ran = cx.host("$ctr export c | tar t --quoting-style=literal | grep -a ^d");
    assert_eq!((ran.code, &*ran.stdout), (0, &b"dev/\nd\xff/\nd\xff/caf\xe9\n"[..]), "{ran}");
    cx.host("$ctr export c | $ctr import - back >/dev/null; $ctr run --rm back sh -c 'echo d*/caf*; readlink link' | od -An -c").prints(
        "   d 377   /   c   a   f 351  \\n 376  \\n\n",
    );
});
