//! `ctr secret rm`.

use anyhow::Result;

use crate::cli::{Globals, Run, output, usage};
use crate::error::{self, Failure, exit};
use crate::secret;

/// Remove secrets; containers that were made with them keep what they have
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr secret rm [OPTIONS] SECRET [SECRET...]",
    after_help = "Examples:
  ctr secret rm key password
  ctr secret rm -i key          no error if there is none"
)]
pub struct Rm {
    /// All of them
    #[arg(short, long)]
    all: bool,
    /// Do not mind those that are not there
    #[arg(short, long)]
    ignore: bool,
    /// Names or ids
    #[arg(value_name = "SECRET")]
    secrets: Vec<String>,
}

impl Run for Rm {
    fn run(self, globals: &Globals) -> Result<u8> {
        if self.all && !self.secrets.is_empty() {
            return Err(Failure::new("no names can be given together with --all").exit(exit::ENGINE).into());
        }
        if !self.all && self.secrets.is_empty() {
            return Err(usage::too_few(globals.words, 1));
        }
        let store = globals.store()?;
        let wanted =
            if self.all { secret::list(&store)?.into_iter().map(|secret| secret.name).collect() } else { self.secrets };
        let mut code = 0;
        for name in &wanted {
            let is_there = secret::find(&store, name).is_ok();
            match secret::remove(&store, name) {
                Ok(_) => output::print(&format!("{name}\n")),
                Err(_) if !is_there && self.ignore => {}
                Err(failure) => {
                    output::say(&error::render(&failure));
                    code = 1;
                }
            }
        }
        Ok(code)
    }
}
