//! `--debug` and `--log-level`: what ctr does, a line each on standard error: `ctr: debug: …`. Whoever
//! gives neither flag has no logger, and pays for none.
//!
//! No record may quote a secret: addresses are written without user and query, and of what is sent
//! nothing is written.

use anyhow::Result;
use log::{LevelFilter, Log, Metadata, Record};

use crate::error::{self, Failure};

/// Docker's words for levels, which are logrus's.
const LEVELS: [(&str, LevelFilter); 8] = [
    ("panic", LevelFilter::Off),
    ("fatal", LevelFilter::Off),
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("warning", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Debug),
];

/// Standard error.
struct Lines;

impl Log for Lines {
    /// Ours alone: libraries quote headers and whole addresses.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"))
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            error::note(record.level().as_str(), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Shows what is of this level or graver from here on.
///
/// # Errors
/// There is no such level: Docker's words.
pub fn begin(level: Option<&str>, debug: bool) -> Result<()> {
    let known = |text: &str| LEVELS.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, level)| *level);
    let named = match level {
        Some(text) => Some(known(text).ok_or_else(|| Failure::new(format!("Unable to parse logging level: {text}")))?),
        None => None,
    };
    let Some(level) = debug.then_some(LevelFilter::Debug).or(named) else { return Ok(()) };
    if log::set_logger(&Lines).is_ok() {
        log::set_max_level(level);
    }
    Ok(())
}
