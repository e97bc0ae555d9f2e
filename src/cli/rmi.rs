//! `ctr rmi`.

use anyhow::Result;

use crate::cli::{Globals, Run, output};
use crate::error::{self, Failure, exit};
use crate::image::blobs;
use crate::image::remove::{Report, remove};
use crate::userns;

/// Remove one or more images
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr rmi busybox:1.36
  ctr rmi -f 3fa1b2c4d5e6       with all its names")]
pub struct Rmi {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    no_prune: bool,
    /// Remove only the given platform variant
    #[arg(long, value_name = "os/arch")]
    platform: Vec<String>,
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

impl Run for Rmi {
    fn run(self, globals: &Globals) -> Result<u8> {
        if !self.platform.is_empty() {
            return Err(Failure::new("--platform is not supported yet").exit(exit::ENGINE).into());
        }
        // An image here has no parent images, as with Docker's since BuildKit: nothing to prune.
        let _ = self.no_prune;
        let store = globals.store()?;
        // Layers belong to subordinate ids.
        userns::enter(&store)?;
        blobs::prepare(&store)?;
        let mut code = 0;
        for image in &self.images {
            match remove(&store, image, self.force) {
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
    output::print(&(lines.join("\n") + "\n"));
}
