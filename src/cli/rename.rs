//! `ctr rename`.

use anyhow::Result;

use crate::cli::{Globals, Run};
use crate::container::rename;
use crate::store::names;

/// Give a container another name
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr rename brave_noether web")]
pub struct RenameCommand {
    /// Name or id
    #[arg(required = true)]
    container: String,
    /// The new name
    #[arg(required = true)]
    new_name: String,
}

impl Run for RenameCommand {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let id = names::resolve(&store, &self.container)?;
        rename::rename(&store, &id, &self.new_name)?;
        Ok(0)
    }
}
