//! `ctr network rm`.

use anyhow::Result;

use crate::cli::complete::Kind;
use crate::cli::{Globals, Run, output};
use crate::error;
use crate::network::{names, record, teardown};

/// Remove networks
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr network rm [OPTIONS] NETWORK [NETWORK...]",
    after_help = "Examples:
  ctr network rm front back"
)]
pub struct Rm {
    /// Do not mind those that are not there
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(required = true, value_name = "NETWORK", add = Kind::OwnNetworks)]
    networks: Vec<String>,
}

impl Run for Rm {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let mut code = 0;
        for wanted in &self.networks {
            let found = if names::PREDEFINED.contains(&wanted.as_str()) {
                record::default(&store).and_then(|_| names::resolve(&store, wanted))
            } else {
                names::resolve(&store, wanted)
            };
            let is_there = found.is_ok();
            let removed =
                found.and_then(|id| record::remove(&store, &id, |network| teardown::network(&store, network)));
            match removed {
                Ok(()) => output::print(&format!("{wanted}\n")),
                // Docker: gone is what was wanted.
                Err(_) if self.force && !is_there => {}
                Err(failure) => {
                    output::say(&error::render(&failure));
                    code = 1;
                }
            }
        }
        Ok(code)
    }
}
