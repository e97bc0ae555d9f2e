//! Output to records of Docker's json-file format: `{"log":"…\n","stream":"stdout","time":"…"}`,
//! one a line (moby, `daemon/logger/jsonfilelog/jsonlog`).

/// Bytes of a line in one record: a longer line becomes several, all but the last without `\n`
/// (moby, `daemon/logger/copier.go`).
const LONGEST: usize = 16 * 1024;

/// Records are handed on in batches of about this size.
const BATCH: usize = 64 * 1024;

/// One stream, cut into lines.
#[derive(Debug)]
pub struct Lines {
    stream: &'static str,
    /// The beginning of a line whose end has not come yet; shorter than [`LONGEST`].
    begun: Vec<u8>,
    /// Whole records that wait to be handed on.
    records: Vec<u8>,
}

impl Lines {
    pub fn new(stream: &'static str) -> Self {
        Self { stream, begun: Vec::new(), records: Vec::new() }
    }

    /// Takes the stream's next bytes, which came at `time`, and hands whole records to `sink`.
    pub fn push(&mut self, mut bytes: &[u8], time: &str, mut sink: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = LONGEST - self.begun.len();
            let window = &bytes[..bytes.len().min(room)];
            let taken = match window.iter().position(|&b| b == b'\n') {
                Some(at) => at + 1,
                None => window.len(),
            };
            let (head, tail) = bytes.split_at(taken);
            bytes = tail;
            let ended = head.ends_with(b"\n");
            if self.begun.is_empty() && ended {
                // The common case: the line is encoded from where it was read to.
                record(&mut self.records, head, self.stream, time);
            } else {
                self.begun.extend_from_slice(head);
                if ended {
                    record(&mut self.records, &self.begun, self.stream, time);
                    self.begun.clear();
                } else if self.begun.len() == LONGEST {
                    // A character that is cut in two would be lost twice.
                    let cut = LONGEST - unfinished(&self.begun);
                    record(&mut self.records, &self.begun[..cut], self.stream, time);
                    self.begun.drain(..cut);
                }
            }
            if self.records.len() >= BATCH {
                sink(&self.records);
                self.records.clear();
            }
        }
        if !self.records.is_empty() {
            sink(&self.records);
        }
        // What a burst needed is not kept: a quiet container costs nothing.
        self.records = Vec::new();
        self.begun.shrink_to(0);
    }

    /// The stream has ended: hands on a last line that has no `\n`.
    pub fn finish(&mut self, time: &str, sink: impl FnOnce(&[u8])) {
        if !self.begun.is_empty() {
            record(&mut self.records, &self.begun, self.stream, time);
            sink(&self.records);
            self.begun.clear();
            self.records.clear();
        }
    }
}

/// Bytes at the end that begin a UTF-8 character and do not end it, 0 to 3.
fn unfinished(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let Some(back) = tail.iter().rev().position(|b| *b >= 0xc0) else { return 0 };
    let begun = &tail[tail.len() - 1 - back..];
    match std::str::from_utf8(begun) {
        // No length: more bytes could still make it valid.
        Err(e) if e.error_len().is_none() => begun.len() - e.valid_up_to(),
        _ => 0,
    }
}

/// Appends one record.
fn record(out: &mut Vec<u8>, line: &[u8], stream: &str, time: &str) {
    out.reserve(line.len() + 96);
    out.extend_from_slice(b"{\"log\":\"");
    match std::str::from_utf8(line) {
        Ok(_) => escape(out, line),
        Err(_) => {
            for chunk in line.utf8_chunks() {
                escape(out, chunk.valid().as_bytes());
                // As Go, one for each byte.
                for _ in chunk.invalid() {
                    out.extend_from_slice(b"\\ufffd");
                }
            }
        }
    }
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.as_bytes());
    out.extend_from_slice(b"\",\"time\":\"");
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// Bytes that go into the string as they are.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut b = 0;
    while b < 0x20 {
        plain[b] = false;
        b += 1;
    }
    let special = b"\"\\<>&";
    let mut i = 0;
    while i < special.len() {
        plain[special[i] as usize] = false;
        i += 1;
    }
    // U+2028 and U+2029 begin with it.
    plain[0xe2] = false;
    plain
};

/// Appends valid UTF-8 as the inside of a JSON string, escaping what Docker's encoder escapes.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&b| !PLAIN[usize::from(b)]) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let taken = match rest {
            [0xe2, 0x80, last @ (0xa8 | 0xa9), ..] => {
                out.extend_from_slice(if *last == 0xa8 { b"\\u2028" } else { b"\\u2029" });
                3
            }
            [0xe2, ..] => {
                out.push(0xe2);
                1
            }
            [b'\n', ..] => {
                out.extend_from_slice(b"\\n");
                1
            }
            [b'\r', ..] => {
                out.extend_from_slice(b"\\r");
                1
            }
            [b @ (b'"' | b'\\'), ..] => {
                out.extend_from_slice(&[b'\\', *b]);
                1
            }
            [b, ..] => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
                1
            }
            [] => 0,
        };
        rest = &rest[taken..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of the records made from `pieces`.
    fn logged(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::new("stdout");
        let mut out = Vec::new();
        for piece in pieces {
            lines.push(piece, "T", |records| out.extend_from_slice(records));
        }
        lines.finish("T", |records| out.extend_from_slice(records));
        let text = String::from_utf8(out).expect("records are UTF-8");
        text.lines()
            .map(|line| {
                let record: serde_json::Value = serde_json::from_str(line).expect("a record is JSON");
                assert_eq!((&record["stream"], &record["time"]), (&"stdout".into(), &"T".into()));
                record["log"].as_str().expect("text").to_owned()
            })
            .collect()
    }

    #[test]
    fn a_record_is_docker_s_to_the_byte() {
        let mut out = Vec::new();
        record(&mut out, "a\"\\\t<é\u{2028}â\x7f\n".as_bytes(), "stderr", "2026-01-02T03:04:05.6Z");
        let expected = "{\"log\":\"a\\\"\\\\\\u0009\\u003cé\\u2028â\x7f\\n\",\"stream\":\"stderr\",\
                        \"time\":\"2026-01-02T03:04:05.6Z\"}\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn lines_are_joined_across_reads() {
        assert_eq!(logged(&[b"on", b"e\ntwo\nthr", b"ee"]), ["one\n", "two\n", "three"]);
        assert_eq!(logged(&[b"\n\n"]), ["\n", "\n"]);
    }

    #[test]
    fn characters_split_across_reads_stay_whole() {
        let bytes = "grün €\n".as_bytes();
        for at in 0..bytes.len() {
            assert_eq!(logged(&[&bytes[..at], &bytes[at..]]), ["grün €\n"]);
        }
    }

    #[test]
    fn invalid_bytes_are_replaced_one_by_one() {
        assert_eq!(
            logged(&[b"a\xff\xe2\x82z\xed\xa0\x80\n"]),
            ["a\u{fffd}\u{fffd}\u{fffd}z\u{fffd}\u{fffd}\u{fffd}\n"]
        );
    }

    #[test]
    fn long_lines_are_split_between_characters() {
        let mut line = "x".repeat(LONGEST - 1);
        line.push_str("€€\n");
        let parts = logged(&[line.as_bytes()]);
        assert_eq!(parts, ["x".repeat(LONGEST - 1), "€€\n".to_owned()]);
        assert_eq!(logged(&[&vec![0xff; LONGEST + 5]]).len(), 2);
        assert_eq!(logged(&[&vec![b'y'; 3 * LONGEST]]).len(), 3);
    }

    #[test]
    fn every_byte_value_comes_back() {
        let bytes: Vec<u8> = (0..=127).chain([b'\n']).collect();
        assert_eq!(logged(&[&bytes]).concat().into_bytes(), bytes);
    }
}
