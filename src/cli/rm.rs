//! `ctr rm`.

use anyhow::Result;

use crate::cli::complete::{Kind, Which};
use crate::cli::{Globals, Run, output, selection};
use crate::container::network::change;
use crate::container::remove::{self, Removal};
use crate::error;
use crate::store::names;

/// Remove containers
///
/// What they wrote into their files goes with them; volumes of the host's stay. One that runs is refused
/// without --force.
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr rm [OPTIONS] CONTAINER [CONTAINER...]",
    after_help = "Examples:
  ctr rm job
  ctr rm -f web           although it runs
  ctr rm -a               all that do not run
  ctr rm --link web/db    web's --link to its database, not a container"
)]
pub struct RmCommand {
    /// All containers: those that do not run, and with -f those that do
    #[arg(short, long)]
    all: bool,
    /// Kill containers that run, and do not mind those that are not there
    #[arg(short, long)]
    force: bool,
    /// Remove links instead: `web/db` is what `--link` had container `web` call `db`
    #[arg(short, long)]
    link: bool,
    /// Remove anonymous volumes too
    #[arg(short, long)]
    volumes: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER", add = Kind::Containers(Which::Removable))]
    containers: Vec<String>,
}

impl Run for RmCommand {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let force = self.force;
        if self.link {
            let mut code = 0;
            for name in &self.containers {
                match change::unlink(&store, name.trim_matches('/')) {
                    Ok(()) => output::print(&format!("{name}\n")),
                    Err(failure) => {
                        output::say(&error::render(&failure));
                        code = 1;
                    }
                }
            }
            return Ok(code);
        }
        let wanted =
            selection(&store, globals.words, self.containers, self.all, false, |status| force || !status.is_running())?;
        let mut code = 0;
        for name in &wanted {
            let id = match names::resolve(&store, name) {
                Ok(id) => id,
                Err(failure) => {
                    output::say(&error::render(&failure));
                    // Docker: gone is what was wanted.
                    code = if force { code } else { 1 };
                    continue;
                }
            };
            match remove::remove(&store, &id, Removal { force }) {
                Ok(()) => output::print(&format!("{name}\n")),
                Err(failure) => {
                    output::say(&error::render(&failure));
                    code = 1;
                }
            }
        }
        Ok(code)
    }
}
