//! `ctr start`.

use anyhow::Result;

use crate::cli::complete::{Kind, Which};
use crate::cli::{Globals, Run, each, output, run};
use crate::container::attach::{self, Attach, Outcome};
use crate::container::start::{self, Start};
use crate::error::Failure;
use crate::monitor::{self, Streams};
use crate::store::{Store, names};

/// Start containers that exist
///
/// Those that were made by "ctr create" or have ended are started with the settings they were made with; what
/// they wrote into their files is still there.
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr start web db      in the background; prints what was started
  ctr start -ai job     with this terminal; the exit code is the command's")]
pub struct StartCommand {
    /// Attach to the output, and return the command's exit code
    #[arg(short, long)]
    attach: bool,
    /// Attach to the input too
    #[arg(short, long)]
    interactive: bool,
    /// Keys that leave a container with a terminal (ctrl-p,ctrl-q)
    #[arg(long, value_name = "keys")]
    detach_keys: Option<String>,
    /// Pass signals on to the command
    #[arg(long, action = clap::ArgAction::Set, value_name = "bool", default_value = "true", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = super::options::boolean, hide_default_value = true)]
    sig_proxy: bool,
    #[arg(long, value_name = "name", hide = true)]
    checkpoint: Option<String>,
    #[arg(long, value_name = "dir", hide = true)]
    checkpoint_dir: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER", add = Kind::Containers(Which::Stopped))]
    containers: Vec<String>,
}

impl Run for StartCommand {
    fn run(self, globals: &Globals) -> Result<u8> {
        for (given, option) in [(&self.checkpoint, "--checkpoint"), (&self.checkpoint_dir, "--checkpoint-dir")] {
            if given.as_deref().is_some_and(|value| !value.is_empty()) {
                return super::options::pending::refused(option);
            }
        }
        let store = globals.store()?;
        if !self.attach && !self.interactive {
            return Ok(each(&self.containers, |wanted| {
                let id = names::resolve(&store, wanted)?;
                start::start(&store, &id, |_| None, None)?;
                output::print(&format!("{wanted}\n"));
                Ok(())
            }));
        }
        let [wanted] = self.containers.as_slice() else {
            return Err(Failure::new("you cannot start and attach multiple containers at once").exit(1).into());
        };
        self.attached(&store, wanted)
    }
}

impl StartCommand {
    fn attached(&self, store: &Store, wanted: &str) -> Result<u8> {
        let id = names::resolve(store, wanted)?;
        let config = start::config(store, &id)?;
        let stdin = self.interactive && config.config.open_stdin;
        run::require_terminal(stdin && config.config.tty)?;
        let streams = Streams { stdin, stdout: true, stderr: true };
        let size = config.config.tty.then(run::terminal_size).flatten();
        let connection = match start::start(store, &id, |_| Some(streams), size)? {
            Start::Started(connection) => connection,
            Start::Running => monitor::connect(store, &id, streams)?,
        };
        let attach = Attach {
            streams,
            tty: config.config.tty,
            detach_keys: self.detach_keys.clone(),
            sig_proxy: self.sig_proxy,
        };
        match attach::session(connection, &attach)? {
            Outcome::Exited(code) => Ok(code),
            Outcome::Detached => Ok(super::left(store, &id, "detach")),
        }
    }
}
