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
        for line in assignments("env", file.as_ref())? {
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
        all.extend(assignments("label", file.as_ref())?.iter().map(|line| pair(line)));
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

/// A file's lines without comments and empty ones; `kind` is what the errors call it. Values are taken as they are: no quotes, no
/// escapes, as in Docker.
fn assignments(kind: &str, path: &Path) -> Result<Vec<String>> {
    // Docker's words, as Go puts it; the path is where people look first.
    let bytes = std::fs::read(path).map_err(|e| Failure::new(format!("open {}", path.display())).source(e))?;
    let text = String::from_utf8(bytes)
        .map_err(|e| Failure::new(format!("{}: not UTF-8", path.display())).source(e.utf8_error()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut lines = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value)));
        let name = if value.is_none() { name.trim_end() } else { name };
        if name.is_empty() {
            return Err(Failure::new(format!(
                "invalid {kind} file ({}): no variable name on line '{line}'",
                path.display()
            ))
            .into());
        }
        if name.contains(char::is_whitespace) {
            return Err(Failure::new(format!(
                "invalid {kind} file ({}): variable '{name}' contains whitespaces",
                path.display()
            ))
            .into());
        }
        lines.push(value.map_or_else(|| name.to_owned(), |value| format!("{name}={value}")));
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
        for (text, end) in [("=x", "no variable name on line '=x'"), ("a b=c", "variable 'a b' contains whitespaces")] {
            std::fs::write(file.path(), text).unwrap();
            let message = variables(&[file.path()], &[], env).unwrap_err().to_string();
            assert_eq!(message, format!("invalid env file ({}): {end}", file.path().display()));
            let message = labels(&[file.path()], &[]).unwrap_err().to_string();
            assert_eq!(message, format!("invalid label file ({}): {end}", file.path().display()));
        }
    }

    #[test]
    fn the_last_value_wins_in_the_first_place() {
        let all = ["A=1", "B=1", "A=2", "C=1", "C"].map(str::to_owned);
        assert_eq!(last_of_each(all), ["A=2", "B=1", "C"]);
    }
}
