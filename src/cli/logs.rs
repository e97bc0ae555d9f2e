//! `ctr logs`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use jiff::Timestamp;

use crate::cli::{Globals, Run, output, when};
use crate::container::logs::{self, Record, Wanted};
use crate::error::Failure;
use crate::store::names;

/// Show what a container wrote
///
/// It is kept by the drivers json-file (which is the default), local and journald, until the container is
/// removed.
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr logs -f --tail 20 web
  ctr logs --since 10m --until 2024-05-01T12:00:00Z db

What was written to standard error is written to standard error.")]
pub struct LogsCommand {
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Only from this time on: RFC 3339, seconds since 1970, or 10m ago
    #[arg(long, value_name = "time")]
    since: Option<String>,
    /// Only up to this time
    #[arg(long, value_name = "time")]
    until: Option<String>,
    /// Only so many lines of the end
    #[arg(short = 'n', long, value_name = "lines", default_value = "all", hide_default_value = true)]
    tail: String,
    /// A time before each line
    #[arg(short, long)]
    timestamps: bool,
    /// What log options add to each line
    #[arg(long)]
    details: bool,
    /// Name or id
    #[arg(required = true)]
    container: String,
}

impl Run for LogsCommand {
    fn run(self, globals: &Globals) -> Result<u8> {
        let wanted = Wanted {
            follow: self.follow,
            tail: tail(&self.tail)?,
            since: time("since", self.since.as_deref())?,
            until: time("until", self.until.as_deref())?,
        };
        let store = globals.store()?;
        let id = names::resolve(&store, &self.container)?;
        let printer =
            RefCell::new(Printer { timestamps: self.timestamps, details: self.details, ..Printer::default() });
        logs::read(&store, &id, &wanted, |record| printer.borrow_mut().take(record), || printer.borrow_mut().flush())?;
        Ok(0)
    }
}

/// A number; `all` or a negative one: all.
fn tail(text: &str) -> Result<Option<u64>> {
    match text.parse::<i64>() {
        Ok(lines) => Ok(u64::try_from(lines).ok()),
        Err(_) if text == "all" => Ok(None),
        Err(_) => {
            Err(Failure::new(format!("invalid value for \"tail\": {text:?} is neither a number nor \"all\"")).into())
        }
    }
}

fn time(option: &str, text: Option<&str>) -> Result<Option<Timestamp>> {
    let parse = |text| when::parse(text).map_err(|why| Failure::new(format!("invalid value for {option:?}: {why}")));
    // Docker's way to say "no bound".
    Ok(text.filter(|text| !text.is_empty() && *text != "0").map(parse).transpose()?)
}

/// Gathers what goes to one stream, so that a long log is not written line by line.
#[derive(Debug, Default)]
struct Printer {
    timestamps: bool,
    details: bool,
    text: Vec<u8>,
    is_error: bool,
    /// Whether the last record of the stream (output, error) left its line open.
    open: [bool; 2],
}

impl Printer {
    fn take(&mut self, record: &Record<'_>) {
        if record.is_error != self.is_error || self.text.len() > 64 * 1024 {
            self.flush();
            self.is_error = record.is_error;
        }
        let open = &mut self.open[usize::from(record.is_error)];
        if !*open {
            if self.timestamps {
                self.text.extend_from_slice(record.time.fixed().as_bytes());
                self.text.push(b' ');
            }
            if self.details {
                self.text.extend_from_slice(details(&record.attrs).as_bytes());
                self.text.push(b' ');
            }
        }
        *open = !record.ended;
        self.text.extend_from_slice(&record.text);
        if record.ended {
            self.text.push(b'\n');
        }
    }

    fn flush(&mut self) {
        if !self.text.is_empty() {
            if self.is_error {
                output::print_error(&self.text);
            } else {
                output::print_bytes(&self.text);
            }
            self.text.clear();
        }
    }
}

/// What log options added, as Docker writes it: `name=value,…`, each escaped as in a URL's query.
fn details(attrs: &BTreeMap<String, String>) -> String {
    let pairs = attrs.iter().map(|(name, value)| format!("{}={}", query(name), query(value)));
    pairs.collect::<Vec<_>>().join(",")
}

fn query(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            b' ' => out.push('+'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::logs::Time;

    fn record(text: &str) -> Record<'_> {
        Record {
            text: text.trim_end().as_bytes().into(),
            ended: text.ends_with('\n'),
            is_error: false,
            time: Time::Text("2024-01-01T00:00:00.5Z".into()),
            attrs: BTreeMap::from([("a b".into(), "x=y,é".into()), ("c".into(), String::new())]),
        }
    }

    #[test]
    fn a_long_line_has_one_time() {
        let mut printer = Printer { timestamps: true, ..Printer::default() };
        for part in ["ab", "cd\n", "e\n"] {
            printer.take(&record(part));
        }
        let time = "2024-01-01T00:00:00.500000000Z";
        assert_eq!(String::from_utf8_lossy(&printer.text), format!("{time} abcd\n{time} e\n"));
        printer.text.clear();
    }

    #[test]
    fn details_stand_between_time_and_line() {
        let mut printer = Printer { details: true, ..Printer::default() };
        printer.take(&record("x\n"));
        assert_eq!(String::from_utf8_lossy(&printer.text), "a+b=x%3Dy%2C%C3%A9,c= x\n");
        printer.text.clear();
    }

    #[test]
    fn tails() {
        assert_eq!(tail("all").unwrap(), None);
        assert_eq!(tail("-1").unwrap(), None);
        assert_eq!(tail("5").unwrap(), Some(5));
        assert!(tail("foo").is_err());
    }
}
