//! `--help` and `ctr help`: what people read first.

use crate::support::both;

/// The names of what is listed under headings, in their order.
fn listed(text: &str) -> Vec<&str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("  "));
    lines.filter(|line| !line.starts_with([' ', '-'])).filter_map(|line| line.split(' ').next()).collect()
}

both!(a_command_has_one_text, |cx| {
    let expected = "Usage:  ctr rename [OPTIONS] CONTAINER NEW_NAME

Give a container another name

Aliases:
  ctr container rename, ctr rename

Options:
  -h, --help  Print help

Examples:
  ctr rename brave_noether web
";
    for line in ["rename --help", "rename -h", "help rename", "rename a --help"] {
        cx.ctr(line).prints(expected);
    }
    // By the name that was called.
    cx.ctr("container rename --help").prints(&expected.replacen("ctr rename", "ctr container rename", 1));
    cx.ctr("help container rename").prints(&expected.replacen("ctr rename", "ctr container rename", 1));
});

both!(commands_are_in_groups, |cx| {
    let all = cx.ctr("--help").succeeds();
    for line in ["help", "-h", "--root /nowhere --help"] {
        assert_eq!(cx.ctr(line).succeeds(), all, "{line}");
    }
    // What nobody asked for is not taken for output.
    cx.ctr("").is(0, "", &format!("{all}\n"));
    let headings: Vec<_> = all.lines().filter(|line| line.ends_with(':')).collect();
    assert_eq!(headings, ["Common Commands:", "Management Commands:", "Commands:", "Global Options:"]);
    assert_eq!(listed(&all)[..3], ["run", "exec", "ps"]);
    // Docker's own words for `diff` and `save` are as wide.
    assert!(all.lines().all(|line| line.len() <= 86), "{all}");

    let container = cx.ctr("container --help").succeeds();
    assert!(container.starts_with("Usage:  ctr container COMMAND\n\nManage containers\n\nCommands:\n"), "{container}");
    for line in ["help container", "container -h"] {
        assert_eq!(cx.ctr(line).succeeds(), container, "{line}");
    }
    cx.ctr("container").is(0, "", &format!("{container}\n"));
    // Each has a text of its own, and is listed in order.
    let mut commands: Vec<String> = listed(&all).into_iter().map(str::to_owned).collect();
    for group in ["container", "image", "manifest", "network", "secret", "system"] {
        let text = cx.ctr(&format!("{group} --help")).succeeds();
        let names = listed(&text);
        let fits = text.lines().all(|line| line.len() <= 86);
        assert!(names.is_sorted() && fits, "{text}");
        commands.extend(names.iter().map(|name| format!("{group} {name}")));
    }
    assert!(commands.len() > 80, "{commands:?}");
    for command in commands.iter().filter(|command| !command.starts_with("'ctr")) {
        let text = cx.ctr(&format!("{command} --help")).succeeds();
        let usage = format!("Usage:  ctr {command}");
        let is_whole = text.starts_with(&usage) && (text.contains("\nExamples:\n  ") || text.contains("\nCommands:\n"));
        assert!(is_whole, "{command}:\n{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{command}:\n{text}");
    }
});

both!(flags_are_listed_by_name, |cx| {
    let text = cx.ctr("ps --help").succeeds();
    let flags = text.lines().filter_map(|line| line.split_once("--")?.1.split([' ', '[']).next());
    let flags: Vec<_> = flags.take_while(|flag| *flag != "help").collect();
    assert_eq!(flags, ["all", "filter", "format", "last", "latest", "no-trunc", "quiet", "size", "watch"]);
});
