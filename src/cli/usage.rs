//! What a wrong command line gets: one line that says what is wrong, in Docker's words, and where
//! to read more. Exit codes are Docker's too: 125 for flags, 1 for the number of arguments.

use std::ffi::OsString;

use anyhow::Result;
use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::{absent, help, output};
use crate::error::{Failure, exit};

/// A usage error as clap found it. `command`: the tree of the command's own flags; `words`: its
/// name.
pub fn refused(error: &clap::Error, command: &Command, words: &str, args: &[OsString]) -> Result<u8> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        Some(ContextValue::Strings(texts)) => texts.first().map(String::as_str),
        _ => None,
    };
    // `--memory <bytes>` and the like: the flag alone.
    let flag = context(ContextKind::InvalidArg).and_then(|arg| arg.split([' ', '[', '=']).next()).unwrap_or_default();
    let value = context(ContextKind::InvalidValue);
    let message = match error.kind() {
        ErrorKind::UnknownArgument if flag.starts_with("--") => format!("unknown flag: {flag}"),
        ErrorKind::UnknownArgument if flag.starts_with('-') => {
            let letter = flag.trim_start_matches('-');
            let cluster = args
                .iter()
                .filter_map(|arg| arg.to_str())
                .find(|arg| arg.starts_with('-') && !arg.starts_with("--") && arg.contains(letter));
            // Those before it in the same word are done with by then.
            let rest = cluster.and_then(|arg| arg.find(letter).map(|at| &arg[at..]));
            format!("unknown shorthand flag: '{letter}' in -{}", rest.unwrap_or(letter))
        }
        ErrorKind::UnknownArgument => return Err(too_many(command, words)),
        // An argument without a flag: its own mistake, as Docker's commands find it themselves.
        ErrorKind::InvalidValue | ErrorKind::ValueValidation if flag.starts_with('<') || flag.is_empty() => {
            let why = std::error::Error::source(error).map(ToString::to_string);
            let why = why.unwrap_or_else(|| "invalid reference format".into());
            return Err(Failure::new(why).exit(1).into());
        }
        // No value at all, as the last word or behind an equals sign.
        ErrorKind::InvalidValue if value.is_none_or(str::is_empty) && !flag.is_empty() => {
            let with_equals = args.iter().any(|arg| arg.to_str() == Some(&format!("{flag}=")));
            if with_equals {
                format!("invalid argument \"\" for {:?} flag: it is empty", full_name(command, flag))
            } else {
                missing_value(command, flag, args)
            }
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string);
            let why = why.unwrap_or_else(|| allowed(error));
            format!(
                "invalid argument {:?} for {:?} flag: {}",
                value.unwrap_or_default(),
                full_name(command, flag),
                number(&why, value, flag)
            )
        }
        ErrorKind::MissingRequiredArgument | ErrorKind::TooFewValues => {
            let (least, most) = (required(command), most(command));
            let error = match most {
                Some(most) if most == least => exactly(words, least),
                // Docker's `import` says nothing of how many are too many.
                Some(most) if !words.ends_with("import") => between(words, least, most),
                _ => too_few(words, least),
            };
            return Err(error);
        }
        ErrorKind::InvalidUtf8 => match args.iter().find(|arg| arg.to_str().is_none()) {
            Some(arg) => format!("{arg:?} is not UTF-8"),
            None => "an argument is not UTF-8".into(),
        },
        _ => {
            let text = error.render().to_string();
            let line = text.lines().next().unwrap_or_default();
            line.strip_prefix("error: ").unwrap_or(line).to_owned()
        }
    };
    Err(Failure::new(message).hint(see(words)).exit(exit::ENGINE).into())
}

fn see(words: &str) -> String {
    if words.is_empty() { "see 'ctr --help'".into() } else { format!("see 'ctr {words} --help'") }
}

/// `-m, --memory`, as Docker names a flag in its messages.
fn full_name(command: &Command, flag: &str) -> String {
    let long = flag.trim_start_matches('-');
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(long));
    match arg.and_then(clap::Arg::get_short) {
        Some(short) => format!("-{short}, {flag}"),
        None => flag.to_owned(),
    }
}

fn missing_value(command: &Command, flag: &str, args: &[OsString]) -> String {
    let last = args.last().and_then(|arg| arg.to_str()).unwrap_or_default();
    let long = flag.trim_start_matches('-');
    let short = command.get_arguments().find(|arg| arg.get_long() == Some(long)).and_then(clap::Arg::get_short);
    match short {
        Some(short) if last.starts_with('-') && !last.starts_with("--") && last.ends_with(short) => {
            format!("flag needs an argument: '{short}' in {last}")
        }
        _ => format!("flag needs an argument: {flag}"),
    }
}

/// Rust's words for a wrong number, in Go's.
fn number(why: &str, value: Option<&str>, flag: &str) -> String {
    // The only flag of Docker's whose type has no sign.
    let parser = if flag == "--blkio-weight" { "ParseUint" } else { "ParseInt" };
    let go = |reason: &str| format!("strconv.{parser}: parsing {:?}: {reason}", value.unwrap_or_default());
    if why.contains("invalid digit") || why.contains("cannot parse integer from empty") {
        go("invalid syntax")
    } else if why.contains("is not in") || why.contains("too large") || why.contains("too small") {
        go("value out of range")
    } else {
        why.to_owned()
    }
}

fn allowed(error: &clap::Error) -> String {
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) if !values.is_empty() => format!("must be one of {}", values.join(", ")),
        _ => "invalid value".into(),
    }
}

fn required(command: &Command) -> usize {
    command
        .get_positionals()
        .filter(|arg| arg.is_required_set())
        .map(|arg| arg.get_num_args().map_or(1, |range| range.min_values().max(1)))
        .sum()
}

/// Too few arguments for a command that takes more than `least`, or just as many.
#[must_use]
pub fn too_few(words: &str, least: usize) -> anyhow::Error {
    let plural = if least == 1 { "" } else { "s" };
    Failure::new(format!("'ctr {words}' requires at least {least} argument{plural}")).hint(see(words)).exit(1).into()
}

/// Docker's sentence for a number of arguments that may differ.
fn between(words: &str, least: usize, most: usize) -> anyhow::Error {
    let plural = |n| if n == 1 { "" } else { "s" };
    let message = match least {
        0 => format!("'ctr {words}' requires at most {most} argument{}", plural(most)),
        _ => format!("'ctr {words}' requires at least {least} and at most {most} argument{}", plural(most)),
    };
    Failure::new(message).hint(see(words)).exit(1).into()
}

fn too_many(command: &Command, words: &str) -> anyhow::Error {
    match (required(command), most(command).unwrap_or_default()) {
        (_, 0) => Failure::new(format!("'ctr {words}' accepts no arguments")).hint(see(words)).exit(1).into(),
        (least, most) if least < most => between(words, least, most),
        (_, most) => exactly(words, most),
    }
}

fn exactly(words: &str, number: usize) -> anyhow::Error {
    let plural = if number == 1 { "" } else { "s" };
    Failure::new(format!("'ctr {words}' requires {number} argument{plural}")).hint(see(words)).exit(1).into()
}

/// How many arguments a command takes at most; `None`: any number.
fn most(command: &Command) -> Option<usize> {
    let takes_many = |arg: &&clap::Arg| {
        matches!(arg.get_action(), clap::ArgAction::Append) || arg.get_num_args().is_some_and(|n| n.max_values() > 1)
    };
    let found = command.get_positionals().find(takes_many);
    found.is_none().then(|| command.get_positionals().count())
}

/// No word, or an unknown one, where the command should stand; help for the whole or for a group.
pub fn no_such_command(args: &[OsString]) -> Result<u8> {
    let tree = super::tree();
    let words: Vec<&str> = args.iter().skip(1).filter_map(|arg| arg.to_str()).collect();
    let mut plain = super::plain_words(args);
    let asks_for_help = words.iter().any(|word| matches!(*word, "--help" | "-h"));
    let Some(first) = plain.next() else {
        // One line, as `docker --version`; `ctr version` tells more.
        if words.iter().any(|word| matches!(*word, "--version" | "-v")) {
            output::print(&format!("ctr version {}\n", env!("CARGO_PKG_VERSION")));
            return Ok(0);
        }
        // `ctr` alone, `ctr --help`, or a flag that is not there.
        return match tree.try_get_matches_from(args) {
            // Help that nobody asked for is no output: a script that reads it made a mistake.
            Ok(_) => {
                output::say(help::of_all().trim_end());
                Ok(0)
            }
            Err(error) if error.kind() == ErrorKind::DisplayHelp => {
                output::print(&help::of_all());
                Ok(0)
            }
            Err(error) => refused(&error, &super::skeleton(), "", args),
        };
    };
    let unknown = |name: &str, group: &str| {
        let similar = nearest(name, group, &super::tree());
        let hint = similar.map_or_else(|| see(group), |word| format!("did you mean 'ctr {word}'?"));
        Err(Failure::new(format!("{name:?} is not a ctr command")).hint(hint).exit(1).into())
    };
    if first == "help" {
        let mut asked: Vec<OsString> = args.iter().filter(|arg| *arg != "help").cloned().collect();
        asked.push("--help".into());
        return super::run(&asked);
    }
    let second = plain.next();
    if let Some(name) = absent::command(first, second) {
        return Err(Failure::new(format!("the command {name:?} is not supported yet")).exit(1).into());
    }
    match (tree.find_subcommand(first), second) {
        (None, _) => unknown(first, ""),
        (Some(_), Some(second)) if !asks_for_help => unknown(&format!("{first} {second}"), first),
        (Some(_), _) => {
            let help = help::of_group(first);
            if asks_for_help {
                output::print(&help);
            } else {
                output::say(help.trim_end());
            }
            Ok(0)
        }
    }
}

/// The command that a mistyped word was most likely meant to be: with the same first letter, and at
/// most two letters wrong.
fn nearest(word: &str, group: &str, tree: &Command) -> Option<String> {
    let (commands, prefix) = match tree.find_subcommand(group) {
        Some(group) => (group.get_subcommands(), format!("{} ", group.get_name())),
        None => (tree.get_subcommands(), String::new()),
    };
    let word = word.rsplit(' ').next().unwrap_or_default();
    let alike = commands.map(Command::get_name).filter(|name| name.bytes().next() == word.bytes().next());
    let best = alike.min_by_key(|name| distance(name, word))?;
    (distance(best, word) <= 2 && best.len() > 2).then(|| prefix + best)
}

/// Levenshtein's distance: letters to change, add or take away.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use crate::error;

    /// The message and the exit code of a wrong command line.
    fn run(line: &str) -> (String, Option<u8>) {
        let args: Vec<_> = std::iter::once("ctr").chain(line.split(' ')).map(Into::into).collect();
        let failure = crate::cli::run(&args).unwrap_err();
        (error::message(&failure), error::exit_code(&failure))
    }

    /// What `docker` says to each of these (`tests/golden/record.py` asked it).
    #[test]
    fn messages_are_those_of_dockers_client() {
        let cases = include_str!("../../tests/golden/usage.json");
        let cases: Vec<(String, u8, String)> = serde_json::from_str(cases).unwrap();
        for (line, code, message) in cases {
            // Docker has kinds of objects that ctr has not.
            if line.starts_with("inspect --type foo") {
                let expected = "unknown type: \"foo\": must be one of \"container\", \"image\", \"network\"";
                assert!(run(&line).0.starts_with(expected), "{:?}", run(&line));
                continue;
            }
            assert_eq!(run(&line), (message.replace("'docker ", "'ctr "), Some(code)), "{line}");
        }
    }

    #[test]
    fn messages_are_dockers() {
        let cases = [
            ("run --foo x", "unknown flag: --foo", 125),
            ("run -itZ x", "unknown shorthand flag: 'Z' in -Z", 125),
            ("run", "'ctr run' requires at least 1 argument", 1),
            ("ps x", "'ctr ps' accepts no arguments", 1),
            ("foo", "\"foo\" is not a ctr command", 1),
            ("container foo", "\"container foo\" is not a ctr command", 1),
            ("build b", "the command \"build\" is not supported yet", 1),
            ("image build b", "the command \"image build\" is not supported yet", 1),
            ("rm", "'ctr rm' requires at least 1 argument", 1),
            ("exec x", "'ctr exec' requires at least 2 arguments", 1),
            ("run --memory 1z b", "invalid argument \"1z\" for \"-m, --memory\" flag: invalid suffix: 'z'", 125),
            ("run --name", "flag needs an argument: --name", 125),
            ("run -v", "flag needs an argument: 'v' in -v", 125),
            (
                "run --rm=maybe b",
                "invalid argument \"maybe\" for \"--rm\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
                125,
            ),
            (
                "stop -t a x",
                "invalid argument \"a\" for \"-t, --timeout\" flag: strconv.ParseInt: parsing \"a\": invalid syntax",
                125,
            ),
            ("run --restart always b", "the option \"--restart\" is not supported yet", 125),
            ("run -p a:80 b", "invalid hostPort: a", 125),
        ];
        for (line, message, code) in cases {
            assert_eq!(run(line), (message.to_owned(), Some(code)), "{line}");
        }
    }

    #[test]
    fn mistyped_words_are_guessed() {
        assert_eq!(super::nearest("rnu", "", &crate::cli::tree()).as_deref(), Some("run"));
        assert_eq!(super::nearest("stat", "container", &crate::cli::tree()).as_deref(), Some("container start"));
        assert_eq!(super::nearest("frobnicate", "", &crate::cli::tree()), None);
        assert_eq!(super::nearest("kin", "", &crate::cli::tree()).as_deref(), Some("kill"));
        assert_eq!(super::nearest("pin", "", &crate::cli::tree()), None);
    }
}
