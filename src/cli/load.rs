//! `ctr load`.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cli::{Globals, Run, output};
use crate::error::Failure;
use crate::image::archive::load::load;
use crate::image::platform::Platform;
use crate::userns;

/// Load an image from a tar archive or STDIN
#[derive(Debug, clap::Parser)]
#[command(after_help = "It takes what ctr, docker, podman and skopeo write (docker-archive, oci-archive), plain or
compressed with gzip or zstd. Either all of its images are loaded or none.

Examples:
  ctr load -i images.tar.gz
  ssh host ctr save web | ctr load")]
pub struct Load {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "file")]
    input: Option<PathBuf>,
    /// Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "os/arch")]
    platform: Option<Platform>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
}

impl Run for Load {
    fn run(self, globals: &Globals) -> Result<u8> {
        let source = match &self.input {
            Some(path) => File::open(path).with_context(|| format!("open {}", path.display()))?,
            None if std::io::stdin().is_terminal() => {
                return Err(Failure::new("requested load from stdin, but stdin is empty")
                    .hint("name the archive: ctr load -i FILE")
                    .into());
            }
            None => File::from(std::io::stdin().as_fd().try_clone_to_owned()?),
        };
        let store = globals.store()?;
        userns::enter(&store)?;
        // There is nothing to show on the way that `--quiet` could leave out: Docker prints these
        // lines in either case.
        let _ = self.quiet;
        for loaded in load(&store, source, self.platform.as_ref()).map_err(crate::image::disk_full)? {
            if loaded.names.is_empty() {
                output::print(&format!("Loaded image ID: {}\n", loaded.id));
            }
            for name in &loaded.names {
                output::print(&format!("Loaded image: {}\n", name.familiar()));
            }
        }
        Ok(0)
    }
}
