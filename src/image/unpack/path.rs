//! Names in archives, made harmless before any system call sees them.

use std::io;

/// Longer paths no system call takes.
const MAX_PATH: usize = 4095;

/// The path below the layer's root, without `.`, empty and `..` components; empty for the root
/// itself. An absolute name means the same below the root, as it does to Docker.
///
/// # Errors
/// A name that leads out of the root, that is too long, or that has a zero byte.
pub fn clean(name: &[u8]) -> io::Result<Vec<u8>> {
    let bad = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    if name.contains(&0) {
        return bad("its name has a zero byte");
    }
    let mut clean: Vec<u8> = Vec::with_capacity(name.len());
    for component in name.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                if clean.is_empty() {
                    return bad("its name leads out of the layer");
                }
                clean.truncate(split(&clean).0.len());
            }
            _ => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(component);
            }
        }
    }
    if clean.len() > MAX_PATH {
        return bad("its name is too long");
    }
    Ok(clean)
}

/// A clean path's parent (empty: the root) and last component.
#[must_use]
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// All proper prefixes of a clean path that are folders, outermost first, without the root.
pub fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(slash, _)| &path[..slash])
}

/// What a name says beyond itself (OCI image specification, layer.md, "Whiteouts").
#[derive(Debug, PartialEq, Eq)]
pub enum Name<'a> {
    Plain,
    /// Nothing of the layers below is in this folder.
    Opaque,
    /// The object of this name of the layers below is gone.
    Whiteout(&'a [u8]),
    /// AUFS's own notes, which mean nothing here.
    Ignored,
}

/// What the last component of a path says.
///
/// # Errors
/// A whiteout for nothing, for `.` or for `..`.
pub fn name(last: &[u8]) -> io::Result<Name<'_>> {
    let Some(hidden) = last.strip_prefix(b".wh.") else { return Ok(Name::Plain) };
    match hidden {
        b".wh..opq" => Ok(Name::Opaque),
        b"" | b"." | b".." => Err(io::Error::new(io::ErrorKind::InvalidData, "a whiteout for no name")),
        _ if hidden.starts_with(b".wh.") => Ok(Name::Ignored),
        _ => Ok(Name::Whiteout(hidden)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        let cleaned = |name: &str| clean(name.as_bytes()).ok().and_then(|p| String::from_utf8(p).ok());
        assert_eq!(cleaned("./a//b/./c/").as_deref(), Some("a/b/c"));
        assert_eq!(cleaned("/etc/passwd").as_deref(), Some("etc/passwd"));
        assert_eq!(cleaned("a/b/../../c").as_deref(), Some("c"));
        assert_eq!(cleaned("./").as_deref(), Some(""));
        for out in ["..", "../x", "a/../../x", "/../x", "a\0b", &"x/".repeat(3000)] {
            assert_eq!(cleaned(out), None, "{out:?}");
        }
    }

    #[test]
    fn whiteouts_have_a_name() {
        assert_eq!(name(b"a").ok(), Some(Name::Plain));
        assert_eq!(name(b".wh.a").ok(), Some(Name::Whiteout(b"a")));
        assert_eq!(name(b".wh..a").ok(), Some(Name::Whiteout(b".a")));
        assert_eq!(name(b".wh..wh..opq").ok(), Some(Name::Opaque));
        assert_eq!(name(b".wh..wh.plnk").ok(), Some(Name::Ignored));
        for bad in [&b".wh."[..], b".wh..", b".wh..."] {
            assert!(name(bad).is_err());
        }
    }

    #[test]
    fn ancestors_come_outermost_first() {
        assert_eq!(ancestors(b"a/b/c").collect::<Vec<_>>(), [&b"a"[..], b"a/b"]);
        assert_eq!(split(b"a/b"), (&b"a"[..], &b"b"[..]));
        assert_eq!(split(b"a"), (&b""[..], &b"a"[..]));
    }
}
