//! `ctr create`.

use anyhow::Result;

use crate::cli::options::{Identity, Options, Request};
use crate::cli::{Globals, Run, engine_failure, output, run};
use crate::error;

/// Make a container, to be started later
///
/// It is what run does up to the start, which "ctr start" does then. The flags are those of run.
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
        let (request, identity, _) = match self.options.check(globals.words, false) {
            Ok(checked) => checked,
            Err(failure) => return engine_failure(Err(failure)),
        };
        // From here on it is what Docker's daemon would say, which `docker create` ends with 1 for,
        // unlike `docker run`.
        if let Err(failure) = create(globals, request, &identity) {
            output::say(&error::render(&failure));
            return Ok(1);
        }
        Ok(0)
    }
}

fn create(globals: &Globals, request: Request, identity: &Identity) -> Result<()> {
    let store = globals.store()?;
    let made = run::make(&store, request, identity.platform.as_deref(), identity.quiet, identity.replace, false)?;
    output::print(&format!("{}\n", made.config.id));
    Ok(())
}
