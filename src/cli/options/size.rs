//! Sizes as Docker reads them: `512m`, `1.5GiB`, `64kb`; units are powers of 1024 whatever their
//! spelling.

/// Bytes of a size that may not be negative.
///
/// # Errors
/// Docker's sentence.
pub fn bytes(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let digits = text.rfind(|c: char| c.is_ascii_digit() || matches!(c, '.' | ' ')).ok_or_else(invalid)? + 1;
    let (number, suffix) = text.split_at(digits);
    let bad_suffix = || format!("invalid suffix: '{suffix}'");
    let lower = suffix.to_ascii_lowercase();
    let mut letters = lower.chars();
    let power = match letters.next() {
        None | Some('b') => 0,
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some('p') => 5,
        Some(_) => return Err(bad_suffix()),
    };
    match letters.as_str() {
        "" => {}
        "b" | "ib" if power > 0 => {}
        _ => return Err(bad_suffix()),
    }
    let number = number.trim_end();
    // "inf" and "1e9" are numbers to Rust and none to a person who asks for memory.
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(invalid());
    }
    let unit = 1i64 << (10 * power);
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(unit).ok_or_else(invalid);
    }
    let value: f64 = number.parse().map_err(|_| invalid())?;
    #[allow(clippy::cast_precision_loss, reason = "a fraction of a unit is not exact anyway")]
    let value = value * unit as f64;
    // 2^62 is far beyond any machine and well inside what the conversion holds.
    if value < 4.6e18 {
        #[allow(clippy::cast_possible_truncation, reason = "checked in the line above")]
        return Ok(value as i64);
    }
    Err(invalid())
}

/// Bytes, or -1 for "no limit".
///
/// # Errors
/// As [`bytes`].
pub fn bytes_or_unlimited(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { bytes(text) }
}

/// Billionths of a processor: `1.5` is 1500000000.
///
/// # Errors
/// Docker's sentence.
pub fn nano_cpus(text: &str) -> Result<i64, String> {
    let not_a_number = || format!("failed to parse {text} as a rational number");
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let is_number = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || digits.is_empty() || digits == "." {
        return Err(not_a_number());
    }
    if fraction.len() > 9 {
        return Err("value is too precise".into());
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| not_a_number())? };
    let fraction: i64 = format!("{fraction:0<9}").parse().map_err(|_| not_a_number())?;
    let nanos = whole.checked_mul(1_000_000_000).and_then(|n| n.checked_add(fraction)).ok_or_else(not_a_number)?;
    Ok(sign * nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_dockers() {
        let cases = [
            ("0", 0),
            ("10", 10),
            ("10b", 10),
            ("1k", 1024),
            ("1KB", 1024),
            ("512m", 512 << 20),
            ("1.5GiB", 3 << 29),
            ("1 g", 1 << 30),
            ("2t", 2 << 40),
        ];
        for (text, size) in cases {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        let cases = [
            ("1z", "invalid suffix: 'z'"),
            ("", "invalid size: ''"),
            ("m", "invalid size: 'm'"),
            ("-1", "invalid size: '-1'"),
            ("1mbb", "invalid suffix: 'mbb'"),
            ("1bb", "invalid suffix: 'bb'"),
            ("1.2.3m", "invalid size: '1.2.3m'"),
            ("99999999999999p", "invalid size: '99999999999999p'"),
            ("9999999.5p", "invalid size: '9999999.5p'"),
        ];
        for (text, message) in cases {
            assert_eq!(bytes(text), Err(message.to_owned()), "{text}");
        }
        assert_eq!(bytes_or_unlimited("-1"), Ok(-1));
    }

    #[test]
    fn processors() {
        assert_eq!(nano_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(nano_cpus(".25"), Ok(250_000_000));
        assert_eq!(nano_cpus("2"), Ok(2_000_000_000));
        assert_eq!(nano_cpus("-1"), Ok(-1_000_000_000));
        assert_eq!(nano_cpus("0.0000000001"), Err("value is too precise".into()));
        assert_eq!(nano_cpus("abc"), Err("failed to parse abc as a rational number".into()));
    }
}
