//! Records of the `local` driver: the bytes as they came, in a frame.
//!
//! ```text
//! length   4 bytes   of the text
//! kind     1 byte    bit 0: standard error; bit 1: the text ends a line
//! time     8 bytes   nanoseconds since 1970
//! text     length bytes, without the line's end
//! length   4 bytes   again: so the file can be read from its end
//! ```
//!
//! Numbers are little endian. The file ends with a whole frame; where a power loss or a kill cut one
//! off, the next start removes it.

use super::lines::{LONGEST, Line};
use crate::monitor::protocol::Stream;

/// Bytes before the text.
pub const HEAD: usize = 13;
/// Bytes behind it.
pub const TAIL: usize = 4;

/// A frame, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub text: &'a [u8],
    pub ended: bool,
    pub is_error: bool,
    /// Nanoseconds since 1970.
    pub time: i64,
    /// Of the whole frame.
    pub length: usize,
}

/// Appends one frame.
pub(super) fn record(out: &mut Vec<u8>, line: Line<'_>, stream: Stream, time: i64) {
    let length = u32::try_from(line.text.len()).unwrap_or_default().to_le_bytes();
    out.extend_from_slice(&length);
    out.push(u8::from(stream == Stream::Error) | u8::from(line.ended) << 1);
    out.extend_from_slice(&time.to_le_bytes());
    out.extend_from_slice(line.text);
    out.extend_from_slice(&length);
}

/// The frame at the beginning. `Ok(None)`: it is not whole yet.
///
/// # Errors
/// There is none.
pub fn parse(bytes: &[u8]) -> Result<Option<Frame<'_>>, Damaged> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return Ok(None) };
    let [a, b, c, d, kind, time @ ..] = *head;
    let length = size([a, b, c, d]).ok_or(Damaged)?;
    let Some((text, rest)) = rest.split_at_checked(length) else { return Ok(None) };
    let Some(again) = rest.first_chunk::<TAIL>() else { return Ok(None) };
    if size(*again) != Some(length) || kind > 3 {
        return Err(Damaged);
    }
    let time = i64::from_le_bytes(time);
    Ok(Some(Frame { text, ended: kind & 2 != 0, is_error: kind & 1 != 0, time, length: HEAD + length + TAIL }))
}

/// What is there is no frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Damaged;

/// The length of the frame that ends with these bytes.
pub fn length_before(tail: &[u8]) -> Option<usize> {
    Some(HEAD + size(*tail.last_chunk()?)? + TAIL)
}

/// A length that a frame may have.
fn size(bytes: [u8; 4]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes)).ok().filter(|length| *length <= LONGEST)
}

/// How many bytes of whole frames there are.
pub(super) fn whole(mut bytes: &[u8]) -> usize {
    let all = bytes.len();
    while let Ok(Some(frame)) = parse(bytes) {
        bytes = &bytes[frame.length..];
    }
    all - bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_survives_and_half_a_one_is_seen() {
        let mut bytes = Vec::new();
        record(&mut bytes, Line { text: b"a\xff\0b", ended: true }, Stream::Error, 7);
        let first = bytes.len();
        record(&mut bytes, Line { text: b"", ended: false }, Stream::Output, -7);
        let expected = Frame { text: b"a\xff\0b", ended: true, is_error: true, time: 7, length: first };
        assert_eq!(parse(&bytes), Ok(Some(expected)));
        let expected = Frame { text: b"", ended: false, is_error: false, time: -7, length: bytes.len() - first };
        assert_eq!(parse(&bytes[first..]), Ok(Some(expected)));
        assert_eq!(length_before(&bytes), Some(bytes.len() - first));
        assert_eq!(length_before(&bytes[..first]), Some(first));
        for cut in 0..bytes.len() {
            assert_eq!(whole(&bytes[..cut]), if cut < first { 0 } else { first });
        }
        assert_eq!(whole(&bytes), bytes.len());
        assert_eq!(parse(&[0xff; 30]), Err(Damaged));
    }
}
