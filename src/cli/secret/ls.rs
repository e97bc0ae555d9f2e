//! `ctr secret ls`.

use anyhow::Result;

use crate::cli::complete::{Kind, LISTING};
use crate::cli::output::template::{Column, listing, text};
use crate::cli::output::units;
use crate::cli::{Globals, Run, output};
use crate::error::Failure;
use crate::secret::{self, Secret};

/// List secrets
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr secret ls
  ctr secret ls --filter label=app=web --format '{{.Name}}'

Filters: id, name (their beginnings), label.")]
pub struct Ls {
    /// Only those that match: name=web, label=a=b
    #[arg(short, long, value_name = "name=value", value_parser = crate::cli::filter::pair,
        add = Kind::Words(&["id=", "label=", "name="]))]
    filter: Vec<(String, String)>,
    /// table, json, or a Go template
    #[arg(long, value_name = "format", add = LISTING)]
    format: Option<String>,
    /// Without the headings
    #[arg(short, long)]
    noheading: bool,
    /// Only the ids
    #[arg(short, long)]
    quiet: bool,
}

const COLUMNS: &[Column<Secret>] = &[
    Column { name: "ID", heading: "ID", cell: |s| text(s.id.as_str()) },
    Column { name: "Name", heading: "NAME", cell: |s| text(s.name.as_str()) },
    Column { name: "Driver", heading: "DRIVER", cell: |_| text("file") },
    Column { name: "CreatedAt", heading: "CREATED", cell: |s| text(units::ago(s.created)) },
    Column { name: "UpdatedAt", heading: "UPDATED", cell: |s| text(units::ago(s.updated)) },
    Column { name: "Labels", heading: "LABELS", cell: |s| text(labels(s)) },
];

fn labels(secret: &Secret) -> String {
    secret.labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

impl Run for Ls {
    fn run(self, globals: &Globals) -> Result<u8> {
        for (name, _) in &self.filter {
            if !matches!(name.as_str(), "id" | "name" | "label") {
                return Err(Failure::new(format!("invalid filter '{name}'")).into());
            }
        }
        let mut secrets = secret::list(&globals.store()?)?;
        secrets.retain(|secret| self.is_wanted(secret));
        if self.quiet {
            output::print(&secrets.iter().flat_map(|secret| [&*secret.id, "\n"]).collect::<String>());
            return Ok(0);
        }
        let shown =
            listing(COLUMNS, &["ID", "Name", "Driver", "CreatedAt", "UpdatedAt"], self.format.as_deref(), &secrets)?;
        let is_table = self.format.as_deref().is_none_or(|format| format.is_empty() || format.starts_with("table"));
        let shown = match shown.split_once('\n') {
            Some((_, rows)) if self.noheading && is_table => rows,
            _ => &shown,
        };
        output::print(shown);
        Ok(0)
    }
}

impl Ls {
    /// Values of one name are alternatives, labels must all be there.
    fn is_wanted(&self, secret: &Secret) -> bool {
        let begins = |name: &str, text: &str| {
            let mut values = self.filter.iter().filter(|(other, _)| other == name).map(|(_, value)| value).peekable();
            values.peek().is_none() || values.any(|value| text.starts_with(value.as_str()))
        };
        let mut labels = self.filter.iter().filter(|(name, _)| name == "label").map(|(_, label)| label);
        begins("id", &secret.id)
            && begins("name", &secret.name)
            && labels.all(|label| match label.split_once('=') {
                Some((name, value)) => secret.labels.get(name).is_some_and(|own| own == value),
                None => secret.labels.contains_key(label),
            })
    }
}
