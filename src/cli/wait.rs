//! `ctr wait`.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cli::complete::Kind;
use crate::cli::{Globals, Run, each, output, selection};
use crate::container::attach::{self, Attach, Outcome};
use crate::container::list::Status;
use crate::container::{list, state, watch};
use crate::error::Failure;
use crate::monitor::{self, Connection, Streams};
use crate::store::{Id, Store, names};

const CONDITIONS: Kind = Kind::Words(&[
    "configured",
    "created",
    "exited",
    "initialized",
    "paused",
    "removing",
    "running",
    "stopped",
    "stopping",
]);

/// Wait until containers have ended, and print their exit codes
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr wait [OPTIONS] CONTAINER [CONTAINER...]",
    after_help = "Examples:
  ctr wait job
  ctr wait --condition running web && curl localhost:8080
  ctr wait --condition paused --condition exited web    whichever comes first

Conditions: configured, created, initialized, running, paused, stopping, stopped, exited, removing.
The exit code is printed for a container that has ended, and -1 for all else."
)]
pub struct WaitCommand {
    /// What to wait for
    #[arg(long, value_name = "condition", add = CONDITIONS, value_delimiter = ',', value_parser = Condition::parse)]
    condition: Vec<Condition>,
    /// How long to wait before looking again, where nothing tells of changes (250ms)
    #[arg(short, long, value_name = "duration", default_value = "250ms", hide_default_value = true, value_parser = interval)]
    interval: Duration,
    /// The newest container
    #[arg(short, long)]
    latest: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Podman's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Is(Status),
    Gone,
}

impl Condition {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "created" | "configured" | "initialized" => Self::Is(Status::Created),
            "running" => Self::Is(Status::Running),
            "paused" => Self::Is(Status::Paused),
            // One that is being stopped runs until it has.
            "exited" | "stopped" | "stopping" => Self::Is(Status::Exited),
            "removing" | "removed" => Self::Gone,
            "healthy" | "unhealthy" => {
                return Err(crate::cli::options::pending::message(&format!("--condition {text}")));
            }
            _ => return Err(format!("unknown container state: {text}")),
        })
    }
}

/// `250ms`, or a number of milliseconds.
fn interval(text: &str) -> Result<Duration, String> {
    let wrong = || format!("invalid duration {text:?}");
    if let Ok(milliseconds) = text.parse() {
        return Ok(Duration::from_millis(milliseconds));
    }
    let span = super::when::span(text).ok_or_else(wrong)?;
    Duration::try_from(span).map_err(|_| wrong())
}

impl Run for WaitCommand {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let wanted = selection(&store, globals.words, self.containers.clone(), false, self.latest, |_| true)?;
        if !self.condition.is_empty() {
            return Ok(each(&wanted, |name| {
                let id = names::resolve(&store, name)?;
                let code = self.until(&store, &id)?;
                output::print(&format!("{code}\n"));
                Ok(())
            }));
        }
        // All are joined before the first is waited for: one that goes away with its end (`--rm`) tells its
        // exit code only then.
        let mut joined: Vec<_> = wanted.iter().map(|name| Some(join(&store, name))).collect();
        let mut at = 0;
        Ok(each(&wanted, |_| {
            let waiting = joined.get_mut(at).and_then(Option::take);
            at += 1;
            if let Some(waiting) = waiting {
                output::print(&format!("{}\n", waiting?.finish(&store)?));
            }
            Ok(())
        }))
    }
}

/// A container whose end is waited for.
struct Waiting {
    id: Id,
    /// `None`: it did not run.
    client: Option<Connection>,
}

fn join(store: &Store, name: &str) -> Result<Waiting> {
    let id = names::resolve(store, name)?;
    let client = if state::is_alive(store, &id) {
        let client = monitor::connect(store, &id, Streams::default()).ok();
        // It ended while this was on its way to it.
        if client.is_none() {
            crate::container::stop::wait_for_monitor(store, &id)?;
        }
        client
    } else {
        None
    };
    Ok(Waiting { id, client })
}

impl Waiting {
    fn finish(self, store: &Store) -> Result<u8> {
        if let Some(client) = self.client {
            match attach::session(client, &Attach::default()) {
                Ok(Outcome::Exited(code)) => return Ok(code),
                Ok(Outcome::Detached) | Err(_) => crate::container::stop::wait_for_monitor(store, &self.id)?,
            }
        }
        Ok(list::one(store, &self.id)?.exit_code())
    }
}

impl WaitCommand {
    /// Waits until one of the conditions is met. The exit code, or -1 where it was not the end.
    fn until(&self, store: &Store, id: &Id) -> Result<i32> {
        let changes = watch::Changes::of(store, id);
        loop {
            let begin = Instant::now();
            let container = match list::one(store, id) {
                Ok(container) => container,
                Err(_) if !store.container(id).exists() => {
                    let expected = self.condition.contains(&Condition::Gone);
                    let gone = || Failure::new(format!("No such container: {id}")).exit(1).into();
                    return if expected { Ok(-1) } else { Err(gone()) };
                }
                Err(e) => return Err(e),
            };
            if self.condition.contains(&Condition::Is(container.status())) {
                let has_ended = container.status() == Status::Exited;
                return Ok(if has_ended { i32::from(container.exit_code()) } else { -1 });
            }
            changes.wait(self.interval.saturating_sub(begin.elapsed()).max(Duration::from_millis(1)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_and_intervals() {
        assert_eq!(Condition::parse("Running"), Ok(Condition::Is(Status::Running)));
        assert_eq!(Condition::parse("stopped"), Condition::parse("exited"));
        assert_eq!(Condition::parse("foo"), Err("unknown container state: foo".into()));
        assert_eq!(Condition::parse("healthy"), Err("the option \"--condition healthy\" is not supported yet".into()));
        assert_eq!(interval("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(interval("20"), Ok(Duration::from_millis(20)));
        assert_eq!(interval("x"), Err("invalid duration \"x\"".into()));
        assert_eq!(interval("-1s"), Err("invalid duration \"-1s\"".into()));
    }
}
