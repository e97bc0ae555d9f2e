//! Reading the log of the journald driver back, through journalctl.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Map, Value};

use super::Wanted;
use super::live::Live;
use super::record::{Record, Time};
use crate::error::Failure;
use crate::store::{Id, Store};
use crate::sys::process::die_with_parent;

/// Fields of ours or of journald's: the others are what log options added.
const OWN: [&str; 10] = [
    "MESSAGE",
    "PRIORITY",
    "CONTAINER_ID",
    "CONTAINER_ID_FULL",
    "CONTAINER_NAME",
    "IMAGE_NAME",
    "SYSLOG_IDENTIFIER",
    "SYSLOG_TIMESTAMP",
    "CONTAINER_LOG_EPOCH",
    "CONTAINER_LOG_ORDINAL",
];

pub(super) fn read(
    store: &Store,
    id: &Id,
    wanted: &Wanted,
    sink: &mut impl FnMut(&Record<'_>),
    flush: &mut impl FnMut(),
) -> Result<()> {
    let live = if wanted.follow { Live::open(store, id)?.map(|(live, _)| live) } else { None };
    let mut words = vec![format!("CONTAINER_ID_FULL={id}")];
    words.push(wanted.tail.map_or_else(|| "--lines=all".to_owned(), |lines| format!("--lines={lines}")));
    // Journald's own times are a little later than the records': what is wanted is looked at again.
    words.extend(wanted.since.map(|since| format!("--since=@{}", since.as_second())));
    let mut journal = Journal::open(&words, live.is_some())?;
    let mut entries = Entries { wanted, rest: Vec::new(), cursor: None };
    let Some(live) = live else {
        while entries.take(&mut journal, sink)? == Took::Some {}
        flush();
        return journal.end();
    };
    loop {
        let mut polls = [
            PollFd::new(journal.output.as_fd(), PollFlags::POLLIN),
            PollFd::new(live.socket().as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut polls, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e).context("wait for the journal"),
        }
        let [come, told] = polls.map(|poll| poll.any().unwrap_or(false));
        if come {
            match entries.take(&mut journal, sink)? {
                Took::Some => flush(),
                Took::Last => return Ok(()),
                Took::None => {
                    flush();
                    return journal.end();
                }
            }
        }
        if told && live.has_ended()? {
            break;
        }
    }
    // The rest, which journald may not have written yet. Only root may ask it to hurry.
    drop(journal);
    let _ = Command::new("journalctl").arg("--sync").stdin(Stdio::null()).stderr(Stdio::null()).status();
    let words = match entries.cursor.take() {
        Some(cursor) => vec![words.swap_remove(0), format!("--after-cursor={cursor}")],
        None => words,
    };
    let mut journal = Journal::open(&words, false)?;
    entries.rest.clear();
    while entries.take(&mut journal, sink)? == Took::Some {}
    flush();
    journal.end()
}

/// A journalctl that runs. It ends when this is dropped.
struct Journal {
    child: Child,
    output: ChildStdout,
}

impl Journal {
    fn open(words: &[String], follow: bool) -> Result<Self> {
        log::debug!("run journalctl");
        let mut command = Command::new("journalctl");
        command.args(["--output=json", "--no-pager", "--quiet", "--all"]).args(follow.then_some("--follow"));
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        die_with_parent(&mut command);
        let mut child = command.spawn().map_err(|e| match e.kind() {
            ErrorKind::NotFound => {
                Failure::new("the log is in the journal, and journalctl, which reads it, is not here")
            }
            _ => Failure::new("start journalctl").source(e),
        })?;
        let output = child.stdout.take().context("journalctl has no output")?;
        Ok(Self { child, output })
    }

    /// It has written all: whether it succeeded.
    fn end(mut self) -> Result<()> {
        let mut said = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            let _ = errors.read_to_string(&mut said);
        }
        let status = self.child.wait()?;
        // 1: there is no entry, in some versions.
        if status.success() || said.trim().is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!("journalctl: {}", said.trim())).into())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Entries<'a> {
    wanted: &'a Wanted,
    /// The beginning of an entry.
    rest: Vec<u8>,
    /// Of the last entry.
    cursor: Option<String>,
}

#[derive(PartialEq, Eq)]
enum Took {
    Some,
    /// No later one is wanted.
    Last,
    /// There is no more.
    None,
}

impl Entries<'_> {
    /// Reads once.
    fn take(&mut self, journal: &mut Journal, sink: &mut impl FnMut(&Record<'_>)) -> Result<Took> {
        let mut buffer = vec![0; 64 * 1024];
        let count = match journal.output.read(&mut buffer) {
            Err(e) if e.kind() == ErrorKind::Interrupted => return Ok(Took::Some),
            other => other.context("read from journalctl")?,
        };
        if count == 0 {
            return Ok(Took::None);
        }
        self.rest.extend_from_slice(&buffer[..count]);
        let whole = memchr::memrchr(b'\n', &self.rest).map_or(0, |at| at + 1);
        for line in self.rest[..whole].split_inclusive(|b| *b == b'\n') {
            let Ok(fields) = serde_json::from_slice::<Map<String, Value>>(line) else { continue };
            self.cursor = fields.get("__CURSOR").and_then(Value::as_str).map(str::to_owned).or(self.cursor.take());
            if let Some(record) = record(&fields)
                && !self.wanted.pass_on(&record, sink)
            {
                return Ok(Took::Last);
            }
        }
        self.rest.drain(..whole);
        Ok(Took::Some)
    }
}

fn record(fields: &Map<String, Value>) -> Option<Record<'_>> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let message = match fields.get("MESSAGE")? {
        Value::String(text) => text.as_bytes().into(),
        // Bytes that are no text.
        Value::Array(bytes) => {
            let bytes: Option<Vec<u8>> = bytes.iter().map(|b| u8::try_from(b.as_u64()?).ok()).collect();
            bytes?.into()
        }
        _ => return None,
    };
    let time = match text("SYSLOG_TIMESTAMP") {
        Some(time) => Time::Text(time.into()),
        None => Time::Nanoseconds(text("__REALTIME_TIMESTAMP")?.parse::<i64>().ok()? * 1000),
    };
    let is_own =
        |name: &str| OWN.contains(&name) || name.starts_with(['_', 'S']) || name.starts_with("CONTAINER_PARTIAL");
    let attrs: BTreeMap<_, _> = fields
        .iter()
        .filter(|(name, _)| !is_own(name) && *name != "CONTAINER_TAG")
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    Some(Record {
        text: message,
        ended: text("CONTAINER_PARTIAL_MESSAGE") != Some("true"),
        is_error: text("PRIORITY") == Some("3"),
        time,
        attrs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_become_records() {
        let entry = serde_json::json!({
            "MESSAGE": [104, 255], "PRIORITY": "3", "SYSLOG_TIMESTAMP": "2024-01-01T00:00:00Z", "_PID": "1",
            "CONTAINER_NAME": "box", "CONTAINER_PARTIAL_MESSAGE": "true", "COLOUR": "red", "__CURSOR": "c",
        });
        let found = record(entry.as_object().expect("object")).expect("record");
        assert_eq!((&*found.text, found.ended, found.is_error), (&b"h\xff"[..], false, true));
        assert_eq!(found.time, Time::Text("2024-01-01T00:00:00Z".into()));
        assert_eq!(found.attrs, BTreeMap::from([("COLOUR".to_owned(), "red".to_owned())]));
    }
}
