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
    cx.ctr("inspect -f '{{.Nosuch.Thing}}' box").fails_after_a_line("no entry for key \"Nosuch\"");
});

both!(an_image, |cx| {
    cx.busybox();
    let image = Image::busybox();
    cx.ctr("inspect -f '{{.Id}} {{.Os}} {{.RepoTags}}' busybox")
        .prints(&format!("{} linux [busybox:latest]\n", image.id()));
    cx.ctr("inspect --type image -f '{{json .RootFS.Layers}}' busybox")
        .prints(&format!("{}\n", serde_json::to_string(&image.diff_ids()).unwrap()));
});

/// All members of Docker's types (`tests/golden/record.py` asked its client), in their order, and of
/// their types where they have one.
fn has_members(place: &str, own: &Value, dockers: &Value, missing: &mut String) {
    match (own, dockers) {
        (Value::Object(own), Value::Object(dockers)) => {
            let shared: Vec<_> = own.keys().filter(|key| dockers.contains_key(*key)).collect();
            if shared != dockers.keys().collect::<Vec<_>>() {
                *missing += &format!("{place}: {:?}\n  not {shared:?}\n", dockers.keys().collect::<Vec<_>>());
            }
            for (key, value) in dockers {
                if let Some(found) = own.get(key) {
                    has_members(&format!("{place}.{key}"), found, value, missing);
                }
            }
        }
        (Value::Array(own), Value::Array(dockers)) => {
            if let (Some(own), Some(dockers)) = (own.first(), dockers.first()) {
                has_members(&format!("{place}[]"), own, dockers, missing);
            }
        }
        // What it would be is not known.
        (_, Value::Null) | (Value::Null, Value::Object(_) | Value::Array(_)) => {}
        (own, dockers) if std::mem::discriminant(own) == std::mem::discriminant(dockers) => {}
        (own, dockers) => *missing += &format!("{place}: {own} where Docker has {dockers}\n"),
    }
}

fn schema(name: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("../golden/schema.json")).unwrap();
    assert!(all[name].is_object(), "{name}");
    all[name].clone()
}

// What the OCI specification does not know of, and images have nevertheless.
both!(dockers_own_members_of_an_image, |cx| {
    let health = serde_json::json!({"Test": ["CMD", "true"], "Interval": 5_000_000_000u64});
    let image = Image::busybox()
        .named("own:1")
        .config("Healthcheck", health.clone())
        .config("OnBuild", serde_json::json!(["RUN x"]))
        .config("Shell", serde_json::json!(["/bin/bash", "-c"]))
        .config("ArgsEscaped", serde_json::json!(true))
        .config("Labels", serde_json::json!({"w": "1", "k": "2"}));
    cx.load(&image);
    let of = |member: &str| cx.ctr_args(["image", "inspect", "-f", &format!("{{{{json .Config.{member}}}}}"), "own:1"]);
    let shown: Value = serde_json::from_str(&of("Healthcheck").succeeds()).unwrap();
    assert_eq!(shown, health);
    of("OnBuild").prints("[\"RUN x\"]\n");
    of("Shell").prints("[\"/bin/bash\",\"-c\"]\n");
    of("ArgsEscaped").prints("true\n");
    of("Labels").prints("{\"k\":\"2\",\"w\":\"1\"}\n");
});

both!(every_member_of_dockers, |cx| {
    cx.busybox();
    let dir = cx.make_dir("src");
    let bind = format!("{}:/dst:ro", dir.display());
    cx.ctr_args(["run", "-d", "--name", "box", "-v", &bind, "busybox", "sleep", "1000"]).succeeds();
    let lines = [
        ("container", "inspect box"),
        ("container", "container inspect -s box"),
        ("image", "image inspect busybox"),
        ("network", "network inspect bridge"),
        ("info", "info -f json"),
        ("version", "version -f json"),
        ("ps", "ps --format json"),
        ("images", "images --format json"),
        ("network ls", "network ls -f name=bridge --format json"),
    ];
    let mut missing = String::new();
    for (name, line) in lines {
        let shown: Value = serde_json::from_str(&cx.ctr(line).succeeds()).unwrap();
        let shown = if shown.is_array() { &shown[0] } else { &shown };
        has_members(line, shown, &schema(name), &mut missing);
        if matches!(name, "ps" | "images" | "network ls") {
            let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(shown), keys(&schema(name)), "{line}");
        }
    }
    assert!(missing.is_empty(), "{missing}");
    let size: Value = serde_json::from_str(&cx.ctr("inspect -s box").succeeds()).unwrap();
    assert!(size[0]["SizeRw"].is_u64() && size[0]["SizeRootFs"].as_u64() > Some(100_000), "{size}");
    let mount = &serde_json::from_str::<Value>(&cx.ctr("inspect box").succeeds()).unwrap()[0]["Mounts"][0];
    let expected = serde_json::json!({
        "Type": "bind", "Source": dir, "Destination": "/dst", "Mode": "ro", "RW": false, "Propagation": "rprivate",
    });
    assert_eq!(*mount, expected);
});

// `null`, `[]`, `{}` and what is left out, as Docker's daemon shows a container without any options.
both!(nothing_as_docker_shows_it, |cx| {
    cx.busybox();
    cx.ctr("create --name box --hostname box busybox sleep 1000").succeeds();
    let mut shown = serde_json::from_str::<Value>(&cx.ctr("inspect box").succeeds()).unwrap()[0].clone();
    let plain: Value = serde_json::from_str(include_str!("../golden/plain.json")).unwrap();
    shown["NetworkSettings"]["Networks"] = serde_json::json!({});
    for (name, expected) in plain.as_object().unwrap() {
        let own = serde_json::to_string_pretty(&shown[name]).unwrap();
        let expected = serde_json::to_string_pretty(expected).unwrap();
        let different: Vec<_> = own.lines().zip(expected.lines()).filter(|(a, b)| a != b).collect();
        assert!(own == expected, "{name}: {different:#?}");
    }
});

both!(what_scripts_ask_for, |cx| {
    cx.busybox();
    cx.ctr("run --name box --shm-size 64m -e A=1 --label x=y busybox sh -c 'exit 3'").is(3, "", "");
    let cases = [
        ("{{.State.ExitCode}}", "3"),
        ("{{.State.Status}} {{.State.Running}} {{.State.Paused}} {{.State.OOMKilled}}", "exited false false false"),
        ("{{.HostConfig.ShmSize}} {{.HostConfig.Memory}}", "67108864 0"),
        ("{{range .Mounts}}{{.Source}}{{end}}", ""),
        ("{{if eq .State.ExitCode 0}}ok{{else}}failed{{end}}", "failed"),
        ("{{index .Config.Labels \"x\"}} {{.Config.Labels.x}} {{index .Config.Labels \"none\"}}|", "y y |"),
        (
            "{{.State.Health}} {{.HostConfig.PidsLimit}} {{.HostConfig.Binds}} {{.Config.Volumes}}",
            "<nil> <nil> [] map[]",
        ),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
        ("{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.NetworkMode}}", "no bridge"),
        ("{{.GraphDriver.Name}} {{.Driver}} {{.Platform}}", "overlay2 overlay2 linux"),
        ("{{json .Config.Cmd}} {{json .HostConfig.Binds}}", "[\"sh\",\"-c\",\"exit 3\"] null"),
        ("{{len .Config.Env}} {{join .Config.Cmd \" \"}}", "[..] sh -c exit 3"),
        ("{{range $i, $e := .Config.Cmd}}{{if $i}},{{end}}{{$e}}{{end}}", "sh,-c,exit 3"),
        ("{{printf \"%.4s|%5d|%-5t|\" .Id .State.ExitCode .State.Running}}", "[..]|    3|false|"),
        ("{{with .Config}}{{.Image}}{{end}} {{$x := .Name}}{{$x}}", "busybox /box"),
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{else}}none{{end}}|", "|"),
        ("a\\tb", "a\\tb"),
    ];
    for (template, expected) in cases {
        cx.ctr_args(["inspect", "-f", template, "box"]).prints(&format!("{expected}\n"));
    }
    for time in ["{{.Created}}", "{{.State.StartedAt}}", "{{.State.FinishedAt}}"] {
        let shown = cx.ctr_args(["inspect", "-f", time, "box"]).succeeds();
        let parsed: jiff::Timestamp = shown.parse().unwrap();
        assert!(parsed > "2020-01-01T00:00:00Z".parse().unwrap() && shown.ends_with('Z'), "{time}: {shown}");
    }
});

both!(mistakes_are_pointed_at, |cx| {
    cx.busybox();
    cx.ctr("create --name box busybox true").succeeds();
    cx.ctr("inspect -f '{{.Id}} {{.State.Foo}}' box").is(
        1,
        "\n",
        "ctr: template parsing error: template: :1:16: executing \"\" at <.State.Foo>: map has no entry for key \"Foo\"\n\
         hint: {{.Id}} {{.State.Foo}}\n                      ^\n",
    );
    // Before anything is looked for.
    cx.ctr("inspect -f '{{if .Id}}' nosuch").is(
        64,
        "",
        "ctr: template parsing error: template: :1: unexpected EOF\nhint: {{if .Id}}\n                ^\n",
    );
    cx.ctr("inspect -f '{{nosuch .Id}}' box").is(
        64,
        "",
        "ctr: template parsing error: template: :1: function \"nosuch\" not defined\n\
         hint: {{nosuch .Id}}\n        ^\n",
    );
    cx.ctr("inspect -f '{{define \"a\"}}{{template \"a\"}}{{end}}{{template \"a\"}}' box")
        .fails_after_a_line("exceeded maximum template depth");
    cx.ctr("inspect -f '{{range 99999999999}}{{end}}' box").fails_after_a_line("the template runs too long");
    cx.ctr("version -f '{{.Nope}}'").is(
        1,
        "\n",
        "ctr: [..]<.Nope>: map has no entry for key \"Nope\"\nhint: {{.Nope}}\n        ^\n",
    );
    cx.ctr("info -f '{{'").is(64, "", "ctr: template parsing error: template: :1: unclosed action\nhint: {{\n[..]^\n");
    cx.ctr("images --format '{{.Nope}}'").is(
        1,
        "",
        "ctr: failed to execute template: [..]\nhint: {{.Nope}}\n        ^\n      there are [..]\n",
    );
});

both!(several_and_none, |cx| {
    cx.busybox();
    let id = cx.ctr("create --name box busybox true").succeeds();
    cx.ctr("inspect -f '{{.Id}}' box busybox nosuch bridge").is(
        1,
        "[..]\nsha256:[..]\n[..]\n",
        "ctr: No such object: nosuch\n",
    );
    cx.ctr("inspect nosuch").is(1, "[]\n", "ctr: No such object: nosuch\n");
    cx.ctr("inspect -f '{{.Id}}' nosuch other").is(
        1,
        "\n",
        "ctr: No such object: nosuch\nctr: No such object: other\n",
    );
    cx.ctr("inspect -f json nosuch").is(1, "[]\n", "ctr: No such object: nosuch\n");
    cx.ctr("inspect --type container busybox").is(1, "[]\n", "ctr: No such container: busybox\n");
    cx.ctr("container inspect nosuch").is(1, "[]\n", "ctr: No such container: nosuch\n");
    cx.ctr("inspect --type image nosuch").is(1, "[]\n", "ctr: No such image: nosuch:latest\n");
    cx.ctr("image inspect nosuch:1").is(1, "[]\n", "ctr: No such image: nosuch:1\n");
    cx.ctr("inspect --type network nosuch").is(1, "[]\n", "ctr: network nosuch not found\n");
    cx.ctr("network inspect nosuch").is(1, "[]\n", "ctr: network nosuch not found\n");
    cx.ctr("inspect --type image -s -f '{{.Id}}' busybox").prints(&format!("{}\n", Image::busybox().id()));
    cx.ctr("inspect --type network -f '{{.Name}}' bridge").prints("bridge\n");
    cx.ctr("inspect --type foo box")
        .refuses(1, "unknown type: \"foo\": must be one of \"container\", \"image\", \"network\", \"secret\"");
    cx.ctr_reads("secret create word -", "x").succeeds();
    cx.ctr("inspect -f '{{.Spec.Name}}' word").prints("word\n");
    cx.ctr("inspect --type secret -f '{{.Spec.Name}} {{.Spec.Labels.none}}' word").prints("word <no value>\n");
    cx.ctr("inspect --type secret nosuch").is(1, "[]\n", "ctr: secret nosuch not found\n");
    cx.ctr("inspect --type '' box").refuses(1, "type is empty: must be one of [..]");
    cx.ctr(&format!("inspect -f '{{{{.Name}}}}' {}", &id[..6])).prints("/box\n");
});

both!(an_ambiguous_beginning, |cx| {
    cx.busybox();
    // Of seventeen ids two begin with the same digit.
    let ids: Vec<_> = (0..17).map(|n| cx.ctr(&format!("create --name n{n} busybox true")).succeeds()).collect();
    let digit = ids.iter().map(|id| &id[..1]).find(|d| ids.iter().filter(|id| id.starts_with(d)).count() > 1).unwrap();
    let said = format!(
        "ctr: multiple containers found with the id prefix \"{digit}\"\nhint: it begins the ids of [..] (n[..]), [..]\n"
    );
    cx.ctr(&format!("inspect {digit}")).is(1, "[]\n", &said);
    cx.ctr(&format!("rm {digit}")).is(1, "", &said);
});
