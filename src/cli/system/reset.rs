//! `ctr system reset`.

use anyhow::Result;

use crate::cli::{Globals, Run, output, prune};
use crate::error::Failure;
use crate::reset;

/// Remove all containers, images, networks and secrets
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr system reset
  ctr --root /srv/ctr system reset -f       of one root

It removes what lies in the storage roots of this user, and the bridges and rules of the networks.
Without --force it asks, and refuses while containers run.")]
pub struct Reset {
    /// Do not ask, and kill containers that run
    #[arg(short, long)]
    force: bool,
}

const WARNING: &str = "WARNING! This will remove:
  - all containers
  - all images
  - all networks
  - all secrets
  - all events
";

impl Run for Reset {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let running = reset::running(&store)?;
        if !self.force && !running.is_empty() {
            return Err(Failure::new(format!("these containers are running: {}", running.join(", ")))
                .hint("stop them first, or kill them with --force")
                .into());
        }
        if !self.force && !prune::agreed(WARNING) {
            return Ok(0);
        }
        let mut code = 0;
        reset::all(&store, |failure| {
            output::say(&crate::error::render(failure));
            code = 1;
        });
        Ok(code)
    }
}
