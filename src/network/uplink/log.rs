//! What the uplink has to say: lines of `networks/uplink/log`, which is its standard error.

use std::io::Write;
use std::time::{Duration, Instant};

/// Writes a line with the time.
pub fn say(text: &str) {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    // Where the disk is full, nobody can be told.
    let _ = writeln!(std::io::stderr(), "{now} ctr-uplink[{}]: {text}", std::process::id());
}

/// A line that is not repeated while what it says goes on.
#[derive(Debug, Default)]
pub struct Seldom(Option<Instant>);

impl Seldom {
    /// Writes it, unless it was written less than a minute ago.
    pub fn say(&mut self, text: impl FnOnce() -> String) {
        let now = Instant::now();
        if self.0.is_none_or(|last| now.duration_since(last) > Duration::from_secs(60)) {
            self.0 = Some(now);
            say(&text());
        }
    }
}
