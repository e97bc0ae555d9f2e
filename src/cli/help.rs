//! `--help`, in the form of Docker's: the usage, what it does, its other names, its flags by name.

use clap::{Arg, ArgAction, Command};

use super::{ABOUT, COMMANDS, Entry, GROUPS, latest, skeleton};

/// What most people want, in the order of `docker --help`; what is not a command of ctr's is left out.
const COMMON: &[&str] = &[
    "run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search", "version", "info",
];

/// Columns of a table's first one.
const NAMES: usize = 12;

/// A command with all that is said of it, by which of its names it was called.
pub fn dressed(entry: &Entry, words: &str) -> Command {
    let name = entry.names[0];
    let tree = latest::augment(name, (entry.tree)()).disable_version_flag(true);
    let usage = usage(entry, words, &tree);
    let about = tree.get_long_about().or(tree.get_about()).map(ToString::to_string).unwrap_or_default();
    let mut longs: Vec<String> = tree.get_opts().filter_map(|arg| Some(arg.get_long()?.to_owned())).collect();
    longs.push("help".into());
    longs.sort();
    let order = move |arg: Arg| {
        let place = longs.iter().position(|long| Some(long.as_str()) == arg.get_long());
        // What must stand there the usage says.
        let is_positional = arg.is_positional();
        let arg = arg.display_order(place.unwrap_or_default());
        if is_positional { arg.hide(true) } else { arg }
    };
    let aliases = match entry.names {
        [_] => String::new(),
        names => {
            let mut names: Vec<String> = names.iter().map(|name| format!("ctr {name}")).collect();
            names.sort();
            format!("Aliases:\n  {}\n\n", names.join(", "))
        }
    };
    tree.name(words.to_owned())
        .bin_name(format!("ctr {words}"))
        .override_usage(usage)
        .about(about)
        .mut_args(order)
        .help_template(format!("Usage:  {{usage}}\n\n{{about}}\n\n{aliases}{{all-args}}{{after-help}}"))
}

/// `ctr ps --help`.
pub fn of_command(entry: &Entry, words: &str) -> String {
    dressed(entry, words).render_help().to_string()
}

/// `ctr stop [OPTIONS] CONTAINER [CONTAINER...]`: from the arguments, where the command says nothing else.
pub fn usage(entry: &Entry, words: &str, tree: &Command) -> String {
    let own = tree.clone().render_usage().to_string();
    let own = own.trim_start_matches("Usage:").trim();
    let first = format!("ctr {}", entry.names[0]);
    if own == first || own.starts_with(&format!("{first} ")) {
        return own.replace(&first, &format!("ctr {words}"));
    }
    let mut usage = format!("ctr {words} [OPTIONS]");
    for arg in tree.get_positionals() {
        usage.push(' ');
        usage.push_str(&positional(arg));
    }
    usage
}

/// `X`, `[X]`, `X [X...]` or `[X...]`.
fn positional(arg: &Arg) -> String {
    let name = arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str().to_owned());
    let name = name.unwrap_or_else(|| arg.get_id().as_str().to_uppercase());
    let many = matches!(arg.get_action(), ArgAction::Append);
    match (arg.is_required_set(), many) {
        _ if name.contains(' ') => name,
        (true, false) => name,
        (false, false) => format!("[{name}]"),
        (true, true) => format!("{name} [{name}...]"),
        (false, true) => format!("[{name}...]"),
    }
}

/// What a command does, in a line.
pub fn about(entry: &Entry) -> String {
    let about = (entry.tree)().get_about().map(ToString::to_string).unwrap_or_default();
    about.lines().next().unwrap_or_default().to_owned()
}

/// `ctr --help`.
pub fn of_all() -> String {
    let mut text = format!("Usage:  ctr [OPTIONS] COMMAND\n\n{ABOUT}\n");
    for (heading, commands) in chapters() {
        text.push_str(&format!("\n{heading}:\n"));
        for (name, about) in commands {
            text.push_str(&format!("  {name:NAMES$}{about}\n"));
        }
    }
    let globals = skeleton().help_template("{options}").mut_args(|arg| arg.display_order(0)).render_help().to_string();
    text.push_str(&format!("\nGlobal Options:\n{}\n", globals.trim_end()));
    text.push_str("\n'ctr COMMAND --help' shows a command's flags and examples.\n");
    text
}

/// All commands that stand alone, and the groups.
pub fn chapters() -> [(&'static str, Vec<(&'static str, String)>); 3] {
    let alone = |name: &str| COMMANDS.iter().find(|entry| entry.names.contains(&name));
    let common: Vec<_> = COMMON.iter().filter_map(|name| Some((*name, about(alone(name)?)))).collect();
    let groups = GROUPS.iter().map(|(name, about)| (*name, (*about).to_owned())).collect();
    let rest = COMMANDS.iter().flat_map(|entry| entry.names.iter().map(move |name| (*name, entry)));
    let rest = rest.filter(|(name, _)| !name.contains(' ') && !COMMON.contains(name));
    let mut rest: Vec<_> = rest.map(|(name, entry)| (name, about(entry))).collect();
    rest.sort();
    [("Common Commands", common), ("Management Commands", groups), ("Commands", rest)]
}

/// The commands of a group, each by its first name there.
pub fn members(group: &str) -> Vec<(&'static str, &'static Entry)> {
    let own = |entry: &'static Entry| {
        let names = entry.names.iter().filter_map(|names| names.split_once(' '));
        Some((names.into_iter().find(|(first, _)| *first == group)?.1, entry))
    };
    let mut members: Vec<_> = COMMANDS.iter().filter_map(own).collect();
    members.sort_by_key(|(name, _)| *name);
    members
}

/// `ctr network --help`.
pub fn of_group(group: &str) -> String {
    let about = GROUPS.iter().find(|(name, _)| *name == group).map(|(_, about)| *about).unwrap_or_default();
    let mut text = format!("Usage:  ctr {group} COMMAND\n\n{about}\n\nCommands:\n");
    for (name, entry) in members(group) {
        text.push_str(&format!("  {name:NAMES$}{}\n", self::about(entry)));
    }
    text.push_str(&format!("\n'ctr {group} COMMAND --help' shows a command's flags and examples.\n"));
    text
}
