//! `HEALTHCHECK`, as Docker's configuration has it (Dockerfile reference, "HEALTHCHECK").

use serde_json::{Map, Value, json};

/// The options and where their values go; times are kept in nanoseconds.
const TIMES: [(&str, &str); 4] = [
    ("--interval", "Interval"),
    ("--timeout", "Timeout"),
    ("--start-period", "StartPeriod"),
    ("--start-interval", "StartInterval"),
];

/// What stands behind the word, as the configuration's `Healthcheck`.
///
/// # Errors
/// Why it makes no sense, in Docker's words where it has some.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut check = Map::new();
    let mut rest = text.trim();
    while rest.starts_with("--") {
        let (option, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        rest = after.trim_start();
        let (name, value) = option.split_once('=').ok_or_else(|| format!("{option:?} has no value"))?;
        if name == "--retries" {
            let retries = value.parse::<u32>().map_err(|_| format!("invalid number of retries {value:?}"))?;
            check.insert("Retries".into(), json!(retries));
            continue;
        }
        let key = TIMES.iter().find(|(known, _)| *known == name).ok_or_else(|| format!("unknown flag {name:?}"))?.1;
        let nanoseconds = duration(value).ok_or_else(|| format!("invalid duration {value:?}"))?;
        if nanoseconds != 0 && nanoseconds < 1_000_000 {
            return Err(format!("Interval {:?} cannot be less than 1ms", name.trim_start_matches('-')));
        }
        check.insert(key.into(), json!(nanoseconds));
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    let test = match kind.to_uppercase().as_str() {
        "NONE" if command.is_empty() && check.is_empty() => vec!["NONE".to_owned()],
        "NONE" => return Err("HEALTHCHECK NONE takes no arguments".into()),
        "CMD" if command.is_empty() => return Err("Missing command after HEALTHCHECK CMD".into()),
        "CMD" => match super::json_words(command) {
            Some(words) if words.is_empty() => return Err("Missing command after HEALTHCHECK CMD".into()),
            Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            None => vec!["CMD-SHELL".to_owned(), command.to_owned()],
        },
        _ => return Err(format!("Unknown type {kind:?} in HEALTHCHECK (try CMD)")),
    };
    let mut whole = Map::from_iter([("Test".to_owned(), json!(test))]);
    whole.extend(check);
    Ok(Value::Object(whole))
}

/// Go's durations, `1m30s`, `1.5h`, `0`: nanoseconds.
fn duration(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut total = 0f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..letters] {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
        rest = &rest[letters..];
    }
    #[allow(clippy::cast_possible_truncation, reason = "checked to be in range")]
    (!text.is_empty() && (0.0..9e18).contains(&total)).then_some(total.round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_dockerfile_can_say() {
        assert_eq!(parse("NONE"), Ok(json!({"Test": ["NONE"]})));
        assert_eq!(parse("CMD curl -f x || exit 1"), Ok(json!({"Test": ["CMD-SHELL", "curl -f x || exit 1"]})));
        assert_eq!(
            parse("--interval=1m30s --timeout=500ms --retries=3 CMD [\"a\", \"b\"]"),
            Ok(json!({"Test": ["CMD", "a", "b"], "Interval": 90_000_000_000i64, "Timeout": 500_000_000, "Retries": 3}))
        );
        for bad in ["", "FOO x", "CMD", "NONE x", "--interval=x CMD a", "--interval=1ns CMD a", "--foo=1 CMD a"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(
            ["1h", "1.5s", "0", "10ms"].map(duration),
            [3_600_000_000_000, 1_500_000_000, 0, 10_000_000].map(Some)
        );
        assert_eq!(["", "5", "s", "1x", "-1s"].map(duration), [None; 5]);
    }
}
