//! Dispatch: who this process is, what it was told, and how it ends.

use std::process::ExitCode;

use ctr::network::uplink;
use ctr::runtime::pid1;
use ctr::{cli, error, monitor};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    // Other processes of ours, which are started by exec and not by a command.
    match args.first().and_then(|name| name.to_str()) {
        Some(monitor::run::NAME) => return monitor::run::run(args),
        Some(uplink::NAME) => return uplink::run(args),
        Some(pid1::NAME) => return pid1::run(args),
        _ => {}
    }
    match cli::run(&args) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            cli::output::say(&error::render(&e));
            ExitCode::from(error::exit_code(&e).unwrap_or(1))
        }
    }
}
