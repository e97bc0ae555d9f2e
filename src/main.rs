//! Dispatch: who this process is, what it was told, and how it ends.

use std::ffi::OsString;
use std::process::ExitCode;

use ctr::{cli, error, monitor};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.first().is_some_and(|name| name == monitor::run::NAME) {
        return monitor::run::run(arguments);
    }
    match cli::run(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            cli::output::say(&error::render(&e));
            ExitCode::from(error::exit_code(&e).unwrap_or(1))
        }
    }
}
