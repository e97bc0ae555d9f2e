//! What becomes of a container's output besides going to clients: the log drivers.
//!
//! Called by the relay for each piece of output. Promises: writing never stops the container for
//! long. Where the disk is full, or the journal takes nothing, output is left out of the log, the gap
//! is marked in it once there is room again, and a file always ends with a whole record.

mod compress;
pub(crate) mod file;
pub mod frame;
mod journal;
mod json;
mod lines;
mod options;

use std::fs::File;
use std::io;
use std::path::PathBuf;

use anyhow::Result;
use jiff::Timestamp;

use crate::container::config::{ContainerConfig, LogConfig};
use crate::monitor::protocol::Stream;
use crate::store::{Id, Store};

pub use file::Limits;
use journal::Journal;
use lines::{Line, Lines};
pub use options::Driver;

/// How the records of a file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A JSON object on each line.
    Json,
    /// [`frame`].
    Frames,
}

/// The file of a container's log; rotated ones have `.1`, `.2`, … at their end, the newest first, and
/// `.gz` where they are compressed. `None`: its driver has no file. The names are Docker's.
#[must_use]
pub fn path(store: &Store, id: &Id, config: &LogConfig) -> Option<(PathBuf, Format)> {
    let directory = store.container(id);
    match config.r#type.as_str() {
        "json-file" | "" => Some((directory.join(format!("{id}-json.log")), Format::Json)),
        "local" => Some((directory.join("container.log"), Format::Frames)),
        _ => None,
    }
}

/// What tags and journal fields say of a container and its configuration does not.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    pub name: &'a str,
    /// `sha256:…`.
    pub image_id: &'a str,
}

/// An open log.
#[derive(Debug)]
pub struct Log {
    to: To,
    /// Of standard output and error.
    lines: [Lines; 2],
}

#[derive(Debug)]
enum To {
    File {
        file: file::LogFile,
        format: Format,
        /// What log options add to each record, as JSON; empty: nothing.
        attrs: Vec<u8>,
        /// Records that wait to be written.
        records: Vec<u8>,
    },
    Journal(Journal),
    Nowhere,
}

impl Log {
    /// Opens the log of a container, at its end.
    ///
    /// # Errors
    /// The file cannot be opened; there is no journald.
    pub fn open(store: &Store, config: &ContainerConfig, of: &Names<'_>) -> Result<Self> {
        let log_config = &config.host_config.log_config;
        let to = match Driver::check(log_config)? {
            Driver::JsonFile(limits) | Driver::Local(limits) => {
                let mut attrs = options::attributes(config);
                let tag = options::tag(config, of, "")?;
                if !tag.is_empty() {
                    attrs.insert("tag".to_owned(), tag);
                }
                let attrs = if attrs.is_empty() { Vec::new() } else { serde_json::to_vec(&attrs)? };
                match path(store, &config.id, log_config) {
                    Some((path, format)) => To::File {
                        file: file::LogFile::open(path, limits, format)?,
                        format,
                        attrs,
                        records: Vec::new(),
                    },
                    None => To::Nowhere,
                }
            }
            Driver::Journald => To::Journal(Journal::open(config, of)?),
            Driver::None => To::Nowhere,
        };
        Ok(Self { to, lines: Default::default() })
    }

    /// Whether it wants the output: without a log, nothing has to be read.
    #[must_use]
    pub fn wants_output(&self) -> bool {
        !matches!(self.to, To::Nowhere)
    }

    /// Takes a piece of output as it came. Returns what the user should be told, the first time that
    /// the log cannot be written.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> Option<String> {
        let now = Now::get();
        let Self { to, lines } = self;
        lines[usize::from(stream == Stream::Error)].push(bytes, |line| to.take(line, stream, &now));
        to.flush(&now);
        match to {
            To::File { file, .. } => file.take_problem(),
            To::Journal(journal) => journal.take_problem(),
            To::Nowhere => None,
        }
    }

    /// How many bytes it should be given at once: while it is followed, so few that they do not begin
    /// many files, however short their lines are.
    #[must_use]
    pub fn piece(&self) -> usize {
        match &self.to {
            To::File { file, .. } => file.piece(),
            _ => usize::MAX,
        }
    }

    /// Writes what is left of lines that never ended.
    pub fn finish(&mut self) {
        let now = Now::get();
        let Self { to, lines } = self;
        for (lines, stream) in lines.iter_mut().zip([Stream::Output, Stream::Error]) {
            lines.finish(|line| to.take(line, stream, &now));
        }
        to.flush(&now);
    }

    /// Gives back the memory that a burst needed.
    pub fn rest(&mut self) {
        for lines in &mut self.lines {
            lines.rest();
        }
        match &mut self.to {
            To::File { records, .. } => *records = Vec::new(),
            To::Journal(journal) => journal.rest(),
            To::Nowhere => {}
        }
    }

    /// The files of the log, the oldest first, and whether each is compressed. From now on
    /// [`Log::begun`] has those that are added.
    ///
    /// # Errors
    /// They cannot be opened.
    pub fn follow(&mut self) -> io::Result<Vec<(File, bool)>> {
        match &mut self.to {
            To::File { file, .. } => file.follow(),
            _ => Ok(Vec::new()),
        }
    }

    /// Files that were begun since this was asked last.
    pub fn begun(&mut self) -> Vec<File> {
        match &mut self.to {
            To::File { file, .. } => file.begun(),
            _ => Vec::new(),
        }
    }

    /// Nobody follows any more.
    pub fn unfollow(&mut self) {
        if let To::File { file, .. } = &mut self.to {
            file.unfollow();
        }
    }
}

/// The time of a piece of output, in the forms that records have.
struct Now {
    text: String,
    nanoseconds: i64,
}

impl Now {
    fn get() -> Self {
        let now = Timestamp::now();
        Self { text: now.to_string(), nanoseconds: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX) }
    }
}

impl To {
    fn take(&mut self, line: Line<'_>, stream: Stream, now: &Now) {
        match self {
            Self::File { file, format, attrs, records } => {
                record(*format, records, line, stream, attrs, now);
                if records.len() >= file.batch() {
                    self.flush(now);
                }
            }
            Self::Journal(journal) => journal.send(line, stream, &now.text),
            Self::Nowhere => {}
        }
    }

    fn flush(&mut self, now: &Now) {
        if let Self::File { file, format, records, .. } = self
            && !records.is_empty()
        {
            file.append(records, |text| {
                let mut mark = Vec::new();
                record(*format, &mut mark, Line { text: text.as_bytes(), ended: true }, Stream::Error, &[], now);
                mark
            });
            records.clear();
        }
    }
}

fn record(format: Format, out: &mut Vec<u8>, line: Line<'_>, stream: Stream, attrs: &[u8], now: &Now) {
    match format {
        Format::Json => json::record(out, line, stream, attrs, &now.text),
        Format::Frames => frame::record(out, line, stream, now.nanoseconds),
    }
}
