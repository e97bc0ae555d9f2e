//! Dispatch: who this process is, what it was told, and how it ends.

use std::process::ExitCode;

use ctr::{cli, error};

fn main() -> ExitCode {
    match cli::run(std::env::args_os().collect()) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            cli::output::say(&error::render(&e));
            ExitCode::from(error::exit_code(&e).unwrap_or(1))
        }
    }
}
