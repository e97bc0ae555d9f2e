//! `ctr inspect`, of containers and images.

use serde_json::Value;

use crate::support::{Image, both};

both!(a_container, |cx| {
    cx.busybox();
    let id = cx.ctr("run -d --name box -e A=1 -w /tmp busybox sleep 1000").succeeds();
    let text = cx.ctr("inspect box").succeeds();
    let all: Value = serde_json::from_str(&text).unwrap();
    let one = &all[0];
    assert_eq!(one["Id"], id);
    assert_eq!(one["Name"], "/box");
    assert_eq!(one["Path"], "sleep");
    assert_eq!(one["Args"], serde_json::json!(["1000"]));
    assert_eq!(one["State"]["Status"], "running");
    assert_eq!(one["State"]["Running"], true);
    assert_eq!(one["State"]["ExitCode"], 0);
    assert_eq!(one["Image"], Image::busybox().id());
    assert_eq!(one["Config"]["Image"], "busybox");
    assert_eq!(one["Config"]["WorkingDir"], "/tmp");
    assert_eq!(one["Config"]["Hostname"], id[..12]);
    assert!(one["Config"]["Env"].as_array().unwrap().contains(&"A=1".into()));
    let pid = one["State"]["Pid"].as_i64().unwrap();
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(comm, "sleep\n");
    let created = one["Created"].as_str().unwrap();
    // Go leaves zeros at the end of a fraction out.
    assert!((20..=30).contains(&created.len()) && created.ends_with('Z'), "{created}");
    // Docker's order of the first members, which people see.
    assert!(text.starts_with("[\n    {\n        \"Id\": \""), "{text}");
});

both!(through_a_template, |cx| {
    cx.busybox();
    cx.ctr("create --name box --label x=y busybox echo a b").succeeds();
    cx.ctr("inspect -f '{{.Name}} {{.Config.Cmd}} {{len .Args}} {{index .Config.Labels \"x\"}}' box")
        .prints("/box [echo a b] 2 y\n");
    cx.ctr("inspect -f '{{json .Config.Cmd}}' box").prints("[\"echo\",\"a\",\"b\"]\n");
    cx.ctr("inspect -f '{{range .Args}}<{{.}}>{{end}}' box").prints("<a><b>\n");
    cx.ctr("inspect -f '{{.Nosuch.Thing}}' box").fails_saying(1, "Nosuch");
});

both!(an_image, |cx| {
    cx.busybox();
    let image = Image::busybox();
    cx.ctr("inspect -f '{{.Id}} {{.Os}} {{.RepoTags}}' busybox")
        .prints(&format!("{} linux [busybox:latest]\n", image.id()));
    cx.ctr("inspect --type image -f '{{json .RootFS.Layers}}' busybox")
        .prints(&format!("{}\n", serde_json::to_string(&image.diff_ids()).unwrap()));
});

both!(several_and_none, |cx| {
    cx.busybox();
    cx.ctr("create --name box busybox true").succeeds();
    cx.ctr("inspect -f '{{.Id}}' box busybox nosuch").is(1, "[..]\nsha256:[..]\n", "ctr: [..]o such object: nosuch\n");
    cx.ctr("inspect nosuch").is(1, "[]\n", "ctr: [..]o such object: nosuch\n");
    cx.ctr("inspect --type container busybox").is(1, "[]\n", "ctr: [..]o such container: busybox\n");
});
