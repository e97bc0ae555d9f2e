//! `ctr restart`.

use std::collections::HashSet;

use anyhow::{Context, Result};

use crate::cli::{Globals, Run, output, selection};
use crate::container::list::Status;
use crate::container::restart::Restart;
use crate::container::signal;
use crate::error;
use crate::store::{Store, names};

/// Stop containers and start them again
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr restart [OPTIONS] CONTAINER [CONTAINER...]",
    after_help = "Examples:
  ctr restart web db        both are asked to stop at once
  ctr restart -t 0 web      no time to clean up
  ctr restart -a            all that run

One that does not run is started; one that is paused goes on to end. A container made with --rm is
kept."
)]
pub struct RestartCommand {
    /// All containers that run
    #[arg(short, long)]
    all: bool,
    /// The newest container
    #[arg(short, long)]
    latest: bool,
    /// Signal to send instead of the container's own
    #[arg(short, long, value_name = "signal")]
    signal: Option<String>,
    /// Seconds to wait before SIGKILL; -1: for ever
    #[arg(short, long, visible_alias = "time", value_name = "seconds")]
    timeout: Option<i64>,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Run for RestartCommand {
    fn run(self, globals: &Globals) -> Result<u8> {
        if let Some(text) = &self.signal {
            signal::parse(text)?;
        }
        let store = globals.store()?;
        let wanted =
            selection(&store, globals.words, self.containers.clone(), self.all, self.latest, Status::is_running)?;
        // All are asked before the first is waited for; one that is named twice is restarted twice.
        let mut seen = HashSet::new();
        let asked: Vec<Option<Result<Restart>>> = wanted
            .iter()
            .map(|name| seen.insert(names::resolve(&store, name).ok()?).then(|| self.ask(&store, name)))
            .collect();
        let mut code = 0;
        for (name, asked) in wanted.iter().zip(asked) {
            let asked = asked.unwrap_or_else(|| self.ask(&store, name));
            match asked.and_then(|restart| restart.finish(&store)) {
                Ok(()) => output::print(&format!("{name}\n")),
                Err(failure) => {
                    output::say(&error::render(&failure));
                    code = 1;
                }
            }
        }
        Ok(code)
    }
}

impl RestartCommand {
    fn ask(&self, store: &Store, name: &str) -> Result<Restart> {
        let id = names::resolve(store, name)?;
        Restart::ask(store, &id, self.signal.as_deref(), self.timeout)
            .with_context(|| format!("Cannot restart container {name}"))
    }
}
