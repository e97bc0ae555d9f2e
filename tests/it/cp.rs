//! `ctr cp`: Docker's rules for what goes where, whose it is, and what is said.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::support::{Entry, Layer, Sandbox, Terminal, both};

/// A container that runs, `box`, and one that was never started, `off`.
fn boxes(cx: &Sandbox) {
    cx.busybox();
    cx.ctr("run -d --name box busybox sleep 1000").succeeds();
    cx.ctr("create --name off busybox true").succeeds();
}

/// Runs a line on the host and compares what it prints.
#[track_caller]
fn host(cx: &Sandbox, script: &str, out: &str) {
    cx.host(script).prints(out);
}

both!(where_copies_out_go, |cx| {
    boxes(cx);
    cx.ctr("exec box sh -c 'mkdir -p /d/e; echo one > /d/one; echo two > /d/e/two; ln -s one /d/link; ln -s d /dlink; chmod 750 /d/e; touch -d @1000000000 /d/one'").succeeds();
    // A file: to a name, over a file, into a folder.
    cx.ctr("cp box:/d/one new").prints("");
    cx.ctr("cp box:/d/e/two new").prints("");
    host(cx, "cat new; mkdir in; $ctr cp box:d/one in; $ctr cp box:/d/e/../one in/; ls in", "two\none\n");
    cx.ctr("cp box:/d/one missing/").refuses(1, "no such directory");
    cx.ctr("cp box:/d/one missing/x").refuses(
        1,
        &format!("invalid output path: directory {:?} does not exist", cx.cwd().join("missing").display().to_string()),
    );
    cx.ctr("cp box:/d/one new/").fails_saying(1, "not a directory");
    // A folder: to a new name, into one that is there, what it holds alone.
    host(
        cx,
        "$ctr cp box:/d fresh; ls fresh; stat -c %a fresh/e; stat -c %Y fresh/one",
        "e\nlink\none\n750\n1000000000\n",
    );
    host(cx, "$ctr cp box:/d fresh; ls fresh; ls fresh/d", "d\ne\nlink\none\ne\nlink\none\n");
    host(
        cx,
        "mkdir flat; $ctr cp box:/d/. flat; ls flat; $ctr cp box:/d/. flat2; ls flat2",
        "e\nlink\none\ne\nlink\none\n",
    );
    cx.ctr("cp box:/d new").refuses(1, "cannot copy directory");
    cx.ctr("cp box:/d/one/ .").fails_saying(1, "not a directory");
    // Links: themselves, what they lead to with -L or a slash, under their own name.
    host(
        cx,
        "$ctr cp box:/d/link l1; readlink l1; $ctr cp -L box:/d/link l2; cat l2; mkdir l3; $ctr cp -L box:/dlink l3; ls l3; $ctr cp box:/dlink/ l3; ls l3/dlink",
        "one\none\ndlink\ne\nlink\none\n",
    );
    // A link of the host's at the destination stands for what it leads to.
    host(cx, "ln -s target hl; $ctr cp box:/d/one hl; cat target; readlink hl", "one\ntarget\n");
    // A folder does not go over a file inside, nor the other way round.
    host(
        cx,
        "mkdir -p clash/d; echo x > clash/d/e; $ctr cp box:/d clash 2>&1 || :",
        &format!(
            "ctr: copy to {0:?}: cannot overwrite non-directory {0:?} with directory {1:?}\n",
            cx.cwd().join("clash/d/e"),
            cx.cwd().join("clash")
        ),
    );
    cx.ctr("cp box:/nope .").refuses(1, "Could not find the file /nope in container box");
    cx.ctr("cp nobox:/nope .").refuses(1, "No such container: nobox");
    cx.ctr("cp off:/etc/passwd -").succeeds();
    host(cx, "$ctr cp off:/etc/passwd p; head -n 1 p", "root:x:0:0:root:/root:/bin/sh\n");
    host(cx, "$ctr container cp off:/etc etc; ls etc", "group\npasswd\n");
});

both!(where_copies_in_go, |cx| {
    boxes(cx);
    cx.host("mkdir -p d/e; echo one > d/one; echo two > d/e/two; ln -s one d/link; ln -s d dlink; mkfifo d/pipe; chmod 4750 d/one; touch -d @1000000000 d/one").succeeds();
    for (name, run) in [("box", "exec box"), ("off", "run --rm off-image")] {
        let inside = |script: &str, out: &str| {
            if name == "off" {
                cx.ctr("commit off off-image").succeeds();
            }
            cx.ctr(&format!("{run} sh -c '{script}'")).prints(out);
        };
        let cp = |what: &str, to: &str| cx.ctr(&format!("cp {what} {name}:{to}"));
        cp("d/one", "/new").prints("");
        cp("d/e/two", "/new").prints("");
        cp("d/one", "/tmp").prints("");
        cp("d", "/fresh").prints("");
        cp("d", "fresh").prints("");
        cp("d/.", "/home").prints("");
        cp("dlink", "/home").prints("");
        cp("-L dlink", "/tmp/followed").prints("");
        cp("dlink/", "/tmp").prints("");
        cp("d", "/new").refuses(1, "cannot copy directory");
        cp("d/one", "/missing/").refuses(1, "no such directory");
        cp("d/one", "/missing/x").refuses(1, &format!("Could not find the file /missing in container {name}"));
        cp("nothing", "/tmp")
            .refuses(1, &format!("lstat {}: no such file or directory", cx.cwd().join("nothing").display()));
        cp("d/.", "/home/e/two/").fails_saying(1, "cannot overwrite non-directory \"/home/e/two\"");
        inside(
            "cat /new; ls /fresh /fresh/d /tmp /tmp/dlink /tmp/followed; readlink /home/dlink; stat -c \"%a %u:%g %Y\" /tmp/one; test -p /home/pipe",
            "two\n/fresh:\nd\ne\nlink\none\npipe\n\n/fresh/d:\ne\nlink\none\npipe\n\n/tmp:\ndlink\nfollowed\none\n\n/tmp/dlink:\ne\nlink\none\npipe\n\n/tmp/followed:\ne\nlink\none\npipe\nd\n4750 0:0 1000000000\n",
        );
    }
});

both!(whose_copies_are, |cx| {
    boxes(cx);
    cx.ctr("exec box sh -c 'echo x > /f; chown 1000:50 /f'").succeeds();
    let of = |name: &str| {
        let meta = std::fs::metadata(cx.cwd().join(name)).unwrap();
        (meta.uid(), meta.gid())
    };
    let me = (cx.account.uid, cx.account.gid);
    cx.ctr("cp box:/f plain").prints("");
    assert_eq!(of("plain"), me);
    cx.ctr("cp -a box:/f archived").prints("");
    if cx.is_root() {
        assert_eq!(of("archived"), (1000, 50));
    } else {
        assert_ne!(of("archived"), me, "one of the user's subordinate ids");
    }
    // In: root's, or the numbers that they have on the host.
    cx.make_file("cwd/mine", "x");
    cx.ctr("cp mine box:/in1").prints("");
    cx.ctr("cp -a mine box:/in2").prints("");
    let owner = format!("{}:{}", me.0, me.1);
    cx.ctr("exec box stat -c %u:%g /in1 /in2").prints(&format!("0:0\n{owner}\n"));
    // An archive says whose it is.
    let tar =
        Layer::new([Entry::file("t", 0o640, "x").owner(33, 44), Entry::file("no/parent", 0o600, "y").owner(5, 6)])
            .tar();
    cx.ctr_reads("cp - box:/tmp", &tar).prints("");
    cx.ctr("exec box stat -c '%n %a %u:%g' /tmp/t /tmp/no /tmp/no/parent")
        .prints("/tmp/t 640 33:44\n/tmp/no 755 0:0\n/tmp/no/parent 600 5:6\n");
});

both!(archives_both_ways, |cx| {
    boxes(cx);
    cx.ctr("exec box sh -c 'mkdir /d; echo hi > /d/f; ln /d/f /d/hard; ln -s f /d/soft; ln -s d /dl; mkfifo /d/p'")
        .succeeds();
    let listed = |what: &str, out: &str| host(cx, &format!("$ctr cp {what} - | tar t"), out);
    listed("box:/d", "d/\nd/f\nd/hard\nd/p\nd/soft\n");
    listed("box:/d/.", "./\n./f\n./hard\n./p\n./soft\n");
    listed("box:/d/f", "f\n");
    listed("box:/dl", "dl\n");
    listed("-L box:/dl", "d/\nd/f\nd/hard\nd/p\nd/soft\n");
    host(
        cx,
        "$ctr cp box:/ - | tar t | grep -E '^./(d|proc|sys|dev)/'",
        "./d/\n./d/f\n./d/hard\n./d/p\n./d/soft\n./dev/\n./proc/\n./sys/\n",
    );
    // From one to the other, to the same one, compressed.
    host(cx, "$ctr cp box:/d - | $ctr cp - off:/tmp; $ctr cp off:/tmp/d/hard -| tar xO", "hi\n");
    host(cx, "$ctr cp off:/tmp/d - | $ctr cp - off:/home; $ctr cp off:/home/d/f -| tar xO", "hi\n");
    host(
        cx,
        "$ctr cp box:/d - | gzip | $ctr cp - box:/tmp; $ctr exec box stat -c '%h %i' /tmp/d/f | cut -d' ' -f1",
        "2\n",
    );
    cx.ctr("cp - box:/d/f").refuses(1, "destination \"box:/d/f\" must be a directory");
    cx.ctr("cp - box:/nope").refuses(1, "destination \"box:/nope\" must be a directory");
    cx.ctr_reads("cp - box:/tmp", "this is no archive, however long it is".repeat(100))
        .fails_saying(1, "damaged tar archive");
    // A reader that left.
    cx.ctr("exec box sh -c 'head -c 3000000 /dev/zero > /large'").succeeds();
    host(cx, "$ctr cp box:/large - | head -c 10 | wc -c", "10\n");
});

both!(what_is_said, |cx| {
    boxes(cx);
    cx.make_file("cwd/f", "x");
    cx.ctr("cp -q=false f box:/tmp").is(0, "", "Successfully copied 2.05kB to box:/tmp\n");
    cx.ctr("cp --quiet=false box:/tmp/f out/..").is(
        0,
        "",
        &format!("Successfully copied 2.05kB to {}/.\n", cx.cwd().display()).replace("/.\n", "\n"),
    );
    let tar = Layer::new([Entry::file("t", 0o640, "x")]).tar();
    cx.ctr_reads("cp -q=false - box:/tmp", &tar).is(0, "", "Successfully copied 2.05kB to box:/tmp\n");
    cx.ctr("cp f box:/tmp").prints("");
    cx.ctr("cp f f").refuses(1, "must specify at least one container source");
    cx.ctr("cp box:/f off:/f").refuses(1, "copying between containers is not supported");
    cx.ctr("cp '' f").refuses(1, "source can not be empty");
    cx.ctr("cp f ''").refuses(1, "destination can not be empty");
    cx.ctr("cp box:/etc/passwd /dev/null")
        .refuses(1, "invalid output path: \"/dev/null\" must be a directory or a regular file: got a device");
    cx.ctr("cp f box:/dev/null")
        .refuses(1, "destination \"box:/dev/null\" must be a directory or a regular file: got a device");
    // A path with a colon is told by what stands in front.
    cx.make_file("cwd/a:b", "colon\n");
    host(
        cx,
        "$ctr cp ./a:b box:/tmp; $ctr exec box cat /tmp/a:b; $ctr cp box:/tmp/a:b ./c:d; cat c:d",
        "colon\ncolon\n",
    );
    // On a terminal it is said unless told not to.
    let terminal = Terminal::open(cx);
    terminal.line("$ctr cp f box:/tmp/said; echo done");
    terminal.shows("Successfully copied 2.05kB to box:/tmp/said\ndone");
    terminal.line("clear; $ctr cp -q f box:/tmp/quiet; echo silent");
    terminal.ends_with("silent\n$ ");
    assert!(!terminal.screen().contains("Successfully"), "{}", terminal.screen());
});

both!(what_is_mounted, |cx| {
    cx.busybox();
    for (dir, file) in [("rw", "seen"), ("ro", "kept")] {
        cx.make_dir(dir);
        cx.make_file(&format!("{dir}/{file}"), format!("{file}\n"));
    }
    cx.make_file("cwd/f", "copied\n");
    let dir = cx.dir.display();
    let mounts = format!("-v {dir}/rw:/rw -v {dir}/ro:/ro:ro --tmpfs /t");
    cx.ctr(&format!("run -d --name box {mounts} busybox sleep 1000")).succeeds();
    cx.ctr(&format!("run -d --name fixed --read-only {mounts} busybox sleep 1000")).succeeds();
    cx.ctr(&format!("create --name off --read-only {mounts} busybox true")).succeeds();
    cx.ctr(&format!("create --name never {mounts} busybox true")).succeeds();
    for name in ["box", "fixed", "off", "never"] {
        cx.ctr(&format!("cp f {name}:/rw/{name}")).prints("");
        assert_eq!(std::fs::read_to_string(cx.dir.join("rw").join(name)).unwrap(), "copied\n");
        host(cx, &format!("$ctr cp {name}:/ro/kept - | tar xO; $ctr cp {name}:/rw/seen - | tar xO"), "kept\nseen\n");
        cx.ctr(&format!("cp f {name}:/ro")).refuses(1, "mounted volume is marked read-only");
        assert_eq!(std::fs::read_dir(cx.dir.join("ro")).unwrap().count(), 1);
    }
    for name in ["fixed", "off"] {
        cx.ctr(&format!("cp f {name}:/tmp")).refuses(1, "container rootfs is marked read-only");
        host(cx, &format!("$ctr cp {name}:/etc/passwd - | tar xO | head -c 4"), "root");
    }
    for name in ["box", "fixed"] {
        cx.ctr(&format!("cp f {name}:/t")).prints("");
        cx.ctr(&format!("exec {name} cat /t/f")).prints("copied\n");
        host(cx, &format!("$ctr cp {name}:/t/f - | tar xO"), "copied\n");
        // A file that something is mounted on is written, not replaced.
        cx.ctr(&format!("cp f {name}:/etc/hosts")).refuses_unless_written(cx, name);
    }
});

trait Written {
    fn refuses_unless_written(&self, cx: &Sandbox, name: &str);
}

impl Written for crate::support::Ran {
    #[track_caller]
    fn refuses_unless_written(&self, cx: &Sandbox, name: &str) {
        match name {
            "box" => {
                self.prints("");
                cx.ctr("exec box cat /etc/hosts").prints("copied\n");
            }
            _ => self.refuses(1, "container rootfs is marked read-only"),
        }
    }
}

both!(names_that_are_not_text, |cx| {
    boxes(cx);
    let odd = |prefix: &str| [OsString::from(prefix), OsString::from_vec(b"caf\xe9\xff\n x".to_vec())].concat_os();
    let long = "n".repeat(250);
    std::fs::create_dir(cx.cwd().join(odd(""))).unwrap();
    std::fs::write(cx.cwd().join(odd("")).join(odd("")), "odd\n").unwrap();
    std::fs::write(cx.cwd().join(odd("")).join(&long), "long\n").unwrap();
    cx.ctr_args([OsString::from("cp"), odd("./"), "box:/".into()]).prints("");
    cx.ctr_args([OsString::from("cp"), odd("box:/"), "back".into()]).prints("");
    assert_eq!(std::fs::read_to_string(cx.cwd().join("back").join(odd(""))).unwrap(), "odd\n");
    host(cx, "mkdir t; $ctr cp box:/ - | tar x -C t --wildcards './caf*'; find t -type f -printf x", "xx");
    let listed = cx.ctr("diff box").stdout;
    assert!(listed.windows(5).any(|w| w == b"caf\xe9\xff"), "{}", String::from_utf8_lossy(&listed));
    cx.ctr("commit box odd:1").succeeds();
    cx.ctr("run --rm odd:1 sh -c 'cat /caf*/caf* /caf*/nnn*'").prints("odd\nlong\n");
    host(
        cx,
        "mkdir ex; $ctr export box | tar x -C ex --exclude dev; cat ex/caf*/caf*; find ex/caf* -type f -printf x",
        "odd\nxx",
    );
});

trait ConcatOs {
    fn concat_os(self) -> OsString;
}

impl ConcatOs for [OsString; 2] {
    fn concat_os(self) -> OsString {
        let [mut first, second] = self;
        first.push(second);
        first
    }
}

both!(special_files_and_holes, |cx| {
    boxes(cx);
    cx.ctr("exec box sh -c 'mkdir /s; mkfifo /s/p; (nc -lU /s/sock || nc -l -p 1 local:/s/sock) 2>/dev/null & truncate -s 1G /s/sparse 2>/dev/null || dd if=/dev/zero of=/s/sparse bs=1 count=0 seek=1G 2>/dev/null; echo end >> /s/sparse; chmod 1777 /s'").succeeds();
    cx.ctr("cp box:/s out").prints("");
    let meta = std::fs::metadata(cx.cwd().join("out/sparse")).unwrap();
    assert_eq!((meta.len(), meta.blocks() < 1000), ((1 << 30) + 4, true));
    assert_eq!(std::fs::metadata(cx.cwd().join("out")).unwrap().permissions().mode() & 0o7777, 0o1777);
    host(cx, "test -p out/p; tail -c 4 out/sparse; test ! -e out/sock", "end\n");
    // A pipe that is the source does not make anybody wait.
    cx.ctr("cp box:/s/p pipe").prints("");
    host(cx, "test -p pipe; $ctr cp pipe box:/tmp; $ctr exec box test -p /tmp/pipe", "");
    if cx.is_root() {
        cx.ctr("exec box mknod /s/null c 1 3").succeeds();
        host(cx, "$ctr cp box:/s/null null; stat -c '%F %t,%T' null; rm null", "character special file 1,3\n");
    }
});
