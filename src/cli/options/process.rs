//! What runs and how it meets the person: command, environment, user, streams, end.

use anyhow::Result;

use super::bad;
use super::environment::EnvironmentOptions;
use crate::cli::complete::Kind;
use crate::container::config::Config;
use crate::error::Failure;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Process")]
pub struct ProcessOptions {
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Attach to stdin, stdout or stderr only
    #[arg(short, long, value_name = "stream", add = Kind::Words(&["stderr", "stdin", "stdout"]), value_parser = stream)]
    pub attach: Vec<Stream>,
    #[command(flatten)]
    pub environment: EnvironmentOptions,
    /// What the command is run with, instead of the image's; a JSON list for several words
    #[arg(long, value_name = "command")]
    entrypoint: Option<String>,
    /// User, and group, by name or number
    #[arg(short, long, value_name = "user[:group]")]
    user: Option<String>,
    /// Further groups
    #[arg(long, value_name = "group")]
    pub group_add: Vec<String>,
    /// Working directory
    #[arg(short, long, value_name = "path")]
    workdir: Option<String>,
    /// Run ctr's own init as the first process: it reaps and forwards signals
    #[arg(long)]
    pub init: bool,
    /// Signal that stops the container (SIGTERM)
    #[arg(long, value_name = "signal")]
    stop_signal: Option<String>,
    /// Seconds to wait before it is killed; -1: for ever
    #[arg(long, value_name = "int")]
    stop_timeout: Option<i64>,
}

/// One of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

fn stream(text: &str) -> Result<Stream, String> {
    match text.to_ascii_lowercase().as_str() {
        "stdin" => Ok(Stream::Stdin),
        "stdout" => Ok(Stream::Stdout),
        "stderr" => Ok(Stream::Stderr),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".into()),
    }
}

impl ProcessOptions {
    /// The part of `Config` that these options and the command's words decide; `None` for a
    /// command where there are no words. An entry point of one empty word resets the image's.
    ///
    /// # Errors
    /// Files that cannot be read, a wrong signal or path.
    pub fn check(&self, words: &[String], detach: bool) -> Result<Config> {
        if let Some(signal) = &self.stop_signal {
            crate::container::signal::parse(signal)?;
        }
        if let Some(path) = self.workdir.as_deref().filter(|path| !path.is_empty() && !path.starts_with('/')) {
            return bad(format!("the working directory '{path}' is invalid, it needs to be an absolute path"));
        }
        if detach && !self.attach.is_empty() {
            // Docker's client does not say 125 here.
            let words = "conflicting options: cannot specify both --attach and --detach";
            return Err(Failure::new(words).exit(1).into());
        }
        let attached = |stream| {
            if detach { false } else { self.attach.contains(&stream) }
        };
        let all_out = self.attach.is_empty() && !detach;
        let attach_stdin = attached(Stream::Stdin) || (self.interactive && !detach);
        Ok(Config {
            user: self.user.clone().unwrap_or_default(),
            attach_stdin,
            attach_stdout: all_out || attached(Stream::Stdout),
            attach_stderr: all_out || attached(Stream::Stderr),
            tty: self.tty,
            open_stdin: self.interactive,
            stdin_once: self.interactive && attach_stdin,
            env: self.environment.variables()?,
            cmd: Some(words.to_vec()).filter(|words| !words.is_empty()),
            entrypoint: self.entrypoint.as_deref().map(entrypoint),
            working_dir: self.workdir.clone().unwrap_or_default(),
            stop_signal: self.stop_signal.clone(),
            stop_timeout: self.stop_timeout,
            ..Config::default()
        })
    }
}

/// One word, or Podman's JSON list of words.
fn entrypoint(text: &str) -> Vec<String> {
    let list = if text.starts_with('[') { serde_json::from_str(text).ok() } else { None };
    list.unwrap_or_else(|| vec![text.to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &[&str], detach: bool) -> Result<Config> {
        use clap::{Args, Command, FromArgMatches};
        let command = crate::cli::as_docker_parses(ProcessOptions::augment_args(Command::new("x")));
        let matches = command.try_get_matches_from([&["x"], args].concat())?;
        ProcessOptions::from_arg_matches(&matches)?.check(&["ls".to_owned()], detach)
    }

    #[test]
    fn streams_are_as_dockers() {
        // As Docker's client sends them, `create` of the same flags.
        let cases: [(&[&str], bool, [bool; 5]); 6] = [
            (&[], false, [false, true, true, false, false]),
            (&["-i"], false, [true, true, true, true, true]),
            (&["-a", "stdout"], false, [false, true, false, false, false]),
            (&["-a", "stdin", "-a", "STDOUT"], false, [true, true, false, false, false]),
            (&["-i", "-a", "stdout"], false, [true, true, false, true, true]),
            (&["-i"], true, [false, false, false, true, false]),
        ];
        for (args, detach, expected) in cases {
            let c = check(args, detach).unwrap();
            let found = [c.attach_stdin, c.attach_stdout, c.attach_stderr, c.open_stdin, c.stdin_once];
            assert_eq!(found, expected, "{args:?} {detach}");
        }
    }

    #[test]
    fn clusters_and_equals_signs() {
        let config = check(&["-it=false", "-e", "A=b", "-eB=c"], false).unwrap();
        assert!(config.open_stdin && !config.tty);
        assert_eq!(config.env, ["A=b", "B=c"]);
        assert!(check(&["-ti", "--tty=0"], false).unwrap().open_stdin);
        assert!(check(&["--tty=maybe"], false).is_err());
    }

    #[test]
    fn entry_points() {
        assert_eq!(check(&["--entrypoint="], false).unwrap().entrypoint, Some(vec![String::new()]));
        assert_eq!(check(&["--entrypoint", "[\"a\", \"b\"]"], false).unwrap().entrypoint.unwrap(), ["a", "b"]);
        assert_eq!(check(&[], false).unwrap().entrypoint, None);
    }
}
