//! What a wrong command line gets: one line that says what is wrong, and where to read more.

use std::ffi::OsString;

use anyhow::Result;
use clap::error::ErrorKind;

use crate::cli::output;
use crate::error::{Failure, exit};

/// Help and usage errors as clap found them.
pub fn refused(error: &clap::Error, words: &str) -> Result<u8> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        output::print(&error.render().to_string());
        return Ok(0);
    }
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    Err(Failure::new(line).hint(format!("see 'ctr {words} --help'")).exit(exit::ENGINE).into())
}

/// No word, or an unknown one, where the command should stand.
pub fn no_such_command(args: &[OsString]) -> Result<u8> {
    match super::tree().arg_required_else_help(true).try_get_matches_from(args) {
        Ok(_) => Ok(0),
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output::print(&error.render().to_string());
            Ok(0)
        }
        Err(error) => refused(&error, "").map(|_| 0),
    }
}
