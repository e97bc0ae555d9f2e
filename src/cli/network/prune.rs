//! `ctr network prune`.

use anyhow::Result;

use super::filter::{self, Filters};
use crate::cli::complete::Kind;
use crate::cli::prune::{self, Pruned};
use crate::cli::{Globals, Run};
use crate::events;
use crate::network::{record, teardown};
use crate::store::Store;

const WARNING: &str = "WARNING! This will remove all custom networks not used by at least one container.";

/// Remove all networks that no container is on or is to be on
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr network prune -f
  ctr network prune --filter until=24h

Filters: label, label!, until (a time, or a span such as 24h).")]
pub struct Prune {
    /// Only those that match: until=24h, label=a=b, label!=a
    #[arg(long, value_name = "name=value", value_parser = crate::cli::filter::pair,
        add = Kind::Words(&["label!=", "label=", "until="]))]
    filter: Vec<(String, String)>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Run for Prune {
    fn run(self, globals: &Globals) -> Result<u8> {
        let filters = Filters::check(&self.filter, true)?;
        if !self.force && !prune::agreed(WARNING) {
            return Ok(0);
        }
        let pruned = networks(&globals.store()?, &filters)?;
        pruned.print();
        Ok(pruned.code)
    }
}

/// Removes the networks that nobody uses and that pass the filters.
///
/// # Errors
/// They cannot be listed.
pub fn networks(store: &Store, filters: &Filters) -> Result<Pruned> {
    let mut networks = record::list(store)?;
    // Docker: a configuration is no network that could be used.
    networks.retain(|network| !network.is_predefined() && network.configuration.is_none());
    filters.retain(store, &mut networks)?;
    let used = filter::used(store, &networks)?;
    let mut pruned = Pruned::default();
    for network in networks.iter().filter(|network| !used.contains(&network.id)) {
        let removed = record::remove(store, &network.id, |network| teardown::network(store, network));
        pruned.note("Deleted Networks:", &network.name, removed);
    }
    events::pruned(store, "network", 0);
    Ok(pruned)
}
