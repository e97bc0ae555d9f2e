//! `ctr top`.

use anyhow::Result;

use crate::cli::complete::{Kind, Which};
use crate::cli::output::table;
use crate::cli::{Globals, Run, output, usage};
use crate::container::top;
use crate::store::names;

/// Show the processes of a container
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr top CONTAINER [ps OPTIONS]",
    after_help = "Examples:
  ctr top web
  ctr top web -o pid,stat,rss,args
  ctr top web aux

The options are those of this machine's ps (-ef without any). Processes have the numbers and
users that they have on this machine. A column must be PID."
)]
pub struct Top {
    // One list, because flags end at its first word: what follows is for ps.
    /// The container, then options of ps
    #[arg(value_name = "CONTAINER [ps OPTIONS]", add = Kind::Containers(Which::Running), trailing_var_arg = true, hide = true)]
    words: Vec<String>,
}

impl Run for Top {
    fn run(self, globals: &Globals) -> Result<u8> {
        let [container, options @ ..] = self.words.as_slice() else { return Err(usage::too_few(globals.words, 1)) };
        let store = globals.store()?;
        let top = top::top(&store, &names::resolve(&store, container)?, options)?;
        let lines: Vec<String> = std::iter::once(&top.titles).chain(&top.rows).map(|cells| cells.join("\t")).collect();
        output::print(&table::align_wide(&lines));
        Ok(0)
    }
}
