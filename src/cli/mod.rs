//! What people type and see. One file for each command, with its clap struct and the function
//! that runs it; the work itself is done below, in `container`, `image` and the others.
//!
//! A start must not pay for a hundred commands: [`run`] looks for the command's words first and
//! builds the clap tree of that command alone. The whole tree ([`tree`]) is built only for help
//! and for the man pages and completions made from it.

mod images;
mod import;
mod load;
pub mod output;
mod pull;
mod usage;
mod version;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::{ArgMatches, Args as _, Command, CommandFactory, FromArgMatches};

use crate::store::Store;

/// Flags that stand before the command.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Globals {
    /// Directory for images, containers and volumes
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Directory for what a reboot may take away
    #[arg(long, value_name = "DIR")]
    pub runroot: Option<PathBuf>,
}

impl Globals {
    /// The storage roots, made when they are missing.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn store(&self) -> Result<Store> {
        Store::open(self.root.as_deref(), self.runroot.as_deref())
    }
}

/// A command: its clap struct, which knows how to run itself.
pub trait Run: CommandFactory + FromArgMatches {
    /// Does it, and returns the exit code.
    ///
    /// # Errors
    /// What `main` prints.
    fn run(self, globals: &Globals) -> Result<u8>;
}

/// A command's place in the tree, without its clap struct built.
struct Entry {
    /// All its names, the first one shown in help: `["ps", "container ls", …]`.
    names: &'static [&'static str],
    tree: fn() -> Command,
    run: fn(&ArgMatches, &Globals) -> Result<u8>,
}

const fn entry<C: Run>(names: &'static [&'static str]) -> Entry {
    fn run<C: Run>(matches: &ArgMatches, globals: &Globals) -> Result<u8> {
        C::from_arg_matches(matches)?.run(globals)
    }
    Entry { names, tree: C::command, run: run::<C> }
}

/// Every command, in the order of `ctr --help`.
const COMMANDS: &[Entry] = &[
    entry::<images::Images>(&["images", "image ls", "image list"]),
    entry::<import::Import>(&["import", "image import"]),
    entry::<load::Load>(&["load", "image load"]),
    entry::<pull::Pull>(&["pull", "image pull"]),
    entry::<version::Version>(&["version"]),
];

/// Runs the command line `args`, program name included, and returns the exit code.
///
/// # Errors
/// What `main` prints.
pub fn run(args: Vec<OsString>) -> Result<u8> {
    let Some((entry, words)) = find(&args) else {
        return usage::no_such_command(&args);
    };
    let mut command = (entry.tree)().bin_name(format!("ctr {words}")).disable_version_flag(true);
    // `container ls` is two words deep, `ps` one; the last word's subcommand holds the flags.
    for (depth, word) in words.split(' ').rev().enumerate() {
        let name = word.to_owned();
        command = if depth == 0 { command.name(name) } else { Command::new(name).subcommand(command) };
    }
    let root = skeleton().subcommand(command);
    let matches = match root.try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => return usage::refused(&error, words),
    };
    let globals = Globals::from_arg_matches(&matches)?;
    let mut innermost = &matches;
    while let Some((_, inner)) = innermost.subcommand() {
        innermost = inner;
    }
    (entry.run)(innermost, &globals)
}

/// The command without subcommands: name, global flags.
fn skeleton() -> Command {
    Globals::augment_args(Command::new("ctr").about("A container engine without a daemon"))
        .disable_help_subcommand(true)
        .subcommand_required(false)
}

/// The whole clap tree, for `--help`, man pages and completions.
#[must_use]
pub fn tree() -> Command {
    let mut root = skeleton();
    for entry in COMMANDS {
        for words in entry.names {
            let leaf = (entry.tree)().disable_version_flag(true);
            root = match words.split_once(' ') {
                None => root.subcommand(leaf.name((*words).to_owned())),
                Some((group, name)) => {
                    let leaf = leaf.name(name.to_owned());
                    match root.find_subcommand(group) {
                        Some(_) => root.mut_subcommand(group, |g| g.subcommand(leaf)),
                        None => root.subcommand(Command::new(group.to_owned()).subcommand(leaf)),
                    }
                }
            };
        }
    }
    root
}

/// The command that the first words name, past the global flags and their values.
fn find(args: &[OsString]) -> Option<(&'static Entry, &'static str)> {
    let mut words = args.iter().skip(1).map(|arg| arg.to_str().unwrap_or_default());
    let first = loop {
        match words.next()? {
            "--root" | "--runroot" => {
                words.next()?;
            }
            flag if flag.starts_with('-') => {}
            word => break word,
        }
    };
    let second = words.next().unwrap_or_default();
    let mut one = None;
    for entry in COMMANDS {
        for &names in entry.names {
            match names.split_once(' ') {
                Some((group, name)) if group == first && name == second => return Some((entry, names)),
                None if names == first => one = Some((entry, names)),
                _ => {}
            }
        }
    }
    one
}
