//! What Docker's own client makes of templates (`tests/golden/record.py` asked it), and what is ctr's.

use std::fmt::Write;

use serde_json::Value as Json;

use super::*;
use crate::error;

const CASES: &str = include_str!("../../../../tests/golden/templates.json");
const CONTAINER: &str = include_str!("../../../../tests/golden/container.json");

/// Standard output, the message and the exit code, as the command would have them.
fn outcome(result: Result<String>) -> (String, String, u64) {
    match result {
        Ok(out) => (out, String::new(), 0),
        Err(failure) => {
            let code = error::exit_code(&failure).unwrap_or(1);
            // Docker ends the line that it did not write.
            let out = if code == 1 { "\n" } else { "" };
            (out.into(), error::message(&failure) + "\n", code.into())
        }
    }
}

/// Where ctr differs, and why it may.
const OTHERWISE: [(&str, &str); 14] = [
    // Go's own names and those of the JSON are taken side by side.
    (
        "{{.HostConfig.NanoCpus}} {{.HostConfig.NanoCPUs}} {{.HostConfig.CPUShares}} {{.HostConfig.CpuShares}}",
        "1500000000 1500000000 512 512\n",
    ),
    ("{{.HostConfig.DNS}} {{.HostConfig.Dns}} {{.HostConfig.ExtraHosts}} {{.HostConfig.Sysctls}}", "[] [] [] map[]\n"),
    // Docker prints addresses of its memory.
    ("{{$}}{{/* the root */}}", "{4f3c1d2e5a6b"),
    // One object is no list: `inspect` itself prints the list.
    ("json", "{\"Id\":"),
    // In other words.
    ("{{eq .Config.Env .Config.Env}}", "non-comparable type"),
    ("{{$x = 1}}", "undefined variable \"$x\""),
    ("{{'ab'}}", "unterminated character literal"),
    ("{{.Name @}}", "unexpected \"@\" in command"),
    ("{{-.Name}}", "invalid number"),
    ("{{printf \"%99999999d\" 1}}", "%!(BADWIDTH)1"),
    // Go forgets to refuse it.
    ("{{.Name | }}", "missing value for command"),
    // gotmpl takes it for one of the outermost.
    ("{{if .Name}}{{define \"a\"}}{{end}}{{end}}", "\n"),
    // Docker tries it on a container that has no id.
    ("table {{slice .ID 0 3}}\\t{{.Names}}", "CON       NAMES\n4f3       box\n1f3       other_one\n"),
    // Docker's oldest format, which its documentation no longer has.
    ("raw", "raw\nraw\n"),
];

fn differences(kind: &str, render: impl Fn(&str) -> (String, String, u64)) -> String {
    let cases: Json = serde_json::from_str(CASES).unwrap();
    let mut wrong = String::new();
    for case in cases[kind].as_array().unwrap() {
        let template = case["template"].as_str().unwrap();
        let (out, err, code) = render(template);
        if let Some((_, own)) = OTHERWISE.iter().find(|(other, _)| *other == template) {
            if !format!("{out}{err}").contains(own) {
                let _ = writeln!(wrong, "{template}\n  expected: {own}\n  ctr:      {:?}", (out, err, code));
            }
            continue;
        }
        // ctr has no types of Go's to name.
        let docker = case["err"].as_str().unwrap().replace("*formatter.ContainerContext", "row");
        let expected = (case["out"].as_str().unwrap(), docker.as_str(), case["code"].as_u64().unwrap());
        if (out.as_str(), err.as_str(), code) != expected {
            let _ = writeln!(wrong, "{template}\n  docker: {expected:?}\n  ctr:    {:?}", (out, err, code));
        }
    }
    wrong
}

#[test]
fn objects_as_docker_renders_them() {
    let container: Json = serde_json::from_str(CONTAINER).unwrap();
    let wrong = differences("object", |template| outcome(render(template, &container)));
    assert!(wrong.is_empty(), "{wrong}");
}

/// The whole error, as a person sees it.
fn refusal(template: &str) -> String {
    let container: Json = serde_json::from_str(CONTAINER).unwrap();
    error::render(&render(template, &container).unwrap_err())
}

#[test]
fn a_mistake_is_pointed_at() {
    assert_eq!(
        refusal("a {{.State.Foo}}"),
        "ctr: template parsing error: template: :1:10: executing \"\" at <.State.Foo>: map has no entry for key \"Foo\"\n\
         hint: a {{.State.Foo}}\n                ^"
    );
    assert_eq!(
        refusal("a\n {{nosuch}}"),
        "ctr: template parsing error: template: :2: function \"nosuch\" not defined\nhint:  {{nosuch}}\n         ^"
    );
    // Of a long one, the part around it.
    let long = refusal(&format!("{}{{{{.Foo}}}}{}", "é".repeat(5000), "x".repeat(5000)));
    assert!(long.len() < 400 && long.ends_with(&format!("\n      {}^", " ".repeat(50))), "{long}");
}

#[test]
fn what_has_no_end_is_ended() {
    let started = std::time::Instant::now();
    for (template, reason) in [
        ("{{define \"a\"}}{{template \"a\" .}}{{end}}{{template \"a\" .}}", "exceeded maximum template depth"),
        // Twice as many with each step, and never deep.
        (
            "{{define \"a\"}}{{if lt (len .) 60}}{{template \"a\" (print . \"x\")}}{{template \"a\" (print . \"x\")}}{{end}}{{end}}\
             {{template \"a\" \"\"}}",
            "the template ",
        ),
        ("{{range 9223372036854775807}}{{end}}", "the template runs too long"),
        ("{{range 100000}}{{range 100000}}{{range 100000}}{{end}}{{end}}{{end}}", "the template runs too long"),
        ("{{$x := \"ab\"}}{{range 100}}{{$x = print $x $x}}{{end}}", "the template makes too much text"),
        ("{{range 100000}}{{printf \"%99999d\" 1}}{{end}}", "the template makes too much text"),
        (
            "{{$x := printf \"%1000000d\" 1}}{{range 100000}}{{$y := split $x \"\"}}{{end}}",
            "the template makes too much text",
        ),
    ] {
        let refusal = refusal(template);
        assert!(refusal.contains(reason), "{template}\n{refusal}");
    }
    let many = format!("{{{{printf \"{}\" 1}}}}", "%[1]999999d".repeat(1000));
    assert!(refusal(&many).contains("longer than"), "{}", refusal(&many));
    for deep in ["(", "{{if 1}}", "{{range 1}}", "{{with 1}}"] {
        assert!(!refusal(&format!("{{{{{}", deep.repeat(10_000))).is_empty());
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(300), "{:?}", started.elapsed());
}

struct Row {
    id: &'static str,
    names: &'static str,
    image: &'static str,
    command: &'static str,
    state: &'static str,
    status: &'static str,
    ports: &'static str,
    labels: &'static str,
    mounts: &'static str,
}

const ROWS: [Row; 2] = [
    Row {
        id: "4f3c1d2e5a6b",
        names: "box",
        image: "busybox",
        command: "\"sleep 1000\"",
        state: "running",
        status: "Up 5 seconds",
        ports: "",
        labels: "a=1,com.example.my-name=it",
        mounts: "",
    },
    Row {
        id: "1f3c1d2e5a6b",
        names: "other_one",
        image: "alpine:3",
        command: "\"sh\"",
        state: "exited",
        status: "Exited (3) 2 days ago",
        ports: "90/tcp",
        labels: "",
        mounts: "/src",
    },
];

const COLUMNS: &[Column<Row>] = &[
    Column { name: "ID", heading: "CONTAINER ID", cell: |row| text(row.id) },
    Column { name: "Image", heading: "IMAGE", cell: |row| text(row.image) },
    Column { name: "Command", heading: "COMMAND", cell: |row| text(row.command) },
    Column { name: "RunningFor", heading: "CREATED", cell: |_| text("2 years ago") },
    Column { name: "Status", heading: "STATUS", cell: |row| text(row.status) },
    Column { name: "State", heading: "STATE", cell: |row| text(row.state) },
    Column { name: "Ports", heading: "PORTS", cell: |row| text(row.ports) },
    Column { name: "Names", heading: "NAMES", cell: |row| text(row.names) },
    Column { name: "Size", heading: "SIZE", cell: |_| text("0B") },
    Column { name: "Labels", heading: "LABELS", cell: |row| text(row.labels) },
    Column { name: "Mounts", heading: "MOUNTS", cell: |row| text(row.mounts) },
    Column { name: "LocalVolumes", heading: "LOCAL VOLUMES", cell: |_| text("0") },
    Column { name: "Networks", heading: "NETWORKS", cell: |_| text("bridge") },
];

const DEFAULT: [&str; 7] = ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];

#[test]
fn rows_as_docker_lists_them() {
    let wrong = differences("rows", |template| match listing(COLUMNS, &DEFAULT, Some(template), &ROWS) {
        Ok(out) => (out, String::new(), 0),
        Err(failure) => (String::new(), error::message(&failure) + "\n", 1),
    });
    assert!(wrong.is_empty(), "{wrong}");
}
