//! `ctr stop` and `ctr kill`.

use anyhow::{Context, Result};

use crate::cli::complete::{Kind, Which};
use crate::cli::{Globals, Run, each, output, selection};
use crate::container::list::Status;
use crate::container::signal;
use crate::container::stop::{self, Stopping};
use crate::error;
use crate::store::names;

/// Stop containers: a signal, then time, then SIGKILL
///
/// Each gets its stop signal, SIGTERM where neither image nor flags say another, and time to end by itself:
/// 10 seconds, or its own --stop-timeout. What then still runs is killed.
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr stop [OPTIONS] CONTAINER [CONTAINER...]",
    after_help = "Examples:
  ctr stop web db       both are asked at once
  ctr stop -t 0 web     no time to clean up
  ctr stop -a           all that run"
)]
pub struct StopCommand {
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
    #[arg(value_name = "CONTAINER", add = Kind::Containers(Which::Running))]
    containers: Vec<String>,
}

impl Run for StopCommand {
    fn run(self, globals: &Globals) -> Result<u8> {
        if let Some(text) = &self.signal {
            signal::parse(text)?;
        }
        let store = globals.store()?;
        let wanted = selection(&store, globals.words, self.containers, self.all, self.latest, Status::is_running)?;
        // All are asked before the first is waited for.
        let asked: Vec<Result<Option<Stopping>>> = wanted
            .iter()
            .map(|name| {
                let id = names::resolve(&store, name)?;
                Stopping::ask(&store, &id, self.signal.as_deref(), self.timeout)
                    .with_context(|| format!("cannot stop container: {name}"))
            })
            .collect();
        let mut code = 0;
        for (name, asked) in wanted.iter().zip(asked) {
            match asked.and_then(|stopping| stopping.map_or(Ok(()), |stopping| stopping.finish(&store))) {
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

/// Send a signal to containers that run
///
/// The signal goes to the container's first process. SIGKILL ends the container with all its processes.
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr kill [OPTIONS] CONTAINER [CONTAINER...]",
    after_help = "Examples:
  ctr kill web              SIGKILL: it ends at once
  ctr kill -s HUP web       many programs read their configuration again"
)]
pub struct KillCommand {
    /// All containers that run
    #[arg(short, long)]
    all: bool,
    /// Signal to send
    #[arg(short, long, value_name = "signal", default_value = "KILL")]
    signal: String,
    /// Names or ids
    #[arg(value_name = "CONTAINER", add = Kind::Containers(Which::Running))]
    containers: Vec<String>,
}

impl Run for KillCommand {
    fn run(self, globals: &Globals) -> Result<u8> {
        let number = signal::parse(&self.signal)?;
        let store = globals.store()?;
        let wanted = selection(&store, globals.words, self.containers, self.all, false, Status::is_running)?;
        Ok(each(&wanted, |name| {
            let id = names::resolve(&store, name)?;
            stop::kill(&store, &id, number).with_context(|| format!("cannot kill container: {name}"))?;
            output::print(&format!("{name}\n"));
            Ok(())
        }))
    }
}
