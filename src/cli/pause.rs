//! `ctr pause` and `ctr unpause`.

use anyhow::Result;

use crate::cli::complete::{Kind, Which};
use crate::cli::{Globals, Run, each, output, selection};
use crate::container::list::Status;
use crate::container::pause;
use crate::store::names;

/// Hold containers still: none of their processes runs
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr pause [OPTIONS] CONTAINER [CONTAINER...]",
    after_help = "Examples:
  ctr pause web db
  ctr pause -a        all that run

A paused container keeps its memory, its networks and its place. 'ctr unpause' lets it go on;
'ctr stop', 'ctr kill' and 'ctr rm -f' end it."
)]
pub struct PauseCommand {
    /// All containers that run
    #[arg(short, long)]
    all: bool,
    /// The newest container
    #[arg(short, long)]
    latest: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER", add = Kind::Containers(Which::Active))]
    containers: Vec<String>,
}

impl Run for PauseCommand {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let runs = |status| status == Status::Running;
        let wanted = selection(&store, globals.words, self.containers, self.all, self.latest, runs)?;
        Ok(each(&wanted, |name| {
            pause::pause(&store, &names::resolve(&store, name)?)?;
            output::print(&format!("{name}\n"));
            Ok(())
        }))
    }
}

/// Let paused containers go on
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr unpause [OPTIONS] CONTAINER [CONTAINER...]",
    after_help = "Examples:
  ctr unpause web db
  ctr unpause -a      all that are paused"
)]
pub struct UnpauseCommand {
    /// All containers that are paused
    #[arg(short, long)]
    all: bool,
    /// The newest container
    #[arg(short, long)]
    latest: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER", add = Kind::Containers(Which::Paused))]
    containers: Vec<String>,
}

impl Run for UnpauseCommand {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let is_paused = |status| status == Status::Paused;
        let wanted = selection(&store, globals.words, self.containers, self.all, self.latest, is_paused)?;
        Ok(each(&wanted, |name| {
            pause::unpause(&store, &names::resolve(&store, name)?)?;
            output::print(&format!("{name}\n"));
            Ok(())
        }))
    }
}
