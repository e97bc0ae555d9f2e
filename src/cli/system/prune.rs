//! `ctr system prune`.

use anyhow::Result;

use super::image_prune;
use crate::cli::complete::Kind;
use crate::cli::prune::{self, Filters};
use crate::cli::{Globals, Run, network};
use crate::error::{self, Failure};
use crate::userns;

/// Remove what nothing uses: stopped containers, networks, images
#[derive(Debug, clap::Parser)]
#[command(after_help = "Filters: label, label!, until (a time, or a span such as 24h).

Examples:
  ctr system prune -f
  ctr system prune -a --filter until=240h")]
pub struct Prune {
    /// All images without a container, not just those without a name
    #[arg(short, long)]
    all: bool,
    /// Only what matches: until=24h, label=a=b, label!=a
    #[arg(long, value_name = "name=value", value_parser = crate::cli::filter::pair,
        add = Kind::Words(&["label!=", "label=", "until="]))]
    filter: Vec<(String, String)>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Anonymous volumes too
    #[arg(long)]
    volumes: bool,
}

impl Run for Prune {
    fn run(self, globals: &Globals) -> Result<u8> {
        let filters = Filters::check(&self.filter)?;
        if self.volumes && filters.until.is_some() {
            return Err(Failure::new("ERROR: The \"until\" filter is not supported with \"--volumes\"").into());
        }
        let of_networks = network::Filters::check(&self.filter, true)?;
        if !self.force && !prune::agreed(&self.warning()) {
            return Ok(0);
        }
        if self.volumes {
            error::warn("there are no volumes yet");
        }
        let store = globals.store()?;
        let containers = prune::containers(&store, &filters)?;
        containers.print();
        // Files of images and the networks' interfaces belong to the user's own namespace.
        userns::enter(&store)?;
        let networks = network::prune_networks(&store, &of_networks)?;
        networks.print();
        let images = image_prune::images(&store, self.all, &filters)?;
        images.print();
        prune::print_reclaimed(containers.reclaimed + images.reclaimed);
        Ok(containers.code | networks.code | images.code)
    }
}

impl Prune {
    /// Docker's words.
    fn warning(&self) -> String {
        let mut lines = vec!["all stopped containers", "all networks not used by at least one container"];
        if self.volumes {
            lines.push("all anonymous volumes not used by at least one container");
        }
        lines.extend(if self.all {
            ["all images without at least one container associated to them", "all build cache"]
        } else {
            ["all dangling images", "unused build cache"]
        });
        let list = |lines: &[String]| lines.iter().flat_map(|line| ["  - ", line, "\n"]).collect::<String>();
        let lines: Vec<String> = lines.into_iter().map(str::to_owned).collect();
        let mut text = format!("WARNING! This will remove:\n{}", list(&lines));
        if !self.filter.is_empty() {
            let mut filters: Vec<String> = self.filter.iter().map(|(name, value)| format!("{name}={value}")).collect();
            filters.sort();
            text.extend(["\n  Items to be pruned will be filtered with:\n", &list(&filters)]);
        }
        text
    }
}
