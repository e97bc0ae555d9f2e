//! `ctr events`.

use std::io::stdout;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::cli::complete::Kind;
use crate::cli::output::template;
use crate::cli::{Globals, Run, output, when};
use crate::error::{self, Failure, exit};
use crate::events::Event;
use crate::events::filter::Filters;
use crate::events::follow::{Bell, From, Reader};

/// Show what happens to containers, images and networks, as it happens
#[derive(Debug, clap::Parser)]
#[command(after_help = "Times: RFC 3339 and its beginnings (2024-01-02T15:04), seconds since 1970, or a span before
now (10m, 1h30m). With --until it ends there; without --since it shows what happens from now on.
Filters: container, event, image, label, network, scope, type, volume.

Examples:
  ctr events --since 1h --until 0s
  ctr events --filter event=die --format '{{.Actor.Attributes.name}}'
  ctr events --format json")]
pub struct EventsCommand {
    /// Only those that match: event=die, container=web, label=a=b
    #[arg(short, long, value_name = "name=value", value_parser = crate::cli::filter::pair,
        add = Kind::Words(&["container=", "event=", "image=", "label=", "network=", "scope=", "type=container",
            "type=image", "type=network", "type=volume", "volume="]))]
    filter: Vec<(String, String)>,
    /// json, or a Go template
    #[arg(long, value_name = "format")]
    format: Option<String>,
    /// Also what happened since then
    #[arg(long, value_name = "time", value_parser = time)]
    since: Option<Timestamp>,
    /// Only what happens until then
    #[arg(long, value_name = "time", value_parser = time)]
    until: Option<Timestamp>,
}

/// Here a bare number is always seconds since 1970.
fn time(text: &str) -> Result<Timestamp, String> {
    when::parse(text)
}

impl Run for EventsCommand {
    fn run(self, globals: &Globals) -> Result<u8> {
        let filters = Filters::check(&self.filter)?;
        let format = self.format.as_deref().filter(|format| !format.is_empty());
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since > until
        {
            let seconds = |time: Timestamp| format!("{}.{:09}", time.as_second(), time.subsec_nanosecond());
            let why = format!("`since` time ({}) cannot be after `until` time ({})", seconds(since), seconds(until));
            return Err(Failure::new(why).into());
        }
        // A mistake in it is said now, not when something happens.
        shown(&sample(), format)?;
        let store = globals.store()?;
        // With an end but no beginning, Docker shows all that it remembers.
        let from = if self.since.is_none() && self.until.is_none() { From::End } else { From::Start };
        let bell = Bell::hang(&store);
        let mut reader = Reader::open(&store, from)?;
        loop {
            // Asked before the file is: what is recorded until then is in it.
            let left = self.until.map(|until| until.duration_since(Timestamp::now()));
            while let Some(event) = reader.next()? {
                if self.is_wanted(&event) && filters.matches(&event) {
                    output::print(&shown(&event, format)?);
                }
            }
            if reader.has_lost() {
                error::warn("events went away before they were read");
            }
            let patience = match left.map(Duration::try_from) {
                None => None,
                Some(Ok(left)) if !left.is_zero() => Some(left),
                Some(_) => return Ok(0),
            };
            if !bell.wait(patience, stdout().as_fd())? {
                // Nobody reads: what SIGPIPE would do to it with the next event.
                return Ok(exit::SIGNALLED + 13);
            }
        }
    }
}

impl EventsCommand {
    fn is_wanted(&self, event: &Event) -> bool {
        let nanos = i128::from(event.nanos);
        self.since.is_none_or(|since| nanos >= since.as_nanosecond())
            && self.until.is_none_or(|until| nanos <= until.as_nanosecond())
    }
}

/// The event as `format` has it, with its newline.
fn shown(event: &Event, format: Option<&str>) -> Result<String> {
    match format.map(str::trim) {
        None => Ok(line(event)),
        Some("json" | "{{json .}}" | "{{ json . }}") => Ok(serde_json::to_string(event)? + "\n"),
        Some(source) => template::render(source, &fields(event)?),
    }
}

/// Docker's line: `2024-01-02T15:04:05.000000000Z container die ID (exitCode=0, image=…, name=…)`.
fn line(event: &Event) -> String {
    let time = Timestamp::from_nanosecond(event.nanos.into()).unwrap_or_default().to_zoned(TimeZone::system());
    // Go writes Z where the zone is an hour of none.
    let zone = if time.offset().is_zero() { "Z".to_owned() } else { time.strftime("%:z").to_string() };
    let mut line =
        format!("{}{zone} {} {} {}", time.strftime("%Y-%m-%dT%H:%M:%S.%9f"), event.kind, event.action, event.actor.id);
    let attributes: Vec<String> =
        event.actor.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !attributes.is_empty() {
        line.extend([" (", &attributes.join(", "), ")"]);
    }
    line + "\n"
}

/// What a template sees: the names that Docker's templates use, and those of its JSON.
fn fields(event: &Event) -> Result<Value> {
    let mut fields = json!({
        "Status": event.status,
        "ID": event.id,
        "From": event.from,
        "Scope": event.scope,
        "Time": event.time,
        "TimeNano": event.nanos,
    });
    if let (Value::Object(fields), Value::Object(more)) = (&mut fields, serde_json::to_value(event)?) {
        fields.extend(more);
    }
    Ok(fields)
}

/// An event like any other, to try a template on.
fn sample() -> Event {
    let text = json!({
        "status": "start", "id": "0", "from": "image", "Type": "container", "Action": "start",
        "Actor": { "ID": "0", "Attributes": {} }, "scope": "local", "time": 0, "timeNano": 0,
    });
    serde_json::from_value(text).unwrap_or_else(|_| unreachable!("it has all fields"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let mut event = sample();
        event.nanos = 1_700_000_000_000_000_042;
        event.actor.attributes =
            [("name".to_owned(), "web".to_owned()), ("exitCode".to_owned(), "0".to_owned())].into();
        let text = line(&event);
        assert!(text.starts_with("2023-11-1"), "{text}");
        assert!(text.ends_with(" container start 0 (exitCode=0, name=web)\n"), "{text}");
        let format = "{{.Type}} {{.Action}} {{.Status}} {{.ID}} {{.From}} {{.Actor.ID}} {{.Actor.Attributes.name}} {{.TimeNano}}";
        assert_eq!(shown(&event, Some(format)).unwrap(), "container start start 0 image 0 web 1700000000000000042\n");
        assert!(shown(&event, Some("json")).unwrap().starts_with("{\"status\":\"start\",\"id\":\"0\","));
        assert!(shown(&event, Some("{{.Foo}}")).is_err());
    }
}
