//! `ctr history`.

use anyhow::Result;
use jiff::Timestamp;

use crate::cli::complete::LISTING;
use crate::cli::output::template::{Column, listing, text};
use crate::cli::output::units;
use crate::cli::{Globals, Run, output};
use crate::image::history::{Step, history};
use crate::image::platform::Platform;
use crate::image::{find_for, no_such_image};
use crate::store::Id;

/// Show the history of an image
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr history busybox
  ctr history --no-trunc --format '{{.CreatedBy}}' busybox
  ctr history -H=false busybox")]
pub struct History {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or TEMPLATE
    #[arg(long, value_name = "string", add = LISTING)]
    format: Option<String>,
    /// Print sizes and dates in human readable format (default true)
    #[arg(
        value_name = "bool",
        short = 'H',
        long,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        value_parser = crate::cli::options::boolean
    )]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Show history for the given platform, "os[/arch[/variant]]"
    #[arg(long, value_name = "os/arch")]
    platform: Option<Platform>,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "IMAGE")]
    image: String,
}

struct Line {
    step: Step,
    human: bool,
    no_trunc: bool,
}

/// Characters of a command that are shown.
const SHOWN: usize = 45;

impl Line {
    fn id(&self) -> String {
        match &self.step.id {
            None => "<missing>".to_owned(),
            Some(id) if self.no_trunc => id.clone(),
            Some(id) => id.trim_start_matches("sha256:").chars().take(Id::SHORT).collect(),
        }
    }

    fn created_at(&self) -> String {
        let rfc3339 =
            |time: Timestamp| time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        let text = self.step.created.map_or_else(|| "N/A".to_owned(), rfc3339);
        // As Go has it.
        text.strip_suffix("+00:00").map_or(text.clone(), |time| format!("{time}Z"))
    }

    fn created_by(&self) -> String {
        let text = self.step.created_by.replace('\t', " ");
        if self.no_trunc || text.chars().count() <= SHOWN {
            return text;
        }
        text.chars().take(SHOWN - 1).chain(['…']).collect()
    }
}

const COLUMNS: &[Column<Line>] = &[
    Column { name: "Comment", heading: "COMMENT", cell: |line| text(line.step.comment.as_str()) },
    Column { name: "CreatedAt", heading: "CREATED AT", cell: |line| text(line.created_at()) },
    Column { name: "CreatedBy", heading: "CREATED BY", cell: |line| text(line.created_by()) },
    Column {
        name: "CreatedSince",
        heading: "CREATED",
        cell: |line| match line.step.created {
            Some(created) if line.human => text(units::ago(created)),
            _ => text(line.created_at()),
        },
    },
    Column { name: "ID", heading: "IMAGE", cell: |line| text(line.id()) },
    Column {
        name: "Size",
        heading: "SIZE",
        cell: |line| text(if line.human { units::size(line.step.size) } else { line.step.size.to_string() }),
    },
];

impl Run for History {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let found = find_for(&store, &self.image, self.platform.as_ref())?;
        let image = found.ok_or_else(|| no_such_image(&self.image))?;
        let steps = history(&image).into_iter();
        let lines: Vec<Line> = steps.map(|step| Line { step, human: self.human, no_trunc: self.no_trunc }).collect();
        let format = self.format.as_deref();
        if self.quiet && format.is_none_or(|format| matches!(format, "" | "table")) {
            output::print(&lines.iter().map(|line| line.id() + "\n").collect::<String>());
            return Ok(0);
        }
        let created = if self.human { "CreatedSince" } else { "CreatedAt" };
        output::print(&listing(COLUMNS, &["ID", created, "CreatedBy", "Size", "Comment"], format, &lines)?);
        Ok(0)
    }
}
