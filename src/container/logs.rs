//! Reading what a container wrote: Docker's json-file format, a record a line, in
//! `<id>-json.log` and, where it is rotated, `.1`, `.2`, … the newest first.
//!
//! The last lines are found from the end, without reading what lies before them. Following sleeps
//! until the kernel tells of a change, and ends with the container's monitor.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::Pid;
use serde::Deserialize;

use crate::container::config::ContainerConfig;
use crate::container::state::{self, Process};
use crate::error::Failure;
use crate::store::{Id, Store, record};
use crate::sys::pidfd;

/// Which records are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// Go on until the container ends.
    pub follow: bool,
    /// Only the last lines; `None`: all.
    pub tail: Option<u64>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// A piece of output: a line, or a part of a long one (then without `\n` at its end).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Record {
    pub log: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// RFC 3339 with up to nine digits of the second, UTC.
    pub time: String,
}

/// Hands the records to `sink`, the oldest first; `flush` is called when there is nothing more
/// for now.
///
/// # Errors
/// The container keeps no log, or it cannot be read.
pub fn read(
    store: &Store,
    id: &Id,
    wanted: &Wanted,
    mut sink: impl FnMut(&Record),
    mut flush: impl FnMut(),
) -> Result<()> {
    let config = crate::container::start::config(store, id)?;
    let path = path(store, &config)?;
    // Before the first byte is read, so that no change goes by unseen.
    let watch = if wanted.follow { Watch::new(store, id)? } else { None };
    let mut files = open_all(&path)?;
    let start = match wanted.tail {
        Some(lines) => tail(&mut files, lines)?,
        None => (0, 0),
    };
    let mut current = None;
    for (index, mut file) in files.into_iter().enumerate().skip(start.0) {
        let from = if index == start.0 { start.1 } else { 0 };
        file.seek(SeekFrom::Start(from))?;
        let mut reader = Reader { file, rest: Vec::new() };
        if !reader.drain(wanted, &mut sink)? {
            flush();
            return Ok(());
        }
        current = Some(reader);
    }
    flush();
    let Some(watch) = watch else { return Ok(()) };
    loop {
        let has_ended = watch.wait(wanted.until)?;
        let goes_on = follow(&path, &mut current, wanted, &mut sink)?;
        flush();
        if has_ended || !goes_on {
            return Ok(());
        }
    }
}

/// Where the log is.
///
/// # Errors
/// The container has none.
fn path(store: &Store, config: &ContainerConfig) -> Result<PathBuf> {
    if config.host_config.log_config.r#type == "none" {
        return Err(Failure::new("configured logging driver does not support reading").exit(1).into());
    }
    Ok(store.container(&config.id).join(format!("{}-json.log", config.id)))
}

fn numbered(path: &Path, n: u32) -> PathBuf {
    if n == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

/// All files that are there, the oldest first.
fn open_all(path: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for n in 0.. {
        match File::open(numbered(path, n)) {
            // A rotation between two opens shows a file again: by its number, it is the same.
            Ok(file) if files.last().is_some_and(|last| is_same(last, &file)) => {}
            Ok(file) => files.push(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => break,
            Err(e) => return Err(e).with_context(|| format!("open the log {path:?}")),
        }
    }
    files.reverse();
    Ok(files)
}

fn is_same(a: &File, b: &File) -> bool {
    let number = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
    number(a) == number(b)
}

/// A file that is read record by record as it grows.
struct Reader {
    file: File,
    /// The beginning of a record whose end has not been written yet.
    rest: Vec<u8>,
}

impl Reader {
    /// Reads to the end; false: past what is wanted.
    fn drain(&mut self, wanted: &Wanted, sink: &mut impl FnMut(&Record)) -> Result<bool> {
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let count = match self.file.read(&mut chunk) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => other.context("read the log")?,
            };
            if count == 0 {
                return Ok(true);
            }
            self.rest.extend_from_slice(&chunk[..count]);
            let whole = self.rest.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            for line in self.rest[..whole].split_inclusive(|b| *b == b'\n') {
                if !pass_on(line, wanted, sink) {
                    return Ok(false);
                }
            }
            self.rest.drain(..whole);
        }
    }
}

/// One record to the sink if it is wanted; false: no later one is.
fn pass_on(line: &[u8], wanted: &Wanted, sink: &mut impl FnMut(&Record)) -> bool {
    // A line that a power loss tore is left out, as Docker does.
    let Ok(record) = serde_json::from_slice::<Record>(line) else { return true };
    if wanted.since.is_some() || wanted.until.is_some() {
        let Ok(time) = record.time.parse::<Timestamp>() else { return true };
        if wanted.until.is_some_and(|until| time > until) {
            return false;
        }
        if wanted.since.is_some_and(|since| time < since) {
            return true;
        }
    }
    sink(&record);
    true
}

/// Reads what was added, over rotations; false: past what is wanted.
fn follow(path: &Path, current: &mut Option<Reader>, wanted: &Wanted, sink: &mut impl FnMut(&Record)) -> Result<bool> {
    if let Some(reader) = current
        && !reader.drain(wanted, sink)?
    {
        return Ok(false);
    }
    // Those that came after the one at hand.
    let mut newer = open_all(path)?;
    if let Some(reader) = current {
        let place = newer.iter().position(|file| is_same(file, &reader.file));
        newer.drain(..place.map_or(0, |at| at + 1));
    }
    for file in newer {
        let mut reader = Reader { file, rest: Vec::new() };
        let goes_on = reader.drain(wanted, sink)?;
        *current = Some(reader);
        if !goes_on {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where the last `lines` lines begin: a file's index and a place in it.
fn tail(files: &mut [File], lines: u64) -> Result<(usize, u64)> {
    let mut found = 0;
    // The last line counts though its end may not have come yet.
    let mut ends_line = true;
    for (index, file) in files.iter().enumerate().rev() {
        let mut end = file.metadata()?.len();
        let mut backwards = Backwards { file, block: Vec::new(), from: end };
        while let Some(record) = backwards.record_before(end)? {
            let is_end = record.is_line_end || ends_line;
            ends_line = false;
            if is_end {
                if found == lines {
                    return Ok((index, end));
                }
                found += 1;
            }
            end = record.from;
        }
    }
    Ok((0, 0))
}

/// A file read block by block from its end.
struct Backwards<'a> {
    file: &'a File,
    /// What was read, from `from` on.
    block: Vec<u8>,
    from: u64,
}

struct Place {
    from: u64,
    is_line_end: bool,
}

impl Backwards<'_> {
    /// The record that ends at `end`; `None` at the beginning of the file.
    fn record_before(&mut self, end: u64) -> Result<Option<Place>> {
        const BLOCK: u64 = 64 * 1024;
        if end == 0 {
            return Ok(None);
        }
        loop {
            let known = usize::try_from(end - self.from)?;
            // The newline at the very end is this record's own.
            let body = self.block.get(..known.saturating_sub(1)).unwrap_or_default();
            let newline = body.iter().rposition(|b| *b == b'\n');
            if newline.is_some() || self.from == 0 && known > 0 {
                let at = newline.map_or(0, |at| at + 1);
                let record = serde_json::from_slice::<Record>(&self.block[at..known]);
                let is_line_end = record.is_ok_and(|record| record.log.ends_with('\n'));
                return Ok(Some(Place { from: self.from + at as u64, is_line_end }));
            }
            let more = BLOCK.min(self.from);
            let mut block = vec![0; usize::try_from(more)?];
            self.from -= more;
            self.file.read_exact_at(&mut block, self.from).context("read the log")?;
            // What lies behind `end` was dealt with.
            block.extend_from_slice(&self.block[..known]);
            self.block = block;
        }
    }
}

/// What wakes a follower.
struct Watch {
    changes: Inotify,
    /// Of the monitor: it ends when all is written.
    monitor: OwnedFd,
}

impl Watch {
    /// `None`: nothing will be added, the container does not run.
    fn new(store: &Store, id: &Id) -> Result<Option<Self>> {
        let dir = store.container(id);
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).context("watch the log")?;
        let events = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        changes.add_watch(&dir, events).map_err(|e| {
            let failure = Failure::new(format!("watch the log in {dir:?}")).source(e);
            if e == Errno::ENOSPC { failure.hint("raise fs.inotify.max_user_watches") } else { failure }
        })?;
        let process: Option<Process> = record::read(&dir.join(state::PROCESS))?;
        let Some(monitor) = process.and_then(|process| pidfd::open(Pid::from_raw(process.monitor)).ok()) else {
            return Ok(None);
        };
        // Asked after the descriptor was opened: alive now, it is the one that was opened.
        Ok(state::is_alive(store, id).then_some(Self { changes, monitor }))
    }

    /// Sleeps until something changed; true: the monitor has left, or `until` is past.
    fn wait(&self, until: Option<Timestamp>) -> Result<bool> {
        let left = until.map(|until| until.duration_since(Timestamp::now()));
        if left.is_some_and(|left| left.is_negative()) {
            return Ok(true);
        }
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left.unsigned_abs() + std::time::Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [
            PollFd::new(self.monitor.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.changes.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e).context("wait for the log"),
        }
        let has_ended = fds[0].revents().is_some_and(|events| !events.is_empty());
        // Only that there were changes counts, not which.
        let _ = self.changes.read_events();
        Ok(has_ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(lines: &[(&str, &str)]) -> File {
        use std::io::Write;
        let mut file = tempfile::tempfile().unwrap();
        for (n, (stream, log)) in lines.iter().enumerate() {
            let record = serde_json::json!({"log": log, "stream": stream, "time": format!("2024-01-01T00:00:{n:02}Z")});
            writeln!(file, "{record}").unwrap();
        }
        file
    }

    /// The logs from the place on.
    fn from(files: &[File], (index, at): (usize, u64)) -> String {
        let mut text = String::new();
        for (n, file) in files.iter().enumerate().skip(index) {
            let mut file = file.try_clone().unwrap();
            file.seek(SeekFrom::Start(if n == index { at } else { 0 })).unwrap();
            Reader { file, rest: Vec::new() }.drain(&Wanted::default(), &mut |r| text += &r.log).unwrap();
        }
        text
    }

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        let mut files = [
            write(&[("stdout", "a\n"), ("stdout", "b\n")]),
            write(&[("stdout", "c1"), ("stdout", "c2\n"), ("stderr", "d\n")]),
        ];
        for (lines, expected) in [(0, ""), (1, "d\n"), (2, "c1c2\nd\n"), (3, "b\nc1c2\nd\n"), (9, "a\nb\nc1c2\nd\n")] {
            let place = tail(&mut files, lines).unwrap();
            assert_eq!(from(&files, place), expected, "{lines}");
        }
    }

    #[test]
    fn a_last_line_without_an_end_counts() {
        let mut files = [write(&[("stdout", "a\n"), ("stdout", "b")])];
        let place = tail(&mut files, 1).unwrap();
        assert_eq!(from(&files, place), "b");
        let place = tail(&mut files, 2).unwrap();
        assert_eq!(from(&files, place), "a\nb");
    }

    #[test]
    fn lines_longer_than_a_block() {
        let long = "x".repeat(200_000) + "\n";
        let mut files = [write(&[("stdout", "a\n"), ("stdout", &long), ("stdout", "b\n")])];
        let place = tail(&mut files, 2).unwrap();
        assert_eq!(from(&files, place), long + "b\n");
    }

    #[test]
    fn times_bound_what_is_shown() {
        let file = write(&[("stdout", "0\n"), ("stdout", "1\n"), ("stdout", "2\n"), ("stdout", "3\n")]);
        let mut text = String::new();
        let wanted = Wanted {
            since: Some("2024-01-01T00:00:01Z".parse().unwrap()),
            until: Some("2024-01-01T00:00:02Z".parse().unwrap()),
            ..Wanted::default()
        };
        let mut file = file;
        file.seek(SeekFrom::Start(0)).unwrap();
        let goes_on = Reader { file, rest: Vec::new() }.drain(&wanted, &mut |r| text += &r.log).unwrap();
        assert_eq!((text.as_str(), goes_on), ("1\n2\n", false));
    }
}
