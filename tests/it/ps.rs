//! `ctr ps`.

use crate::support::both;

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
