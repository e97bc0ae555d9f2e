//! One record of a log, in the forms that drivers keep.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use crate::monitor::log::{Format, frame};

/// A piece of output: a line, or a part of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// Without `\n`.
    pub text: Cow<'a, [u8]>,
    /// It ends a line.
    pub ended: bool,
    pub is_error: bool,
    pub time: Time<'a>,
    /// What log options added.
    pub attrs: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Time<'a> {
    /// RFC 3339 with up to nine digits of the second, UTC.
    Text(Cow<'a, str>),
    /// Nanoseconds since 1970.
    Nanoseconds(i64),
}

impl Time<'_> {
    pub(super) fn instant(&self) -> Option<Timestamp> {
        match self {
            Self::Text(text) => text.parse().ok(),
            Self::Nanoseconds(n) => Timestamp::from_nanosecond((*n).into()).ok(),
        }
    }

    /// RFC 3339 with nine digits behind the second, so that lines stand below each other.
    #[must_use]
    pub fn fixed(&self) -> String {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::Nanoseconds(_) => self.instant().unwrap_or_default().to_string().into(),
        };
        let Some(whole) = text.strip_suffix('Z') else { return text.into_owned() };
        let (seconds, fraction) = whole.split_once('.').unwrap_or((whole, ""));
        format!("{seconds}.{fraction:0<9}Z")
    }
}

/// A line of json-file.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

/// What stands at the beginning of a log's next bytes.
pub(super) enum Next<'a> {
    /// A record and its length.
    Record(Record<'a>, usize),
    /// So many bytes that are none: a power loss tore them, and Docker leaves them out too.
    Damaged(usize),
    /// Its end has not been written, or read, yet.
    Unfinished,
}

pub(super) fn next(format: Format, bytes: &[u8]) -> Next<'_> {
    match format {
        Format::Json => {
            let Some(end) = memchr::memchr(b'\n', bytes) else { return Next::Unfinished };
            line(&bytes[..end]).map_or(Next::Damaged(end + 1), |record| Next::Record(record, end + 1))
        }
        Format::Frames => match frame::parse(bytes) {
            Ok(Some(frame)) => Next::Record(from_frame(&frame), frame.length),
            Ok(None) => Next::Unfinished,
            // Where the next one begins cannot be told.
            Err(frame::Damaged) => Next::Damaged(bytes.len()),
        },
    }
}

pub(super) fn line(bytes: &[u8]) -> Option<Record<'_>> {
    let Line { log, stream, time, attrs } = serde_json::from_slice(bytes).ok()?;
    let ended = log.ends_with('\n');
    let text = match log {
        Cow::Borrowed(text) => Cow::Borrowed(text.strip_suffix('\n').unwrap_or(text).as_bytes()),
        Cow::Owned(mut text) => {
            text.truncate(text.len() - usize::from(ended));
            Cow::Owned(text.into_bytes())
        }
    };
    Some(Record { text, ended, is_error: stream == "stderr", time: Time::Text(time), attrs })
}

fn from_frame<'a>(frame: &frame::Frame<'a>) -> Record<'a> {
    Record {
        text: Cow::Borrowed(frame.text),
        ended: frame.ended,
        is_error: frame.is_error,
        time: Time::Nanoseconds(frame.time),
        attrs: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_below_each_other() {
        assert_eq!(Time::Text("2024-01-01T00:00:00Z".into()).fixed(), "2024-01-01T00:00:00.000000000Z");
        assert_eq!(Time::Text("2024-01-01T00:00:00.5Z".into()).fixed(), "2024-01-01T00:00:00.500000000Z");
        assert_eq!(Time::Nanoseconds(1_700_000_000_000_000_001).fixed(), "2023-11-14T22:13:20.000000001Z");
    }

    #[test]
    fn docker_s_lines_are_read() {
        let text = br#"{"log":"a\u003cb\n","stream":"stderr","attrs":{"x":"y"},"time":"T"}"#;
        let record = line(text).expect("a record");
        let attrs = BTreeMap::from([("x".to_owned(), "y".to_owned())]);
        let time = Time::Text("T".into());
        assert_eq!(record, Record { text: b"a<b"[..].into(), ended: true, is_error: true, time, attrs });
        assert!(line(b"{\"log\":\"x").is_none());
    }
}
