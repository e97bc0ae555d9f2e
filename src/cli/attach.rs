//! `ctr attach`.

use anyhow::Result;

use crate::cli::complete::{Kind, Which};
use crate::cli::{Globals, Run, run};
use crate::container::attach::{self, Attach, Outcome};
use crate::container::pause;
use crate::container::start;
use crate::container::state;
use crate::error::Failure;
use crate::events;
use crate::monitor::{self, Streams};
use crate::store::names;

/// Join a running container's input and output
///
/// What the command writes from now on is shown, and what is typed is its input. What it wrote before, "ctr
/// logs" shows.
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr attach web                          ctrl-p ctrl-q leaves it running
  ctr attach --no-stdin --sig-proxy=false web
                                          look only; ctrl-c leaves it running")]
pub struct AttachCommand {
    /// Keys that leave a container with a terminal (ctrl-p,ctrl-q)
    #[arg(long, value_name = "keys")]
    detach_keys: Option<String>,
    /// Do not attach to the input
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the command
    #[arg(long, action = clap::ArgAction::Set, value_name = "bool", default_value = "true", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = super::options::boolean, hide_default_value = true)]
    sig_proxy: bool,
    /// Name or id
    #[arg(required = true, value_name = "CONTAINER", add = Kind::Containers(Which::Running))]
    container: String,
}

impl Run for AttachCommand {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let id = names::resolve(&store, &self.container)?;
        if !state::is_alive(&store, &id) {
            return Err(Failure::new("You cannot attach to a stopped container, start it first")
                .hint(format!("ctr start -a {}", self.container))
                .into());
        }
        if pause::is_paused(&store, &id) {
            return Err(Failure::new("cannot attach to a paused container, unpause it first").exit(1).into());
        }
        let config = start::config(&store, &id)?.config;
        let stdin = config.open_stdin && !self.no_stdin;
        run::require_terminal(stdin && config.tty)?;
        let streams = Streams { stdin, stdout: true, stderr: true };
        let connection = monitor::connect(&store, &id, streams)?;
        events::of_container(&store, &id, "attach", &[]);
        let attach = Attach { streams, tty: config.tty, detach_keys: self.detach_keys, sig_proxy: self.sig_proxy };
        match attach::session(connection, &attach)? {
            Outcome::Exited(code) => Ok(code),
            Outcome::Detached => Ok(super::left(&store, &id, "detach")),
        }
    }
}
