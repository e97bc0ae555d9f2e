//! A stream, cut into lines.

use memchr::memchr;

/// Bytes of a line in one record: a longer line becomes several, of which all but the last do not
/// end it (moby, `daemon/logger/copier.go`).
pub(super) const LONGEST: usize = 16 * 1024;

/// A line, or a piece of a long one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Without the `\n`.
    pub text: &'a [u8],
    /// There was a `\n`.
    pub ended: bool,
}

#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The beginning of a line whose end has not come yet; shorter than [`LONGEST`].
    begun: Vec<u8>,
}

impl Lines {
    /// Takes the stream's next bytes and hands whole lines to `sink`.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut sink: impl FnMut(Line<'_>)) {
        while !bytes.is_empty() {
            let window = &bytes[..bytes.len().min(LONGEST - self.begun.len())];
            let end = memchr(b'\n', window);
            let (text, ended) = (&window[..end.unwrap_or(window.len())], end.is_some());
            bytes = &bytes[text.len() + usize::from(ended)..];
            if self.begun.is_empty() {
                // The common case: the line is encoded from where it was read to.
                if ended {
                    sink(Line { text, ended });
                    continue;
                }
                if text.len() == LONGEST {
                    let cut = whole(text);
                    sink(Line { text: &text[..cut], ended });
                    self.begun.extend_from_slice(&text[cut..]);
                    continue;
                }
            }
            self.begun.extend_from_slice(text);
            if ended {
                sink(Line { text: &self.begun, ended });
                self.begun.clear();
            } else if self.begun.len() == LONGEST {
                let cut = whole(&self.begun);
                sink(Line { text: &self.begun[..cut], ended });
                self.begun.drain(..cut);
            }
        }
    }

    /// The stream has ended: hands on a last line that has no `\n`.
    pub(super) fn finish(&mut self, sink: impl FnOnce(Line<'_>)) {
        if !self.begun.is_empty() {
            sink(Line { text: &self.begun, ended: false });
            self.begun = Vec::new();
        }
    }

    /// Keeps no more memory than what it holds needs.
    pub(super) fn rest(&mut self) {
        self.begun.shrink_to_fit();
    }
}

/// Where a full piece is cut: not within a character, which would be lost twice.
fn whole(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let Some(back) = tail.iter().rev().position(|b| *b >= 0xc0) else { return bytes.len() };
    let begun = &tail[tail.len() - 1 - back..];
    match std::str::from_utf8(begun) {
        // No length: more bytes could still make it valid.
        Err(e) if e.error_len().is_none() => bytes.len() - (begun.len() - e.valid_up_to()),
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        let mut sink = |line: Line<'_>| {
            all.push(String::from_utf8_lossy(line.text).into_owned() + if line.ended { "\n" } else { "" });
        };
        for piece in pieces {
            lines.push(piece, &mut sink);
        }
        lines.finish(&mut sink);
        all
    }

    #[test]
    fn lines_are_joined_across_reads() {
        assert_eq!(cut(&[b"on", b"e\ntwo\nthr", b"ee"]), ["one\n", "two\n", "three"]);
        assert_eq!(cut(&[b"\n\n"]), ["\n", "\n"]);
    }

    #[test]
    fn characters_split_across_reads_stay_whole() {
        let bytes = "grün €\n".as_bytes();
        for at in 0..bytes.len() {
            assert_eq!(cut(&[&bytes[..at], &bytes[at..]]), ["grün €\n"]);
        }
    }

    #[test]
    fn long_lines_are_split_between_characters() {
        let line = "x".repeat(LONGEST - 1) + "€€\n";
        for at in [0, 1, LONGEST - 2, LONGEST, LONGEST + 1] {
            let parts = cut(&[&line.as_bytes()[..at], &line.as_bytes()[at..]]);
            assert_eq!(parts, ["x".repeat(LONGEST - 1), "€€\n".to_owned()], "{at}");
        }
        assert_eq!(cut(&[&vec![0xff; LONGEST + 5]]).len(), 2);
        assert_eq!(cut(&[&vec![b'y'; 3 * LONGEST]]).len(), 3);
        // The end of a line of just that length is a record of its own, as Docker's.
        assert_eq!(cut(&[&[vec![b'y'; LONGEST], vec![b'\n']].concat()]), ["y".repeat(LONGEST), "\n".to_owned()]);
    }
}
