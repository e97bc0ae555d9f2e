//! `NAME=value` in arguments and in files: `--env`, `--env-file`, `--label`, `--label-file`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use crate::error::Failure;

/// `--env NAME[=value]`.
///
/// # Errors
/// The name is empty.
pub fn variable(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('=') {
        return Err(format!("invalid environment variable: {text}"));
    }
    Ok(text.to_owned())
}

/// `--label NAME[=value]`.
///
/// # Errors
/// The name is empty.
pub fn label(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('=') {
        return Err(format!("invalid label '{text}': empty name"));
    }
    Ok(text.to_owned())
}

/// The lines of files, then the arguments: in each, a name without a value takes the value of
/// `environment`. One that has none there stays a bare name: it takes an image's variable away.
///
/// # Errors
/// A file that cannot be read or has a line that is no assignment.
pub fn variables(
    files: &[impl AsRef<Path>],
    arguments: &[String],
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        for line in assignments(file.as_ref())? {
            match (line.contains('='), environment(&line)) {
                (true, _) => all.push(line),
                (false, Some(value)) => all.push(format!("{line}={value}")),
                // Docker: in a file, a name that is not set here is left out.
                (false, None) => {}
            }
        }
    }
    for argument in arguments {
        match environment(argument).filter(|_| !argument.contains('=')) {
            Some(value) => all.push(format!("{argument}={value}")),
            None => all.push(argument.clone()),
        }
    }
    Ok(all)
}

/// Labels from files, then from arguments; a bare name has the empty value.
///
/// # Errors
/// As [`variables`].
pub fn labels(files: &[impl AsRef<Path>], arguments: &[String]) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for file in files {
        all.extend(assignments(file.as_ref())?.iter().map(|line| pair(line)));
    }
    all.extend(arguments.iter().map(|argument| pair(argument)));
    Ok(all)
}

/// `NAME=value`; a bare name has the empty value.
#[must_use]
pub fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

/// A file's lines without comments and empty ones. Values are taken as they are: no quotes, no escapes;
/// the words are Docker's, which calls a label file an env file too.
fn assignments(path: &Path) -> Result<Vec<String>> {
    let invalid = |what: String| Failure::new(format!("invalid env file ({}): {what}", path.display()));
    let bytes = std::fs::read(path).map_err(|e| {
        // As Go puts it; the path is where people look first.
        let why = e.raw_os_error().map(|errno| nix::errno::Errno::from_raw(errno).desc().to_lowercase());
        if e.kind() == std::io::ErrorKind::IsADirectory {
            return invalid(format!("read {}: is a directory", path.display()));
        }
        Failure::new(format!("open {}: {}", path.display(), why.unwrap_or_else(|| e.to_string())))
    })?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut lines = Vec::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = std::str::from_utf8(line).map_err(|_| {
            let bytes: Vec<String> = line.iter().map(ToString::to_string).collect();
            invalid(format!("invalid utf8 bytes at line {}: [{}]", number + 1, bytes.join(" ")))
        })?;
        let text = text.trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let name = text.split('=').next().unwrap_or_default();
        if name.is_empty() {
            return Err(invalid(format!("no variable name on line '{text}'")).into());
        }
        if name.contains(char::is_whitespace) {
            return Err(invalid(format!("variable '{name}' contains whitespaces")).into());
        }
        lines.push(text.to_owned());
    }
    Ok(lines)
}

/// Each name once, where it stood first, with its last value. A bare name stands for its variable's
/// absence, from whomever it would be inherited.
#[must_use]
pub fn last_of_each(variables: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for variable in variables {
        let name = variable.split('=').next();
        match all.iter().position(|v| v.split('=').next() == name) {
            Some(at) => all[at] = variable,
            None => all.push(variable),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_FILES: [&str; 0] = [];

    fn env(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    #[test]
    fn a_bare_name_takes_the_value_from_here() {
        let arguments = ["A=1".to_owned(), "HOME".to_owned(), "UNSET".to_owned()];
        assert_eq!(variables(&NO_FILES, &arguments, env).unwrap(), ["A=1", "HOME=/root", "UNSET"]);
    }

    #[test]
    fn files_come_first_and_are_taken_literally() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\u{feff}# c\n\n  A=\"x\" # y\r\nHOME\nUNSET\nB=\n").unwrap();
        let all = variables(&[file.path()], &["A=2".to_owned()], env).unwrap();
        assert_eq!(all, ["A=\"x\" # y", "HOME=/root", "B=", "A=2"]);
        assert_eq!(last_of_each(all), ["A=2", "HOME=/root", "B="]);
    }

    #[test]
    fn lines_that_are_no_assignment_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, end) in [
            ("=x", "no variable name on line '=x'"),
            ("a b=c", "variable 'a b' contains whitespaces"),
            ("FOO ", "variable 'FOO ' contains whitespaces"),
        ] {
            std::fs::write(file.path(), text).unwrap();
            let message = variables(&[file.path()], &[], env).unwrap_err().to_string();
            assert_eq!(message, format!("invalid env file ({}): {end}", file.path().display()));
            let message = labels(&[file.path()], &[]).unwrap_err().to_string();
            assert_eq!(message, format!("invalid env file ({}): {end}", file.path().display()));
        }
    }

    #[test]
    fn the_last_value_wins_in_the_first_place() {
        let all = ["A=1", "B=1", "A=2", "C=1", "C"].map(str::to_owned);
        assert_eq!(last_of_each(all), ["A=2", "B=1", "C"]);
    }
}
