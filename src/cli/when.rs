//! Points in time as Docker takes them: RFC 3339 and its beginnings, seconds since 1970, or a span
//! before now (`10m`, `1h30m`).

use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// # Errors
/// Docker's sentence.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    at(text, Timestamp::now(), &TimeZone::system())
        .ok_or_else(|| format!("failed to parse value as time or duration: {text:?}"))
}

fn at(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    if let Some(span) = span(text) {
        return now.checked_sub(span).ok();
    }
    if text.contains('-') || text.contains('T') {
        if let Ok(time) = text.parse::<Timestamp>() {
            return Some(time);
        }
        // `2006-01-02T15` and `2006-01-02` mean this machine's zone, unless they end with one.
        let (civil, zone) = zone_of(text, zone)?;
        let time = match civil.split_once('T') {
            None => civil.parse::<Date>().ok()?.to_datetime(jiff::civil::Time::midnight()),
            Some((_, hour)) if hour.len() == 2 => format!("{civil}:00").parse::<DateTime>().ok()?,
            Some(_) => civil.parse::<DateTime>().ok()?,
        };
        return zone.to_timestamp(time).ok();
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: i32 = format!("{fraction:0<9}").parse().ok()?;
    Timestamp::new(seconds.parse().ok()?, nanos).ok()
}

/// What is before the zone, and the zone: `Z`, `+07:00`, or the one that is meant by none.
fn zone_of<'a>(text: &'a str, zone: &TimeZone) -> Option<(&'a str, TimeZone)> {
    if let Some(civil) = text.strip_suffix(['Z', 'z']) {
        return Some((civil, TimeZone::UTC));
    }
    // Of `2006-01-02` the first dashes are the date's.
    let Some(at) = text.get(10..).and_then(|rest| rest.find(['+', '-'])) else { return Some((text, zone.clone())) };
    let (civil, offset) = text.split_at(at + 10);
    let (hours, minutes) = offset[1..].split_once(':')?;
    let seconds = hours.parse::<u8>().ok().map(i32::from)? * 3600 + minutes.parse::<u8>().ok().map(i32::from)? * 60;
    let offset = Offset::from_seconds(if offset.starts_with('-') { -seconds } else { seconds }).ok()?;
    Some((civil, TimeZone::fixed(offset)))
}

/// Go's durations: numbers with units, one after another.
pub(super) fn span(text: &str) -> Option<SignedDuration> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(digits);
        let letters = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, next) = behind.split_at(letters);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = next;
    }
    SignedDuration::try_from_secs_f64(sign * total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_dockers_forms() {
        let now: Timestamp = "2024-05-01T12:00:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let cases = [
            ("10m", "2024-05-01T11:50:00Z"),
            ("1h30m", "2024-05-01T10:30:00Z"),
            ("1.5s", "2024-05-01T11:59:58.5Z"),
            ("-1h", "2024-05-01T13:00:00Z"),
            ("1700000000", "2023-11-14T22:13:20Z"),
            ("1700000000.5", "2023-11-14T22:13:20.5Z"),
            ("2024-01-02T03:04:05.6Z", "2024-01-02T03:04:05.6Z"),
            ("2024-01-02T03:04:05+01:00", "2024-01-02T02:04:05Z"),
            ("2024-01-02T03:04:05", "2024-01-02T01:04:05Z"),
            ("2024-01-02T03:04", "2024-01-02T01:04:00Z"),
            ("2024-01-02T03", "2024-01-02T01:00:00Z"),
            ("2024-01-02", "2024-01-01T22:00:00Z"),
            ("2024-01-02Z", "2024-01-02T00:00:00Z"),
            ("2024-01-02+07:00", "2024-01-01T17:00:00Z"),
            ("2024-01-02T03+01:00", "2024-01-02T02:00:00Z"),
            ("2024-01-02T03:04-01:30", "2024-01-02T04:34:00Z"),
            ("2024-01-02T03Z", "2024-01-02T03:00:00Z"),
            ("2024-01-02T03:04Z", "2024-01-02T03:04:00Z"),
        ];
        for (text, expected) in cases {
            assert_eq!(at(text, now, &zone), Some(expected.parse().unwrap()), "{text}");
        }
        for text in ["", "foo", "10", "10x", "2024-13-01", "1.2.3", "2024-01-02+7", "2024-01-02T", "é2024-01-0é2"] {
            let found = at(text, now, &zone);
            assert!(found.is_none() || text == "10", "{text}: {found:?}");
        }
    }
}
