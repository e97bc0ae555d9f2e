//! Go's `fmt.Sprintf`.

use std::fmt::Write;

use super::fmt::{each, exponent, plain, quoted, quoted_char, shortest, special, sprint};
use super::value::{Nil, Value};

/// The widest field and longest number that a verb may ask for, as in Go.
const WIDEST: usize = 1_000_000;
/// Bytes of what `printf` makes at once.
const LONGEST: usize = 64 << 20;

/// A verb with what stands before it.
#[derive(Debug, Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// `fmt.Sprintf`.
///
/// # Errors
/// It would be longer than anybody reads.
pub fn sprintf(format: &str, args: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let mut next = 0;
    let mut reordered = false;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if out.len() > LONGEST {
            return Err(format!("the text is longer than {LONGEST} bytes"));
        }
        let mut spec = Spec::default();
        let mut good_index = true;
        loop {
            match chars.peek() {
                Some('-') => (spec.minus, spec.zero) = (true, false),
                Some('+') => spec.plus = true,
                Some('#') => spec.sharp = true,
                Some(' ') => spec.space = true,
                Some('0') => spec.zero = !spec.minus,
                _ => break,
            }
            chars.next();
        }
        let mut index = |chars: &mut std::iter::Peekable<std::str::Chars>, next: &mut usize| {
            if chars.peek() != Some(&'[') {
                return;
            }
            reordered = true;
            let text: String = chars.clone().skip(1).take_while(|c| *c != ']').collect();
            let closed = chars.clone().any(|c| c == ']');
            for _ in 0..text.chars().count() + 1 + usize::from(closed) {
                chars.next();
            }
            match text.parse::<usize>() {
                Ok(n) if closed && (1..=args.len()).contains(&n) => *next = n - 1,
                _ => good_index = false,
            }
        };
        index(&mut chars, &mut next);
        match size(&mut chars, args, &mut next) {
            Size::Given(n) => spec.width = Some(n),
            Size::Negative(n) => (spec.width, spec.minus, spec.zero) = (Some(n), true, false),
            Size::Bad => out.push_str("%!(BADWIDTH)"),
            Size::None => {}
        }
        if chars.peek() == Some(&'.') {
            chars.next();
            index(&mut chars, &mut next);
            match size(&mut chars, args, &mut next) {
                Size::Given(n) => spec.precision = Some(n),
                Size::Negative(_) | Size::Bad => out.push_str("%!(BADPREC)"),
                Size::None => spec.precision = Some(0),
            }
        }
        index(&mut chars, &mut next);
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        match (verb, args.get(next)) {
            ('%', _) => out.push('%'),
            _ if !good_index => drop(write!(out, "%!{verb}(BADINDEX)")),
            (_, None) => drop(write!(out, "%!{verb}(MISSING)")),
            (_, Some(arg)) => {
                next += 1;
                spec.print(&mut out, verb, arg);
            }
        }
    }
    if !reordered && next < args.len() {
        let extra = args[next..].iter().map(|arg| match arg {
            Value::Missing | Value::Nil(Nil::Pointer) => "<nil>".to_owned(),
            arg => format!("{}={}", arg.type_name(), sprint(std::slice::from_ref(arg))),
        });
        let _ = write!(out, "%!(EXTRA {})", extra.collect::<Vec<_>>().join(", "));
    }
    Ok(out)
}

enum Size {
    None,
    Given(usize),
    Negative(usize),
    Bad,
}

/// A width or a precision: a number, or `*` for the next argument.
fn size(chars: &mut std::iter::Peekable<std::str::Chars>, args: &[Value], next: &mut usize) -> Size {
    if chars.peek() == Some(&'*') {
        chars.next();
        let given = args.get(*next);
        *next += 1;
        let Some(Value::Int(n)) = given else { return Size::Bad };
        let Ok(size) = usize::try_from(n.unsigned_abs()) else { return Size::Bad };
        return match size {
            size if size > WIDEST => Size::Bad,
            size if *n < 0 => Size::Negative(size),
            size => Size::Given(size),
        };
    }
    let mut digits = String::new();
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        digits.push(digit);
    }
    match digits.parse::<usize>() {
        Ok(n) if n <= WIDEST => Size::Given(n),
        _ if digits.is_empty() => Size::None,
        _ => Size::Bad,
    }
}

impl Spec {
    fn print(&self, out: &mut String, verb: char, arg: &Value) {
        if verb == 'T' {
            return out.push_str(&self.padded(arg.type_name(), false));
        }
        if matches!(arg, Value::Missing | Value::Nil(Nil::Pointer)) {
            let shown = if verb == 'v' { self.padded("<nil>".into(), false) } else { format!("%!{verb}(<nil>)") };
            return out.push_str(&shown);
        }
        each(out, arg, self.plus || self.sharp, &mut |out, leaf| {
            let shown = match leaf {
                Value::Bool(yes) if matches!(verb, 't' | 'v') => Some(self.padded(yes.to_string(), false)),
                Value::Int(n) => self.integer(verb, n.unsigned_abs(), *n < 0),
                Value::Uint(n) => self.integer(verb, *n, false),
                Value::Float(n) => self.float(verb, *n),
                Value::Str(s) | Value::Number(s) => self.string(verb, s),
                Value::Missing | Value::Nil(_) => Some(self.padded("<nil>".into(), false)),
                _ => None,
            };
            if let Some(shown) = shown {
                out.push_str(&shown);
            } else {
                let _ = write!(out, "%!{verb}({}=", leaf.type_name());
                plain(out, leaf);
                out.push(')');
            }
        });
    }

    /// Filled up to the width: with spaces, or behind a sign with zeros.
    fn padded(&self, text: String, is_number: bool) -> String {
        let missing = self.width.unwrap_or_default().saturating_sub(text.chars().count());
        if missing == 0 {
            return text;
        }
        if self.minus {
            return text + &" ".repeat(missing);
        }
        if !self.zero {
            return " ".repeat(missing) + &text;
        }
        let sign = if is_number { text.bytes().take_while(|b| matches!(b, b'+' | b'-' | b' ')).count() } else { 0 };
        format!("{}{}{}", &text[..sign], "0".repeat(missing), &text[sign..])
    }

    fn sign(&self, negative: bool) -> &'static str {
        match () {
            () if negative => "-",
            () if self.plus => "+",
            () if self.space => " ",
            () => "",
        }
    }

    fn integer(&self, verb: char, n: u64, negative: bool) -> Option<String> {
        let character = u32::try_from(n).ok().filter(|_| !negative).and_then(char::from_u32).unwrap_or('\u{fffd}');
        let (prefix, digits) = match verb {
            'd' | 'v' => ("", n.to_string()),
            'b' => (if self.sharp { "0b" } else { "" }, format!("{n:b}")),
            'o' => (if self.sharp { "0" } else { "" }, format!("{n:o}")),
            'O' => ("0o", format!("{n:o}")),
            'x' => (if self.sharp { "0x" } else { "" }, format!("{n:x}")),
            'X' => (if self.sharp { "0X" } else { "" }, format!("{n:X}")),
            'c' => return Some(self.padded(character.to_string(), false)),
            'q' => return Some(self.padded(quoted_char(character), false)),
            'U' => {
                let tail = if self.sharp { format!(" '{character}'") } else { String::new() };
                return Some(self.padded(format!("U+{n:04X}{tail}"), false));
            }
            _ => return None,
        };
        let sign = self.sign(negative);
        let wanted = match (self.precision, self.width) {
            (Some(precision), _) => precision,
            (None, Some(width)) if self.zero => width.saturating_sub(sign.len() + prefix.len()),
            _ => 0,
        };
        let number = if self.precision == Some(0) && n == 0 { String::new() } else { format!("{digits:0>wanted$}") };
        let plain = Self { zero: false, minus: self.minus, width: self.width, ..Self::default() };
        Some(plain.padded(format!("{sign}{prefix}{number}"), false))
    }

    fn float(&self, verb: char, n: f64) -> Option<String> {
        let size = n.abs();
        let number = match verb {
            _ if special(n).is_some() && "vfFeEgG".contains(verb) => special(size)?.trim_start_matches('+').to_owned(),
            'f' | 'F' => format!("{size:.*}", self.precision.unwrap_or(6)),
            'e' | 'E' => scientific(size, self.precision.unwrap_or(6), verb),
            'v' if self.precision.is_none() => shortest(size, 21),
            'g' | 'G' if self.precision.is_none() => {
                shortest(size, 6).replace('e', if verb == 'G' { "E" } else { "e" })
            }
            'v' | 'g' | 'G' => {
                let digits = self.precision.unwrap_or_default().max(1);
                let text = scientific(size, digits - 1, if verb == 'G' { 'E' } else { 'e' });
                let (mantissa, tail) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
                let exponent: i32 = tail.parse().unwrap_or_default();
                let trim = |text: &str| {
                    if text.contains('.') {
                        text.trim_end_matches('0').trim_end_matches('.').to_owned()
                    } else {
                        text.to_owned()
                    }
                };
                if exponent < -4 || exponent >= i32::try_from(digits).unwrap_or(i32::MAX) {
                    trim(mantissa) + &self::exponent(if verb == 'G' { 'E' } else { 'e' }, exponent)
                } else {
                    let behind = i32::try_from(digits).unwrap_or(i32::MAX) - 1 - exponent;
                    trim(&format!("{size:.*}", usize::try_from(behind).unwrap_or_default()))
                }
            }
            _ => return None,
        };
        Some(self.padded(format!("{}{number}", self.sign(n.is_sign_negative() && !n.is_nan())), n.is_finite()))
    }

    fn string(&self, verb: char, s: &str) -> Option<String> {
        let cut: String = s.chars().take(self.precision.unwrap_or(usize::MAX)).collect();
        let hex = |upper: bool| {
            let bytes = s.bytes().take(self.precision.unwrap_or(usize::MAX));
            let separator = if self.space { " " } else { "" };
            let prefix = if !self.sharp {
                ""
            } else if upper {
                "0X"
            } else {
                "0x"
            };
            let shown: Vec<_> = bytes
                .enumerate()
                .map(|(n, b)| {
                    let prefix = if n == 0 || self.space { prefix } else { "" };
                    if upper { format!("{prefix}{b:02X}") } else { format!("{prefix}{b:02x}") }
                })
                .collect();
            shown.join(separator)
        };
        let shown = match verb {
            'v' if self.sharp => quoted(&cut),
            'v' | 's' => cut,
            'q' if self.sharp && !cut.contains('`') && !cut.chars().any(|c| c.is_control() && c != '\t') => {
                format!("`{cut}`")
            }
            'q' => quoted(&cut),
            'x' => hex(false),
            'X' => hex(true),
            _ => return None,
        };
        Some(self.padded(shown, false))
    }
}

fn scientific(n: f64, digits: usize, letter: char) -> String {
    let text = format!("{n:.digits$e}");
    let (mantissa, tail) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{mantissa}{}", exponent(letter, tail.parse().unwrap_or_default()))
}
