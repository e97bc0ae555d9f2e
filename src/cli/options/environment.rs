//! The environment: what is set, taken from here, or taken away from what the image has.

use std::path::PathBuf;

use anyhow::Result;

use super::{bad, lines};
use crate::cli::complete::Kind;
use crate::container::spec;

/// Variables that every container has without being asked: `container::spec` sets them. One of these
/// names alone in `Config.Env` says that this container has it not.
pub const EVERY: [&str; 3] = ["PATH", "HOSTNAME", "TERM"];

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Process")]
pub struct EnvironmentOptions {
    /// Set an environment variable; a bare name takes its value from here
    #[arg(short, long, value_name = "name[=value]", add = Kind::Variables, value_parser = lines::variable)]
    env: Vec<String>,
    /// Environment variables from a file, one on a line
    #[arg(long, value_name = "file")]
    env_file: Vec<PathBuf>,
    /// Pass the whole environment of this command on
    #[arg(long)]
    env_host: bool,
    /// Change a variable of the image's with its own values (PATH='/opt/bin:${PATH}')
    #[arg(long, value_name = "name=value", value_parser = assignment)]
    env_merge: Vec<String>,
    /// Take away a variable that the image or ctr sets
    #[arg(long, value_name = "name")]
    unsetenv: Vec<String>,
    /// Take away all variables that the image or ctr sets
    #[arg(long)]
    unsetenv_all: bool,
}

/// What becomes of the image's variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inherited {
    merged: Vec<String>,
    unset: Vec<String>,
    unset_all: bool,
}

impl EnvironmentOptions {
    /// The variables that are set, later ones winning. A name alone takes the variable away.
    ///
    /// # Errors
    /// A file cannot be read, or is none.
    pub fn variables(&self) -> Result<Vec<String>> {
        let mut env = Vec::new();
        if self.env_host {
            // Names and values that are not UTF-8 cannot be kept in a record.
            env.extend(
                std::env::vars_os().filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value.to_str()?))),
            );
        }
        env.extend(lines::variables(&self.env_file, &self.env, |name| std::env::var(name).ok())?);
        Ok(env)
    }

    /// # Errors
    /// A name that can be none.
    pub fn inherited(&self) -> Result<Inherited> {
        if let Some(name) = self.unsetenv.iter().find(|name| name.is_empty() || name.contains('=')) {
            return bad(format!("--unsetenv: {name:?} is not a name"));
        }
        Ok(Inherited { merged: self.env_merge.clone(), unset: self.unsetenv.clone(), unset_all: self.unsetenv_all })
    }
}

impl Inherited {
    /// What is left of the image's variables, and names alone for those that every container has and
    /// this one has not.
    #[must_use]
    pub fn of(&self, image: &[String]) -> Vec<String> {
        let mut env = lines::last_of_each(image.iter().cloned());
        for text in &self.merged {
            let (name, value) = lines::pair(text);
            let value = expanded(&value, |name| find(&env, name));
            env = lines::last_of_each(env.into_iter().chain([format!("{name}={value}")]));
        }
        let is_unset = |name: &str| self.unset_all || self.unset.iter().any(|unset| unset == name);
        env.retain(|variable| !is_unset(variable.split('=').next().unwrap_or_default()));
        env.extend(EVERY.into_iter().filter(|name| is_unset(name)).map(str::to_owned));
        env
    }
}

fn find(env: &[String], name: &str) -> String {
    let of = |variable: &'_ str| variable.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
    env.iter().find_map(|variable| of(variable)).or_else(|| of(spec::PATH)).unwrap_or_default()
}

/// `$NAME` and `${NAME}` replaced, as Go's `os.Expand` does it.
fn expanded(text: &str, value: impl Fn(&str) -> String) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        rest = after;
        if let Some((name, behind)) = after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            result.push_str(&value(name));
            rest = behind;
        } else {
            let end = after.find(|c| !is_word(c)).unwrap_or(after.len());
            if end == 0 {
                result.push('$');
            } else {
                result.push_str(&value(&after[..end]));
                rest = &after[end..];
            }
        }
    }
    result + rest
}

fn assignment(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("invalid environment variable: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(variables: &[&str]) -> Vec<String> {
        variables.iter().map(|&variable| variable.to_owned()).collect()
    }

    #[test]
    fn an_image_s_variables_are_changed_with_their_own_values() {
        let inherited = Inherited {
            merged: env(&["PATH=/opt:${PATH}:$A$", "NEW=$NONE/${A}x"]),
            unset: env(&["B", "TERM"]),
            ..Inherited::default()
        };
        assert_eq!(inherited.of(&env(&["PATH=/bin", "A=1", "B=2"])), ["PATH=/opt:/bin:1$", "A=1", "NEW=/1x", "TERM"]);
    }

    #[test]
    fn all_can_be_taken_away() {
        let inherited = Inherited { unset_all: true, ..Inherited::default() };
        assert_eq!(inherited.of(&env(&["PATH=/bin", "A=1"])), ["PATH", "HOSTNAME", "TERM"]);
        assert_eq!(Inherited::default().of(&env(&["PATH=/bin", "A=1"])), ["PATH=/bin", "A=1"]);
    }
}
