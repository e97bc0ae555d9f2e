//! The keys that leave a container and let it go on.

use anyhow::Result;

use crate::error::Failure;

/// Docker's.
const DEFAULT: &str = "ctrl-p,ctrl-q";

/// Looks for the sequence in what is typed.
#[derive(Debug)]
pub struct Detach {
    keys: Vec<u8>,
    /// So many of the keys were typed last, and held back.
    matched: usize,
}

/// What of the typed bytes goes on to the container, and whether the sequence was complete.
#[derive(Debug, PartialEq, Eq)]
pub struct Typed {
    pub bytes: Vec<u8>,
    pub detached: bool,
}

impl Detach {
    /// From `--detach-keys`: keys separated by commas, each a single character or `ctrl-` and one of
    /// `a`-`z`, `@`, `[`, `\`, `]`, `^`, `_` (moby, `term/ascii.go`). `None` or empty: the default.
    ///
    /// # Errors
    /// Docker's sentence for what is no key.
    pub fn parse(keys: Option<&str>) -> Result<Self> {
        let keys = keys.filter(|keys| !keys.is_empty()).unwrap_or(DEFAULT);
        let keys = keys.split(',').map(key).collect::<Result<_>>()?;
        Ok(Self { keys, matched: 0 })
    }

    /// Passes on what was typed, but for keys that may begin the sequence: those follow when it turns
    /// out that they did not.
    pub fn pass(&mut self, typed: &[u8]) -> Typed {
        let mut bytes = Vec::with_capacity(typed.len() + self.matched);
        for &byte in typed {
            // The longest end of what was typed that begins the sequence; what falls out before it
            // was typed for the container.
            let mut held = self.keys[..self.matched].to_vec();
            held.push(byte);
            let from = (0..held.len()).find(|&from| self.keys.starts_with(&held[from..])).unwrap_or(held.len());
            bytes.extend_from_slice(&held[..from]);
            self.matched = held.len() - from;
            if self.matched == self.keys.len() {
                self.matched = 0;
                return Typed { bytes, detached: true };
            }
        }
        Typed { bytes, detached: false }
    }
}

fn key(text: &str) -> Result<u8> {
    let bytes = text.as_bytes();
    let control = match text.get(..5) {
        Some(prefix) if prefix.eq_ignore_ascii_case("ctrl-") => &bytes[5..],
        _ => &[],
    };
    match (bytes, control) {
        (&[one], _) => Ok(one),
        (_, &[letter @ (b'a'..=b'z' | b'A'..=b'Z' | b'@' | b'['..=b'_')]) => Ok(letter & 0x1f),
        _ if text == "DEL" => Ok(0x7f),
        _ => Err(Failure::new(format!("invalid detach keys: unknown character: '{text}'"))
            .hint("write keys like ctrl-p,ctrl-q or a,b")
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(keys: &str, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut detach = Detach::parse(Some(keys)).expect("keys");
        let mut bytes = Vec::new();
        for piece in pieces {
            let typed = detach.pass(piece);
            bytes.extend(typed.bytes);
            if typed.detached {
                return (bytes, true);
            }
        }
        (bytes, false)
    }

    #[test]
    fn docker_s_syntax() {
        let keys = |text| Detach::parse(text).map(|d| d.keys).map_err(|e| e.to_string());
        assert_eq!(keys(None), Ok(vec![16, 17]));
        assert_eq!(keys(Some("")), Ok(vec![16, 17]));
        assert_eq!(keys(Some("a,ctrl-z,ctrl-@,ctrl-\\,Q,DEL")), Ok(vec![b'a', 26, 0, 28, b'Q', 127]));
        for bad in ["ctrl-", "ctrl-1", "ab", "a,", "ctrl-ab", "ä"] {
            assert!(keys(Some(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_sequence_detaches_and_is_not_passed_on() {
        assert_eq!(pass("ctrl-p,ctrl-q", &[b"ab\x10\x11rest"]), (b"ab".to_vec(), true));
        assert_eq!(pass("ctrl-p,ctrl-q", &[b"\x10", b"\x11"]), (Vec::new(), true));
        assert_eq!(pass("x", &[b"abx"]), (b"ab".to_vec(), true));
    }

    #[test]
    fn what_only_began_it_is_passed_on() {
        assert_eq!(pass("ctrl-p,ctrl-q", &[b"\x10", b"a"]), (b"\x10a".to_vec(), false));
        assert_eq!(pass("ctrl-p,ctrl-q", &[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
        assert_eq!(pass("a,a,b", &[b"aaab"]), (b"a".to_vec(), true));
        assert_eq!(pass("a,b,a,c", &[b"ababac"]), (b"ab".to_vec(), true));
        assert_eq!(pass("a,b", &[b"aaa"]), (b"aa".to_vec(), false));
    }
}
