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

    /// The engine refused: it printed nothing but one line for the reason and, where there is a
    /// remedy, a line for that.
    #[track_caller]
    pub fn refuses(&self, code: i32, reason: &str) {
        let err = self.err();
        let mut lines = err.lines();
        let said = lines.next().is_some_and(|line| line_matches(&format!("ctr: {reason}"), line));
        // A place in a template is pointed at below the hint.
        let rest_is_hint =
            lines.next().is_none_or(|line| line.starts_with("hint: ")) && lines.all(|line| line.starts_with("      "));
        assert!(
            self.code == code && self.stdout.is_empty() && said && rest_is_hint,
            "exit code {code} and this were expected:\nctr: {reason}\n{self}"
        );
    }

    /// A template was wrong for what it was applied to: Docker ends the line that it did not write.
    #[track_caller]
    pub fn fails_after_a_line(&self, part: &str) {
        let wanted = self.code == 1 && self.out() == "\n" && self.err().contains(part);
        assert!(wanted, "exit code 1, an empty line and an error with {part:?} in it were expected\n{self}");
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

    /// The engine failed with this code, printed no output, and said this, in any case of letters.
    #[track_caller]
    pub fn fails_saying(&self, code: i32, part: &str) {
        let said = self.err().to_lowercase().contains(&part.to_lowercase());
        let wanted = self.code == code && self.stdout.is_empty() && said && self.err().contains("ctr: ");
        assert!(wanted, "exit code {code} and an error with {part:?} in it were expected\n{self}");
    }

    /// The command in the container failed, in its own words.
    #[track_caller]
    pub fn ends_failing(&self) {
        let engine = self.err().starts_with("ctr: ");
        assert!(self.code != 0 && self.stdout.is_empty() && !engine, "a failure of the command was expected\n{self}");
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
