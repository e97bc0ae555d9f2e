//! What can be typed next: `ctr __complete WORDS… WORD`, which the scripts of `completions/` ask at each
//! TAB. They hold nothing of the command line themselves, so what a new command or flag can be
//! completed with follows from its clap struct alone.
//!
//! Question and answer are those of cobra, the library that Docker's and Podman's commands are made with,
//! so that scripts made for these can ask ctr as well: a candidate on a line, a tab and what it is
//! behind it, at last a colon and the sum of [`directive`]s. `__completeNoDesc` is without what they are.
//!
//! It only looks, and never fails: who asks has nowhere to show an error.

mod kind;
mod line;
mod names;
mod paths;

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::Path;

use clap::{Arg, ArgAction, Command};

pub use kind::{Kind, LISTING, Which};
use line::{Line, Spot};

use super::{COMMANDS, GROUPS, latest, output, skeleton};
use crate::store::Store;

/// The bits of cobra's `ShellCompDirective`.
pub mod directive {
    /// Nothing is put behind what was completed: it goes on.
    pub const NO_SPACE: u8 = 2;
    /// No files beside the candidates.
    pub const NO_FILES: u8 = 4;
    /// Directories only, instead of files.
    pub const DIRECTORIES: u8 = 16;
}

/// A word that can stand there, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub word: String,
    pub about: String,
}

/// The answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub candidates: Vec<Candidate>,
    pub directive: u8,
}

impl Answer {
    fn of(candidates: Vec<Candidate>) -> Self {
        Self { candidates, directive: directive::NO_FILES }
    }

    fn nothing() -> Self {
        Self::of(Vec::new())
    }

    fn files(directive: u8) -> Self {
        Self { candidates: Vec::new(), directive }
    }
}

/// Whether this process is to answer, and with descriptions.
fn asked(args: &[OsString]) -> Option<(&OsString, bool)> {
    let (word, with_about) = match super::plain_words(args).next()? {
        "__complete" => ("__complete", true),
        "__completeNoDesc" => ("__completeNoDesc", false),
        _ => return None,
    };
    Some((args.iter().find(|arg| *arg == word)?, with_about))
}

/// Answers, where the command line `args` asks. Flags before the question are those of an alias, and
/// count as if they stood behind it.
pub fn run(args: &[OsString]) -> Option<u8> {
    let (question, with_about) = asked(args)?;
    let words = args.iter().skip(1).filter(|arg| !std::ptr::eq(*arg, question));
    let words: Vec<Cow<str>> = words.map(|word| word.to_string_lossy()).collect();
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let (current, before) = words.split_last().unwrap_or((&"", &[]));
    output::print(&text(&answer(before, current), with_about));
    Some(0)
}

fn text(answer: &Answer, with_about: bool) -> String {
    let mut text = String::new();
    for Candidate { word, about } in &answer.candidates {
        text.push_str(word);
        if with_about && !about.is_empty() {
            text.push('\t');
            text.extend(about.chars().map(|c| if c.is_control() { ' ' } else { c }));
        }
        text.push('\n');
    }
    text + &format!(":{}\n", answer.directive)
}

/// What can stand in the place of `current`, behind `before` (without the program's name).
fn answer(before: &[&str], current: &str) -> Answer {
    let root = skeleton();
    let own = line::own_flags(&root, before);
    let (globals, words) = before.split_at(own);
    let globals = Line::read(&root, globals, if words.is_empty() { current } else { "" });
    if words.is_empty() && !matches!(globals.spot, Spot::Plain(_)) {
        let mut answer = flag_or_value(&root, &globals, current, || None);
        if matches!(globals.spot, Spot::Flag) {
            answer.candidates.extend(
                candidate("--version", "Print the version").filter(|version| version.word.starts_with(current)),
            );
        }
        return answer;
    }
    let store = || {
        let value = |name| globals.values.iter().find(|(arg, _)| arg.get_id() == name).map(|(_, dir)| Path::new(*dir));
        Store::existing(value("root"), value("runroot")).ok().flatten()
    };
    match words {
        [] | ["help"] => Answer::of(commands("", current)),
        ["help", group] if is_group(group) => Answer::of(commands(group, current)),
        ["help", ..] => Answer::nothing(),
        [group] if is_group(group) && current.starts_with('-') => Answer::of(help_flag()),
        [group] if is_group(group) => Answer::of(commands(group, current)),
        [first, rest @ ..] => {
            let second = rest.first().copied().unwrap_or_default();
            let Some((entry, named)) = super::named(first, second) else { return Answer::nothing() };
            let tree = latest::augment(entry.names[0], (entry.tree)());
            let line = Line::read(&tree, &words[named.split(' ').count()..], current);
            flag_or_value(&tree, &line, current, store)
        }
    }
}

fn is_group(word: &str) -> bool {
    GROUPS.iter().any(|(group, _)| *group == word)
}

/// Commands of the group, or all that stand alone and the groups, that begin so.
fn commands(group: &str, begins: &str) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = Vec::new();
    for entry in COMMANDS {
        // A further name in the same group is for who knows it.
        let name = entry.names.iter().find_map(|names| match names.split_once(' ') {
            Some((own, name)) => (own == group).then_some(name),
            None => group.is_empty().then_some(*names),
        });
        if let Some(name) = name.filter(|name| name.starts_with(begins)) {
            all.extend(candidate(name, &about((entry.tree)().get_about())));
        }
    }
    if group.is_empty() {
        for (name, about) in GROUPS.iter().filter(|(name, _)| name.starts_with(begins)) {
            all.extend(candidate(name, about));
        }
        all.extend(candidate("help", "Help about a command").filter(|_| "help".starts_with(begins)));
    }
    all.sort_by(|a, b| a.word.cmp(&b.word));
    all
}

fn help_flag() -> Vec<Candidate> {
    candidate("--help", "Print help").into_iter().collect()
}

/// The first line of a description.
fn about(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

fn flag_or_value(tree: &Command, line: &Line, current: &str, store: impl Fn() -> Option<Store>) -> Answer {
    match line.spot {
        Spot::Flag => Answer::of(flags(tree, line, current)),
        Spot::Value { of, typed } => {
            let kind = Kind::of(of, 0).unwrap_or(Kind::Nothing);
            let mut answer = names::answer(kind, line, typed, store);
            // Said already, of a flag that can be given again.
            let said: Vec<&str> =
                line.values.iter().filter(|(arg, _)| arg.get_id() == of.get_id()).map(|v| v.1).collect();
            answer.candidates.retain(|candidate| !said.contains(&candidate.word.as_str()));
            answer
        }
        Spot::Plain(nth) => {
            let Some((arg, nth)) = positional(tree, nth) else { return Answer::nothing() };
            let mut answer = names::answer(Kind::of(arg, nth).unwrap_or(Kind::Nothing), line, current, store);
            answer.candidates.retain(|candidate| !line.plain.contains(&candidate.word.as_str()));
            answer
        }
    }
}

/// The argument that the `nth` plain word is of, and which word of it.
fn positional(tree: &Command, nth: usize) -> Option<(&Arg, usize)> {
    let all: Vec<&Arg> = tree.get_positionals().collect();
    let takes_many = |arg: &Arg| {
        matches!(arg.get_action(), ArgAction::Append) || arg.get_num_args().is_some_and(|n| n.max_values() > 1)
    };
    match all.get(nth) {
        Some(arg) => Some((arg, 0)),
        None => all.last().filter(|arg| takes_many(arg)).map(|arg| (*arg, nth + 1 - all.len())),
    }
}

/// Flags that can still be given.
fn flags(tree: &Command, line: &Line, begins: &str) -> Vec<Candidate> {
    let can_be = |arg: &&Arg| {
        let again = matches!(arg.get_action(), ArgAction::Append);
        !arg.is_hide_set() && (again || line.given.iter().all(|given| given.get_id() != arg.get_id()))
    };
    let mut all = Vec::new();
    for arg in tree.get_opts().filter(can_be) {
        let what = about(arg.get_help());
        let short = arg.get_short().map(|letter| format!("-{letter}"));
        let long = arg.get_long().map(|long| format!("--{long}"));
        let words = [long, short].into_iter().flatten().filter(|word| word.starts_with(begins));
        all.extend(words.filter_map(|word| candidate(&word, &what)));
    }
    all.extend(help_flag().into_iter().filter(|help| help.word.starts_with(begins)));
    all.sort_by(|a, b| a.word.cmp(&b.word));
    all.dedup_by(|a, b| a.word == b.word);
    all
}

/// Only of letters that mean nothing to any shell: what a script puts on a person's command line is run
/// by the next press of a key, and names come from archives and registries too.
fn candidate(word: &str, about: &str) -> Option<Candidate> {
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || "-_./:@+=,%".contains(c);
    (!word.is_empty() && word.chars().all(is_harmless))
        .then(|| Candidate { word: word.to_owned(), about: about.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The candidates for the last of these words.
    fn words(line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split(' ').collect();
        let (current, before) = words.split_last().unwrap();
        answer(before, current).candidates.into_iter().map(|candidate| candidate.word).collect()
    }

    #[test]
    fn commands_come_from_the_table() {
        assert_eq!(words("st"), ["start", "stats", "stop"]);
        assert_eq!(words("help st"), ["start", "stats", "stop"]);
        assert_eq!(words("--root /nowhere pul"), ["pull"]);
        assert_eq!(words("container r"), ["rename", "restart", "rm", "run"]);
        assert_eq!(words("network l"), ["ls"]);
        assert!(words("").contains(&"network".to_owned()));
        assert_eq!(words("nosuch "), [""; 0]);
    }

    #[test]
    fn flags_come_from_the_clap_structs() {
        assert_eq!(words("run --net"), ["--network", "--network-alias"]);
        assert_eq!(words("container run --net"), words("run --net"));
        assert_eq!(words("ps --no"), ["--no-trunc"]);
        assert_eq!(words("ps --no-trunc --no"), [""; 0]);
        assert_eq!(words("run --env A --env"), ["--env", "--env-file", "--env-host", "--env-merge"]);
        assert_eq!(words("run busybox --net"), [""; 0]);
        assert_eq!(words("--r"), ["--root", "--runroot"]);
        assert_eq!(words("--v"), ["--version"]);
        assert_eq!(words("start --lat"), ["--latest"]);
    }

    #[test]
    fn values_are_of_their_flags() {
        assert_eq!(words("run --pull "), ["always", "missing", "never"]);
        assert_eq!(words("run --pull="), ["always", "missing", "never"]);
        assert_eq!(words("run --rm="), ["true", "false"]);
        assert!(words("kill -s ").contains(&"TERM".to_owned()));
        assert!(words("run --cap-add ").contains(&"NET_ADMIN".to_owned()));
        assert!(words("ps --filter ").contains(&"status=exited".to_owned()));
        assert_eq!(answer(&["run", "--env-file"], "").directive, 0);
        assert_eq!(answer(&["--root"], "").directive, directive::DIRECTORIES);
        assert_eq!(answer(&["run", "--name"], "").directive, directive::NO_FILES);
    }

    #[test]
    fn what_a_shell_would_obey_is_left_out() {
        assert_eq!(candidate("a$(reboot)", ""), None);
        assert_eq!(candidate("a b", ""), None);
        assert_eq!(candidate("a\nb", ""), None);
        let answer = Answer::of(vec![Candidate { word: "a".into(), about: "x\n\x1b[2J".into() }]);
        assert_eq!(text(&answer, true), "a\tx  [2J\n:4\n");
        assert_eq!(text(&answer, false), "a\n:4\n");
    }
}
