//! `ctr network inspect`.

use anyhow::Result;
use serde_json::Value;

use crate::cli::{Globals, Run, inspect};
use crate::network::{inspect as networks, record};
use crate::store::Store;

/// Show all that is known of networks
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr network inspect [OPTIONS] NETWORK [NETWORK...]",
    after_help = "Examples:
  ctr network inspect front
  ctr network inspect -f '{{range .IPAM.Config}}{{.Subnet}}{{end}}' front"
)]
pub struct Inspect {
    /// json, or a Go template
    #[arg(short, long, value_name = "format")]
    format: Option<String>,
    /// With the containers' interfaces, aliases and rates
    #[arg(short, long)]
    verbose: bool,
    /// Names or ids
    #[arg(required = true, value_name = "NETWORK")]
    names: Vec<String>,
}

impl Run for Inspect {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        inspect::print(self.format.as_deref(), &self.names, |name| one(&store, name, self.verbose))
    }
}

/// A network as it is shown.
///
/// # Errors
/// There is none of that name.
pub fn one(store: &Store, name: &str, verbose: bool) -> Result<Value> {
    networks::inspect(store, &record::get(store, name)?, verbose)
}
