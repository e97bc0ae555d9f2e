//! `ctr image prune`.

use anyhow::Result;

use crate::cli::complete::Kind;
use crate::cli::prune::{self, Filters, Pruned};
use crate::cli::{Globals, Run};
use crate::error::{Failure, exit};
use crate::events;
use crate::image::{self, blobs};
use crate::store::Store;
use crate::userns;

/// Remove images that no container was made from
#[derive(Debug, clap::Parser)]
#[command(after_help = "Filters: dangling, label, label!, until (a time, or a span such as 24h).

Examples:
  ctr image prune -f                           those without a name
  ctr image prune -a --filter until=240h       built ten days ago or earlier
  ctr image prune --blobs                      only what a push needs")]
pub struct ImagePrune {
    /// Those with a name too
    #[arg(short, long)]
    all: bool,
    /// The compressed layers of pulled images instead: nothing needs them to run, and a push or save fetches
    /// them again
    #[arg(long)]
    blobs: bool,
    /// Only those that match: until=24h, label=a=b, label!=a
    #[arg(long, value_name = "name=value", value_parser = crate::cli::filter::pair,
        add = Kind::Words(&["dangling=false", "dangling=true", "label!=", "label=", "until="]))]
    filter: Vec<(String, String)>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Run for ImagePrune {
    fn run(self, globals: &Globals) -> Result<u8> {
        if self.blobs {
            return self.drop_blobs(globals);
        }
        let mut all = self.all;
        let mut given = self.filter;
        // `dangling=false` is Docker's older way to say --all.
        for (_, value) in given.extract_if(.., |(name, _)| name == "dangling") {
            let is_dangling = crate::cli::options::boolean(&value);
            all |= !is_dangling.map_err(|_| Failure::new(format!("invalid filter 'dangling={value}'")))?;
        }
        let filters = Filters::check(&given)?;
        let warning = if all {
            "WARNING! This will remove all images without at least one container associated to them."
        } else {
            "WARNING! This will remove all dangling images."
        };
        if !self.force && !prune::agreed(warning) {
            return Ok(0);
        }
        let store = globals.store()?;
        userns::enter(&store)?;
        let pruned = images(&store, all, &filters)?;
        pruned.print();
        prune::print_reclaimed(pruned.reclaimed);
        Ok(pruned.code)
    }
}

impl ImagePrune {
    fn drop_blobs(&self, globals: &Globals) -> Result<u8> {
        if self.all || !self.filter.is_empty() {
            let failure = Failure::new("--blobs is about all images: --all and --filter say nothing beside it");
            return Err(failure.exit(exit::ENGINE).into());
        }
        let warning = "WARNING! This will remove the compressed layers of all images that can be pulled again.";
        if !self.force && !prune::agreed(warning) {
            return Ok(0);
        }
        let store = globals.store()?;
        let mut pruned = Pruned { reclaimed: image::pull::partial::clear(&store), ..Pruned::default() };
        for (digest, size) in image::compressed::drop_all(&store)? {
            pruned.note("Deleted Blobs:", digest.as_str(), Ok(()));
            pruned.reclaimed += size;
        }
        pruned.print();
        prune::print_reclaimed(pruned.reclaimed);
        Ok(0)
    }
}

/// Removes the images that no container was made from and that pass the filters. The process is in the
/// user's namespace.
///
/// # Errors
/// What is needed cannot be told: then none is removed.
pub fn images(store: &Store, all: bool, filters: &Filters) -> Result<Pruned> {
    blobs::prepare(store)?;
    let removed = image::prune::prune(store, all, |labels, created| filters.matches(labels, created))?;
    let reclaimed = removed.reclaimed + image::pull::partial::clear(store);
    events::pruned(store, "image", reclaimed);
    let mut pruned = Pruned { reclaimed, ..Pruned::default() };
    for line in removed.report {
        // `rmi` writes these words large, `prune` small.
        let (word, rest) = line.split_at(1);
        pruned.note("Deleted Images:", &(word.to_lowercase() + rest), Ok(()));
    }
    Ok(pruned)
}
