//! Options of Docker's that ctr knows and does not have yet. Each is parsed, so that the words
//! behind it are not taken for the image, and refused by its name: none is ignored.

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command, parser::ValueSource};

use crate::error::{Failure, exit};

/// One of them: its name, whether a value follows, and the values that ask for nothing.
struct Option {
    long: &'static str,
    takes_value: bool,
    nothing: &'static [&'static str],
}

const fn with_value(long: &'static str, nothing: &'static [&'static str]) -> Option {
    Option { long, takes_value: true, nothing }
}

const OPTIONS: &[Option] = &[
    with_value("gpus", &[]),
    with_value("health-cmd", &[]),
    with_value("health-interval", &["0", "0s"]),
    with_value("health-retries", &["0"]),
    with_value("health-start-interval", &["0", "0s"]),
    with_value("health-start-period", &["0", "0s"]),
    with_value("health-timeout", &["0", "0s"]),
    with_value("isolation", &["", "default"]),
    with_value("kernel-memory", &["0"]),
    with_value("restart", &["", "no"]),
    with_value("runtime", &[""]),
    with_value("storage-opt", &[]),
    Option { long: "use-api-socket", takes_value: false, nothing: &[] },
    with_value("volume-driver", &["", "local"]),
    with_value("volumes-from", &[]),
];

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
pub struct Pending(std::option::Option<&'static str>);

impl Pending {
    /// # Errors
    /// One was given.
    pub fn check(&self) -> Result<()> {
        self.0.map_or(Ok(()), |long| refused(&format!("--{long}")))
    }
}

impl clap::Args for Pending {
    fn augment_args(command: Command) -> Command {
        OPTIONS.iter().fold(command, |command, option| {
            let arg = Arg::new(option.long).long(option.long).hide(true);
            let arg = if option.takes_value { arg.action(ArgAction::Append) } else { arg.action(ArgAction::SetTrue) };
            command.arg(arg)
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
        Ok(Self(OPTIONS.iter().find(asks).map(|option| option.long)))
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
            let args = [format!("--{}", option.long), "something".to_owned()];
            let given = if option.takes_value { &args[..] } else { &args[..1] };
            let given: Vec<&str> = given.iter().map(String::as_str).collect();
            let expected = format!("the option \"--{}\" is not supported yet", option.long);
            assert_eq!(check(&given).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn what_asks_for_nothing_passes() {
        check(&["--restart", "no", "--runtime="]).unwrap();
        check(&[]).unwrap();
    }
}
