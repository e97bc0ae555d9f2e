//! `ctr network ls`.

use anyhow::Result;

use super::filter::Filters;
use crate::cli::complete::{Kind, LISTING};
use crate::cli::output::template::{self, Column, text};
use crate::cli::output::units;
use crate::cli::{Globals, Run, output};
use crate::network::record::{self, Network};

/// List networks
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr network ls
  ctr network ls --filter type=custom --format '{{.Name}} {{.Driver}}'

Filters: driver, id, label, name, scope, type (builtin, custom), dangling.")]
pub struct Ls {
    /// Only those that match: driver=bridge, name=web, label=a=b, type=custom, dangling=true
    #[arg(short, long, value_name = "name=value", value_parser = crate::cli::filter::pair,
        add = Kind::Words(&["dangling=false", "dangling=true", "driver=bridge", "driver=macvlan", "id=", "label=",
            "name=", "scope=local", "type=builtin", "type=custom"]))]
    filter: Vec<(String, String)>,
    /// table, json, or a Go template
    #[arg(long, value_name = "format", add = LISTING)]
    format: Option<String>,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Ids only
    #[arg(short, long)]
    quiet: bool,
}

struct Row {
    network: Network,
    whole: bool,
}

impl Row {
    fn id(&self) -> String {
        if self.whole { self.network.id.to_string() } else { self.network.id.short().to_owned() }
    }
}

const COLUMNS: &[Column<Row>] = &[
    Column { name: "CreatedAt", heading: "CREATED AT", cell: |row| text(units::exact_local_time(row.network.created)) },
    Column { name: "Driver", heading: "DRIVER", cell: |row| text(row.network.driver.as_str()) },
    Column { name: "ID", heading: "NETWORK ID", cell: |row| text(row.id()) },
    Column { name: "IPv4", heading: "IPV4", cell: |row| text(row.network.has_ipv4().to_string()) },
    Column { name: "IPv6", heading: "IPV6", cell: |row| text(row.network.has_ipv6().to_string()) },
    Column { name: "Internal", heading: "INTERNAL", cell: |row| text(row.network.internal.to_string()) },
    Column {
        name: "Labels",
        heading: "LABELS",
        cell: |row| {
            let labels = row.network.labels.iter().map(|(name, value)| format!("{name}={value}"));
            text(labels.collect::<Vec<_>>().join(","))
        },
    },
    Column {
        name: template::LABEL_MAP,
        heading: "",
        cell: |row| {
            let labels = row.network.labels.iter().map(|(name, value)| (name.clone(), text(value.as_str())));
            gotmpl::Value::from(labels.collect::<std::collections::BTreeMap<_, _>>())
        },
    },
    Column { name: "Name", heading: "NAME", cell: |row| text(row.network.name.as_str()) },
    Column { name: "Scope", heading: "SCOPE", cell: |_| text("local") },
];

impl Run for Ls {
    fn run(self, globals: &Globals) -> Result<u8> {
        let filters = Filters::check(&self.filter, false)?;
        let store = globals.store()?;
        // They are always there, and so on the list.
        record::default(&store)?;
        let mut networks = record::list(&store)?;
        filters.retain(&store, &mut networks)?;
        let rows: Vec<Row> = networks.into_iter().map(|network| Row { network, whole: self.no_trunc }).collect();
        if self.quiet && self.format.as_deref().is_none_or(|format| format.is_empty() || format == "table") {
            output::print(&rows.iter().map(|row| row.id() + "\n").collect::<String>());
            return Ok(0);
        }
        output::print(&template::listing(COLUMNS, &["ID", "Name", "Driver", "Scope"], self.format.as_deref(), &rows)?);
        Ok(0)
    }
}
