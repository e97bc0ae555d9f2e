//! `ctr diff`.

use anyhow::Result;

use crate::cli::{Globals, Run, output};
use crate::container::files::diff;
use crate::container::files::tree::Entered;
use crate::container::{list, start};
use crate::store::names;

/// Inspect changes to files or directories on a container's filesystem
///
/// A: added, C: changed, D: deleted, since the container was created.
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr diff web               C /etc
                             A /etc/new
                             D /etc/old")]
pub struct Diff {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Run for Diff {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let id = names::resolve(&store, &self.container)?;
        // Puts one in order that is recorded as running and does not.
        list::one(&store, &id)?;
        let config = start::config(&store, &id)?;
        let entered = Entered::enter(&store)?;
        let (upper, below) = entered.layers(&store, &config)?;
        let mut lines = Vec::new();
        for (change, path) in diff::diff(&upper, below.as_ref())? {
            lines.extend_from_slice(format!("{} ", change.letter()).as_bytes());
            lines.extend_from_slice(&path);
            lines.push(b'\n');
        }
        output::print_bytes(&lines);
        Ok(0)
    }
}
