//! `ctr diff`: what was added, changed and deleted, and nothing else.

use crate::support::{Entry, Image, Layer, Sandbox, both};

/// An image of three layers with a folder that the middle one replaced.
fn layered() -> Image {
    let image = Image::small(
        "layered:1",
        [
            Entry::dir("d/", 0o755),
            Entry::file("d/one", 0o644, "one\n"),
            Entry::file("d/two", 0o644, "two\n"),
            Entry::dir("d/sub/", 0o755),
            Entry::file("d/sub/deep", 0o644, "deep\n"),
            Entry::file("gone", 0o644, "x"),
            Entry::symlink("link", "d"),
        ],
    );
    let image =
        image.layer(&Layer::new([Entry::file(".wh.gone", 0o644, ""), Entry::file("d/three", 0o644, "three\n")]));
    image.layer(&Layer::new([Entry::dir("e/", 0o700).owner(1000, 1000)]))
}

/// What a script in a container changed.
#[track_caller]
fn changes(cx: &Sandbox, script: &str, expected: &str) {
    cx.ctr_args(["run", "--name", "c", "layered:1", "sh", "-euc", script]).prints("");
    cx.ctr("diff c").prints(expected);
    cx.ctr("rm c").prints("c\n");
}

both!(what_was_changed, |cx| {
    cx.load(&layered());
    for (script, expected) in [
        ("true", ""),
        // Looked at, opened, given what it has already.
        ("cat /d/one >/dev/null; : >> /d/one; chmod 644 /d/two; chown 0 /d/three", ""),
        ("echo x > /new; mkdir /m; mkdir /m/n", "A /m\nA /m/n\nA /new\n"),
        ("echo x >> /d/one", "C /d/one\n"),
        ("rm /d/one; rm -r /d/sub", "C /d\nD /d/one\nD /d/sub\n"),
        (
            "chmod 600 /d/one; chown 5 /d/two; touch -d @1 /d/three; chmod 755 /e",
            "C /d/one\nC /d/three\nC /d/two\nC /e\n",
        ),
        // The same size and the same time do not make it the same file.
        ("t=$(stat -c %Y /d/one); echo eno > /d/one; touch -d @$t /d/one", "C /d/one\n"),
        ("mv /d/one /d/moved; mv /link /knil", "C /d\nA /d/moved\nD /d/one\nA /knil\nD /link\n"),
        // A folder renamed, with all in it; replaced; emptied and filled anew.
        ("mv /d/sub /sub", "C /d\nD /d/sub\nA /sub\nA /sub/deep\n"),
        (
            "rm -r /d; mkdir /d; echo new > /d/two; echo n > /d/four",
            "C /d\nA /d/four\nD /d/one\nD /d/sub\nD /d/three\nC /d/two\n",
        ),
        (
            "rm -r /d; mkdir -p /d/sub; echo x > /d/sub/else",
            "C /d\nD /d/one\nC /d/sub\nD /d/sub/deep\nA /d/sub/else\nD /d/three\nD /d/two\n",
        ),
        ("rm -r /d; echo file > /d; rm /link; mkdir /link; echo x > /link/y", "C /d\nC /link\nA /link/y\n"),
        // Deleted and made again as it was, but for its time.
        ("rm /d/one; echo one > /d/one", "C /d\nC /d/one\n"),
        // What an upper layer of the image had taken away is new.
        ("echo x > /gone", "A /gone\n"),
        ("rm /d/three; echo x > /tmp/f; rm /tmp/f", "C /d\nD /d/three\nC /tmp\n"),
        ("ln /d/one /hard; ln -sfn e /link; mkfifo /p", "A /hard\nC /link\nA /p\n"),
        // What is mounted is not the container's, and where it is mounted neither.
        ("echo x > /dev/shm/x; echo y >> /etc/hosts", ""),
        ("echo x > /etc/mine", "C /etc\nA /etc/mine\n"),
    ] {
        changes(cx, script, expected);
    }
});

both!(running_and_stopped_and_never_started, |cx| {
    cx.load(&layered());
    cx.ctr("create --name c layered:1 sleep 1000").succeeds();
    cx.ctr("diff c").prints("");
    cx.ctr("start c").prints("c\n");
    cx.ctr("exec c sh -c 'echo x > /x; rm -r /d/sub'").prints("");
    cx.ctr("diff c").prints("C /d\nD /d/sub\nA /x\n");
    cx.ctr("kill c").prints("c\n");
    cx.ctr("wait c").prints("137\n");
    cx.ctr("container diff c").prints("C /d\nD /d/sub\nA /x\n");
    cx.ctr("diff nope").refuses(1, "No such container: nope");
    // A folder of the host's is a place that was made, as with Docker; what is in it is not listed.
    cx.make_file("f", "x");
    cx.ctr(&format!("run --name v -v {}:/v --tmpfs /w layered:1 touch /w/x", cx.dir.display())).prints("");
    cx.ctr("diff v").prints("A /v\nA /w\n");
});

both!(while_everything_changes, |cx| {
    cx.load(&layered());
    let churn = "i=0; while :; do i=$((i+1)); mkdir -p /c/$i/x; echo $i > /c/$i/f; mv /c/$i /c/y 2>/dev/null; rm -rf /c/y /d/sub; mkdir -p /d/sub; ln -s / /d/sub/l; done";
    cx.ctr_args(["run", "-d", "--name", "c", "layered:1", "sh", "-c", churn]).succeeds();
    for _ in 0..15 {
        let ran = cx.ctr("diff c");
        ran.succeeds();
        assert!(ran.out().lines().all(|line| line.starts_with(['A', 'C', 'D'])), "{ran}");
    }
});

both!(names_that_are_not_text, |cx| {
    cx.busybox();
    cx.ctr_args(["run", "--name", "c", "busybox", "sh", "-c", "touch \"/tmp/$(printf 'caf\\351\\377\\n\\033x')\""])
        .prints("");
    let ran = cx.ctr("diff c");
    assert_eq!((ran.code, &*ran.stdout), (0, &b"C /tmp\nA /tmp/caf\xe9\xff\n\x1bx\n"[..]), "{ran}");
});
