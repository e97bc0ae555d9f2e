//! `ctr network prune`.

use anyhow::Result;

use super::filter::{self, Filters};
use crate::cli::{Globals, Run, output, prune};
use crate::error;
use crate::network::{record, teardown};

const WARNING: &str = "WARNING! This will remove all custom networks not used by at least one container.";

/// Remove all networks that no container is on or is to be on
#[derive(Debug, clap::Parser)]
#[command(after_help = "Filters: label, label!, until (a time, or a span such as 24h).")]
pub struct Prune {
    /// Only those that match: until=24h, label=a=b, label!=a
    #[arg(long, value_name = "name=value", value_parser = crate::cli::filter::pair)]
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
        let store = globals.store()?;
        let mut networks = record::list(&store)?;
        networks.retain(|network| !network.is_predefined());
        filters.retain(&store, &mut networks)?;
        let used = filter::used(&store, &networks)?;
        let mut removed = String::new();
        let mut code = 0;
        for network in networks.iter().filter(|network| !used.contains(&network.id)) {
            match record::remove(&store, &network.id, |network| teardown::network(&store, network)) {
                Ok(()) => removed.extend([&network.name, "\n"]),
                Err(failure) => {
                    output::say(&error::render(&failure));
                    code = 1;
                }
            }
        }
        if !removed.is_empty() {
            output::print(&format!("Deleted Networks:\n{removed}\n"));
        }
        Ok(code)
    }
}
