//! Where a copy comes from and where it goes: Docker's rules, which are those of `cp -a` with a
//! meaning for the end of a path (`docker cp --help`; docs, "docker container cp").
//!
//! ```text
//! source        destination            what is made
//! file          is not there           a file of that name
//! file          is not there, ends in /  "no such directory"
//! file          a file                 that file, replaced
//! file          a folder               the file in it
//! folder        is not there           a folder of that name, with what the source has
//! folder        a file                 "cannot copy directory"
//! folder        a folder               the folder in it
//! folder/.      a folder               what the source has in it
//! ```

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, bail};

/// A path taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Absolute, without `.`, `..` and empty names.
    pub path: Vec<u8>,
    pub end: End,
}

/// What stands at a path's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Name,
    /// `/`: it is a folder.
    Slash,
    /// `/.`: it is what a folder holds.
    Dot,
}

impl Route {
    /// `text` below `base`, which is absolute. `..` takes a name away, whatever that is, as Docker does it.
    #[must_use]
    pub fn new(base: &[u8], text: &[u8]) -> Self {
        let whole = if text.starts_with(b"/") { text.to_vec() } else { [base, text].join(&b'/') };
        let mut names: Vec<&[u8]> = Vec::new();
        for name in whole.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(names.pop()),
                _ => names.push(name),
            }
        }
        let path = [b"/", names.join(&b'/').as_slice()].concat();
        let end = match text.strip_suffix(b"/") {
            _ if text.is_empty() || path == b"/" => End::Dot,
            _ if text == b"." || text.ends_with(b"/.") || text.ends_with(b"/./") => End::Dot,
            Some(_) => End::Slash,
            None => End::Name,
        };
        Self { path, end }
    }

    /// The last name; empty for the root.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// The folder that it is in.
    #[must_use]
    pub fn folder(&self) -> &[u8] {
        let slash = self.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        &self.path[..slash.max(1)]
    }

    /// The path with its end, as messages have it.
    #[must_use]
    pub fn shown(&self) -> Vec<u8> {
        let mut shown = self.path.clone();
        match self.end {
            End::Slash if !shown.ends_with(b"/") => shown.push(b'/'),
            End::Dot if shown == b"/" => {}
            End::Dot => shown.extend_from_slice(b"/."),
            _ => {}
        }
        shown
    }
}

/// What is at the destination.
#[derive(Debug)]
pub enum Target {
    Folder(OwnedFd),
    /// Something else, `name` in a folder.
    Other {
        folder: OwnedFd,
        name: Vec<u8>,
        shown: Vec<u8>,
    },
    /// Nothing, and this is where it can be made.
    Nothing {
        folder: OwnedFd,
        name: Vec<u8>,
        shown: Vec<u8>,
    },
}

/// What a copy is called.
#[derive(Debug)]
pub struct Landing {
    pub folder: OwnedFd,
    /// What messages call the folder.
    pub shown: Vec<u8>,
    /// The first name of all that is copied; `.`: each is called as below the source.
    pub name: Vec<u8>,
}

impl Target {
    /// Puts source and destination together. `shown`: what messages call a destination that is a
    /// folder; `asserted`: the destination's path says that it is one.
    ///
    /// # Errors
    /// Docker's: a folder does not go where a file is, a file makes no folder.
    pub fn land(self, is_folder: bool, source: &Route, asserted: bool, shown: &[u8]) -> Result<Landing> {
        match self {
            Self::Folder(folder) => {
                let name = if source.end == End::Dot && is_folder { b".".to_vec() } else { source.name().to_vec() };
                Ok(Landing { folder, shown: shown.to_vec(), name })
            }
            Self::Other { .. } if is_folder => bail!("cannot copy directory"),
            Self::Nothing { .. } if !is_folder && asserted => bail!("no such directory"),
            Self::Other { folder, name, shown } | Self::Nothing { folder, name, shown } => {
                Ok(Landing { folder, shown, name })
            }
        }
    }
}

/// `CONTAINER:PATH`, or a path of the host's: one with a colon is told by a slash or a dot in front.
#[must_use]
pub fn container_of(argument: &OsStr) -> Option<(&str, &OsStr)> {
    let bytes = argument.as_bytes();
    if bytes.starts_with(b"/") || bytes.starts_with(b".") {
        return None;
    }
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    // `:x` names no container, and Docker takes it for none.
    let name = std::str::from_utf8(&bytes[..colon]).ok().filter(|name| !name.is_empty())?;
    Some((name, OsStr::from_bytes(&bytes[colon + 1..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_path_means_something() {
        let route = |text: &str| {
            let route = Route::new(b"/base", text.as_bytes());
            (String::from_utf8(route.path).expect("text"), route.end)
        };
        assert_eq!(route("/a/b"), ("/a/b".into(), End::Name));
        assert_eq!(route("/a//b/"), ("/a/b".into(), End::Slash));
        assert_eq!(route("a/."), ("/base/a".into(), End::Dot));
        assert_eq!(route("a/./"), ("/base/a".into(), End::Dot));
        assert_eq!(route("."), ("/base".into(), End::Dot));
        assert_eq!(route(".."), ("/".into(), End::Dot));
        assert_eq!(route("../x/../y"), ("/y".into(), End::Name));
        assert_eq!(route("/../../etc"), ("/etc".into(), End::Name));
        assert_eq!(route(""), ("/base".into(), End::Dot));
        assert_eq!(Route::new(b"/", b"a/b/").name(), b"b");
        assert_eq!(Route::new(b"/", b"a").folder(), b"/");
        assert_eq!(Route::new(b"/", b"a/b").folder(), b"/a");
        assert_eq!(Route::new(b"/", b"a/b/.").shown(), b"/a/b/.");
    }

    #[test]
    fn containers_and_paths_are_told_apart() {
        let of = |text| container_of(OsStr::new(text)).map(|(name, path)| (name, path.to_str().expect("text")));
        assert_eq!(of("c:/x"), Some(("c", "/x")));
        assert_eq!(of("c:"), Some(("c", "")));
        assert_eq!(of("c:x:y"), Some(("c", "x:y")));
        for local in ["/c:x", "./c:x", "../c:x", "x", "-", ":x"] {
            assert_eq!(of(local), None, "{local}");
        }
    }
}
