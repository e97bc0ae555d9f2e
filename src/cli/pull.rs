//! `ctr pull`.

use anyhow::Result;

use crate::cli::output::progress::{self, Stream};
use crate::cli::{Globals, Run, output};
use crate::error::{Failure, exit};
use crate::image::obtain::status;
use crate::image::platform::Platform;
use crate::image::pull::{pull, pull_all};
use crate::image::reference::{DEFAULT_TAG, Reference};
use crate::{image, userns};

/// Download an image from a registry
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr pull busybox
  ctr pull --platform linux/arm64 quay.io/team/app:1.2")]
pub struct Pull {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,
    /// The image for every platform that there is one for
    #[arg(long)]
    all_platforms: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "os/arch")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: Reference,
}

impl Run for Pull {
    fn run(self, globals: &Globals) -> Result<u8> {
        if self.all_tags {
            return Err(Failure::new("--all-tags is not supported yet").exit(exit::ENGINE).into());
        }
        // Not by clap: it is the pull that fails, with 1, as Docker's.
        let platform = self.platform.as_deref().filter(|p| !p.is_empty()).map(str::parse::<Platform>).transpose()?;
        if self.all_platforms && platform.is_some() {
            return Err(Failure::new("--platform and --all-platforms cannot be given together")
                .exit(exit::ENGINE)
                .into());
        }
        let store = globals.store()?;
        userns::enter(&store)?;
        let name = self.name.clone().or_latest();
        if !self.quiet {
            if self.name.tag().is_none() && self.name.digest().is_none() {
                output::print(&format!("Using default tag: {DEFAULT_TAG}\n"));
            }
            output::print(&format!("{}: Pulling from {}\n", name.wanted(), name.path()));
        }
        let report = progress::report(Stream::Out, self.quiet);
        let pulled = if self.all_platforms {
            pull_all(&store, &name, report.as_ref())
        } else {
            pull(&store, &name, platform.as_ref(), report.as_ref())
        };
        let pulled = pulled.map_err(image::disk_full)?;
        if !self.quiet {
            output::print(&format!("Digest: {}\n{}\n", pulled.digest, status(&name, pulled.newer)));
        }
        output::print(&format!("{name}\n"));
        Ok(0)
    }
}
