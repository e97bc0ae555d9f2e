//! `ctr images`.

use anyhow::Result;
use gotmpl::Value;

use crate::cli::complete::{Kind, LISTING};
use crate::cli::output::template::{Column, listing, text};
use crate::cli::output::{self, units};
use crate::cli::{Globals, Run, image, when};
use crate::error::Failure;
use crate::image::list::{Filter, Row, list};
use crate::image::overview::tops;
use crate::image::reference::Reference;
use crate::store::Id;

/// List images
#[derive(Debug, clap::Parser)]
#[command(after_help = "Filters: dangling, reference, label, before, since, until (a time, or a span such as 24h).

Examples:
  ctr images 'team/*'
  ctr images -q --filter dangling=true
  ctr images --format '{{.Repository}}:{{.Tag}} {{.Platform}}'
  ctr images --tree")]
pub struct Images {
    /// Show all images (default hides intermediate images)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "FILTER",
        add = Kind::Words(&["before=", "dangling=false", "dangling=true", "label=", "reference=", "since=", "until="]))]
    filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or TEMPLATE
    #[arg(long, value_name = "format", add = LISTING)]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// List multi-platform images as a tree
    #[arg(long)]
    tree: bool,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

const NONE: &str = "<none>";

struct Line {
    row: Row,
    no_trunc: bool,
}

impl Line {
    fn id(&self) -> String {
        if self.no_trunc {
            return self.row.id.clone();
        }
        let hex = self.row.id.trim_start_matches("sha256:");
        hex[..Id::SHORT.min(hex.len())].to_owned()
    }
}

fn or_none(value: Option<impl Into<String>>) -> Value {
    text(value.map_or_else(|| NONE.to_owned(), Into::into))
}

const COLUMNS: &[Column<Line>] = &[
    Column { name: "Containers", heading: "CONTAINERS", cell: |_| text("N/A") },
    Column {
        name: "CreatedAt",
        heading: "CREATED AT",
        cell: |l| text(l.row.created.map_or_else(|| "N/A".to_owned(), units::local_time)),
    },
    Column {
        name: "CreatedSince",
        heading: "CREATED",
        cell: |l| text(l.row.created.map_or_else(|| "N/A".to_owned(), units::ago)),
    },
    Column { name: "Digest", heading: "DIGEST", cell: |l| or_none(l.row.digest.clone()) },
    Column { name: "ID", heading: "IMAGE ID", cell: |l| text(l.id()) },
    Column {
        name: "Repository",
        heading: "REPOSITORY",
        cell: |l| or_none(l.row.name.as_ref().map(Reference::familiar_repository)),
    },
    Column { name: "SharedSize", heading: "SHARED SIZE", cell: |_| text("N/A") },
    Column { name: "Size", heading: "SIZE", cell: |l| text(units::size(l.row.size)) },
    Column { name: "Tag", heading: "TAG", cell: |l| or_none(l.row.name.as_ref().and_then(Reference::tag)) },
    Column { name: "UniqueSize", heading: "UNIQUE SIZE", cell: |_| text("N/A") },
    Column { name: "VirtualSize", heading: "VIRTUAL SIZE", cell: |l| text(units::size(l.row.size)) },
    Column {
        name: "Platform",
        heading: "PLATFORM",
        cell: |l| text(l.row.platform.as_ref().map(ToString::to_string).unwrap_or_default()),
    },
    Column { name: "ReadOnly", heading: "R/O", cell: |l| text(l.row.read_only.to_string()) },
];

/// Columns of the above that Docker has not: in no JSON unless they say something.
const OWN: usize = 2;

impl Run for Images {
    fn run(self, globals: &Globals) -> Result<u8> {
        if self.tree {
            self.check_tree()?;
        }
        // Every image is one that somebody brought: there are no intermediate ones to hide.
        let _ = self.all;
        let store = globals.store()?;
        let mut filters =
            self.filter.iter().map(|f| Filter::parse(&store, f, when::parse)).collect::<Result<Vec<_>>>()?;
        filters.extend(self.name.clone().map(Filter::Reference));
        if self.tree {
            output::print(&image::platforms(&tops(&store, &filters)?));
            return Ok(0);
        }
        // One with two names has two lines, with --quiet too: as with Docker, `sort -u` is the reader's.
        let rows = list(&store, &filters)?;
        let lines: Vec<Line> = rows.into_iter().map(|row| Line { row, no_trunc: self.no_trunc }).collect();
        if self.quiet && self.format.as_deref().is_none_or(|f| f == "table") {
            output::print(&lines.iter().map(|line| line.id() + "\n").collect::<String>());
            return Ok(0);
        }
        let mut columns = vec!["Repository", "Tag", "ID", "CreatedSince", "Size"];
        if self.digests {
            columns.insert(2, "Digest");
        }
        // As podman: where an additional store has any.
        let has_read_only = lines.iter().any(|line| line.row.read_only);
        if has_read_only {
            columns.push("ReadOnly");
        }
        let is_json = self.format.as_deref().is_some_and(|format| matches!(format.trim(), "json" | "{{json .}}"));
        let all = if is_json && !has_read_only { &COLUMNS[..COLUMNS.len() - OWN] } else { COLUMNS };
        output::print(&listing(all, &columns, self.format.as_deref(), &lines)?);
        Ok(0)
    }
}

impl Images {
    /// What Docker refuses together with `--tree`, in its words.
    fn check_tree(&self) -> Result<()> {
        let given = [
            (self.quiet, "--quiet"),
            (self.no_trunc, "--no-trunc"),
            (self.digests, "--show-digest"),
            (self.format.is_some(), "--format"),
        ];
        match given.iter().find(|(is_given, _)| *is_given) {
            Some((_, flag)) => Err(Failure::new(format!("{flag} is not yet supported with --tree")).into()),
            None => Ok(()),
        }
    }
}
