//! How often something is asked of a registry, and how long in between.

use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use ureq::Body;
use ureq::http::{Response, header};

use super::answer::{complaint, finish};
use crate::error::Failure;

/// Tries of one request, or of a transfer that does not get on.
pub const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// What a registry may ask us to wait; beyond, people rather decide themselves.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// How often something was tried, and the pauses in between.
#[derive(Debug, Default)]
pub struct Tries {
    failed: u32,
}

impl Tries {
    /// Whether there is one more, after a growing pause.
    pub fn again(&mut self) -> bool {
        self.failed += 1;
        if self.failed >= TRIES {
            return false;
        }
        std::thread::sleep(FIRST_PAUSE * 2u32.pow(self.failed - 1));
        true
    }

    /// It got on: what failed before counts no more.
    pub fn got_on(&mut self) {
        self.failed = 0;
    }

    /// Waits as long as a busy registry wants, or as [`Self::again`].
    ///
    /// # Errors
    /// It was the last try, or the registry wants to be left alone for long.
    pub fn after(&mut self, response: Response<Body>) -> Result<()> {
        let status = response.status().as_u16();
        let wait = retry_after(&response);
        let limits = "it limits how often one may ask: log in, or wait some minutes";
        if let Some(wait) = wait.filter(|wait| *wait > LONGEST_PAUSE) {
            let message =
                format!("the registry answers with status {status} and wants no question for {} s", wait.as_secs());
            return Err(Failure::new(message).hint(limits).into());
        }
        self.failed += 1;
        if self.failed >= TRIES {
            let said = complaint(response);
            let failure = Failure::new(format!("the registry answers with status {status}, {TRIES} times"));
            let failure =
                failure.hint(if status == 429 { limits } else { "it has a fault of its own: try again later" });
            return Err(if said.is_empty() { failure } else { failure.source(said) }.into());
        }
        finish(response);
        std::thread::sleep(wait.unwrap_or(FIRST_PAUSE * 2u32.pow(self.failed - 1)));
        Ok(())
    }
}

/// `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3).
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    wait_of(response.headers().get(header::RETRY_AFTER)?.to_str().ok()?, Timestamp::now())
}

fn wait_of(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    let seconds = then.as_second() - now.as_second();
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_in_seconds_or_a_date() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().expect("a time");
        assert_eq!(wait_of("7", now), Some(Duration::from_secs(7)));
        assert_eq!(wait_of("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(37)));
        assert_eq!(wait_of("Sun, 06 Nov 1994 08:40:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(wait_of("soon", now), None);
    }
}
