//! What becomes of a container's output besides going to clients: the log drivers.
//!
//! Called by the relay for each piece of output. Promises: writing never stops the container. Where
//! the disk is full, output is left out of the log, the gap is marked in it once there is room again,
//! and the file always ends with a whole line.

mod encode;
mod file;

use std::path::PathBuf;

use anyhow::Result;

use crate::container::config::LogConfig;
use crate::error::Failure;
use crate::monitor::protocol::Stream;
use crate::store::{Id, Store};

pub use file::Limits;

/// The file of the `json-file` driver, named as Docker names it; rotated ones have `.1`, `.2`, … at
/// their end, the newest first.
#[must_use]
pub fn path(store: &Store, id: &Id) -> PathBuf {
    store.container(id).join(format!("{id}-json.log"))
}

/// A log driver with its options, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Docker's file format, read by `ctr logs`.
    JsonFile(Limits),
    /// No log.
    None,
}

impl Driver {
    /// From what `--log-driver` and `--log-opt` say.
    ///
    /// # Errors
    /// An unknown driver, an unknown option, an option's bad value, each by name.
    pub fn check(config: &LogConfig) -> Result<Self> {
        match config.r#type.as_str() {
            "json-file" | "" => Ok(Self::JsonFile(Limits::check(&config.config)?)),
            "none" => match config.config.keys().next() {
                None => Ok(Self::None),
                Some(option) => Err(unknown_option(option, "none")),
            },
            other => Err(Failure::new(format!("unknown log driver {other:?}"))
                .hint("the log drivers are json-file and none")
                .into()),
        }
    }
}

fn unknown_option(option: &str, driver: &str) -> anyhow::Error {
    Failure::new(format!("unknown log opt {option:?} for {driver} log driver")).into()
}

/// An open log.
#[derive(Debug)]
pub struct Log {
    file: Option<file::JsonFile>,
    output: encode::Lines,
    error: encode::Lines,
}

impl Log {
    /// Opens the log of a container, at its end.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(driver: Driver, store: &Store, id: &Id) -> Result<Self> {
        let file = match driver {
            Driver::JsonFile(limits) => Some(file::JsonFile::open(path(store, id), limits)?),
            Driver::None => None,
        };
        Ok(Self { file, output: encode::Lines::new("stdout"), error: encode::Lines::new("stderr") })
    }

    /// Takes a piece of output as it came. Returns what the user should be told, the first time that
    /// the log cannot be written.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> Option<String> {
        let file = self.file.as_mut()?;
        let lines = if stream == Stream::Error { &mut self.error } else { &mut self.output };
        let now = jiff::Timestamp::now().to_string();
        lines.push(bytes, &now, |records| file.append(records, &now));
        file.take_problem()
    }

    /// Writes what is left of lines that never ended.
    pub fn finish(&mut self) {
        let Some(file) = self.file.as_mut() else { return };
        let now = jiff::Timestamp::now().to_string();
        for lines in [&mut self.output, &mut self.error] {
            lines.finish(&now, |records| file.append(records, &now));
        }
    }
}
