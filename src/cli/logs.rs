//! `ctr logs`.

use std::cell::RefCell;

use anyhow::Result;
use jiff::Timestamp;

use crate::cli::{Globals, Run, output, when};
use crate::container::logs::{self, Record, Wanted};
use crate::error::Failure;
use crate::store::names;

/// Show what a container wrote
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
    text: String,
    is_error: bool,
    /// Whether the last record of the stream (output, error) left its line open.
    open: [bool; 2],
}

impl Printer {
    fn take(&mut self, record: &Record) {
        let is_error = record.stream == "stderr";
        if is_error != self.is_error || self.text.len() > 64 * 1024 {
            self.flush();
            self.is_error = is_error;
        }
        let open = &mut self.open[usize::from(is_error)];
        if !*open {
            if self.timestamps {
                self.text += &fixed(&record.time);
                self.text.push(' ');
            }
            if self.details {
                // No log option of ctr's adds any; Docker leaves the space that parts them.
                self.text.push(' ');
            }
        }
        *open = !record.log.ends_with('\n');
        self.text += &record.log;
    }

    fn flush(&mut self) {
        if !self.text.is_empty() {
            if self.is_error {
                output::print_error(&self.text);
            } else {
                output::print(&self.text);
            }
            self.text.clear();
        }
    }
}

/// With nine digits behind the second, so that lines stand below each other.
fn fixed(time: &str) -> String {
    let Some(whole) = time.strip_suffix('Z') else { return time.to_owned() };
    let (seconds, fraction) = whole.split_once('.').unwrap_or((whole, ""));
    format!("{seconds}.{fraction:0<9}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(stream: &str, log: &str) -> Record {
        Record { log: log.into(), stream: stream.into(), time: "2024-01-01T00:00:00.5Z".into() }
    }

    #[test]
    fn a_long_line_has_one_time() {
        let mut printer = Printer { timestamps: true, ..Printer::default() };
        for part in ["ab", "cd\n", "e\n"] {
            printer.take(&record("stdout", part));
        }
        let time = "2024-01-01T00:00:00.500000000Z";
        assert_eq!(printer.text, format!("{time} abcd\n{time} e\n"));
        printer.text.clear();
    }

    #[test]
    fn tails() {
        assert_eq!(tail("all").unwrap(), None);
        assert_eq!(tail("-1").unwrap(), None);
        assert_eq!(tail("5").unwrap(), Some(5));
        assert!(tail("foo").is_err());
        assert_eq!(fixed("2024-01-01T00:00:00Z"), "2024-01-01T00:00:00.000000000Z");
    }
}
