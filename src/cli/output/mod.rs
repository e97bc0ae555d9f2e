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

/// Writes to standard output. A reader that left (`ctr ps | head -1`) ends the process quietly,
/// as it ends every other program of a pipe; where it cannot be written otherwise, nothing that
/// follows would help, and the process ends with the reason.
pub fn print(text: &str) {
    print_bytes(text.as_bytes());
}

/// [`print`], for what need not be text: names of files.
pub fn print_bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        let code = if error.kind() == std::io::ErrorKind::BrokenPipe {
            128 + 13
        } else {
            say(&error::render(&anyhow::Error::new(error).context("write standard output")));
            1
        };
        #[allow(clippy::exit, reason = "what SIGPIPE does to programs that do not ignore it")]
        std::process::exit(code);
    }
}

/// Writes to standard error what is not ctr's own word: a container's.
pub fn print_error(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Writes a line to standard error: warnings, progress, the final error.
pub fn say(line: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}
