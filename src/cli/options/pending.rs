//! Options of Docker's that ctr knows and does not have: those that are to come, and those that can
//! mean nothing here. Each is parsed, so that the words behind it are not taken for the image, and
//! refused by its name and with the reason, unless its value asks for what is so anyway.

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command, parser::ValueSource};

use super::csv;
use crate::error::{Failure, exit};

/// One of them: its name, whether a value follows, and the values that ask for nothing.
#[derive(Debug)]
struct Option {
    long: &'static str,
    takes_value: bool,
    nothing: &'static [&'static str],
    /// What is said of one that is not to come, and the way out.
    never: std::option::Option<(&'static str, &'static str)>,
}

const fn with_value(long: &'static str, nothing: &'static [&'static str]) -> Option {
    Option { long, takes_value: true, nothing, never: None }
}

const fn never(long: &'static str, nothing: &'static [&'static str], why: &'static str, hint: &'static str) -> Option {
    Option { long, takes_value: true, nothing, never: Some((why, hint)) }
}

const OPTIONS: &[Option] = &[
    never(
        "gpus",
        &[],
        "could not select device driver \"\" with capabilities: [[gpu]]: no driver's hooks are run here",
        "give the device nodes instead (--device /dev/dri, --device /dev/nvidia0), and mount the driver's libraries",
    ),
    with_value("health-cmd", &[]),
    with_value("health-interval", &["0", "0s"]),
    with_value("health-retries", &["0"]),
    with_value("health-start-interval", &["0", "0s"]),
    with_value("health-start-period", &["0", "0s"]),
    with_value("health-timeout", &["0", "0s"]),
    never(
        "isolation",
        &["", "default"],
        "--isolation is for containers of Windows: on Linux there is \"default\" only",
        "leave it away",
    ),
    never(
        "kernel-memory",
        &["0"],
        "--kernel-memory: Linux has no limit for the kernel's memory alone any more (since 5.16)",
        "--memory counts it too",
    ),
    with_value("restart", &["", "no"]),
    never(
        "runtime",
        &["", "ctr", "runc", "io.containerd.runc.v2"],
        "--runtime: unknown or invalid runtime name: ctr runs containers itself, as runc does",
        "leave it away",
    ),
    never(
        "storage-opt",
        &[],
        "--storage-opt: a container's layer is a directory, whose size the file system does not limit",
        "limit what is written with --tmpfs PATH:size=…, or put --root on a file system of the right size",
    ),
    Option {
        long: "use-api-socket",
        takes_value: false,
        nothing: &[],
        never: Some(("--use-api-socket: there is no daemon, and so no socket of one", "leave it away")),
    },
    with_value("volume-driver", &["", "local"]),
    with_value("volumes-from", &[]),
];

/// What Docker's client finds wrong with `--gpus` before anybody looks for a driver.
fn gpus(text: &str) -> Result<String, String> {
    for field in csv::fields(text)? {
        match field.split_once('=') {
            Some(("driver" | "count" | "device" | "capabilities" | "options", _)) => {}
            Some((key, _)) => return Err(format!("unexpected key '{key}' in '{field}'")),
            None if field == "all" || field.parse::<i64>().is_ok() => {}
            None => {
                return Err(format!(
                    "invalid count ({field}): value must be either \"all\" or an integer: invalid syntax"
                ));
            }
        }
    }
    Ok(text.to_owned())
}

/// The sentence for an option, with its value where that is what is missing.
#[must_use]
pub fn message(option: &str) -> String {
    format!("the option \"{option}\" is not supported yet")
}

/// # Errors
/// Always.
pub fn refused<T>(option: &str) -> Result<T> {
    Err(Failure::new(message(option)).exit(exit::ENGINE).into())
}

/// The first of them that was given and asks for something.
#[derive(Debug, Clone)]
pub struct Pending {
    first: std::option::Option<&'static Option>,
    /// `--restart` is among them.
    pub restarts: bool,
}

impl Pending {
    /// # Errors
    /// One was given.
    pub fn check(&self) -> Result<()> {
        match self.first {
            None => Ok(()),
            Some(Option { never: Some((why, hint)), .. }) => {
                Err(Failure::new(*why).hint(*hint).exit(exit::ENGINE).into())
            }
            Some(option) => refused(&format!("--{}", option.long)),
        }
    }
}

impl clap::Args for Pending {
    fn augment_args(command: Command) -> Command {
        OPTIONS.iter().fold(command, |command, option| {
            let arg = Arg::new(option.long).long(option.long).hide(true);
            command.arg(match option.long {
                "gpus" => arg.action(ArgAction::Append).value_parser(gpus),
                _ if option.takes_value => arg.action(ArgAction::Append),
                _ => arg.action(ArgAction::SetTrue),
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Pending {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let asks = |option: &&Option| {
            if matches.value_source(option.long) != Some(ValueSource::CommandLine) {
                return false;
            }
            if option.takes_value {
                let values = matches.get_many::<String>(option.long).into_iter().flatten();
                return values.into_iter().any(|value| !option.nothing.contains(&value.as_str()));
            }
            matches.get_flag(option.long)
        };
        let restarts = OPTIONS.iter().filter(asks).any(|option| option.long == "restart");
        Ok(Self { first: OPTIONS.iter().find(asks), restarts })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, FromArgMatches as _};

    fn check(args: &[&str]) -> Result<()> {
        let command = crate::cli::as_docker_parses(Pending::augment_args(Command::new("x")));
        Pending::from_arg_matches(&command.try_get_matches_from([&["x"], args].concat())?)?.check()
    }

    #[test]
    fn each_is_refused_by_its_name() {
        for option in OPTIONS {
            let value = if option.long == "gpus" { "all" } else { "something" };
            let args = [format!("--{}", option.long), value.to_owned()];
            let given = if option.takes_value { &args[..] } else { &args[..1] };
            let given: Vec<&str> = given.iter().map(String::as_str).collect();
            let later = format!("the option \"--{}\" is not supported yet", option.long);
            let expected = option.never.map_or(later, |(why, _)| why.to_owned());
            assert_eq!(check(&given).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn what_asks_for_nothing_passes() {
        check(&["--restart", "no", "--runtime=", "--runtime=runc", "--isolation", "default"]).unwrap();
        check(&[]).unwrap();
    }
}
