//! Reading what a container wrote, whichever log driver keeps it.
//!
//! The last lines of a file are found from its end, without reading what lies before them. Following
//! sleeps until the kernel tells of a change, and ends with the container: [`live`].

mod files;
mod journal;
mod live;
mod record;

use anyhow::Result;
use jiff::Timestamp;

use crate::container::start;
use crate::error::Failure;
use crate::monitor::log;
use crate::store::{Id, Store};

pub use record::{Record, Time};

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

impl Wanted {
    /// One record to the sink if it is wanted; false: no later one is.
    fn pass_on(&self, record: &Record<'_>, sink: &mut impl FnMut(&Record<'_>)) -> bool {
        if self.since.is_some() || self.until.is_some() {
            let Some(time) = record.time.instant() else { return true };
            if self.until.is_some_and(|until| time > until) {
                return false;
            }
            if self.since.is_some_and(|since| time < since) {
                return true;
            }
        }
        sink(record);
        true
    }
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
    mut sink: impl FnMut(&Record<'_>),
    mut flush: impl FnMut(),
) -> Result<()> {
    let config = start::config(store, id)?.host_config.log_config;
    if config.r#type == "journald" {
        return journal::read(store, id, wanted, &mut sink, &mut flush);
    }
    let Some((path, format)) = log::path(store, id, &config) else {
        return Err(Failure::new("configured logging driver does not support reading").exit(1).into());
    };
    let live = if wanted.follow { live::Live::open(store, id)? } else { None };
    let (live, mut files) = match live {
        Some((live, files)) => (Some(live), files),
        None => (None, files::open_all(&path)?),
    };
    let start = match wanted.tail {
        Some(lines) => files::tail(&mut files, format, lines)?,
        None => files::Start::default(),
    };
    let Some(live) = live else {
        for (index, file) in files.into_iter().enumerate().skip(start.file) {
            let mut reader = file.reader(format, start.within(index));
            if !reader.drain(wanted, &mut sink)? {
                break;
            }
        }
        flush();
        return Ok(());
    };
    live.follow(files, format, &start, wanted, &mut sink, &mut flush)
}
