//! `ctr pull`.

use anyhow::Result;

use crate::cli::output::progress::{self, Stream};
use crate::cli::{Globals, Run, output};
use crate::error::{Failure, exit};
use crate::image::obtain::status;
use crate::image::platform::Platform;
use crate::image::pull::{candidates, first, pull, pull_all};
use crate::image::reference::{DEFAULT_TAG, Reference};
use crate::store::Store;
use crate::{image, registry, userns};

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
    #[arg(value_name = "NAME[:TAG|@DIGEST]", value_parser = name)]
    name: String,
}

/// A reference as it was written: one without a registry may have several meanings.
fn name(text: &str) -> Result<String, Failure> {
    text.parse::<Reference>().map(|_| text.to_owned())
}

impl Run for Pull {
    fn run(self, globals: &Globals) -> Result<u8> {
        // Not by clap: it is the pull that fails, with 1, as Docker's.
        let platform = self.platform.as_deref().filter(|p| !p.is_empty()).map(str::parse::<Platform>).transpose()?;
        if self.all_platforms && platform.is_some() {
            return Err(Failure::new("--platform and --all-platforms cannot be given together")
                .exit(exit::ENGINE)
                .into());
        }
        let written: Reference = self.name.parse()?;
        let has_tag = written.tag().is_some() || written.digest().is_some();
        if self.all_tags && has_tag {
            return Err(Failure::new("tag can't be used with --all-tags/-a").into());
        }
        let store = globals.store()?;
        userns::enter(&store)?;
        let names = candidates(&self.name)?;
        if self.all_tags {
            self.every_tag(&store, &names, platform.as_ref())?;
            return Ok(0);
        }
        if !self.quiet && !has_tag {
            output::print(&format!("Using default tag: {DEFAULT_TAG}\n"));
        }
        let name = first(&names, |name| {
            let newer = self.one(&store, name, platform.as_ref())?;
            if !self.quiet {
                output::print(&format!("{}\n", status(name, newer)));
            }
            Ok(name.clone())
        })?;
        output::print(&format!("{name}\n"));
        Ok(0)
    }
}

impl Pull {
    /// Whether there was something new in it.
    fn one(&self, store: &Store, name: &Reference, platform: Option<&Platform>) -> Result<bool> {
        if !self.quiet {
            output::print(&format!("{}: Pulling from {}\n", name.wanted(), name.path()));
        }
        let report = progress::report(Stream::Out, self.quiet);
        let pulled = if self.all_platforms {
            pull_all(store, name, report.as_ref())
        } else {
            pull(store, name, platform, report.as_ref())
        };
        let pulled = pulled.map_err(image::disk_full)?;
        if !self.quiet {
            output::print(&format!("Digest: {}\n", pulled.digest));
        }
        Ok(pulled.newer)
    }

    fn every_tag(&self, store: &Store, names: &[Reference], platform: Option<&Platform>) -> Result<()> {
        let (name, tags) = first(names, |name| Ok((name.clone(), registry::tags(name)?)))?;
        if tags.is_empty() {
            return Err(Failure::new(format!("{} has no tags", name.familiar_repository())).into());
        }
        let mut newer = false;
        for tag in tags {
            newer |= self.one(store, &name.with_tag(&tag), platform)?;
        }
        let repository = name.repository();
        if !self.quiet {
            let what = if newer { "Downloaded newer image" } else { "Image is up to date" };
            output::print(&format!("Status: {what} for {}\n", name.familiar_repository()));
        }
        output::print(&format!("{repository}\n"));
        Ok(())
    }
}
