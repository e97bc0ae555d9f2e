//! `ctr events`.

use crate::support::{Image, both, until};

/// What happened to `box`, and to what it is connected with, as `action` and chosen attributes.
const SHORT: &str = "{{.Type}} {{.Action}} {{with .Actor.Attributes}}{{.name}}{{end}}";

both!(what_happens_is_told_in_order, |cx| {
    cx.busybox();
    let live = cx.spawn(&format!("events --format '{SHORT}'"));
    until("it follows", || cx.root().join("events").exists());
    // It has come to the end of what there was once it shows what is new.
    until("it reads", || {
        cx.ctr("network create probe").succeeds();
        cx.ctr("network rm probe").succeeds();
        live.has_shown("network destroy probe")
    });
    let id = cx.ctr("run -d --name box --label a=b busybox sleep 1000").succeeds();
    cx.ctr("exec box sh -c 'exit 3'").is(3, "", "");
    cx.ctr("kill -s USR1 box").prints("box\n");
    cx.ctr("stop -t 0 box").prints("box\n");
    cx.ctr("rename box crate").prints("");
    cx.ctr("rm crate").prints("crate\n");
    let expected = [
        "container create box",
        "network connect bridge",
        "container start box",
        "container exec_create: sh -c exit 3 box",
        "container exec_start: sh -c exit 3 box",
        "container exec_die box",
        "container kill box",
        "container die box",
        "network disconnect bridge",
        "container stop box",
        "container rename crate",
        "container destroy crate",
    ];
    live.shows("container destroy crate\n");
    live.signal(nix::sys::signal::Signal::SIGINT);
    let shown = live.wait().out();
    let mut lines: Vec<_> = shown.lines().filter(|line| !line.ends_with(" probe")).collect();
    // One for each signal: USR1, TERM, and KILL where TERM did not end it first.
    lines.dedup();
    assert_eq!(lines, expected);

    // The same, afterwards.
    let past = cx.ctr(&format!("events --since 10m --until 0s --filter container={id} --format '{SHORT}'")).succeeds();
    let mut lines: Vec<_> = past.lines().collect();
    lines.dedup();
    assert_eq!(lines, expected.into_iter().filter(|line| line.starts_with("container")).collect::<Vec<_>>());
    cx.ctr("events --since 10m --until 0s --filter event=die").prints(&format!(
        "20[..]-[..]T[..]:[..]:[..] container die {id} (a=b, execDuration=[..], exitCode=[..], image=busybox, name=box)\n"
    ));
    let attributes = "{{.Actor.Attributes.oldName}} {{.Status}} {{.From}} {{.Scope}}";
    cx.ctr(&format!("events --since 10m --until 0s -f event=rename --format '{attributes}'"))
        .prints("/box rename busybox local\n");
    let json = cx.ctr("events --since 10m --until 0s -f event=kill --format json").succeeds();
    let kill: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!((&kill["Type"], &kill["Action"], &kill["id"]), (&"container".into(), &"kill".into(), &(&*id).into()));
    assert_eq!(kill["Actor"]["Attributes"]["signal"], nix::libc::SIGUSR1.to_string(), "{json}");
    assert!(kill["timeNano"].as_i64().unwrap() / 1_000_000_000 == kill["time"].as_i64().unwrap(), "{json}");
    for (filter, count) in [
        ("type=network", "4"),
        ("label=a=b", "1"),
        ("label=a=c", "0"),
        ("image=busybox", "1"),
        ("scope=local", "1"),
        ("event=exec_start", "1"),
        ("volume=x", "0"),
    ] {
        let lines = cx.ctr(&format!("events --since 10m --until 0s -f {filter}")).succeeds().lines().count();
        assert!(if count == "0" { lines == 0 } else { lines > 0 }, "{filter}: {lines}");
    }
});

both!(images_and_a_container_that_removes_itself, |cx| {
    cx.busybox();
    let image = Image::busybox().id();
    cx.ctr("run --rm --name box --network none busybox sh -c 'exit 7'").is(7, "", "");
    cx.ctr("rmi busybox").succeeds();
    let shown =
        cx.ctr("events --since 10m --until 0s --format '{{.Action}} {{.Actor.Attributes.exitCode}}'").succeeds();
    let lines: Vec<_> = shown.lines().map(|line| line.replace("<no value>", "")).collect();
    let lines: Vec<_> = lines.iter().map(|line| line.trim()).collect();
    assert_eq!(lines, ["load", "create", "attach", "start", "die 7", "destroy", "untag", "delete"]);
    cx.ctr("events --since 10m --until 0s -f type=image -f event=load --format '{{.ID}} {{.Actor.Attributes.name}}'")
        .prints(&format!("{image} busybox:latest\n"));
});

both!(times, |cx| {
    cx.ctr("network create one").succeeds();
    let between = jiff::Timestamp::now();
    cx.ctr("network create two").succeeds();
    let named = |times: &str| {
        let words = format!("events {times} -f type=network --format '{{{{.Actor.Attributes.name}}}}'");
        cx.ctr(&words).succeeds().replace('\n', " ")
    };
    let seconds = format!("{}.{:09}", between.as_second(), between.subsec_nanosecond());
    assert_eq!(named(&format!("--since {seconds} --until 0s")), "two");
    assert_eq!(named(&format!("--since {between} --until 0s")), "two");
    assert_eq!(named(&format!("--until {between}")), "one");
    assert_eq!(named("--since 5m --until 0s"), "one two");
    assert_eq!(named("--since 2000-01-01 --until 0s"), "one two");
    // It ends by itself, when the time has come.
    assert_eq!(named("--since 5m --until=-300ms"), "one two");
    cx.ctr("events --since 0s --until 5m").refuses(1, "`since` time ([..]) cannot be after `until` time ([..])");
    cx.ctr("events --since foo").refuses(125, "invalid argument \"foo\" for \"--since\" flag: failed to parse [..]");
    cx.ctr("events --filter foo=bar").refuses(1, "invalid filter 'foo'");
    cx.ctr("events --format '{{.Foo}}'").fails_saying(1, "Foo");
});

both!(damage_and_a_reader_that_leaves, |cx| {
    cx.ctr("network create one").succeeds();
    let log = cx.root().join("events/log");
    std::fs::write(&log, [&std::fs::read(&log).unwrap()[..], b"{\"Type\":\"netw"].concat()).unwrap();
    cx.ctr("network create two").succeeds();
    cx.ctr("events --until 0s --format '{{.Actor.Attributes.name}}'").prints("one\ntwo\n");
    // `head` takes the first line and closes the pipe: nothing more happens, and it ends.
    cx.host("$ctr events --since 5m | head -n 1").succeeds();
    // What cannot be recorded happens all the same.
    std::fs::remove_dir_all(cx.root().join("events")).unwrap();
    std::fs::write(cx.root().join("events"), "in the way").unwrap();
    cx.ctr("network rm one two").prints("one\ntwo\n");
    std::fs::remove_file(cx.root().join("events")).unwrap();
});
