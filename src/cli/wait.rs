//! `ctr wait`.

use anyhow::Result;

use crate::cli::{Globals, Run, each, output};
use crate::container::attach::{self, Attach, Outcome};
use crate::container::{list, state};
use crate::monitor::{self, Streams};
use crate::store::{Id, Store, names};

/// Wait until containers have ended, and print their exit codes
#[derive(Debug, clap::Parser)]
pub struct WaitCommand {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Run for WaitCommand {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        Ok(each(&self.containers, |name| {
            let id = names::resolve(&store, name)?;
            let code = exit_code(&store, &id)?;
            output::print(&format!("{code}\n"));
            Ok(())
        }))
    }
}

fn exit_code(store: &Store, id: &Id) -> Result<u8> {
    if state::is_alive(store, id) {
        // The monitor's last word comes even when the container is gone with its end (`--rm`).
        let client = monitor::connect(store, id, Streams::default());
        match client.and_then(|client| attach::session(client, &Attach::default())) {
            Ok(Outcome::Exited(code)) => return Ok(code),
            // It ended while this was on its way to it.
            Ok(Outcome::Detached) | Err(_) => crate::container::stop::wait_for_monitor(store, id)?,
        }
    }
    Ok(list::one(store, id)?.exit_code())
}
