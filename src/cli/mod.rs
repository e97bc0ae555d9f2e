//! What people type and see. One file for each command, with its clap struct and the function
//! that runs it; the work itself is done below, in `container`, `image` and the others.
//!
//! A start must not pay for a hundred commands: [`run`] looks for the command's words first and
//! builds the clap tree of that command alone. Help (`help`), the man pages (`man`, which the unit tests
//! write) and what TAB offers (`complete`) are made from the same structs.

mod absent;
mod attach;
mod commit;
mod complete;
mod completion;
mod cp;
mod create;
mod diff;
mod events;
mod exec;
mod exists;
mod export;
mod filter;
#[cfg(test)]
mod flags;
mod help;
mod history;
mod image;
mod images;
mod import;
mod info;
mod inspect;
mod latest;
mod load;
mod logging;
mod login;
mod logout;
mod logs;
#[cfg(test)]
mod man;
mod manifest;
mod network;
mod options;
pub mod output;
mod pause;
mod port;
mod prune;
mod ps;
mod pull;
mod push;
mod rename;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
mod secret;
mod start;
mod stats;
mod stop;
mod system;
mod tag;
mod top;
mod unshare;
mod update;
mod usage;
mod version;
mod wait;
mod when;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{ArgAction, ArgMatches, Args as _, Command, CommandFactory, FromArgMatches};

use crate::cli::complete::Kind;
use crate::config;
use crate::container::list::{self, Status};
use crate::error::{self, Failure, exit};
use crate::store::{Id, Store};

/// Flags that stand before the command.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Globals {
    /// Directory for images, containers and volumes
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Directory for what a reboot may take away
    #[arg(long, value_name = "DIR")]
    pub runroot: Option<PathBuf>,
    /// Directory of config.json, where credentials are kept
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
    /// Show what is done, on standard error
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// Show what is of this level: debug, info, warn, error, fatal
    #[arg(short, long, value_name = "level", add = Kind::Words(&["debug", "info", "warn", "error", "fatal"]))]
    pub log_level: Option<String>,
    /// The command as it was called, `container rm` or `rm`, for messages.
    #[arg(skip)]
    pub words: &'static str,
}

impl Globals {
    /// The storage roots, made when they are missing.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn store(&self) -> Result<Store> {
        let store = Store::open(self.root.as_deref(), self.runroot.as_deref())?;
        log::debug!("storage in {:?}, what a reboot takes in {:?}", store.root(), store.run());
        Ok(store)
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
    entry::<run::RunCommand>(&["run", "container run"]),
    entry::<exec::ExecCommand>(&["exec", "container exec"]),
    entry::<ps::Ps>(&["ps", "container ls", "container ps", "container list"]),
    entry::<create::Create>(&["create", "container create"]),
    entry::<start::StartCommand>(&["start", "container start"]),
    entry::<stop::StopCommand>(&["stop", "container stop"]),
    entry::<stop::KillCommand>(&["kill", "container kill"]),
    entry::<restart::RestartCommand>(&["restart", "container restart"]),
    entry::<pause::PauseCommand>(&["pause", "container pause"]),
    entry::<pause::UnpauseCommand>(&["unpause", "container unpause"]),
    entry::<attach::AttachCommand>(&["attach", "container attach"]),
    entry::<wait::WaitCommand>(&["wait", "container wait"]),
    entry::<rename::RenameCommand>(&["rename", "container rename"]),
    entry::<rm::RmCommand>(&["rm", "container rm", "container remove"]),
    entry::<prune::ContainerPrune>(&["container prune"]),
    entry::<top::Top>(&["top", "container top"]),
    entry::<stats::Stats>(&["stats", "container stats"]),
    entry::<images::Images>(&["images", "image ls", "image list"]),
    entry::<system::ImagePrune>(&["image prune"]),
    entry::<history::History>(&["history", "image history"]),
    entry::<tag::Tag>(&["tag", "image tag"]),
    entry::<manifest::Create>(&["manifest create"]),
    entry::<manifest::Add>(&["manifest add"]),
    entry::<manifest::Annotate>(&["manifest annotate"]),
    entry::<manifest::Inspect>(&["manifest inspect"]),
    entry::<manifest::Push>(&["manifest push"]),
    entry::<manifest::Remove>(&["manifest remove"]),
    entry::<manifest::Rm>(&["manifest rm"]),
    entry::<manifest::Exists>(&["manifest exists"]),
    entry::<import::Import>(&["import", "image import"]),
    entry::<load::Load>(&["load", "image load"]),
    entry::<save::Save>(&["save", "image save"]),
    entry::<inspect::InspectCommand>(&["inspect"]),
    entry::<inspect::ContainerInspect>(&["container inspect"]),
    entry::<inspect::ImageInspect>(&["image inspect"]),
    entry::<exists::Container>(&["container exists"]),
    entry::<exists::Image>(&["image exists"]),
    entry::<image::Diff>(&["image diff"]),
    entry::<image::Tree>(&["image tree"]),
    entry::<image::Mount>(&["image mount"]),
    entry::<image::Unmount>(&["image unmount", "image umount"]),
    entry::<image::Scp>(&["image scp"]),
    entry::<logs::LogsCommand>(&["logs", "container logs"]),
    entry::<commit::CommitCommand>(&["commit", "container commit"]),
    entry::<cp::Cp>(&["cp", "container cp"]),
    entry::<diff::Diff>(&["diff", "container diff"]),
    entry::<export::Export>(&["export", "container export"]),
    entry::<network::Create>(&["network create"]),
    entry::<network::Ls>(&["network ls", "network list"]),
    entry::<network::Inspect>(&["network inspect"]),
    entry::<network::Connect>(&["network connect"]),
    entry::<network::Disconnect>(&["network disconnect"]),
    entry::<network::Rm>(&["network rm", "network remove"]),
    entry::<network::Prune>(&["network prune"]),
    entry::<network::Doctor>(&["network doctor"]),
    entry::<exists::Network>(&["network exists"]),
    entry::<port::Port>(&["port", "container port"]),
    entry::<update::Update>(&["update", "container update"]),
    entry::<secret::Create>(&["secret create"]),
    entry::<secret::Ls>(&["secret ls", "secret list"]),
    entry::<secret::Inspect>(&["secret inspect"]),
    entry::<secret::Rm>(&["secret rm", "secret remove"]),
    entry::<exists::Secret>(&["secret exists"]),
    entry::<unshare::Unshare>(&["unshare"]),
    entry::<events::EventsCommand>(&["events", "system events"]),
    entry::<system::Df>(&["system df"]),
    entry::<system::Prune>(&["system prune"]),
    entry::<system::Check>(&["system check"]),
    entry::<system::Reset>(&["system reset"]),
    entry::<info::Info>(&["info", "system info"]),
    entry::<pull::Pull>(&["pull", "image pull"]),
    entry::<push::Push>(&["push", "image push"]),
    entry::<search::Search>(&["search"]),
    entry::<login::Login>(&["login"]),
    entry::<logout::Logout>(&["logout"]),
    entry::<rmi::Rmi>(&["rmi", "image rm", "image remove"]),
    entry::<version::Version>(&["version"]),
    entry::<completion::Completion>(&["completion"]),
];

/// Runs the command line `args`, program name included, and returns the exit code.
///
/// # Errors
/// What `main` prints.
pub fn run(args: &[OsString]) -> Result<u8> {
    if let Some(code) = complete::run(args) {
        return Ok(code);
    }
    let args = &without_absent_globals(args)?[..];
    let Some((entry, words)) = find(args) else {
        return usage::no_such_command(args);
    };
    let own = (entry.tree)();
    let name = entry.names[0];
    let args = &latest::named(name, words, &own, args)?.unwrap_or_else(|| args.to_vec())[..];
    let tree = || latest::augment(name, (entry.tree)());
    let command = as_docker_parses(plant(latest::augment(name, own), words));
    let matches = match as_docker_parses(skeleton()).subcommand(command).try_get_matches_from(args) {
        Ok(matches) => matches,
        // Help shows flags as they are written in the source, without what their parsing needs.
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            output::print(&help::of_command(entry, words));
            return Ok(0);
        }
        Err(error) => return usage::refused(&error, &tree(), words, args),
    };
    let globals = Globals { words, ..Globals::from_arg_matches(&matches)? };
    logging::begin(globals.log_level.as_deref(), globals.debug)?;
    if let Some(folder) = globals.config.as_deref().filter(|folder| !folder.as_os_str().is_empty()) {
        config::use_folder(folder);
    }
    let mut innermost = &matches;
    while let Some((_, inner)) = innermost.subcommand() {
        innermost = inner;
    }
    (entry.run)(innermost, &globals)
}

/// A command under its words: `container ls` is two deep, `ps` one.
fn plant(command: Command, words: &str) -> Command {
    let command = command.bin_name(format!("ctr {words}")).disable_version_flag(true);
    match words.split_once(' ') {
        None => command.name(words.to_owned()),
        Some((group, name)) => Command::new(group.to_owned()).subcommand(command.name(name.to_owned())),
    }
}

/// Flags as Docker's parser (Go's `pflag`) reads them: `--rm=false` for what is on or off, the word
/// behind a flag is its value whatever it begins with, and the last of several wins.
pub(crate) fn as_docker_parses(command: Command) -> Command {
    let groups: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let command = groups.into_iter().fold(command, |c, name| c.mut_subcommand(name, as_docker_parses));
    command.args_override_self(true).mut_args(|arg| match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_value("false")
            .default_missing_value("true")
            .value_parser(options::boolean),
        ArgAction::Set | ArgAction::Append if !arg.is_positional() && !arg.is_require_equals_set() => {
            arg.allow_hyphen_values(true)
        }
        _ => arg,
    })
}

const ABOUT: &str = "A container engine without a daemon";

/// The command without subcommands: name, global flags.
fn skeleton() -> Command {
    Globals::augment_args(Command::new("ctr").bin_name("ctr"))
        .about(ABOUT)
        .args_override_self(true)
        .disable_help_subcommand(true)
        .subcommand_required(false)
}

/// The whole clap tree, for what is asked of all commands at once.
#[must_use]
pub fn tree() -> Command {
    let mut root = skeleton();
    for entry in COMMANDS {
        let mut shown = Vec::new();
        for words in entry.names {
            let leaf = latest::augment(entry.names[0], (entry.tree)()).disable_version_flag(true);
            root = match words.split_once(' ') {
                None => root.subcommand(leaf.name((*words).to_owned())),
                Some((group, name)) => {
                    // A further name in the same group is an alias.
                    let leaf = leaf.name(name.to_owned()).hide(shown.contains(&group));
                    shown.push(group);
                    match root.find_subcommand(group) {
                        Some(_) => root.mut_subcommand(group, |g| g.subcommand(leaf)),
                        None => root.subcommand(self::group(group).subcommand(leaf)),
                    }
                }
            };
        }
    }
    root
}

/// Words that commands stand behind, and what these do.
const GROUPS: &[(&str, &str)] = &[
    ("container", "Manage containers"),
    ("image", "Manage images"),
    ("manifest", "Manage manifest lists: images for several platforms"),
    ("network", "Manage networks"),
    ("secret", "Manage secrets"),
    ("system", "Manage ctr"),
];

/// A word that commands stand behind.
fn group(name: &str) -> Command {
    let about = GROUPS.iter().find(|(group, _)| *group == name).map(|(_, about)| *about);
    Command::new(name.to_owned()).about(about.unwrap_or_default()).disable_help_subcommand(true)
}

/// Docker's flags before the command that ctr has not, whose values would otherwise be taken for the
/// command. Those that lead to another daemon may stand there empty, as scripts have them.
fn without_absent_globals(args: &[OsString]) -> Result<Vec<OsString>> {
    let mut kept: Vec<OsString> = args.iter().take(1).cloned().collect();
    let mut rest = args.iter().skip(1);
    while let Some(arg) = rest.next() {
        let flag = arg.to_str().unwrap_or_default();
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        let hint = match name {
            "-H" | "--host" | "-c" | "--context" => {
                if value.or_else(|| rest.next()?.to_str()) == Some("") {
                    continue;
                }
                "there is no daemon to connect to"
            }
            _ if name.starts_with('-') => {
                kept.push(arg.clone());
                if takes_word(flag) {
                    kept.extend(rest.next().cloned());
                }
                continue;
            }
            _ => {
                kept.push(arg.clone());
                break;
            }
        };
        return Err(Failure::new(format!("the option {name:?} is not supported yet"))
            .hint(hint)
            .exit(exit::ENGINE)
            .into());
    }
    kept.extend(rest.cloned());
    Ok(kept)
}

/// Whether the word behind a global flag is its value.
fn takes_word(flag: &str) -> bool {
    let is_long = matches!(flag, "--root" | "--runroot" | "--config" | "--log-level");
    is_long || flag.strip_prefix('-').is_some_and(|letters| letters.trim_start_matches('D') == "l")
}

/// The words past the global flags and their values.
fn plain_words(args: &[OsString]) -> impl Iterator<Item = &str> {
    let mut words = args.iter().skip(1).map(|arg| arg.to_str().unwrap_or_default()).peekable();
    while let Some(flag) = words.next_if(|word| word.starts_with('-')) {
        if takes_word(flag) {
            words.next();
        }
    }
    words
}

/// The command that the first words name.
fn find(args: &[OsString]) -> Option<(&'static Entry, &'static str)> {
    let mut words = plain_words(args);
    named(words.next()?, words.next().unwrap_or_default())
}

/// The command of these words, of which it may need but one, and its name as they have it.
fn named(first: &str, second: &str) -> Option<(&'static Entry, &'static str)> {
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

/// Says that the keys to leave were seen, in Docker's words and on a line of their own: the
/// container's prompt stands before the cursor. `action`: what that is called among events. The exit code.
fn left(store: &Store, id: &Id, action: &str) -> u8 {
    crate::events::of_container(store, id, action, &[]);
    output::say("\r\nread escape sequence");
    0
}

/// Does something for each, goes on past failures, and says them; the exit code is 1 if one failed.
fn each(wanted: &[String], mut act: impl FnMut(&str) -> Result<()>) -> u8 {
    let mut code = 0;
    for name in wanted {
        if let Err(failure) = act(name) {
            output::say(&error::render(&failure));
            code = 1;
        }
    }
    code
}

/// The containers that a command is for: those named, all in a fitting state (`--all`), or the
/// newest (`--latest`).
fn selection(
    store: &Store,
    words: &str,
    named: Vec<String>,
    all: bool,
    latest: bool,
    fits: impl Fn(Status) -> bool,
) -> Result<Vec<String>> {
    if !all && !latest {
        return if named.is_empty() { Err(usage::too_few(words, 1)) } else { Ok(named) };
    }
    if !named.is_empty() {
        return Err(Failure::new("no names can be given together with --all or --latest").exit(exit::ENGINE).into());
    }
    let mut containers =
        list::all(store, |id, error| output::say(&format!("ctr: container {}: {error:#}", id.short())))?;
    if latest {
        containers.truncate(1);
    }
    Ok(containers.iter().filter(|c| latest || fits(c.status())).map(|c| c.id.to_string()).collect())
}

/// The container that was made last.
///
/// # Errors
/// There is none.
fn newest(store: &Store) -> Result<String> {
    let newest = selection(store, "", Vec::new(), false, true, |_| true)?.into_iter().next();
    newest.ok_or_else(|| Failure::new("there is no container").exit(exit::ENGINE).into())
}

/// `run` and `create`: a failure without an exit code of its own is the engine's.
fn engine_failure(outcome: Result<u8>) -> Result<u8> {
    match outcome {
        Err(failure) if error::exit_code(&failure).is_none() => {
            output::say(&error::render(&failure));
            Ok(exit::ENGINE)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_other_global_flags_are_empty_or_refused_by_name() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let mut empty = words("ctr --root /r -H");
        empty.extend([OsString::new(), "--context=".into(), "ps".into(), "-H".into()]);
        assert_eq!(without_absent_globals(&empty).unwrap(), words("ctr --root /r ps -H"));
        for wrong in ["ctr -H tcp://x ps", "ctr --host=tcp://x ps", "ctr -c far ps"] {
            let error = without_absent_globals(&words(wrong)).unwrap_err().to_string();
            assert!(error.ends_with("is not supported yet"), "{error}");
        }
    }
}
