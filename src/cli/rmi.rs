//! `ctr rmi`.

use anyhow::Result;

use crate::cli::{Globals, Run, output};
use crate::error;
use crate::image::blobs;
use crate::image::platform::Platform;
use crate::image::remove::{Report, remove};
use crate::userns;

/// Remove one or more images
#[derive(Debug, clap::Parser)]
#[command(after_help = "By name, the name goes, and the image with its last name; by id, all its names go. One that
ctr image mount has mounted stays; with --force it is unmounted first.

Examples:
  ctr rmi web:1 web:2
  ctr rmi -f 0123456789ab
  ctr rmi --platform linux/arm64 web:1")]
pub struct Rmi {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    no_prune: bool,
    /// Remove only the given platform variant, which goes under all its names
    #[arg(long, value_name = "os/arch")]
    platform: Vec<String>,
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

impl Run for Rmi {
    fn run(self, globals: &Globals) -> Result<u8> {
        // As Docker's list of strings: several in one, separated by commas.
        let platforms = self.platform.iter().flat_map(|list| list.split(','));
        let platforms = platforms.map(str::parse::<Platform>).collect::<Result<Vec<_>, _>>()?;
        // An image here has no parent images, as with Docker's since BuildKit: nothing to prune.
        let _ = self.no_prune;
        let store = globals.store()?;
        // Layers belong to subordinate ids.
        userns::enter(&store)?;
        blobs::prepare(&store)?;
        let mut code = 0;
        for image in &self.images {
            match remove(&store, image, &platforms, self.force) {
                Ok(lines) => show(&lines),
                Err(problem) => {
                    output::say(&error::render(&problem));
                    // `docker rmi -f` of what is not there is no failure.
                    if !(self.force && error::message(&problem).starts_with("No such image")) {
                        code = 1;
                    }
                }
            }
        }
        Ok(code)
    }
}

fn show(lines: &Report) {
    if !lines.is_empty() {
        output::print(&(lines.join("\n") + "\n"));
    }
}
