//! `ctr ps`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::Result;
use gotmpl::Value;

use crate::cli::complete::{Kind, LISTING};
use crate::cli::filter::Filters;
use crate::cli::output::template::{self, Column, quoted, text};
use crate::cli::output::{live, units};
use crate::cli::{Globals, Run, output};
use crate::container::config::ContainerConfig;
use crate::container::list::{self, Container};
use crate::container::size::Sizes;
use crate::container::state::Phase;
use crate::container::{mounts, start};
use crate::image;
use crate::image::index::Index;
use crate::store::Store;

/// List containers
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr ps -a                                   those that do not run too
  ctr ps -aq --filter status=exited           ids, for other commands
  ctr ps --format 'table {{.Names}}\\t{{.Status}}'
  ctr ps --format json
  ctr ps --watch=5

Filters: id, name (regular expressions), label, status, exited, ancestor, before, since, network,
volume, publish, expose (80, 80/udp, 8000-8010), health, is-task.")]
pub struct Ps {
    /// Those that do not run too
    #[arg(short, long)]
    all: bool,
    /// Only those that match: name=web, label=a=b, status=exited, …
    #[arg(short, long, value_name = "name=value", value_parser = super::filter::pair,
        add = Kind::Words(&["ancestor=", "before=", "exited=", "expose=", "health=", "id=", "is-task=", "label=",
            "name=", "network=", "publish=", "since=", "status=created", "status=exited", "status=paused",
            "status=running", "volume="]))]
    filter: Vec<(String, String)>,
    /// table, json, or a Go template
    #[arg(long, value_name = "format", add = LISTING)]
    format: Option<String>,
    /// The last n made, whatever became of them
    #[arg(short = 'n', long, value_name = "n", default_value = "-1", hide_default_value = true)]
    last: i64,
    /// The last one made
    #[arg(short, long)]
    latest: bool,
    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Ids only
    #[arg(short, long)]
    quiet: bool,
    /// Sizes of what containers wrote
    #[arg(short, long)]
    size: bool,
    /// Again and again in place, every so many seconds, until ctrl-c
    #[arg(short, long, value_name = "seconds", num_args = 0..=1, require_equals = true, default_missing_value = "2",
          value_parser = clap::value_parser!(u32).range(1..))]
    watch: Option<u32>,
}

/// A container with what its row shows.
struct Row {
    container: Container,
    config: Option<ContainerConfig>,
    size: Option<(u64, u64)>,
    /// The name that the user wrote means another image by now, or none.
    has_lost_name: bool,
    whole: bool,
}

const IMAGE: &str = "Image";
const DEFAULT: [&str; 8] = ["ID", IMAGE, "Command", "RunningFor", "Status", "Ports", "Names", "Size"];

/// Docker's, in the order of its `ContainerContext`.
const COLUMNS: &[Column<Row>] = &[
    Column { name: "ID", heading: "CONTAINER ID", cell: |row| text(row.id()) },
    Column { name: "Names", heading: "NAMES", cell: |row| text(row.container.state.name.as_str()) },
    Column { name: IMAGE, heading: "IMAGE", cell: |row| text(row.image()) },
    Column { name: "Command", heading: "COMMAND", cell: |row| text(row.command()) },
    Column {
        name: "CreatedAt",
        heading: "CREATED AT",
        cell: |row| text(units::local_time(row.container.state.created)),
    },
    Column { name: "RunningFor", heading: "CREATED", cell: |row| text(units::ago(row.container.state.created)) },
    Column { name: "Ports", heading: "PORTS", cell: |row| text(row.ports()) },
    Column { name: "State", heading: "STATE", cell: |row| text(row.container.status().as_str()) },
    Column { name: "Status", heading: "STATUS", cell: |row| text(status(&row.container.state.phase)) },
    Column { name: "Size", heading: "SIZE", cell: |row| text(row.size()) },
    Column { name: "Labels", heading: "LABELS", cell: |row| text(row.labels()) },
    Column { name: template::LABEL_MAP, heading: "LABELS", cell: |row| map(&row.container.state.labels) },
    Column { name: "Mounts", heading: "MOUNTS", cell: |row| text(row.mounts()) },
    Column { name: "LocalVolumes", heading: "LOCAL VOLUMES", cell: |_| text("0") },
    Column { name: "Networks", heading: "NETWORKS", cell: |row| text(row.networks()) },
    Column { name: "Platform", heading: "PLATFORM", cell: |_| Value::Nil },
];

impl Run for Ps {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let filters = Filters::check(&store, &self.filter)?;
        let format = if self.quiet { None } else { self.format.as_deref() };
        if self.quiet && self.format.is_some() {
            output::say("WARNING: Ignoring custom format, because both --format and --quiet are set.");
        }
        match self.watch {
            None => output::print(&self.show(&store, &filters, format)?),
            Some(seconds) => {
                let interval = Duration::from_secs(seconds.into());
                live::repeat(interval, template::is_table(format), || self.show(&store, &filters, format))?;
            }
        }
        Ok(0)
    }
}

impl Ps {
    /// The listing as it is now.
    fn show(&self, store: &Store, filters: &Filters, format: Option<&str>) -> Result<String> {
        let mut containers = list::all(store, |id, error| {
            output::say(&format!("ctr: container {}: {error:#}", id.short()));
        })?;
        let last = if self.latest { 1 } else { self.last };
        let all = self.all || last > 0 || filters.ask_for_status();
        filters.resolve(store, &containers)?.retain(&mut containers);
        containers.retain(|container| all || container.status().is_running());
        if let Some(last) = usize::try_from(last).ok().filter(|last| *last > 0) {
            containers.truncate(last);
        }
        if self.quiet {
            let id = |c: &Container| if self.no_trunc { c.id.as_str().to_owned() } else { c.id.short().to_owned() };
            let ids: String = containers.iter().map(|c| id(c) + "\n").collect();
            return Ok(ids);
        }
        let shown = &DEFAULT[..if self.size { 8 } else { 7 }];
        let needs_config = template::shows(format, shown, "Mounts");
        let needs_size = self.size || format.is_some_and(|f| f.contains(".Size"));
        let mut rows = self.rows(store, containers, needs_config, needs_size)?;
        if template::shows(format, shown, IMAGE) {
            find_lost_names(store, &mut rows);
        }
        template::listing(COLUMNS, shown, format, &rows)
    }

    fn rows(&self, store: &Store, containers: Vec<Container>, config: bool, size: bool) -> Result<Vec<Row>> {
        let mut rows = Vec::with_capacity(containers.len());
        for container in containers {
            // One that goes away meanwhile is shown without what it took along.
            let config = if config || size { start::config(store, &container.id).ok() } else { None };
            rows.push(Row { container, config, size: None, has_lost_name: false, whole: self.no_trunc });
        }
        if size {
            let mut sizes = Sizes::enter(store)?;
            for row in &mut rows {
                row.size = row.config.as_ref().map(|config| sizes.of(config));
            }
        }
        Ok(rows)
    }
}

/// Asks the index of the images what each name means now: one file for all the containers, and each
/// name once.
fn find_lost_names(store: &Store, rows: &mut [Row]) {
    let has_image = |row: &Row| !row.container.state.image_id.is_empty();
    if !rows.iter().any(has_image) {
        return;
    }
    // Where it cannot be read, `images` says why.
    let Ok(index) = Index::read(store) else { return };
    let mut known: HashMap<String, Option<String>> = HashMap::new();
    for row in rows.iter_mut().filter(|row| has_image(row)) {
        let state = &row.container.state;
        if !known.contains_key(&state.image) {
            let entry = image::lookup(&index, &state.image).ok().flatten();
            let elsewhere = || Some(image::additional::find(store, &state.image, None).ok().flatten()?.id);
            let id = entry.map(|entry| entry.image.to_string()).or_else(elsewhere);
            known.insert(state.image.clone(), id);
        }
        let now = known.get(&state.image).cloned().flatten();
        row.has_lost_name = now.is_none_or(|image| image != state.image_id);
    }
}

impl Row {
    fn id(&self) -> &str {
        if self.whole { self.container.id.as_str() } else { self.container.id.short() }
    }

    fn image(&self) -> String {
        let state = &self.container.state;
        // One whose name is gone, or means another image, is shown by its id.
        let image = if self.has_lost_name { &state.image_id } else { &state.image };
        match image.strip_prefix("sha256:") {
            Some(hex) if !self.whole => hex.chars().take(12).collect(),
            _ => image.clone(),
        }
    }

    fn command(&self) -> String {
        command(&self.container.state.command, self.whole)
    }

    fn size(&self) -> String {
        let Some((written, whole)) = self.size else { return "0B".into() };
        format!("{} (virtual {})", units::size(written), units::size(whole))
    }

    fn labels(&self) -> String {
        let labels = self.container.state.labels.iter().map(|(name, value)| format!("{name}={value}"));
        labels.collect::<Vec<_>>().join(",")
    }

    fn mounts(&self) -> String {
        let mounts = self.config.as_ref().map(mounts::of).unwrap_or_default();
        let sources = mounts.into_iter().map(|mount| mount.source).filter(|source| !source.is_empty());
        let shown = sources.map(|source| if self.whole { source } else { ellipsis(&source, 15) });
        shown.collect::<Vec<_>>().join(",")
    }

    /// Nothing is published of what does not run.
    fn ports(&self) -> &str {
        if self.container.status().is_running() { &self.container.state.ports } else { "" }
    }

    fn networks(&self) -> String {
        self.container.state.networks.join(",")
    }
}

fn map(entries: &BTreeMap<String, String>) -> Value {
    Value::from(entries.iter().map(|(name, value)| (name.clone(), text(value.as_str()))).collect::<BTreeMap<_, _>>())
}

/// The command as the tables show it; `whole`: however long it is.
pub fn command(words: &[String], whole: bool) -> String {
    // As Docker: arguments with spaces stand in single quotes, the program does not.
    let words = words.iter().enumerate();
    let shown = words.map(|(n, word)| if n > 0 && word.contains(' ') { format!("'{word}'") } else { word.clone() });
    let words = shown.collect::<Vec<_>>().join(" ");
    quoted(&if whole { words } else { ellipsis(&words, 20) })
}

/// `Up 5 seconds`, `Exited (143) 3 minutes ago`, `Created`.
pub fn status(phase: &Phase) -> String {
    let now = jiff::Timestamp::now().as_second();
    match phase {
        Phase::Created { .. } => "Created".into(),
        Phase::Running { started, paused } => {
            format!("Up {}{}", units::duration(now - started.as_second()), if *paused { " (Paused)" } else { "" })
        }
        Phase::Exited { finished, code, .. } => {
            format!("Exited ({code}) {} ago", units::duration(now - finished.as_second()))
        }
    }
}

/// At most `most` characters, the last one `…` where some are missing.
fn ellipsis(words: &str, most: usize) -> String {
    if words.chars().count() <= most {
        return words.to_owned();
    }
    words.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::{Timestamp, ToSpan};

    #[test]
    fn commands_are_quoted_and_cut() {
        assert_eq!(quoted(&ellipsis("sh -c 'while true; do :; done'", 20)), "\"sh -c 'while true; …\"");
        assert_eq!(quoted("a\"b\\c\n\x1b"), "\"a\\\"b\\\\c\\n\\x1b\"");
        assert_eq!(ellipsis("12345678901234567890", 20), "12345678901234567890");
    }

    #[test]
    fn states_in_dockers_words() {
        let ago = |seconds: i64| Timestamp::now() - seconds.seconds();
        assert_eq!(status(&Phase::Running { started: ago(5), paused: false }), "Up 5 seconds");
        assert_eq!(status(&Phase::Running { started: ago(120), paused: true }), "Up 2 minutes (Paused)");
        let exited = Phase::Exited { started: ago(9), finished: ago(180), code: 143, oom_killed: false };
        assert_eq!(status(&exited), "Exited (143) 3 minutes ago");
        assert_eq!(status(&Phase::Created { failure: Some((127, "x".into())) }), "Created");
    }
}
