//! Records of Docker's json-file format: `{"log":"…\n","stream":"stdout","time":"…"}`, one a line;
//! `"attrs":{…}` stands before the time where log options add something (moby,
//! `daemon/logger/jsonfilelog/jsonlog`).

use super::lines::Line;
use crate::monitor::protocol::Stream;

/// Appends one record. `attrs`: the object with what log options add, or nothing.
pub(super) fn record(out: &mut Vec<u8>, line: Line<'_>, stream: Stream, attrs: &[u8], time: &str) {
    out.reserve(line.text.len() + attrs.len() + 96);
    out.extend_from_slice(b"{\"log\":\"");
    escape(out, line.text);
    if line.ended {
        out.extend_from_slice(b"\\n");
    }
    out.extend_from_slice(match stream {
        Stream::Error => b"\",\"stream\":\"stderr\",",
        _ => b"\",\"stream\":\"stdout\",",
    });
    if !attrs.is_empty() {
        out.extend_from_slice(b"\"attrs\":");
        out.extend_from_slice(attrs);
        out.push(b',');
    }
    out.extend_from_slice(b"\"time\":\"");
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// Whether a byte goes into a string as it is.
#[allow(clippy::needless_bitwise_bool, reason = "the compiler makes vector instructions of it")]
const fn is_plain(b: u8) -> bool {
    (b >= 0x20) & (b < 0x80) & (b != b'"') & (b != b'\\') & (b != b'<') & (b != b'>') & (b != b'&')
}

/// Bytes at the beginning that need no look one by one.
fn plain_prefix(text: &[u8]) -> usize {
    const STEP: usize = 64;
    let mut at = 0;
    for chunk in text.chunks_exact(STEP) {
        if chunk.iter().fold(false, |odd, &b| odd | !is_plain(b)) {
            break;
        }
        at += STEP;
    }
    at + text[at..].iter().position(|&b| !is_plain(b)).unwrap_or(text.len() - at)
}

/// Appends bytes as the inside of a JSON string, escaping what Docker's encoder escapes.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text;
    loop {
        let (plain, odd) = rest.split_at(plain_prefix(rest));
        out.extend_from_slice(plain);
        let taken = match odd {
            [] => return,
            [0x80..=0xff, ..] => {
                // Characters of several bytes have no ASCII among them: the run is valid by itself.
                let length = odd.iter().position(u8::is_ascii).unwrap_or(odd.len());
                foreign(out, &odd[..length]);
                length
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
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
                1
            }
        };
        rest = &odd[taken..];
    }
}

/// Appends bytes that are not ASCII.
fn foreign(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        let mut done = 0;
        for (at, separator) in valid.match_indices(['\u{2028}', '\u{2029}']) {
            out.extend_from_slice(&valid.as_bytes()[done..at]);
            out.extend_from_slice(if separator == "\u{2028}" { b"\\u2028" } else { b"\\u2029" });
            done = at + separator.len();
        }
        out.extend_from_slice(&valid.as_bytes()[done..]);
        // As Go, one for each byte.
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8]) -> String {
        let mut out = Vec::new();
        escape(&mut out, text);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_record_is_docker_s_to_the_byte() {
        let mut out = Vec::new();
        let line = Line { text: "a\"\\\t<é\u{2028}â\x7f".as_bytes(), ended: true };
        record(&mut out, line, Stream::Error, b"", "2026-01-02T03:04:05.6Z");
        record(&mut out, Line { text: b"x", ended: false }, Stream::Output, b"{\"a\":\"b\"}", "T");
        let expected = "{\"log\":\"a\\\"\\\\\\u0009\\u003cé\\u2028â\x7f\\n\",\"stream\":\"stderr\",\
                        \"time\":\"2026-01-02T03:04:05.6Z\"}\n\
                        {\"log\":\"x\",\"stream\":\"stdout\",\"attrs\":{\"a\":\"b\"},\"time\":\"T\"}\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn invalid_bytes_are_replaced_one_by_one() {
        assert_eq!(escaped(b"a\xff\xe2\x82z\xed\xa0\x80"), "a\\ufffd\\ufffd\\ufffdz\\ufffd\\ufffd\\ufffd");
    }

    #[test]
    fn every_byte_comes_back_wherever_it_stands() {
        for b in 0..=127u8 {
            for at in [0, 5, 63, 64, 65, 130, 199] {
                let mut text = vec![b'x'; 200];
                text[at] = b;
                let json = format!("\"{}\"", escaped(&text));
                assert_eq!(serde_json::from_str::<String>(&json).expect("JSON").into_bytes(), text, "{b} at {at}");
            }
        }
        for c in ["é", "€", "😀", "\u{2028}", "\u{2029}", "â\u{2028}x"] {
            let text = format!("{}{c}{}", "y".repeat(61), "z".repeat(70));
            let json = format!("\"{}\"", escaped(text.as_bytes()));
            assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), text);
        }
    }
}
