//! Go's `fmt`: how values print (`%v`), and the pieces that `printf` is made of.

use std::fmt::Write;

use super::value::{Nil, Value};

/// `fmt.Sprint`: a space between two neighbours of which neither is a string.
pub fn sprint(args: &[Value]) -> String {
    let mut out = String::new();
    for (n, arg) in args.iter().enumerate() {
        let is_string = |v: &Value| matches!(v, Value::Str(_) | Value::Number(_));
        if n > 0 && !is_string(arg) && !is_string(&args[n - 1]) {
            out.push(' ');
        }
        plain(&mut out, arg);
    }
    out
}

/// `fmt.Sprintln`: a space between all, and a newline.
pub fn sprintln(args: &[Value]) -> String {
    let mut out = String::new();
    for (n, arg) in args.iter().enumerate() {
        if n > 0 {
            out.push(' ');
        }
        plain(&mut out, arg);
    }
    out + "\n"
}

/// `%v`.
pub fn plain(out: &mut String, value: &Value) {
    each(out, value, false, &mut |out, leaf| match leaf {
        Value::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
        Value::Int(n) => drop(write!(out, "{n}")),
        Value::Uint(n) => drop(write!(out, "{n}")),
        Value::Float(n) => out.push_str(&shortest(*n, 21)),
        Value::Str(s) | Value::Number(s) => out.push_str(s),
        _ => out.push_str("<nil>"),
    });
}

/// Writes what is made of parts as Go does, and its leaves by `leaf`. `named`: structs with the
/// names of their fields (`%+v`).
pub(super) fn each(out: &mut String, value: &Value, named: bool, leaf: &mut dyn FnMut(&mut String, &Value)) {
    match value {
        Value::Nil(Nil::List) => out.push_str("[]"),
        Value::Nil(Nil::Map) => out.push_str("map[]"),
        Value::List(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(' ');
                }
                each(out, item, named, leaf);
            }
            out.push(']');
        }
        Value::Object(object) => {
            let is_map = object.is_map();
            let fields = if is_map { object.sorted() } else { object.fields.iter().collect() };
            out.push_str(if is_map { "map[" } else { "{" });
            for (n, (name, field)) in fields.into_iter().enumerate() {
                if n > 0 {
                    out.push(' ');
                }
                if is_map || named {
                    out.push_str(name);
                    out.push(':');
                }
                each(out, field, named, leaf);
            }
            out.push(if is_map { ']' } else { '}' });
        }
        other => leaf(out, other),
    }
}

/// The shortest text that is read back as the same number; with an exponent from `large` on, as
/// `%v` (21) and JSON have it.
pub(super) fn shortest(n: f64, large: i32) -> String {
    if n == 0.0 || !n.is_finite() {
        return special(n).unwrap_or_else(|| if n.is_sign_negative() { "-0".into() } else { "0".into() });
    }
    let scientific = format!("{n:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if exponent < -4 || exponent >= large {
        format!("{digits}{}", self::exponent('e', exponent))
    } else {
        n.to_string()
    }
}

pub(super) fn special(n: f64) -> Option<String> {
    match n {
        n if n.is_nan() => Some("NaN".into()),
        n if n.is_infinite() => Some(if n > 0.0 { "+Inf".into() } else { "-Inf".into() }),
        _ => None,
    }
}

/// `e+06`: at least two digits.
pub(super) fn exponent(letter: char, exponent: i32) -> String {
    format!("{letter}{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// `strconv.Quote`: characters stay, what does not print is escaped.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        escaped(&mut out, c, '"');
    }
    out + "\""
}

pub(super) fn quoted_char(c: char) -> String {
    let mut out = String::from("'");
    escaped(&mut out, c, '\'');
    out + "'"
}

fn escaped(out: &mut String, c: char, quote: char) {
    // Writing to a string cannot fail.
    let _ = match c {
        c if c == quote || c == '\\' => write!(out, "\\{c}"),
        '\n' => write!(out, "\\n"),
        '\t' => write!(out, "\\t"),
        '\r' => write!(out, "\\r"),
        '\x07' => write!(out, "\\a"),
        '\x08' => write!(out, "\\b"),
        '\x0b' => write!(out, "\\v"),
        '\x0c' => write!(out, "\\f"),
        c if c.is_ascii_control() => write!(out, "\\x{:02x}", c as u32),
        // Go prints no space but the plain one as it is.
        c if c.is_control() || (c.is_whitespace() && c != ' ') => write!(out, "\\u{:04x}", c as u32),
        c => write!(out, "{c}"),
    };
}
