//! `ctr ps`.

use crate::support::{Entry, Image, Registry, Terminal, both, until};

both!(the_table, |cx| {
    cx.ctr("ps").prints("CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n");
    cx.busybox();
    let id = cx.ctr("run -d --name running busybox sleep 1000").succeeds();
    cx.ctr("ps").prints(&format!(
        "CONTAINER ID   IMAGE     COMMAND        CREATED[..]STATUS[..]PORTS     NAMES\n\
         {}   busybox   \"sleep 1000\"   [..] ago   Up [..]running\n",
        &id[..12]
    ));
    cx.ctr("ps -q").prints(&format!("{}\n", &id[..12]));
    cx.ctr("ps -q --no-trunc").prints(&format!("{id}\n"));
});

both!(which_ones, |cx| {
    cx.busybox();
    cx.ctr("run --name first busybox sh -c 'exit 3'").is(3, "", "");
    cx.ctr("run -d --name second --label a=b busybox sleep 1000").succeeds();
    cx.ctr("create --name third busybox true").succeeds();
    let names = |flags: &str| cx.ctr(&format!("ps {flags} --format '{{{{.Names}}}}'")).succeeds().replace('\n', " ");
    assert_eq!(names(""), "second");
    assert_eq!(names("-a"), "third second first");
    assert_eq!(names("-l"), "third");
    assert_eq!(names("-n 2"), "third second");
    for (filter, wanted) in [
        ("status=exited", "first"),
        ("status=created", "third"),
        ("status=running", "second"),
        ("exited=3", "first"),
        ("name=ir", "third first"),
        ("name=^third$", "third"),
        ("label=a", "second"),
        ("label=a=b", "second"),
        ("label=a=c", ""),
        ("ancestor=busybox", "third second first"),
        ("before=second", "first"),
        ("since=second", "third"),
    ] {
        assert_eq!(names(&format!("-a -f {filter}")), wanted, "{filter}");
    }
    cx.ctr("ps -f nosuch=1").refuses(1, "[..]nosuch[..]");
    cx.ctr("ps -f status=nosuch").refuses(1, "[..]nosuch[..]");
});

both!(what_it_says_of_them, |cx| {
    cx.busybox();
    cx.ctr("run --name box busybox sh -c 'exit 3'").is(3, "", "");
    cx.ctr("ps -a --format '{{.Status}}'").prints("Exited (3) [..] ago\n");
    cx.ctr("ps -a --format '{{.Command}}'").prints("\"sh -c 'exit 3'\"\n");
    cx.ctr("ps -a --format '{{.Image}}|{{.Ports}}|{{.State}}|{{.Labels}}|{{.Mounts}}|{{.Networks}}'")
        .prints("busybox||exited|||[..]\n");
    cx.ctr("ps -a --format '{{json .Names}}'").prints("\"box\"\n");
    cx.ctr("ps -a --format 'table {{.Names}}\\t{{.State}}'").prints("NAMES     STATE\nbox       exited\n");
    let json = cx.ctr("ps -a --format json").succeeds();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["Names"], "box", "{json}");
    cx.ctr("ps --format '{{.Nosuch}}'").refuses(1, "[..]Nosuch[..]");
    cx.ctr("ps --format '{{'").refuses(1, "[..]");
});

both!(sizes, |cx| {
    cx.busybox();
    cx.ctr("run --name box busybox sh -c 'head -c 100000 /dev/zero > /file'").prints("");
    cx.ctr("ps -a -s --format '{{.Size}}'").prints("100kB (virtual [..]MB)\n");
});

both!(many_at_once, |cx| {
    cx.busybox();
    let lines: Vec<_> = (0..20).map(|n| cx.spawn(&format!("create --name n{n:02} busybox true"))).collect();
    for line in lines {
        line.wait().succeeds();
    }
    let out = cx.ctr("ps -a --format '{{.Names}}'").succeeds();
    let mut names: Vec<_> = out.lines().map(str::to_owned).collect();
    names.sort_unstable();
    assert_eq!(names, (0..20).map(|n| format!("n{n:02}")).collect::<Vec<_>>());
});

both!(json_in_both_ways, |cx| {
    cx.busybox();
    cx.ctr("create --name box --label a=1,2 --label b= busybox true").succeeds();
    let json = cx.ctr("ps -a --format json").succeeds();
    // A second may have passed.
    let without_age = |json: &str| {
        let mut row: serde_json::Value = serde_json::from_str(json).unwrap();
        row.as_object_mut().unwrap().remove("RunningFor");
        row.to_string()
    };
    assert_eq!(without_age(&cx.ctr("ps -a --format '{{json .}}'").succeeds()), without_age(&json));
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["Labels"], "a=1,2,b=", "{json}");
    assert!(!json.contains("LabelMap") && !json.contains("\\u0000"), "{json}");
    cx.ctr("ps -a --format '{{.Label \"a\"}}'").prints("1,2\n");
});

both!(an_image_without_its_name_is_shown_by_its_id, |cx| {
    cx.busybox();
    let id = Image::busybox().id();
    cx.ctr("create --name box busybox true").succeeds();
    cx.ctr(&format!("create --name by-id {} true", &id[7..19])).succeeds();
    cx.ctr("ps -a --format '{{.Names}} {{.Image}}'").prints(&format!("by-id {}\nbox busybox\n", &id[7..19]));
    // Another one takes the name.
    let other = Image::small("busybox:latest", [Entry::file("other", 0o644, "")]);
    cx.load(&other);
    cx.ctr("create --name new busybox true").succeeds();
    let short = &id[7..19];
    cx.ctr("ps -a --format '{{.Names}} {{.Image}}'").prints(&format!("new busybox\nby-id {short}\nbox {short}\n"));
    cx.ctr("ps -a --no-trunc --filter name=box --format '{{.Image}}'").prints(&format!("{id}\n"));
    cx.ctr("rmi -f busybox").succeeds();
    cx.ctr("ps -a --filter name=new --format '{{.Image}}'").prints(&format!("{}\n", &other.id()[7..19]));
});

both!(filters_of_mounts_health_and_tasks, |cx| {
    cx.busybox();
    let dir = cx.make_dir("data");
    let dir = dir.display();
    cx.ctr(&format!("create --name bound -v {dir}:/in/it:ro busybox true")).succeeds();
    cx.ctr("create --name mounted --mount type=tmpfs,target=/scratch busybox true").succeeds();
    cx.ctr("create --name plain busybox true").succeeds();
    let names = |flags: &str| cx.ctr(&format!("ps -a {flags} --format '{{{{.Names}}}}'")).succeeds().replace('\n', " ");
    for (filter, wanted) in [
        (&*format!("volume={dir}"), "bound"),
        ("volume=/in/it", "bound"),
        ("volume=/in/it/", "bound"),
        ("volume=/scratch", "mounted"),
        ("volume=/nowhere", ""),
        ("health=none", "plain mounted bound"),
        ("health=healthy", ""),
        ("is-task=true", ""),
        ("is-task=false", "plain mounted bound"),
        ("isolation=default", "plain mounted bound"),
        ("status=paused", ""),
        ("name=n --filter name=b --filter volume=/in/it", "bound"),
    ] {
        assert_eq!(names(&format!("--filter {filter}")), wanted, "{filter}");
    }
    cx.ctr("ps -a --no-trunc -f name=bound --format '{{.Mounts}} {{.LocalVolumes}}'").prints(&format!("{dir} 0\n"));
    for (filter, said) in [
        ("health=ill", "invalid filter 'health=ill'"),
        ("is-task=maybe", "invalid filter 'is-task=maybe'"),
        ("exited=x", "strconv.Atoi: parsing \"x\": invalid syntax"),
        ("publish=80:80", "filter for 'publish' should not contain ':': 80:80"),
        ("expose=x/tcp", "error while looking up for expose x/tcp: [..]"),
        ("before=nosuch", "No such container: nosuch"),
        ("since=nosuch", "No such container: nosuch"),
        ("status=nosuch", "invalid filter 'status=nosuch'"),
        ("nosuch=1", "invalid filter 'nosuch'"),
    ] {
        cx.ctr(&format!("ps --filter {filter}")).refuses(1, said);
    }
    cx.ctr("ps --filter nosuch").refuses(
        125,
        "invalid argument \"nosuch\" for \"-f, --filter\" flag: bad format of filter (expected name=value)",
    );
});

both!(every_name_of_the_command, |cx| {
    cx.busybox();
    let id = cx.ctr("create --name box busybox true").succeeds();
    for name in ["ps", "container ls", "container list", "container ps"] {
        cx.ctr(&format!("{name} -aq --no-trunc")).prints(&format!("{id}\n"));
    }
    for name in ["images", "image ls", "image list"] {
        cx.ctr(&format!("{name} --format '{{{{.Repository}}}}'")).prints("busybox\n");
    }
    cx.ctr("ps -q --format x").is(
        0,
        "",
        "WARNING: Ignoring custom format, because both --format and --quiet are set.\n",
    );
    cx.ctr("ps -a --format 'table {{.Names}}\\t{{.Label \"com.example.my-name\"}}'")
        .prints("NAMES     my name\nbox       \n");
    cx.ctr("ps -a --format 'table {{.Nope}}'").is(
        1,
        "",
        "ctr: failed to execute template: template: :1:8: executing \"\" at <.Nope>: can't evaluate field Nope in type row\n\
         hint: table {{.Nope}}\n              ^\n      there are [..]\n",
    );
});

both!(watching, |cx| {
    cx.busybox();
    cx.ctr("create --name first busybox true").succeeds();
    let watch = cx.spawn("ps -a --watch=1 --format '{{.Names}}'");
    watch.shows("first\n");
    cx.ctr("create --name second busybox true").succeeds();
    watch.shows("second\nfirst\n");
    watch.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(watch.wait().code, 130);
    cx.ctr("ps --watch=0").refuses(125, "invalid argument \"0\" for \"-w, --watch\" flag: [..]");
    // In place, cut to the terminal's width whatever that is.
    let terminal = Terminal::open(cx);
    terminal.line("$ctr ps -a --watch=1");
    terminal.shows("first");
    terminal.resize(20, 24);
    until("the table is cut", || {
        let screen = terminal.visible();
        screen.lines().count() == 3 && screen.lines().all(|line| line.chars().count() <= 20)
    });
    cx.ctr("rm first").succeeds();
    until("the table is redrawn", || terminal.visible().lines().count() == 2);
    terminal.resize(1, 24);
    until("one column is enough", || terminal.visible().lines().count() == 2 && terminal.visible().starts_with("C\n"));
    terminal.resize(80, 24);
    terminal.keys(&["C-c"]);
    terminal.line("echo left");
    terminal.shows("left");
});

both!(a_terminal_of_one_column, |cx| {
    cx.busybox();
    let reference = Registry::plain().push(&Image::small("narrow:v1", [Entry::file("x", 0o644, "x")]));
    cx.ctr("create --name first busybox true").succeeds();
    // Only the tables that are redrawn in place are cut: what scrolls is the terminal's to break.
    let terminal = Terminal::open(cx);
    for (command, text) in [
        ("ps -a --format {{.Names}}", "first"),
        ("images --format {{.Repository}}", "busybox"),
        ("stats --no-stream --format {{.Name}} first", "first"),
        ("system df --format {{.Type}}", "Build Cache"),
        (&format!("pull {reference}"), &*reference),
        ("run --nosuch", "run --help'"),
        ("run --rm -t busybox echo works", "works"),
        ("rm first", "first"),
    ] {
        terminal.line(&format!("clear; stty cols 1 rows 1; $ctr {command}; stty cols 80 rows 24; echo through"));
        terminal.shows(&format!("{text}\n"));
        terminal.ends_with("through\n$ ");
    }
});
