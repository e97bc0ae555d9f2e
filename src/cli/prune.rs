//! `ctr container prune`, and what every `prune` has: the question, the filters, what it came to.

use std::collections::BTreeMap;
use std::io::BufRead;

use anyhow::Result;
use jiff::Timestamp;

use crate::cli::complete::Kind;
use crate::cli::output::units;
use crate::cli::{Globals, Run, output, when};
use crate::container::list::{self, Container};
use crate::container::remove::{self, Removal};
use crate::container::size::Sizes;
use crate::container::start;
use crate::error::{self, Failure};
use crate::events;
use crate::store::Store;

const WARNING: &str = "WARNING! This will remove all stopped containers.";

/// Remove all containers that do not run
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr container prune -f
  ctr container prune --filter until=24h --filter label!=keep

Filters: label, label!, until (a time, or a span such as 24h). Paused containers stay.")]
pub struct ContainerPrune {
    /// Only those that match: until=24h, label=a=b, label!=a
    #[arg(long, value_name = "name=value", value_parser = super::filter::pair,
        add = Kind::Words(&["label!=", "label=", "until="]))]
    filter: Vec<(String, String)>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Run for ContainerPrune {
    fn run(self, globals: &Globals) -> Result<u8> {
        let filters = Filters::check(&self.filter)?;
        if !self.force && !agreed(WARNING) {
            return Ok(0);
        }
        let pruned = containers(&globals.store()?, &filters)?;
        pruned.print();
        print_reclaimed(pruned.reclaimed);
        Ok(pruned.code)
    }
}

/// What was removed.
#[derive(Debug, Default)]
pub struct Pruned {
    /// `Deleted Containers:` and the like, and a line for each; empty: nothing was.
    pub text: String,
    /// Bytes.
    pub reclaimed: u64,
    /// 1 where something could not be removed.
    pub code: u8,
}

impl Pruned {
    /// A paragraph, if there is anything to say.
    pub fn print(&self) {
        if !self.text.is_empty() {
            output::print(&format!("{}\n", self.text));
        }
    }

    /// Takes down what came of one more.
    pub fn note(&mut self, heading: &str, name: &str, removed: Result<()>) -> bool {
        match removed {
            Ok(()) if self.text.is_empty() => self.text = format!("{heading}\n{name}\n"),
            Ok(()) => self.text.extend([name, "\n"]),
            Err(failure) => {
                output::say(&error::render(&failure));
                self.code = 1;
                return false;
            }
        }
        true
    }
}

/// The last line.
pub fn print_reclaimed(bytes: u64) {
    output::print(&format!("Total reclaimed space: {}\n", units::precise_size(bytes)));
}

/// Removes the containers that do not run and pass the filters.
///
/// # Errors
/// They cannot be listed.
pub fn containers(store: &Store, filters: &Filters) -> Result<Pruned> {
    let mut containers = list::all(store, |id, error| {
        output::say(&format!("ctr: container {}: {error:#}", id.short()));
    })?;
    containers.retain(|container| !container.status().is_running() && filters.fit(container));
    let mut pruned = Pruned::default();
    if !containers.is_empty() {
        let sizes = Sizes::enter(store)?;
        for Container { id, .. } in &containers {
            let size = start::config(store, id).map_or(0, |config| sizes.written(&config));
            if pruned.note("Deleted Containers:", id.as_str(), remove::remove(store, id, Removal::default())) {
                pruned.reclaimed += size;
            }
        }
    }
    events::pruned(store, "container", pruned.reclaimed);
    Ok(pruned)
}

/// Warns, asks, and reads the answer; anything but `y` is no.
pub fn agreed(warning: &str) -> bool {
    output::print(&format!("{warning}\nAre you sure you want to continue? [y/N] "));
    let mut answer = String::new();
    // What cannot be read is no yes.
    let _ = std::io::stdin().lock().read_line(&mut answer);
    matches!(answer.trim(), "y" | "Y")
}

/// The filters of `prune`, checked. Labels must all be there, and none of those with `!`.
#[derive(Debug, Default)]
pub struct Filters {
    labels: Vec<String>,
    not_labels: Vec<String>,
    pub until: Option<Timestamp>,
}

impl Filters {
    /// # Errors
    /// A name that there is not, a value that makes no sense.
    pub fn check(given: &[(String, String)]) -> Result<Self> {
        let mut filters = Self::default();
        for (name, value) in given {
            match name.as_str() {
                "label" => filters.labels.push(value.clone()),
                "label!" => filters.not_labels.push(value.clone()),
                "until" if filters.until.is_some() => {
                    return Err(Failure::new("more than one until filter specified").exit(1).into());
                }
                "until" => {
                    let invalid = |e| Failure::new(format!("invalid filter 'until={value}'")).source(e).exit(1);
                    filters.until = Some(when::parse(value).map_err(invalid)?);
                }
                _ => return Err(Failure::new(format!("invalid filter '{name}'")).exit(1).into()),
            }
        }
        Ok(filters)
    }

    fn fit(&self, container: &Container) -> bool {
        self.matches(&container.state.labels, Some(container.state.created))
    }

    /// Whether something with these labels, made at that time, is one of those wanted.
    pub fn matches(&self, labels: &BTreeMap<String, String>, created: Option<Timestamp>) -> bool {
        let has = |label: &String| match label.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|own| own == value),
            None => labels.contains_key(label),
        };
        self.labels.iter().all(has)
            && !self.not_labels.iter().any(has)
            && self.until.is_none_or(|until| created.is_some_and(|created| created < until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_filter_is_refused() {
        let check = |text: &str| {
            let pair = super::super::filter::pair(text).unwrap();
            Filters::check(&[pair.clone(), pair]).map(drop).map_err(|e| e.to_string())
        };
        assert_eq!(check("label=a"), Ok(()));
        assert_eq!(check("label!=a"), Ok(()));
        assert_eq!(check("until=1h"), Err("more than one until filter specified".into()));
        assert_eq!(check("until=x"), Err("invalid filter 'until=x'".into()));
        assert_eq!(check("name=x"), Err("invalid filter 'name'".into()));
    }
}
