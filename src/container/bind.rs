//! `-v` as Docker writes it, and as `HostConfig.Binds` keeps it: `HOST:CONTAINER[:OPTIONS]`.
//!
//! The command line parses what the user wrote, puts the host's absolute path in, and what is
//! recorded is parsed by the same rules again: for the mount, for `inspect`, for `ps`.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;

use crate::error::{Failure, exit};

/// One of them, taken apart and checked as far as its words go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// As it is written: a path, a volume's name, or empty for a volume without one.
    pub source: String,
    /// Absolute and clean.
    pub target: String,
    /// Of [`OPTIONS`], no two that contradict each other.
    pub options: Vec<String>,
}

/// Docker's, then what Podman adds.
const OPTIONS: [&str; 19] = [
    "ro", "rw", "z", "Z", "private", "rprivate", "shared", "rshared", "slave", "rslave", "nocopy", "bind", "rbind",
    "exec", "noexec", "suid", "nosuid", "dev", "nodev",
];

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// Of each of these one can be given.
const EXCLUSIVE: [&[&str]; 7] = [
    &["ro", "rw"],
    &["z", "Z"],
    &PROPAGATIONS,
    &["bind", "rbind"],
    &["exec", "noexec"],
    &["suid", "nosuid"],
    &["dev", "nodev"],
];

/// Only other systems give them a meaning.
const MEANINGLESS: [&str; 4] = ["consistent", "cached", "delegated", "default"];

impl Bind {
    /// # Errors
    /// Docker's: `invalid volume specification`, `invalid mode`, `too many colons`.
    pub fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, inside, options) = match parts.as_slice() {
            [path] if path.starts_with('/') => return Ok(Self::new("", mount_point(path)?)),
            [source, inside] => (*source, *inside, ""),
            [source, inside, options] => (*source, *inside, *options),
            [_] => return bad(format!("invalid volume specification: '{text}'")),
            _ => return bad(format!("invalid spec: {text}: too many colons")),
        };
        if source.is_empty() || inside.is_empty() {
            return bad(format!("invalid spec: {text}: empty section between colons"));
        }
        if !inside.starts_with('/') {
            return bad(format!(
                "invalid volume specification: '{text}': invalid mount path: '{inside}' mount path must be absolute"
            ));
        }
        let options: Vec<&str> = options.split(',').filter(|o| !o.is_empty() && !MEANINGLESS.contains(o)).collect();
        let contradicts = |group: &[&str]| options.iter().filter(|option| group.contains(option)).count() > 1;
        let is_known = options.iter().all(|option| OPTIONS.contains(option));
        if !is_known || EXCLUSIVE.iter().any(|group| contradicts(group)) {
            return bad(format!("invalid volume specification: '{text}': invalid mode: {}", options.join(",")));
        }
        let options = options.into_iter().map(str::to_owned).collect();
        Ok(Self { options, ..Self::new(source, mount_point(inside)?) })
    }

    fn new(source: &str, target: String) -> Self {
        Self { source: source.to_owned(), target, options: Vec::new() }
    }

    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    /// Docker's default, or what was asked for.
    #[must_use]
    pub fn propagation(&self) -> &str {
        let asked = self.options.iter().find(|option| PROPAGATIONS.contains(&option.as_str()));
        asked.map_or("rprivate", String::as_str)
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.target)?;
        if self.options.is_empty() { Ok(()) } else { write!(f, ":{}", self.options.join(",")) }
    }
}

/// A place in the container to mount something: absolute, without `.` and `..`, and not the root.
///
/// # Errors
/// Docker's.
pub fn mount_point(path: &str) -> Result<String> {
    if !path.starts_with('/') {
        return bad(format!("invalid mount path: '{path}' mount path must be absolute"));
    }
    let clean = clean(Path::new(path));
    if clean == Path::new("/") {
        return bad("invalid specification: destination can't be '/'");
    }
    Ok(clean.to_string_lossy().into_owned())
}

/// The path without `.`, `..` and double slashes, by its words alone (Go's `filepath.Clean`).
#[must_use]
pub fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

fn bad<T>(message: impl Into<String>) -> Result<T> {
    Err(Failure::new(message).exit(exit::ENGINE).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_reads_as_it_was_written() {
        let cases = [
            ("/a:/b", "/a:/b"),
            ("./a:/b/:ro", "./a:/b:ro"),
            ("/a:/b/../c:ro,z,cached", "/a:/c:ro,z"),
            ("name:/b", "name:/b"),
        ];
        for (text, expected) in cases {
            let bind = Bind::parse(text).unwrap();
            assert_eq!(bind.to_string(), expected, "{text}");
            assert_eq!(Bind::parse(expected).unwrap(), bind);
        }
        assert_eq!(Bind::parse("/b").unwrap().source, "");
        assert_eq!(Bind::parse("/a:/b:ro,rslave").unwrap().propagation(), "rslave");
        assert_eq!(Bind::parse("/a:/b:ro").unwrap().propagation(), "rprivate");
    }

    #[test]
    fn wrong_ones() {
        let cases = [
            ("/a:/b:ro:x", "invalid spec: /a:/b:ro:x: too many colons"),
            ("/a:", "invalid spec: /a:: empty section between colons"),
            ("a", "invalid volume specification: 'a'"),
            ("/a:b", "invalid volume specification: '/a:b': invalid mount path: 'b' mount path must be absolute"),
            ("/a:/b:ro,rw", "invalid volume specification: '/a:/b:ro,rw': invalid mode: ro,rw"),
            ("/a:/b:zz", "invalid volume specification: '/a:/b:zz': invalid mode: zz"),
            ("/a:/", "invalid specification: destination can't be '/'"),
            ("/a:/b/..", "invalid specification: destination can't be '/'"),
        ];
        for (text, expected) in cases {
            assert_eq!(Bind::parse(text).unwrap_err().to_string(), expected, "{text}");
        }
    }
}
