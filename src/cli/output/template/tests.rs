//! What Docker's own client makes of templates (`tests/golden/record.py` asked it), and what is ctr's.

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

fn differences(kind: &str, render: impl Fn(&str) -> (String, String, u64)) -> String {
    let cases: Json = serde_json::from_str(CASES).unwrap();
    let mut wrong = String::new();
    for case in cases[kind].as_array().unwrap() {
        let template = case["template"].as_str().unwrap();
        let (out, err, code) = render(template);
        let expected = (case["out"].as_str().unwrap(), case["err"].as_str().unwrap(), case["code"].as_u64().unwrap());
        if (out.as_str(), err.as_str(), code) != expected {
            wrong += &format!("{template}\n  docker: {expected:?}\n  ctr:    {:?}\n", (out, err, code));
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
