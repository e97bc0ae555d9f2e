//! `--rate`: how much may pass in a second.

use crate::network::Rate;

/// Below this a queue's own granularity, a packet, would be a second long.
const LEAST: f64 = 12_000.0;

/// `10mbit` for both directions; `in=10mbit,out=2mbit`, or one of them. Bits, as networks are
/// measured: `kbit`, `mbit`, `gbit` are powers of 1000; a number without a unit would be taken for bytes
/// by half of its readers, so there is none.
///
/// # Errors
/// What is wrong, for a message that names the flag.
pub fn rate(text: &str) -> Result<Rate, String> {
    let mut rate = Rate::default();
    for part in text.split(',') {
        let (direction, value) = part.split_once('=').map_or(("", part), |(name, value)| (name.trim(), value));
        let bits = bits(value.trim())?;
        let before = match direction {
            "" => rate.ingress.replace(bits).or(rate.egress.replace(bits)),
            "in" | "ingress" => rate.ingress.replace(bits),
            "out" | "egress" => rate.egress.replace(bits),
            other => return Err(format!("there is no direction {other:?}: in or out")),
        };
        if before.is_some() {
            return Err(format!("{text:?} gives a direction twice"));
        }
    }
    Ok(rate)
}

/// Bits a second.
fn bits(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = match unit.trim_start().to_ascii_lowercase().as_str() {
        "bit" => 1e0,
        "kbit" => 1e3,
        "mbit" => 1e6,
        "gbit" => 1e9,
        _ => return Err(format!("{text:?} has no unit that is known: kbit, mbit or gbit a second")),
    };
    let bits = number.parse::<f64>().map_err(|_| format!("{text:?} is not a number"))? * unit;
    if !(LEAST..=1e13).contains(&bits) {
        return Err(format!("{text:?} is not between 12kbit and 10000gbit a second"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between the bounds of the line above")]
    Ok(bits as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let of = |ingress, egress| Ok(Rate { ingress, egress });
        assert_eq!(rate("10mbit"), of(Some(10_000_000), Some(10_000_000)));
        assert_eq!(rate("in=1.5Gbit,out=512kbit"), of(Some(1_500_000_000), Some(512_000)));
        assert_eq!(rate("out=2mbit"), of(None, Some(2_000_000)));
        for twice in ["in=10mbit,in=5mbit", "10mbit,out=5mbit", "out=5mbit,10mbit", "in=1mbit,ingress=1mbit"] {
            assert_eq!(rate(twice), Err(format!("{twice:?} gives a direction twice")));
        }
        for wrong in ["", "10", "10mb", "mbit", "1bit", "up=1mbit", "in=1mbit,", "-1mbit", "1.1.1mbit", "99999gbit"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
