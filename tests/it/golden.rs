//! Every command for containers and for the system as a script sees it: standard output, standard
//! error and exit code whole, in transcripts (`data/golden/*.txt`) that say what Docker's client says.
//!
//! In a transcript a line `$ …` is a command of `ctr`; `1| …` and `2| …` are what it writes to standard
//! output and to standard error, `= n` is its exit code where that is not 0, and `[..]` stands for
//! anything within a line. Lines that begin with `#` are for readers.

use std::fmt::Write;
use std::path::Path;

use crate::support::{Sandbox, both};

/// A command with what it is to do.
#[derive(Debug, Default)]
struct Case<'a> {
    line: &'a str,
    out: String,
    err: String,
    code: i32,
}

fn cases(transcript: &str) -> Vec<Case<'_>> {
    let mut cases: Vec<Case> = Vec::new();
    for text in transcript.lines().filter(|text| !text.is_empty() && !text.starts_with('#')) {
        if let Some(line) = text.strip_prefix("$ ") {
            cases.push(Case { line, ..Case::default() });
            continue;
        }
        let case = cases.last_mut().expect("a transcript begins with a command");
        match text.split_at_checked(3) {
            Some(("1| ", line)) => writeln!(case.out, "{line}").unwrap(),
            Some(("2| ", line)) => writeln!(case.err, "{line}").unwrap(),
            _ => case.code = text.strip_prefix("= ").and_then(|code| code.parse().ok()).expect(text),
        }
    }
    cases
}

/// Each command of a transcript, one behind the other, in the same folder.
fn play(cx: &Sandbox, transcript: &str) {
    cx.busybox();
    for case in cases(transcript) {
        let ran = cx.ctr(case.line);
        // A question's line is ended by the answer.
        let is_question = ran.out().ends_with("[y/N] ");
        let out = case.out.strip_suffix('\n').filter(|_| is_question).unwrap_or(&case.out);
        ran.is(case.code, out, &case.err);
    }
}

both!(lives, |cx| play(cx, include_str!("data/golden/lives.txt")));
both!(views, |cx| play(cx, include_str!("data/golden/views.txt")));
both!(files, |cx| play(cx, include_str!("data/golden/files.txt")));
// An ordinary user has no limits to change with cgroup v1.
both!(limits, |cx| {
    if cx.is_root() {
        play(cx, include_str!("data/golden/update.txt"));
    }
});
both!(system, |cx| play(cx, include_str!("data/golden/system.txt")));

/// Commands of other subjects, whose tests are in files of their own.
const OTHERS: &[&str] = &[
    "build",
    "history",
    "image",
    "images",
    "import",
    "load",
    "login",
    "logout",
    "manifest",
    "network",
    "pull",
    "push",
    "rmi",
    "save",
    "unshare",
    "completion",
    "search",
    "tag",
    "volume",
];

#[test]
fn no_command_is_without_one_that_works_and_one_that_fails() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/golden");
    let transcripts: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let all: Vec<Case> = transcripts.iter().flat_map(|text| cases(text)).collect();
    let mut missing = Vec::new();
    for command in ctr::cli::tree().get_subcommands().filter(|command| !OTHERS.contains(&command.get_name())) {
        let name = command.get_name();
        let leaves: Vec<String> = match command.get_subcommands().next() {
            None => vec![name.to_owned()],
            // `container rm` is `rm`.
            Some(_) => command
                .get_subcommands()
                .filter(|leaf| name != "container" || ctr::cli::tree().find_subcommand(leaf.get_name()).is_none())
                .filter(|leaf| !leaf.is_hide_set())
                .map(|leaf| format!("{name} {}", leaf.get_name()))
                .collect(),
        };
        for leaf in leaves {
            let of = |case: &&Case| {
                case.line.strip_prefix(&leaf).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
            };
            if !all.iter().filter(of).any(|case| case.code == 0) {
                missing.push(format!("{leaf}: none works"));
            }
            if !all.iter().filter(of).any(|case| case.code != 0) {
                missing.push(format!("{leaf}: none fails"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
