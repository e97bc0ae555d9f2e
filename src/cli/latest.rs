//! `--latest`, Podman's, for the commands that name a container: the newest one's id is put where its
//! name would stand, before the command's own parser sees the words.

use std::ffi::OsString;

use anyhow::Result;
use clap::{Arg, ArgAction, Command, FromArgMatches};

use super::{Globals, as_docker_parses, newest, plant, skeleton};
use crate::error::{Failure, exit};

/// Commands that have the flag from here, and whether further words may stand behind the container.
const COMMANDS: [(&str, bool); 9] = [
    ("attach", false),
    ("diff", false),
    ("inspect", false),
    ("container inspect", false),
    ("kill", false),
    ("logs", false),
    ("port", true),
    ("start", false),
    ("top", true),
];

/// `rm -l` is Docker's `--link`.
const LONG_ONLY: &str = "rm";

fn place(name: &str) -> Option<bool> {
    let listed = COMMANDS.iter().find(|(command, _)| *command == name).map(|(_, more)| *more);
    listed.or((name == LONG_ONLY).then_some(false))
}

/// The tree with the flag, where `name` is one of the commands and has none of its own.
pub fn augment(name: &str, tree: Command) -> Command {
    if place(name).is_none() || tree.get_arguments().any(|arg| arg.get_id() == "latest") {
        return tree;
    }
    let flag = Arg::new("latest").long("latest").action(ArgAction::SetTrue).help("The newest container");
    let is_free = name != LONG_ONLY && tree.get_arguments().all(|arg| arg.get_short() != Some('l'));
    tree.arg(if is_free { flag.short('l') } else { flag })
}

/// The command line with the newest container's id, where it asks for that. `own`: the command's tree
/// as it is without [`augment`].
///
/// # Errors
/// There is no container, or one is named too.
pub fn named(name: &str, words: &str, own: &Command, args: &[OsString]) -> Result<Option<Vec<OsString>>> {
    let Some(more) = place(name) else { return Ok(None) };
    let asks = |arg: &str| {
        arg.starts_with("--latest") || (!arg.starts_with("--") && arg.starts_with('-') && arg.contains('l'))
    };
    if own.get_arguments().any(|arg| arg.get_id() == "latest") || !args.iter().any(|arg| arg.to_str().is_some_and(asks))
    {
        return Ok(None);
    }
    let relaxed = |arg: Arg| if arg.is_positional() { arg.required(false) } else { arg };
    let tree = as_docker_parses(plant(augment(name, own.clone()).mut_args(relaxed), words));
    // What is wrong with it is said by the parser itself.
    let Ok(matches) = skeleton().subcommand(tree).try_get_matches_from(args) else { return Ok(None) };
    let mut inner = &matches;
    while let Some((_, deeper)) = inner.subcommand() {
        inner = deeper;
    }
    if !inner.get_flag("latest") {
        return Ok(None);
    }
    let further: usize =
        own.get_positionals().filter_map(|arg| Some(inner.get_raw(arg.get_id().as_str())?.len())).sum();
    if further > 0 && !more {
        return Err(Failure::new("no names can be given together with --latest").exit(exit::ENGINE).into());
    }
    let id = newest(&Globals::from_arg_matches(&matches)?.store()?)?;
    let mut args = args.to_vec();
    args.insert(args.len() - further, id.into());
    Ok(Some(args))
}
