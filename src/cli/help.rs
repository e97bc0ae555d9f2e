//! `--help`, in the form of Docker's: the usage, what it does, its other names, its flags by name.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};

use super::{ABOUT, COMMANDS, Entry, GROUPS, latest, skeleton};

/// What most people want, in the order of `docker --help`; what is not a command of ctr's is left out.
const COMMON: &[&str] =
    &["run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search", "version", "info"];

/// Columns of a table's first one.
const NAMES: usize = 12;

/// A command with all that is said of it, by which of its names it was called.
pub fn dressed(entry: &Entry, words: &str) -> Command {
    let name = entry.names[0];
    let tree = latest::augment(name, (entry.tree)()).disable_version_flag(true);
    let usage = usage(entry, words, &tree);
    let about = tree.get_long_about().or(tree.get_about()).map(ToString::to_string).unwrap_or_default();
    let after = paragraphs(&tree.get_after_help().map(ToString::to_string).unwrap_or_default()).join("\n\n");
    let mut longs: Vec<String> = tree.get_opts().filter_map(|arg| Some(arg.get_long()?.to_owned())).collect();
    longs.push("help".into());
    longs.sort();
    let order = move |arg: Arg| {
        let place = longs.iter().position(|long| Some(long.as_str()) == arg.get_long());
        // What must stand there the usage says.
        let is_positional = arg.is_positional();
        let arg = arg.display_order(place.unwrap_or_default());
        // The heading that clap itself gives to what has none.
        let arg = if arg.get_help_heading() == Some("Options") { arg.help_heading(None) } else { arg };
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
        .long_about(None)
        .after_help(after)
        .mut_args(order)
        .help_template(format!("Usage:  {{usage}}\n\n{{about}}\n\n{aliases}{{all-args}}{{after-help}}"))
}

/// The paragraphs of a text, each one line but for what is indented: a terminal or a page breaks it where
/// it is full.
pub fn paragraphs(text: &str) -> Vec<String> {
    let joined = |paragraph: &str| {
        let mut out = String::new();
        let mut was_indented = true;
        for line in paragraph.lines() {
            let is_indented = line.starts_with(' ');
            if !out.is_empty() {
                out.push(if is_indented || was_indented { '\n' } else { ' ' });
            }
            out.push_str(line);
            was_indented = is_indented;
        }
        out
    };
    text.split("\n\n").filter(|text| !text.is_empty()).map(joined).collect()
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
        let _ = writeln!(text, "\n{heading}:");
        for (name, about) in commands {
            let _ = writeln!(text, "  {name:NAMES$}{about}");
        }
    }
    let version = Arg::new("version").short('v').long("version").action(ArgAction::SetTrue).help("Print the version");
    let globals = skeleton()
        .arg(version)
        .help_template("{options}")
        .mut_args(|arg| arg.display_order(0))
        .render_help()
        .to_string();
    let _ = writeln!(text, "\nGlobal Options:\n{}", globals.trim_end());
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
        let _ = writeln!(text, "  {name:NAMES$}{}", self::about(entry));
    }
    let _ = writeln!(text, "\n'ctr {group} COMMAND --help' shows a command's flags and examples.");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The narrowest terminal that people have.
    const WIDTH: usize = 80;

    #[test]
    fn examples_fit_into_a_terminal() {
        let mut wide = Vec::new();
        for entry in COMMANDS {
            let after = (entry.tree)().get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines = after.lines().filter(|line| line.starts_with(' ') && line.chars().count() > WIDTH);
            wide.extend(lines.map(|line| format!("{}: {line}", entry.names[0])));
        }
        assert!(wide.is_empty(), "wider than {WIDTH}:\n{}", wide.join("\n"));
    }

    #[test]
    fn each_command_has_a_line_and_an_example() {
        let mut poor = Vec::new();
        for entry in COMMANDS {
            let after = (entry.tree)().get_after_help().map(ToString::to_string).unwrap_or_default();
            let about = about(entry);
            let has_own = entry.names.iter().any(|name| after.contains(&format!("ctr {name}")));
            if !(after.contains("Examples:\n") && has_own) || about.is_empty() || about.ends_with('.') {
                poor.push(format!("ctr {}", entry.names[0]));
            }
            let silent = (entry.tree)();
            let silent = silent.get_opts().filter(|arg| !arg.is_hide_set() && arg.get_help().is_none());
            poor.extend(silent.map(|arg| format!("{}: {} has no help", entry.names[0], arg.get_id())));
        }
        assert!(poor.is_empty(), "these lack an example or a description:\n{}", poor.join("\n"));
    }

    #[test]
    fn only_indented_lines_are_kept() {
        assert_eq!(paragraphs("a\nb\n\nc:\n  d\n  e\nf"), ["a b", "c:\n  d\n  e\nf"]);
    }

    #[test]
    fn usage_is_by_the_name_that_was_called() {
        let usage = |words: &str| {
            let (first, second) = words.split_once(' ').unwrap_or((words, ""));
            let (entry, words) = crate::cli::named(first, second).unwrap();
            usage(entry, words, &(entry.tree)())
        };
        assert_eq!(usage("container stop"), "ctr container stop [OPTIONS] CONTAINER [CONTAINER...]");
        assert_eq!(usage("ps"), "ctr ps [OPTIONS]");
        assert_eq!(usage("rename"), "ctr rename [OPTIONS] CONTAINER NEW_NAME");
        assert_eq!(usage("run"), "ctr run [OPTIONS] IMAGE [COMMAND] [ARG...]");
        assert_eq!(usage("images"), "ctr images [OPTIONS] [REPOSITORY[:TAG]]");
    }

    #[test]
    fn help_is_in_dockers_form() {
        let text = of_command(crate::cli::named("container", "rename").unwrap().0, "container rename");
        let start = "Usage:  ctr container rename [OPTIONS] CONTAINER NEW_NAME\n\nGive a container another name\n\n\
                     Aliases:\n  ctr container rename, ctr rename\n\nOptions:\n  -h, --help  Print help\n";
        assert!(text.starts_with(start), "{text}");
        assert!(of_all().starts_with(
            "Usage:  ctr [OPTIONS] COMMAND\n\nA container engine without a daemon\n\nCommon Commands:\n  run "
        ));
        assert!(of_group("network").contains("\n  ls          List networks\n"));
    }
}
