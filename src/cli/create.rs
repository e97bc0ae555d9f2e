//! `ctr create`.

use anyhow::Result;

use crate::cli::options::Options;
use crate::cli::{Globals, Run, engine_failure, output, run};

/// Make a container, to be started later
#[derive(Debug, clap::Parser)]
#[command(
    disable_help_flag = true,
    override_usage = "ctr create [OPTIONS] IMAGE [COMMAND] [ARG...]",
    after_help = "Examples:
  ctr create --name job debian make    prints the id; then: ctr start -a job"
)]
pub struct Create {
    #[command(flatten)]
    options: Options,
}

impl Run for Create {
    fn run(self, globals: &Globals) -> Result<u8> {
        engine_failure(self.go(globals))
    }
}

impl Create {
    fn go(self, globals: &Globals) -> Result<u8> {
        let (request, identity, _) = self.options.check(globals.words, false)?;
        let store = globals.store()?;
        let made = run::make(&store, request, identity.platform.as_deref(), identity.quiet, identity.replace, false)?;
        output::print(&format!("{}\n", made.config.id));
        Ok(0)
    }
}
