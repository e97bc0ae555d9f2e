//! `ctr logs`.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use crate::support::{Sandbox, both, skipped, until};

both!(both_streams_apart, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sh -c 'echo one; echo two >&2; echo three'").succeeds();
    cx.until_status("box", "exited");
    cx.ctr("logs box").is(0, "one\nthree\n", "two\n");
});

both!(the_last_lines, |cx| {
    cx.busybox();
    cx.ctr("run --name box busybox seq 1 10").succeeds();
    cx.ctr("logs --tail 2 box").prints("9\n10\n");
    cx.ctr("logs -n 0 box").prints("");
    cx.ctr("logs -n all box").prints("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n");
    cx.ctr("logs -n 100 box").prints("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n");
    cx.ctr("logs -n x box").refuses(1, "[..]x[..]");
});

both!(followed, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sh -c 'echo one; while [ ! -e /go ]; do sleep 0.02; done; echo two; exit 1'")
        .succeeds();
    let follower = cx.spawn("logs -f box");
    follower.shows("one\n");
    cx.ctr("exec box touch /go").prints("");
    follower.wait().prints("one\ntwo\n");
    // At its end already: all of it, then the end.
    cx.ctr("logs -f box").prints("one\ntwo\n");
});

both!(with_times, |cx| {
    cx.busybox();
    cx.ctr("run --name box busybox sh -c 'echo early; sleep 1.1; echo late'").succeeds();
    let out = cx.ctr("logs -t box").succeeds();
    let lines: Vec<_> = out.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(lines.iter().map(|(_, text)| *text).collect::<Vec<_>>(), ["early", "late"]);
    let (early, late) = (lines[0].0, lines[1].0);
    assert!(early.len() == 30 && early.ends_with('Z') && early < late, "{out}");
    cx.ctr(&format!("logs --since {late} box")).prints("late\n");
    cx.ctr(&format!("logs --until {early} box")).prints("early\n");
    cx.ctr("logs --since 1h box").prints("early\nlate\n");
    cx.ctr("logs --until 1h box").prints("");
    // Every form of a time that Docker takes.
    let day = &early[..10];
    for time in
        [day.to_owned() + "Z", format!("{day}T00Z"), format!("{day}T00:00+00:00"), "1.5".into(), "10h30m".into()]
    {
        cx.ctr(&format!("logs --since {time} box")).prints("early\nlate\n");
        cx.ctr(&format!("logs --until {time} box")).prints("");
    }
    cx.ctr("logs --since 0 --until 0 box").prints("early\nlate\n");
    cx.ctr("logs --since nonsense box").refuses(1, "[..]nonsense[..]");
});

both!(odd_bytes_and_long_lines, |cx| {
    cx.busybox();
    // A line longer than Docker's 16 KiB, one without its end, characters of several bytes.
    let script = "head -c 50000 /dev/zero | tr \"\\0\" x; echo; printf \"ä€😀\\n\"; printf \"no end\"";
    let direct = cx.ctr_args(["run", "--name", "box", "busybox", "sh", "-c", script]);
    let text = format!("{}\nä€😀\nno end", "x".repeat(50000));
    assert_eq!(direct.out(), text);
    assert_eq!(cx.ctr("logs box").out(), text);
});

both!(of_a_terminal, |cx| {
    cx.busybox();
    cx.ctr("run -d -t --name box busybox sh -c 'echo one; echo two >&2'").succeeds();
    cx.until_status("box", "exited");
    cx.ctr("logs box").prints("one\r\ntwo\r\n");
});

both!(rotated, |cx| {
    cx.busybox();
    cx.ctr("run --name box --log-opt max-size=10k --log-opt max-file=2 busybox sh -c 'seq 1 5000'").succeeds();
    let out = cx.ctr("logs box").succeeds();
    assert!(out.ends_with("\n4999\n5000") && out.len() < 24_000, "{} bytes", out.len());
    cx.ctr("run --name dd --log-driver none busybox echo hi").prints("hi\n");
    cx.ctr("logs dd").refuses(1, "[..]does not support reading");
    cx.ctr("run --log-driver nosuch busybox true").refuses(125, "[..]nosuch[..]");
});

/// Files of a container's log, by what follows their common name.
fn log_files(cx: &Sandbox, name: &str, container: &str) -> Vec<String> {
    let path = cx.ctr(&format!("inspect -f '{{{{.LogPath}}}}' {container}")).succeeds();
    assert!(path.contains(name), "{path}");
    let path = std::path::Path::new(&path);
    let base = path.file_name().unwrap().to_str().unwrap();
    let entries = std::fs::read_dir(path.parent().unwrap()).unwrap().flatten();
    let names = entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix(base)?.to_owned()));
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

both!(compressed_and_over_restarts, |cx| {
    cx.busybox();
    for (driver, file) in [("json-file", "-json.log"), ("local", "container.log")] {
        let flags = "--log-opt max-size=4k --log-opt max-file=200 --log-opt compress=true";
        cx.ctr(&format!("run --name {driver} --log-driver {driver} {flags} busybox seq 1 3000")).succeeds();
        let names = log_files(cx, file, driver);
        assert!(names.len() > 3 && names[1..].iter().all(|name| name.strip_suffix(".gz").is_some()), "{names:?}");
        cx.ctr(&format!("start -a {driver}")).succeeds();
        let once: String = (1..=3000).map(|n| n.to_string() + "\n").collect();
        assert!(cx.ctr(&format!("logs {driver}")).succeeds() + "\n" == once.repeat(2), "{driver}");
        // The last lines, from the newest file and from compressed ones.
        for count in [1, 2500, 3001, 5999, 9999] {
            let out = cx.ctr(&format!("logs -n {count} {driver}")).succeeds();
            let all = once.repeat(2);
            let lines: Vec<_> = all.lines().collect();
            let expected = lines[lines.len().saturating_sub(count)..].join("\n");
            assert!(out == expected, "{driver} {count}: {} lines", out.lines().count());
        }
        cx.ctr(&format!("logs -n 1 -f {driver}")).prints("3000\n");
    }
});

both!(followed_over_rotations, |cx| {
    cx.busybox();
    // Each file is gone almost as soon as it is full: a follower that looked for them by their names
    // would miss most.
    for flags in ["json-file --log-opt max-size=2k", "local --log-opt max-size=2k --log-opt max-file=3"] {
        let script = "read l; n=0; while [ $n -lt 60 ]; do n=$((n + 1)); seq $((n * 100 - 99)) $((n * 100)); done";
        cx.ctr_args(
            "run -d -i --name box --log-driver"
                .split(' ')
                .chain(flags.split(' '))
                .chain(["busybox", "sh", "-c", script]),
        )
        .succeeds();
        let followers = [cx.spawn("logs -f box"), cx.spawn("logs -f -n 0 box"), cx.spawn("logs -f box")];
        let mut typing = cx.spawn("attach box");
        // A follower is there when it has taken what there was.
        until("they follow", || followers.iter().all(|follower| waits(follower.pid())));
        typing.write("go\n");
        let expected: String = (1..=6000).map(|n| n.to_string() + "\n").collect();
        for follower in followers {
            let ran = follower.wait();
            assert!(
                ran.code == 0 && ran.err().is_empty() && ran.out() == expected,
                "{} {}",
                ran.out().len(),
                ran.err()
            );
        }
        typing.wait();
        cx.ctr("rm -f box").succeeds();
    }
});

/// Whether a process is in poll(2) with an inotify watch of its own: it waits for the log to grow.
fn waits(pid: i32) -> bool {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    fds.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|to| to.as_os_str() == "anon_inode:inotify")
}

both!(followed_by_one_that_stands_still, |cx| {
    cx.busybox();
    cx.ctr_args(
        "run -d -i --name box --log-opt max-size=100k busybox sh -c"
            .split(' ')
            .chain(["read l; seq 1 300000; touch /done; read l"]),
    )
    .succeeds();
    let still = cx.spawn("logs -f box");
    until("it follows", || waits(still.pid()));
    still.signal(Signal::SIGSTOP);
    let mut typing = cx.spawn("attach box");
    typing.write("go\n");
    until("the container went on", || cx.ctr("exec box test -e /done").code == 0);
    still.signal(Signal::SIGCONT);
    typing.write("stop\n");
    typing.wait();
    let ran = still.wait();
    // It is told that it missed something, and what it got are whole lines in their order.
    let lines: Vec<u32> = ran.out().lines().map(|line| line.parse().unwrap()).collect();
    assert!(ran.code == 0 && lines.is_sorted() && lines.last() == Some(&300_000), "{}", ran.err());
    assert!(ran.err().contains("rotated away before this reader got to them"), "{}", ran.err());
});

both!(details, |cx| {
    cx.busybox();
    cx.ctr_args([
        "run",
        "--name",
        "box",
        "--label",
        "colour=dark red",
        "--label",
        "com.x.a=1",
        "--label",
        "other=2",
        "-e",
        "A=b=c",
        "-e",
        "Z=no",
        "--log-opt",
        "labels=colour,nosuch",
        "--log-opt",
        "labels-regex=^com\\.",
        "--log-opt",
        "env=A",
        "--log-opt",
        "tag={{.Name}}/{{.ImageName}}",
        "busybox",
        "sh",
        "-c",
        "echo one; echo two >&2",
    ])
    .is(0, "one\n", "two\n");
    let attrs = "A=b%3Dc,colour=dark+red,com.x.a=1,tag=box%2Fbusybox";
    cx.ctr("logs --details box").is(0, &format!("{attrs} one\n"), &format!("{attrs} two\n"));
    let out = cx.ctr("logs --details -t box").out();
    assert!(out.ends_with(&format!("Z {attrs} one\n")) && out.len() == attrs.len() + 36, "{out}");
    let path = cx.ctr("inspect -f '{{.LogPath}}' box").succeeds();
    let attrs = r#""attrs":{"A":"b=c","colour":"dark red","com.x.a":"1","tag":"box/busybox"}"#;
    let text = std::fs::read_to_string(path).unwrap();
    // Of two pipes the second may be read first.
    let start = format!(r#"{{"log":"one\n","stream":"stdout",{attrs},"time":"20"#);
    assert!(text.lines().any(|line| line.starts_with(&start)), "{text}");
    cx.ctr("run --name plain busybox echo x").prints("x\n");
    cx.ctr("logs --details plain").prints(" x\n");
});

both!(bytes_of_any_kind, |cx| {
    cx.busybox();
    let script = "printf 'a\\377\\0b\\n'; head -c 40000 /dev/zero | tr '\\0' 'x'; echo; printf 'no end'";
    cx.ctr_args(["run", "--name", "box", "--log-driver", "local", "busybox", "sh", "-c", script]).succeeds();
    let expected = [b"a\xff\0b\n".to_vec(), vec![b'x'; 40_000], b"\nno end".to_vec()].concat();
    assert!(cx.ctr("logs box").stdout == expected);
    assert!(cx.ctr("logs -n 1 box").stdout == b"no end");
    assert_eq!(cx.ctr("logs -n 2 box").stdout.len(), 40_007);
});

both!(options_are_checked_as_docker_does, |cx| {
    cx.busybox();
    for (flags, says) in [
        ("--log-opt nosuch=1", "unknown log opt 'nosuch' for json-file log driver"),
        ("--log-driver local --log-opt labels=x", "unknown log opt 'labels' for log driver local"),
        ("--log-driver journald --log-opt max-size=1m", "unknown log opt 'max-size' for journald log driver"),
        ("--log-driver none --log-opt max-size=1m", "invalid logging opts for driver none"),
        ("--log-driver nosuch", "logger: no log driver named 'nosuch' is registered"),
        ("--log-opt max-size=0", "failed to initialize logging driver: max-size must be a positive number"),
        ("--log-opt max-size=1x", "failed to initialize logging driver: invalid suffix: 'x'"),
        ("--log-opt max-file=0", "failed to initialize logging driver: max-file cannot be less than 1"),
        (
            "--log-opt compress=true",
            "failed to initialize logging driver: compress cannot be true when max-file is less than 2 or max-size is \
             not set",
        ),
        ("--log-opt mode=slow", "logger: logging mode not supported: slow"),
        ("--log-opt max-buffer-size=1m", "logger: max-buffer-size option is only supported with 'mode=non-blocking'"),
        ("--log-opt tag={{.Nosuch", "failed to initialize logging driver: template: log-tag: [..]"),
    ] {
        cx.ctr(&format!("create {flags} busybox true")).refuses(125, says);
    }
    cx.ctr("ps -aq").prints("");
    // Docker takes it, and so it is taken.
    cx.ctr("run --rm --log-opt max-file=3 --log-opt mode=blocking busybox echo fine").prints("fine\n");
});

both!(broken_pipes_end_quietly, |cx| {
    cx.busybox();
    cx.ctr("run --name box --log-driver local busybox sh -c 'seq 1 300000; touch /new'").succeeds();
    cx.host("$ctr logs box | head -n 1").is(0, "1\n", "");
    cx.host("$ctr ps -a --format '{{.Names}}' | head -n 0").is(0, "", "");
    cx.host("{ $ctr logs box || echo $? >&2; } | head -n 1").is(0, "1\n", "141\n");
    // A pipe whose reader has left already.
    let gone = "rm -f f; mkfifo f; true <f & exec 5>f; wait";
    for command in [
        "ps -a",
        "export box",
        "cp box:/bin -",
        "diff box",
        "events --until 0s",
        "inspect box",
        "run --help",
        "logs box",
        "images",
        "version",
        "exec yes echo x",
    ] {
        if command.starts_with("exec") {
            cx.ctr("run -d --name yes busybox sleep 1000").succeeds();
        }
        cx.host(&format!("{gone}; $ctr {command} >&5 || echo $?")).is(0, "141\n", "");
    }
    cx.ctr("rm -f yes").succeeds();
    // The container is not harmed: it writes to its log, as Docker's does.
    cx.host("$ctr run --name yes busybox sh -c 'seq 1 20000; touch /whole; sleep 1000' | head -n 1").is(0, "1\n", "");
    until("the container went on", || cx.ctr("exec yes test -e /whole").code == 0);
    // The last of it may still be in the pipe.
    until("all of it is in the log", || cx.ctr("logs yes").succeeds().lines().count() == 20_000);
    cx.host("$ctr exec yes seq 1 300000 | head -n 1").is(0, "1\n", "");
});

/// Journald's socket, listened to by the test, in mounts of its own.
fn fake_journal() -> std::os::unix::net::UnixDatagram {
    use nix::mount::{MsFlags, mount};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    mount(Some("tmpfs"), "/run/systemd", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    std::fs::create_dir("/run/systemd/journal").unwrap();
    let socket = std::os::unix::net::UnixDatagram::bind("/run/systemd/journal/socket").unwrap();
    std::fs::set_permissions("/run/systemd/journal/socket", std::fs::Permissions::from_mode(0o666)).unwrap();
    socket
}

/// The fields of an entry, in the native protocol.
fn fields(mut packet: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while !packet.is_empty() {
        let (name, rest) = packet.split_at(packet.iter().position(|b| *b == b'\n').unwrap());
        let (length, rest) = rest[1..].split_first_chunk::<8>().unwrap();
        let (value, rest) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
        fields.insert(String::from_utf8_lossy(name).into(), String::from_utf8_lossy(value).into());
        packet = &rest[1..];
    }
    fields
}

both!(to_the_journal, |cx| {
    if !nix::unistd::geteuid().is_root() {
        return skipped("needs root, for a journal's socket");
    }
    let socket = fake_journal();
    cx.busybox();
    let id = cx
        .ctr_args([
            "run",
            "-d",
            "--name",
            "box",
            "--log-driver",
            "journald",
            "--label",
            "a.b=c",
            "--log-opt",
            "labels=a.b",
            "--log-opt",
            "tag={{.Name}}",
            "busybox",
            "sh",
            "-c",
            "echo one; sleep 0.1; printf 'x\\377' >&2",
        ])
        .succeeds();
    cx.until_status("box", "exited");
    let mut packet = vec![0; 65536];
    let mut next = || {
        let length = socket.recv(&mut packet).unwrap();
        fields(&packet[..length])
    };
    let mut first = next();
    let mut take = |name: &str| first.remove(name).unwrap_or_default();
    let told =
        ["MESSAGE", "PRIORITY", "CONTAINER_ID", "CONTAINER_NAME", "CONTAINER_TAG", "IMAGE_NAME", "SYSLOG_IDENTIFIER"];
    assert_eq!(told.map(&mut take), ["one", "6", &id[..12], "box", "box", "busybox", "box"]);
    assert_eq!((take("CONTAINER_ID_FULL"), take("A_B"), take("CONTAINER_LOG_ORDINAL")), (id, "c".into(), "1".into()));
    assert!(take("SYSLOG_TIMESTAMP").ends_with('Z') && take("CONTAINER_LOG_EPOCH").len() == 64 && first.is_empty());
    let second = next();
    assert_eq!(
        (&*second["MESSAGE"], &*second["PRIORITY"], &*second["CONTAINER_PARTIAL_MESSAGE"]),
        ("x\u{fffd}", "3", "true")
    );
    // Read back through journalctl: one that says what ours would.
    let entry = |message: &str, priority: u32| {
        format!(
            r#"{{"MESSAGE":{message},"PRIORITY":"{priority}","SYSLOG_TIMESTAMP":"2024-01-01T00:00:00Z","A_B":"c"}}"#
        )
    };
    let script = format!(
        "#!/bin/sh\necho \"$@\" >{}\ncat <<'END'\n{}\n{}\nEND\n",
        cx.dir.join("words").display(),
        entry("\"one\"", 6),
        entry("[120,255]", 3)
    );
    cx.make_dir("bin");
    let program = cx.make_file("bin/journalctl", script);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    cx.set("PATH", format!("{}:/usr/bin:/bin", program.parent().unwrap().display()));
    let ran = cx.ctr("logs --details -n 5 box");
    assert!(ran.code == 0 && ran.out() == "A_B=c one\n" && ran.stderr == b"A_B=c x\xff\n", "{ran}");
    let words = std::fs::read_to_string(cx.dir.join("words")).unwrap();
    assert!(
        words.contains("--output=json") && words.contains("CONTAINER_ID_FULL=") && words.contains("--lines=5"),
        "{words}"
    );
    // Where nobody listens it is said before anything runs.
    drop(socket);
    cx.ctr("run --log-driver journald busybox true")
        .refuses(125, "failed to initialize logging driver: journald is not enabled on this host[..]");
});

both!(slow_clients_do_not_stop_the_container, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sh -c 'seq 1 200000; touch /done; sleep 1000'").succeeds();
    // Attached, and never reading: tmpfs is full of it if nobody bounds it.
    let reader = cx.spawn("logs -f box");
    until("it went on", || cx.ctr("exec box test -e /done").code == 0);
    reader.shows("\n200000\n");
    drop(reader);
});
