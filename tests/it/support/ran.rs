//! What a command did, and the assertions on it: always the whole of standard output, standard
//! error and the exit code.

use std::fmt::Write;
use std::path::PathBuf;

/// A command that has ended.
#[derive(Debug, Clone)]
pub struct Ran {
    pub command: String,
    pub dir: PathBuf,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// The exit code; 128 + n after signal n.
    pub code: i32,
}

impl Ran {
    /// It succeeded, silently but for this output. `[..]` stands for anything within a line.
    #[track_caller]
    pub fn prints(&self, stdout: &str) {
        self.is(0, stdout, "");
    }

    /// It failed with this code and this message, and printed nothing else.
    #[track_caller]
    pub fn fails(&self, code: i32, stderr: &str) {
        self.is(code, "", stderr);
    }

    /// All three at once.
    #[track_caller]
    pub fn is(&self, code: i32, stdout: &str, stderr: &str) {
        let mut wrong = String::new();
        if self.code != code {
            let _ = writeln!(wrong, "exit code {code} was expected");
        }
        if !matches(stdout, &self.out()) {
            let _ = writeln!(wrong, "this standard output was expected:\n{stdout}");
        }
        if !matches(stderr, &self.err()) {
            let _ = writeln!(wrong, "this standard error was expected:\n{stderr}");
        }
        assert!(wrong.is_empty(), "{wrong}{self}");
    }

    /// It succeeded and wrote no error; its output, without the last newline.
    #[track_caller]
    pub fn succeeds(&self) -> String {
        self.ends(0)
    }

    /// It ended with this code and wrote no error; its output, without the last newline.
    #[track_caller]
    pub fn ends(&self, code: i32) -> String {
        assert!(self.code == code && self.stderr.is_empty(), "exit code {code} and no error were expected\n{self}");
        let out = self.out();
        out.strip_suffix('\n').unwrap_or(&out).to_owned()
    }

    /// It succeeded, whatever it said on standard error (progress, warnings).
    #[track_caller]
    pub fn succeeds_talking(&self) -> String {
        assert!(self.code == 0, "success was expected\n{self}");
        let out = self.out();
        out.strip_suffix('\n').unwrap_or(&out).to_owned()
    }

    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "command:   {}", self.command)?;
        writeln!(f, "directory: {}", self.dir.display())?;
        writeln!(f, "exit code: {}", self.code)?;
        writeln!(f, "--- standard output ---\n{}", self.out())?;
        writeln!(f, "--- standard error ---\n{}---", self.err())
    }
}

/// Whether `text` is `pattern`, in which `[..]` stands for anything within a line.
pub fn matches(pattern: &str, text: &str) -> bool {
    if pattern == text {
        return true;
    }
    let (patterns, lines): (Vec<_>, Vec<_>) = (pattern.split('\n').collect(), text.split('\n').collect());
    patterns.len() == lines.len() && patterns.iter().zip(lines).all(|(pattern, line)| line_matches(pattern, line))
}

fn line_matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split("[..]");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}
