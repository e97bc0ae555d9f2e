//! Sizes and spans of time in the words that Docker uses for them (its `go-units`).

use std::fmt::Write;

/// `4.5MB`: powers of 1000 with three significant digits, as tables show sizes.
#[must_use]
pub fn size(bytes: u64) -> String {
    scaled(bytes, 1000, 3, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// `4.503MB`: with four significant digits, as `system df` shows sizes.
#[must_use]
pub fn precise_size(bytes: u64) -> String {
    scaled(bytes, 1000, 4, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// `7.755GiB`: powers of 1024 with four significant digits, as `info` and `stats` show memory.
#[must_use]
pub fn binary_size(bytes: u64) -> String {
    scaled(bytes, 1024, 4, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

#[allow(clippy::cast_precision_loss, reason = "three or four digits are shown")]
fn scaled(bytes: u64, base: u64, digits: usize, units: &[&str]) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base as f64 && unit + 1 < units.len() {
        value /= base as f64;
        unit += 1;
    }
    significant(value, digits) + units[unit]
}

/// C's `%.{digits}g` for numbers from 0 up to 1024.
fn significant(value: f64, digits: usize) -> String {
    let before = if value >= 1000.0 {
        4
    } else if value >= 100.0 {
        3
    } else if value >= 10.0 {
        2
    } else {
        1
    };
    let text = format!("{value:.*}", digits.saturating_sub(before));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// `About a minute`, `3 weeks`: a span of `seconds`.
#[must_use]
pub fn duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    // Hours are rounded, the others are cut off.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// `3 weeks ago`.
#[must_use]
pub fn ago(then: jiff::Timestamp) -> String {
    duration(jiff::Timestamp::now().as_second() - then.as_second()) + " ago"
}

/// `2023-11-14 22:13:20 +0000 UTC`, as Go prints a time, in the zone of this machine.
#[must_use]
pub fn local_time(time: jiff::Timestamp) -> String {
    go_time(time, "%Y-%m-%d %H:%M:%S %z %Z")
}

/// [`local_time`] with what there is behind the second.
#[must_use]
pub fn exact_local_time(time: jiff::Timestamp) -> String {
    go_time(time, "%Y-%m-%d %H:%M:%S%.f %z %Z")
}

/// The zone's abbreviation stands last, as Go has it.
fn go_time(time: jiff::Timestamp, format: &str) -> String {
    let zone = jiff::tz::TimeZone::system();
    let time = time.to_zoned(zone);
    let mut text = String::new();
    let _ = write!(text, "{}", time.strftime(format));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            (0, "0B"),
            (12, "12B"),
            (999, "999B"),
            (1000, "1kB"),
            (4_500_000, "4.5MB"),
            (123_456_789, "123MB"),
            (1_234_567_890, "1.23GB"),
            (10_050_000, "10.1MB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text, "{bytes}");
        }
        assert_eq!(binary_size(8_327_000_000), "7.755GiB");
        assert_eq!(binary_size(1023), "1023B");
    }

    #[test]
    fn spans() {
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3600, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86400, "2 weeks"),
            (60 * 86400, "2 months"),
            (730 * 86400, "2 years"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }
}
