//! What can stand at an argument. Most say it by the name of their value (`CONTAINER`, `file`); one
//! that wants less, or something else, says it itself: `#[arg(add = Kind::Containers(Which::Running))]`.

use clap::builder::ArgExt;
use clap::{Arg, ArgAction};

/// Containers that a command can do something with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Any,
    /// Paused ones too.
    Running,
    /// Running, and not paused.
    Active,
    Paused,
    Stopped,
    /// Stopped, and all once the line has `--force`.
    Removable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Containers(Which),
    Images,
    Networks,
    /// Those that somebody made.
    OwnNetworks,
    Secrets,
    /// Whatever has a name.
    Objects,
    /// What a container can be put on: networks, these words, and `container:NAME`.
    NetworkModes(&'static [&'static str]),
    /// These words, and `container:NAME`.
    Modes(&'static [&'static str]),
    /// These words. What ends with `=` or `:` wants something behind it.
    Words(&'static [&'static str]),
    Signals,
    Capabilities,
    /// Of the environment.
    Variables,
    Files,
    Directories,
    /// `CONTAINER:PATH`, or a file.
    ContainerPaths,
    /// Nobody can know.
    Nothing,
}

impl ArgExt for Kind {}

const BOOLEAN: Kind = Kind::Words(&["true", "false"]);

/// What a list can be shown as.
pub const LISTING: Kind = Kind::Words(&["json", "table"]);

/// Names of values that say what it is.
const BY_NAME: &[(&[&str], Kind)] = &[
    (&["CONTAINER", "container[:alias]"], Kind::Containers(Which::Any)),
    (
        &[
            "IMAGE",
            "DESTINATION",
            "MANIFEST",
            "MANIFEST_LIST",
            "NAME[:TAG]",
            "NAME[:TAG|@DIGEST]",
            "REPOSITORY[:TAG]",
            "SOURCE_IMAGE[:TAG]",
            "TARGET_IMAGE[:TAG]",
            "[[USER@]HOST::]IMAGE",
        ],
        Kind::Images,
    ),
    (&["NETWORK", "network"], Kind::Networks),
    (&["SECRET", "name[,opt=value,…]"], Kind::Secrets),
    (&["NAME|ID"], Kind::Objects),
    (&["file", "FILE", "FILE|-", "file|URL|-", "host:container[:opts]", "host[:container][:rwm]"], Kind::Files),
    (&["device:rate", "device:weight"], Kind::Files),
    (&["DIR", "dir"], Kind::Directories),
    (&["SRC_PATH", "DEST_PATH"], Kind::ContainerPaths),
    (&["signal"], Kind::Signals),
    (&["bool", "BOOL"], BOOLEAN),
    (&["gzip|zstd"], Kind::Words(&["gzip", "zstd"])),
    (&["format"], Kind::Words(&["json"])),
    (&["os/arch"], Kind::Words(&["linux/amd64", "linux/arm64"])),
];

/// Names of values that only who types can know: numbers, times, new names, paths in a container.
const FREE: &[&str] = &[
    "address",
    "ARG",
    "bytes",
    "cgroup",
    "COMMAND",
    "command",
    "decimal",
    "domain",
    "duration",
    "group",
    "instruction",
    "int",
    "INT",
    "keys",
    "key=value",
    "key=value,…",
    "line",
    "n",
    "n,…",
    "name",
    "name:address",
    "name=address",
    "list",
    "lines",
    "name=soft[:hard]",
    "name=value",
    "name[=value]",
    "NEW_NAME",
    "octal",
    "option",
    "path",
    "path[:opts]",
    "port",
    "[[address:]port:]port",
    "[USER@]HOST::",
    "PRIVATE_PORT[/PROTO]",
    "rate",
    "rule",
    "scope",
    "seconds",
    "SERVER",
    "STRING",
    "string",
    "strings",
    "subnet",
    "TERM",
    "text",
    "time",
    "user",
    "user[:group]",
    "weight",
    "zone",
];

impl Kind {
    /// What can be the `nth` word of this argument; `None`: nothing says so.
    #[must_use]
    pub fn of(arg: &Arg, nth: usize) -> Option<Self> {
        if let Some(kind) = arg.get::<Self>() {
            // Of several words in one, it is said of the first.
            return Some(if nth > 0 && has_many_words(arg) { Self::Nothing } else { *kind });
        }
        if matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::Help) {
            return Some(BOOLEAN);
        }
        let name = arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str().to_owned());
        let name = name.unwrap_or_else(|| arg.get_id().as_str().to_uppercase());
        let name = if has_many_words(arg) {
            let words: Vec<&str> = name.split(' ').collect();
            words[nth.min(words.len() - 1)].trim_matches(['[', ']', '.']).to_owned()
        } else {
            name
        };
        let known = BY_NAME.iter().find(|(names, _)| names.contains(&name.as_str())).map(|(_, kind)| *kind);
        known.or_else(|| FREE.contains(&name.as_str()).then_some(Self::Nothing))
    }
}

/// `IMAGE [COMMAND] [ARG...]`.
fn has_many_words(arg: &Arg) -> bool {
    arg.is_positional() && arg.get_value_names().is_some_and(|names| names[0].contains(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new argument has to say what completes it, be it that nothing does.
    #[test]
    fn each_argument_says_what_it_can_be() {
        let mut silent = Vec::new();
        for entry in crate::cli::COMMANDS {
            let name = entry.names[0];
            let tree = (entry.tree)();
            for arg in tree.get_arguments().filter(|arg| !arg.is_hide_set() || arg.is_positional()) {
                if Kind::of(arg, 0).is_none() || Kind::of(arg, 1).is_none() {
                    silent.push(format!("ctr {name}: {} {:?}", arg.get_id(), arg.get_value_names()));
                }
            }
        }
        assert!(
            silent.is_empty(),
            "give these #[arg(add = Kind::…)], or a name of its value that src/cli/complete/kind.rs knows:\n{}",
            silent.join("\n")
        );
    }

    #[test]
    fn names_of_objects_are_completed_wherever_they_are_wanted() {
        for entry in crate::cli::COMMANDS {
            let name = entry.names[0];
            let Some(arg) = (entry.tree)().get_positionals().next().cloned() else { continue };
            let kind = Kind::of(&arg, 0).unwrap_or(Kind::Nothing);
            let group = name.split(' ').next().unwrap_or_default();
            let fits = match group {
                "network" if name == "network create" => kind == Kind::Nothing,
                "network" if name == "network doctor" => matches!(kind, Kind::Containers(_)),
                "network" => matches!(kind, Kind::Networks | Kind::OwnNetworks),
                "secret" if name == "secret create" => kind == Kind::Nothing,
                "secret" => kind == Kind::Secrets,
                "container" => matches!(kind, Kind::Containers(_)),
                "image" | "manifest" => kind == Kind::Images,
                "completion" | "import" | "login" | "logout" | "search" | "unshare" | "cp" | "inspect" => true,
                _ => matches!(kind, Kind::Containers(_) | Kind::Images),
            };
            assert!(fits, "ctr {name} {}: {kind:?}", arg.get_id());
        }
    }
}
