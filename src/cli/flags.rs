//! The table of Docker's flags, `tests/it/data/flags.tsv`, against the clap tree.

use clap::{Arg, ArgAction, Command};

use super::{absent, as_docker_parses, tree};

const TABLE: &str = include_str!("../../tests/it/data/flags.tsv");

/// A line of the table.
struct Flag<'a> {
    commands: Vec<&'a str>,
    short: Option<char>,
    /// `None`: the commands have no flags.
    long: Option<&'a str>,
    kind: &'a str,
    /// `later: …` or `never`; empty: it works.
    status: &'a str,
}

fn table() -> Vec<Flag<'static>> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    let flags = lines.map(|line| {
        let mut fields = line.split('\t');
        let mut next = || fields.next().unwrap_or_default();
        let commands = next().split(", ").collect();
        let short = next().chars().nth(1);
        let long = next().strip_prefix("--");
        Flag { commands, short, long, kind: next(), status: next() }
    });
    flags.collect()
}

/// `None`: ctr has it not, and says so.
fn find<'a>(tree: &'a Command, words: &str) -> Option<&'a Command> {
    let found = words.split(' ').try_fold(tree, |command, word| command.find_subcommand(word));
    let (first, second) = words.split_once(' ').map_or((words, None), |(first, second)| (first, Some(second)));
    let is_absent = absent::command(first, second).is_some();
    assert!(found.is_some() != is_absent, "{words}: neither there nor said to be absent, or both");
    found
}

/// What follows a flag.
fn kind(arg: &Arg) -> &'static str {
    match arg.get_action() {
        ArgAction::SetTrue | ArgAction::Help => "bool",
        ArgAction::Set if arg.is_require_equals_set() => "bool",
        ArgAction::Append => "list",
        ArgAction::Set if arg.get_num_args().is_some_and(|n| n.takes_values()) => "value",
        _ => "something else",
    }
}

#[test]
fn every_flag_of_dockers_is_there_and_of_its_kind() {
    let mut tree = tree();
    tree.build();
    let mut wrong = Vec::new();
    for flag in table() {
        for words in &flag.commands {
            let Some(command) = find(&tree, words) else { continue };
            let Some(long) = flag.long else { continue };
            let names = |arg: &&Arg| {
                arg.get_long() == Some(long) || arg.get_all_aliases().is_some_and(|names| names.contains(&long))
            };
            let Some(arg) = command.get_arguments().find(names) else {
                wrong.push(format!("{words} --{long} is missing"));
                continue;
            };
            // What is refused by name need not tell one value from several.
            let is_one = flag.status.is_empty() || (kind(arg) == "bool") != (flag.kind == "bool");
            if is_one && kind(arg) != flag.kind {
                wrong.push(format!("{words} --{long} is a {}, not a {}", kind(arg), flag.kind));
            }
            let shorts = arg.get_short_and_visible_aliases().unwrap_or_default();
            if flag.short.is_some_and(|short| !shorts.contains(&short)) {
                wrong.push(format!("{words} --{long} has not the short form {:?}", flag.short));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// As scripts write them: `--flag=value`, `--flag value`, `--flag=false`, and the last of two counts.
#[test]
fn the_spellings_of_dockers_parser_are_accepted() {
    let tree = as_docker_parses(tree());
    for flag in table() {
        let (Some(long), true) = (flag.long, flag.status.is_empty()) else { continue };
        let words = flag.commands[0];
        let Some(command) = find(&tree, words) else { continue };
        let spellings: &[&str] = match flag.kind {
            "bool" if long == "help" => &[],
            "bool" => &["--F", "--F=true", "--F=false", "--F --F=0"],
            _ => &["--F=V", "--F V", "--F=V --F V"],
        };
        let value = value_of(long);
        for spelling in spellings {
            let words_of = spelling.split(' ').map(|arg| arg.replace('F', long).replace('V', value));
            let args: Vec<String> = words_of.collect();
            // A word that every command which wants some takes, then what follows it.
            let parse = |words: &[&str]| {
                let all = ["x"].into_iter().chain(args.iter().map(String::as_str)).chain(words.iter().copied());
                command.clone().no_binary_name(false).try_get_matches_from(all).err()
            };
            let fits = |words: &[&str]| parse(words).is_none_or(|e| e.kind() == clap::error::ErrorKind::DisplayHelp);
            let counts: [&[&str]; 3] = [&[], &["a"], &["a", "b"]];
            assert!(counts.iter().any(|words| fits(words)), "{words} {args:?}: {}", parse(&["a"]).unwrap());
        }
    }
}

/// A value that the flag's own check lets pass.
fn value_of(flag: &str) -> &'static str {
    match flag {
        "add-host" => "a:1.2.3.4",
        "aux-address" | "ipam-opt" | "opt" | "sysctl" => "net.x=1",
        "attach" => "stdout",
        "blkio-weight-device" | "device-read-bps" | "device-read-iops" | "device-write-bps" | "device-write-iops" => {
            "/dev/vda:100"
        }
        "device-cgroup-rule" => "c *:3 rwm",
        "dns" | "gateway" | "ip" | "link-local-ip" => "192.0.2.1",
        "driver-opt" => "com.docker.network.endpoint.ifname=e",
        "filter" => "name=x",
        "ip6" => "2001:db8::1",
        "ip-range" | "subnet" => "192.0.2.0/24",
        "mac-address" => "02:00:00:00:00:01",
        "mount" => "type=tmpfs,dst=/x",
        "platform" => "linux/amd64",
        "ulimit" => "nofile=5",
        "since" | "until" => "1h",
        "memory" | "memory-reservation" | "memory-swap" | "shm-size" => "64m",
        "type" => "container",
        _ => "1",
    }
}
