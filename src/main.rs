//! Dispatch: who this process is, what it was told, and how it ends.

use std::process::ExitCode;

use ctr::runtime::pid1;
use ctr::{cli, error};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if args.first().is_some_and(|name| name == pid1::NAME) {
        return pid1::run(args);
    }
    match cli::run(args) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            cli::output::say(&error::render(&e));
            ExitCode::from(error::exit_code(&e).unwrap_or(1))
        }
    }
}
