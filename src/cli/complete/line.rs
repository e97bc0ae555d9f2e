//! Where on a command line the cursor stands, by the command's own clap tree.

use clap::{Arg, ArgAction, Command};

/// What the word at the cursor is.
#[derive(Debug)]
pub enum Spot<'a> {
    /// The value of a flag. `typed`: what of it is there.
    Value {
        of: &'a Arg,
        typed: &'a str,
    },
    Flag,
    /// A word of its own, the `nth` from 0.
    Plain(usize),
}

/// A line, read up to the cursor.
#[derive(Debug)]
pub struct Line<'a> {
    pub spot: Spot<'a>,
    /// Flags before it.
    pub given: Vec<&'a Arg>,
    /// Words before it that are neither flags nor their values.
    pub plain: Vec<&'a str>,
    /// The values of flags.
    pub values: Vec<(&'a Arg, &'a str)>,
}

impl<'a> Line<'a> {
    /// Reads the words before the one at the cursor, and that. `ends`: at its first plain word the
    /// command's own flags end.
    pub fn read(tree: &'a Command, before: &[&'a str], current: &'a str) -> Self {
        let ends = tree.get_positionals().any(Arg::is_trailing_var_arg_set);
        let mut line = Line { spot: Spot::Plain(0), given: Vec::new(), plain: Vec::new(), values: Vec::new() };
        let mut waiting = None;
        let mut only_plain = false;
        for word in before {
            if let Some(flag) = waiting.take() {
                line.values.push((flag, word));
            } else if only_plain || !is_flag(word) {
                line.plain.push(word);
                only_plain |= ends;
            } else if *word == "--" {
                only_plain = true;
            } else {
                waiting = line.flag(tree, word);
            }
        }
        line.spot = match (waiting, current.split_once('=')) {
            (Some(of), _) => Spot::Value { of, typed: current },
            (None, _) if only_plain || !current.starts_with('-') => Spot::Plain(line.plain.len()),
            (None, Some((flag, typed))) => match find(tree, flag) {
                Some(of) => Spot::Value { of, typed },
                None => Spot::Flag,
            },
            (None, None) => Spot::Flag,
        };
        line
    }

    /// Notes a flag, or several short ones in a word; the one whose value is the next word.
    fn flag(&mut self, tree: &'a Command, word: &'a str) -> Option<&'a Arg> {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        if name.starts_with("--") {
            let arg = find(tree, name)?;
            self.given.push(arg);
            self.values.extend(value.map(|value| (arg, value)));
            return (value.is_none() && wants_word(arg)).then_some(arg);
        }
        for (at, letter) in name.char_indices().skip(1) {
            let Some(arg) = short(tree, letter) else { continue };
            self.given.push(arg);
            if takes_value(arg) {
                let rest = word[at + letter.len_utf8()..].trim_start_matches('=');
                if rest.is_empty() {
                    return wants_word(arg).then_some(arg);
                }
                self.values.push((arg, rest));
                return None;
            }
        }
        None
    }

    /// Whether a flag of this name stands before the cursor.
    pub fn has(&self, long: &str) -> bool {
        self.given.iter().any(|arg| arg.get_long() == Some(long))
    }
}

/// How many words at the beginning are `tree`'s own flags and their values.
pub fn own_flags(tree: &Command, words: &[&str]) -> usize {
    let mut at = 0;
    while let Some(word) = words.get(at).filter(|word| is_flag(word)) {
        at += 1;
        let separate = !word.contains('=') && find(tree, word).is_some_and(wants_word);
        at += usize::from(separate && at < words.len());
    }
    at
}

/// A lone dash is standard input.
fn is_flag(word: &str) -> bool {
    word.starts_with('-') && word != "-"
}

fn find<'a>(tree: &'a Command, flag: &str) -> Option<&'a Arg> {
    let Some(long) = flag.strip_prefix("--") else {
        let mut letters = flag.chars().skip(1);
        return letters.next().filter(|_| letters.next().is_none()).and_then(|letter| short(tree, letter));
    };
    let is_named =
        |arg: &&Arg| arg.get_long() == Some(long) || arg.get_all_aliases().is_some_and(|names| names.contains(&long));
    tree.get_arguments().find(is_named)
}

fn short(tree: &Command, letter: char) -> Option<&Arg> {
    tree.get_arguments().find(|arg| arg.get_short_and_visible_aliases().is_some_and(|all| all.contains(&letter)))
}

/// Whether something follows the flag, in the same word or the next.
pub fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

/// Whether that can be the next word.
fn wants_word(arg: &Arg) -> bool {
    takes_value(arg) && !arg.is_require_equals_set()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Command {
        Command::new("x")
            .arg(Arg::new("all").short('a').long("all").action(ArgAction::SetTrue))
            .arg(Arg::new("env").short('e').long("env").alias("environment").action(ArgAction::Append))
            .arg(Arg::new("words").action(ArgAction::Append))
    }

    /// The spot in one word: what the tests below compare.
    fn spot(tree: &Command, words: &str) -> String {
        let mut before: Vec<&str> = words.split(' ').collect();
        let current = before.pop().unwrap();
        match Line::read(tree, &before, current).spot {
            Spot::Value { of, typed } => format!("{}={typed}", of.get_id()),
            Spot::Flag => "flag".into(),
            Spot::Plain(nth) => nth.to_string(),
        }
    }

    #[test]
    fn the_cursor_is_found() {
        let cases = [
            ("", "0"),
            ("a b", "1"),
            ("-", "flag"),
            ("--en", "flag"),
            ("--env ", "env="),
            ("--env=", "env="),
            ("--environment=A=b", "env=A=b"),
            ("-e A", "env=A"),
            ("-ae A", "env=A"),
            ("-eA b", "0"),
            ("-e=A b", "0"),
            ("-e -x b", "0"),
            ("--all=f", "all=f"),
            ("--all b", "0"),
            ("-- --env", "0"),
            ("a --en", "flag"),
            ("--nosuch x", "0"),
            ("--nosuch=x", "flag"),
            ("- x", "1"),
        ];
        for (words, expected) in cases {
            assert_eq!(spot(&tree(), words), expected, "{words:?}");
        }
    }

    #[test]
    fn flags_end_where_a_command_of_the_persons_own_begins() {
        let tree = tree().mut_arg("words", |arg| arg.trailing_var_arg(true).num_args(0..));
        assert_eq!(spot(&tree, "-a image --en"), "1");
        assert_eq!(spot(&tree, "-e image --en"), "flag");
    }

    #[test]
    fn flags_before_the_command_are_counted() {
        let own = |words: &str| own_flags(&tree(), &words.split(' ').collect::<Vec<_>>());
        assert_eq!([own("ps"), own("-a ps"), own("--env x ps"), own("--env=x ps"), own("--env")], [0, 1, 2, 1, 1]);
    }
}
