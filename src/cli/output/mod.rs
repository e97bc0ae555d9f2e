//! What is written to the terminal: tables, templates, progress. The only place of the crate that
//! prints.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this folder exists to print")]

pub mod live;
pub mod progress;
pub mod table;
pub mod template;
pub mod units;

use std::io::Write;

use crate::error;
use crate::sys::process;

/// Writes to standard output. A reader that left (`ctr ps | head -1`) ends the process quietly,
/// as it ends every other program of a pipe; where it cannot be written otherwise, nothing that
/// follows would help, and the process ends with the reason.
pub fn print(text: &str) {
    print_bytes(text.as_bytes());
}

/// The same for what need not be text: a container's words.
pub fn print_bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            process::die_of(libc::SIGPIPE);
        }
        say(&error::render(&anyhow::Error::new(error).context("write standard output")));
        #[allow(clippy::exit, reason = "nothing that follows would help")]
        std::process::exit(1);
    }
}

/// Writes to standard error what is not ctr's own word: a container's. A reader that left ends the
/// process here too.
pub fn print_error(bytes: &[u8]) {
    if let Err(error) = std::io::stderr().write_all(bytes)
        && error.kind() == std::io::ErrorKind::BrokenPipe
    {
        process::die_of(libc::SIGPIPE);
    }
}

/// Writes a line to standard error: warnings, progress, the final error.
pub fn say(line: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}
