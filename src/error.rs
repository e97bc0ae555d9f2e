//! Errors as the person at the terminal meets them: a sentence, its causes, the way out, and the
//! exit code. Everything travels as `anyhow::Error`; what knows a remedy or an exit code puts a
//! [`Failure`] into the chain, and [`render`] prints the whole once, in `main`.

use std::fmt;

/// Exit codes that Docker gives a meaning of their own (`docker run --help`, "Exit status").
pub mod exit {
    /// The engine failed before or instead of the command.
    pub const ENGINE: u8 = 125;
    /// The command was found and cannot be executed.
    pub const NOT_EXECUTABLE: u8 = 126;
    /// The command was not found.
    pub const NOT_FOUND: u8 = 127;
    /// A process that was ended by signal n exits with `SIGNALLED + n`.
    pub const SIGNALLED: u8 = 128;
    /// Ended by SIGKILL.
    pub const KILLED: u8 = SIGNALLED + 9;
}

/// Characters of an error that are printed: what a stranger's document has in a place can be all of it.
const MAX_TEXT: usize = 8 << 10;

/// A link of an error's chain that knows more than its sentence.
#[derive(Debug)]
pub struct Failure {
    message: String,
    hint: Option<String>,
    exit: Option<u8>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// `message`: lower case, the object in double quotes, no full stop.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, exit: None, source: None }
    }

    /// What the reader can do about it: a sentence of its own, printed on a line of its own.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The exit code of the process, where it is not the command's usual one.
    #[must_use]
    pub fn exit(mut self, code: u8) -> Self {
        self.exit = Some(code);
        self
    }

    /// What caused it; printed behind the message.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| &**s as _)
    }
}

/// An error's sentence: its causes, outermost first, joined by colons.
#[must_use]
pub fn message(error: &anyhow::Error) -> String {
    // An errno calls itself by its symbol too, which says nothing to most people.
    let said = |cause: &(dyn std::error::Error + 'static)| match cause.downcast_ref::<nix::errno::Errno>() {
        Some(errno) => lower(errno.desc()),
        None => cause.to_string(),
    };
    without_numbers(&error.chain().map(said).collect::<Vec<_>>().join(": "))
}

/// Without the numbers that Rust puts behind what strerror(3) says: ` (os error 28)`.
fn without_numbers(text: &str) -> String {
    let mut pieces = text.split(" (os error ");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match piece.split_once(')') {
            Some((number, rest)) if number.parse::<i32>().is_ok() => {
                let said = out.rfind(": ").map_or(0, |colon| colon + 2);
                out.replace_range(said.., &lower(&out[said..]));
                out.push_str(rest);
            }
            _ => out.extend([" (os error ", piece]),
        }
    }
    out
}

/// What strerror(3) says within a sentence, as every Go program has it: `no space left on device`, but
/// `I/O error`.
fn lower(said: &str) -> String {
    let mut chars = said.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some('a'..='z')) => first.to_lowercase().chain(said.chars().skip(1)).collect(),
        _ => said.to_owned(),
    }
}

/// A link of a chain, also where a reader had to pass it on as an error of reading.
fn failure<'a>(link: &'a (dyn std::error::Error + 'static)) -> Option<&'a Failure> {
    let within = || link.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<Failure>();
    link.downcast_ref::<Failure>().or_else(within)
}

/// The first hint in the chain.
#[must_use]
pub fn hint(error: &anyhow::Error) -> Option<&str> {
    error.chain().find_map(|e| failure(e)?.hint.as_deref())
}

/// The first exit code in the chain.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> Option<u8> {
    error.chain().find_map(|e| failure(e)?.exit)
}

/// What `main` prints: `ctr: ` and the sentence, and below it the hint where there is one.
#[must_use]
pub fn render(error: &anyhow::Error) -> String {
    let mut text = format!("ctr: {}", message(error));
    if let Some(hint) = hint(error) {
        text.push_str("\nhint: ");
        text.push_str(hint);
    }
    harmless(&text)
}

/// A text that quotes strangers (an image, an archive, a registry), with nothing in it that a
/// terminal would obey.
fn harmless(text: &str) -> String {
    // Those that turn the direction of writing can let a word read as another one.
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_order = |c: char| turns(c) || (c.is_control() && !matches!(c, '\n' | '\t'));
    let mut out = String::with_capacity(text.len().min(MAX_TEXT));
    for c in text.chars().take(MAX_TEXT) {
        if is_order(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    if text.chars().nth(MAX_TEXT).is_some() {
        out.push('\u{2026}');
    }
    out
}

/// Says on standard error what does not stop the command. Nothing that is an error passes here.
pub fn warn(text: &str) {
    use std::io::Write;
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "ctr: warning: {}", harmless(text));
}

/// Says on standard error what was done, on one line. `level`: `DEBUG` and so on.
pub fn note(level: &str, text: &str) {
    use std::io::Write;
    let text = harmless(text).replace('\n', " ");
    let line = format!("ctr: {}: {text}\n", level.to_ascii_lowercase());
    // At once: other threads write too.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_hint_and_an_exit_code_survive_context() {
        let error = Err::<(), _>(Failure::new("cannot x").hint("do y").exit(127))
            .context("start \"web\"")
            .expect_err("an error was made");
        assert_eq!(render(&error), "ctr: start \"web\": cannot x\nhint: do y");
        assert_eq!(exit_code(&error), Some(127));
    }

    #[test]
    fn a_terminal_is_given_no_orders() {
        let error = anyhow::anyhow!("no user \x1b]0;x\x07gr\u{fc}n\u{9b}1m");
        assert_eq!(render(&error), "ctr: no user \\u{1b}]0;x\\u{7}gr\u{fc}n\\u{9b}1m");
    }

    #[test]
    fn causes_are_printed_once_each() {
        let io = std::io::Error::from_raw_os_error(28);
        let error = anyhow::Error::new(Failure::new("write \"f\"").source(io)).context("pull \"x\"");
        assert_eq!(render(&error), "ctr: pull \"x\": write \"f\": no space left on device");
        assert_eq!(without_numbers("a (os error 2): b (os error x) (os error -1)"), "a: b (os error x)");
    }
}
