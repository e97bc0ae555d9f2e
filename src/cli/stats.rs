//! `ctr stats`.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;

use crate::cli::complete::{Kind, LISTING, Which};
use crate::cli::output::template::{self, Column, text};
use crate::cli::output::{live, units};
use crate::cli::{Globals, Run, output};
use crate::container::list;
use crate::container::state;
use crate::container::stats::Sample;
use crate::error::{self, Failure};
use crate::store::{Id, Store, names};

/// Over how long the use of processors is measured for the first figures: some of the scheduler's
/// periods of 100 ms, in which limits are kept.
const FIRST: Duration = Duration::from_millis(500);

/// Show what containers use: processors, memory, networks, disks
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr stats [OPTIONS] [CONTAINER...]",
    after_help = "Examples:
  ctr stats                                   all that run, until ctrl-c
  ctr stats --no-stream web db
  ctr stats --no-stream --format '{{.Name}}: {{.CPUPerc}}'
  ctr stats --no-stream --format json

CPU % is of one processor: 200% are two. Memory is what the processes hold, with files that they use
and without those that the kernel can drop at once."
)]
pub struct Stats {
    /// Those that do not run too
    #[arg(short, long)]
    all: bool,
    /// table, json, or a Go template
    #[arg(long, value_name = "format", add = LISTING)]
    format: Option<String>,
    /// Seconds from one look to the next
    #[arg(short, long, value_name = "seconds", default_value = "1", hide_default_value = true)]
    interval: u32,
    /// The newest container
    #[arg(short, long)]
    latest: bool,
    /// Look once
    #[arg(long)]
    no_stream: bool,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER", add = Kind::Containers(Which::Running))]
    containers: Vec<String>,
}

struct Row {
    /// As it was asked for.
    container: String,
    id: String,
    name: String,
    figures: Figures,
}

enum Figures {
    /// Percent of a processor, and the rest.
    Running(f64, Sample),
    Stopped,
    /// It was removed while it was looked at.
    Gone,
}

const DEFAULT: [&str; 8] = ["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"];

/// Docker's.
const COLUMNS: &[Column<Row>] = &[
    Column { name: "Container", heading: "CONTAINER", cell: |row| text(row.container.as_str()) },
    Column { name: "ID", heading: "CONTAINER ID", cell: |row| text(row.id.as_str()) },
    Column { name: "Name", heading: "NAME", cell: |row| text(row.name.as_str()) },
    Column { name: "CPUPerc", heading: "CPU %", cell: |row| text(row.cell("--", |cpu, _| percent(cpu))) },
    Column {
        name: "MemUsage",
        heading: "MEM USAGE / LIMIT",
        cell: |row| {
            let usage = |_, sample: Option<&Sample>| {
                let (used, limit) = sample.map_or((0, 0), |sample| (sample.memory, sample.limit));
                format!("{} / {}", units::binary_size(used), units::binary_size(limit))
            };
            text(row.cell("-- / --", usage))
        },
    },
    Column {
        name: "MemPerc",
        heading: "MEM %",
        cell: |row| text(row.cell("--", |_, sample| percent(sample.map_or(0.0, Sample::memory_percent)))),
    },
    Column {
        name: "NetIO",
        heading: "NET I/O",
        cell: |row| text(row.cell("--", |_, sample| pair(sample.map(|sample| sample.network)))),
    },
    Column {
        name: "BlockIO",
        heading: "BLOCK I/O",
        cell: |row| text(row.cell("--", |_, sample| pair(sample.map(|sample| sample.block)))),
    },
    Column {
        name: "PIDs",
        heading: "PIDS",
        cell: |row| text(row.cell("--", |_, sample| sample.map_or(0, |sample| sample.tasks).to_string())),
    },
];

impl Row {
    /// `gone` for one that was removed; one that does not run has nothing of anything.
    fn cell(&self, gone: &str, show: impl FnOnce(f64, Option<&Sample>) -> String) -> String {
        match &self.figures {
            Figures::Running(cpu, sample) => show(*cpu, Some(sample)),
            Figures::Stopped => show(0.0, None),
            Figures::Gone => gone.to_owned(),
        }
    }
}

fn percent(value: f64) -> String {
    format!("{value:.2}%")
}

fn pair(bytes: Option<(u64, u64)>) -> String {
    let (first, second) = bytes.unwrap_or_default();
    format!("{} / {}", units::size(first), units::size(second))
}

impl Run for Stats {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        if self.latest && !self.containers.is_empty() {
            return Err(Failure::new("no names can be given together with --latest").exit(1).into());
        }
        // A template that is wrong is said before anything is measured.
        template::listing(COLUMNS, &DEFAULT, self.format.as_deref(), &[])?;
        let Some(named) = named(&store, &self.containers) else { return Ok(1) };
        let mut watch = Watch { store: &store, stats: &self, named, before: HashMap::new() };
        let interval = Duration::from_secs(u64::from(self.interval.max(1)));
        watch.look()?;
        if !watch.before.is_empty() {
            std::thread::sleep(FIRST);
        }
        let mut show = || template::listing(COLUMNS, &DEFAULT, self.format.as_deref(), &watch.look()?);
        if self.no_stream {
            output::print(&show()?);
        } else {
            live::repeat(interval, template::is_table(self.format.as_deref()), show)?;
        }
        Ok(0)
    }
}

/// The ids of those that were named; `None`: one of them is not there, which has been said.
fn named(store: &Store, names: &[String]) -> Option<Vec<(String, Id, String)>> {
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        match names::resolve(store, name) {
            Ok(id) => found.push((name.clone(), id, "--".to_owned())),
            Err(failure) => output::say(&error::render(&failure)),
        }
    }
    (found.len() == names.len()).then_some(found)
}

/// What is looked at, and what the last look found.
struct Watch<'a> {
    store: &'a Store,
    stats: &'a Stats,
    /// As asked for, and the name that it had last. Empty: all that there are by then.
    named: Vec<(String, Id, String)>,
    before: HashMap<Id, Sample>,
}

impl Watch<'_> {
    fn look(&mut self) -> Result<Vec<Row>> {
        let wanted = self.wanted()?;
        let mut rows = Vec::with_capacity(wanted.len());
        let mut now = HashMap::with_capacity(wanted.len());
        for (container, id, name) in wanted {
            let figures = match Sample::take(self.store, &id) {
                Ok(Some(sample)) => {
                    let cpu = self.before.get(&id).map_or(0.0, |before| sample.cpu_percent(before));
                    now.insert(id.clone(), sample.clone());
                    Figures::Running(cpu, sample)
                }
                _ if !self.store.container(&id).exists() => Figures::Gone,
                _ => Figures::Stopped,
            };
            let shown = if self.stats.no_trunc { id.as_str() } else { id.short() };
            rows.push(Row { container, id: shown.to_owned(), name, figures });
        }
        self.before = now;
        Ok(rows)
    }

    /// As asked for, id and name of each.
    fn wanted(&mut self) -> Result<Vec<(String, Id, String)>> {
        if !self.named.is_empty() {
            for (_, id, name) in &mut self.named {
                if let Ok(container) = list::one(self.store, id) {
                    *name = container.state.name;
                }
            }
            return Ok(self.named.clone());
        }
        // A record that is damaged is said by `ps`; here it would be drawn over.
        let mut all = list::all(self.store, |_, _| {})?;
        if self.stats.latest {
            all.truncate(1);
        } else if !self.stats.all {
            all.retain(|container| container.status().is_running() && state::is_alive(self.store, &container.id));
        }
        Ok(all.into_iter().map(|c| (c.id.short().to_owned(), c.id, c.state.name)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_run_has_nothing_and_what_is_gone_is_not_known() {
        let row = |figures| Row { container: "web".into(), id: "abc".into(), name: "web".into(), figures };
        let shown = template::listing(
            COLUMNS,
            &DEFAULT,
            Some("{{.CPUPerc}}|{{.MemUsage}}|{{.MemPerc}}|{{.NetIO}}|{{.BlockIO}}|{{.PIDs}}"),
            &[row(Figures::Stopped), row(Figures::Gone)],
        );
        assert_eq!(shown.unwrap(), "0.00%|0B / 0B|0.00%|0B / 0B|0B / 0B|0\n--|-- / --|--|--|--|--\n");
    }
}
