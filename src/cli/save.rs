//! `ctr save`.

use std::fs::File;
use std::io::{IsTerminal, stdout};
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::cli::complete::Kind;
use crate::cli::cp::to_stdout;
use crate::cli::export::{check_file, to_file};
use crate::cli::{Globals, Run};
use crate::error::{self, Failure, exit};
use crate::image::archive::save::{Format, gather};
use crate::image::platform::Platform;
use crate::image::{blobs, disk_full};

/// Save one or more images to a tar archive (streamed to STDOUT by default)
#[derive(Debug, clap::Parser)]
#[command(after_help = "Layers are written as they were pulled or made: nothing is packed anew, every digest stays.
docker-archive, the default, is what docker save writes: an OCI image layout that docker load, podman load
and skopeo (docker-archive:, oci-archive:) read. oci-archive is the layout alone.
A repository without a tag means all its tags.

Examples:
  ctr save -o web.tar web:1 web:2
  ctr save web | gzip > web.tar.gz
  ctr save --format oci-archive web | ssh host ctr load")]
pub struct Save {
    /// docker-archive or oci-archive
    #[arg(long, value_name = "string", add = Kind::Words(&["docker-archive", "oci-archive"]))]
    format: Option<String>,
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "file")]
    output: Option<PathBuf>,
    /// Save only the given platform variant, "os[/arch[/variant]]"
    #[arg(long, value_name = "os/arch")]
    platform: Option<Platform>,
    /// Nothing is said in any case
    #[arg(short, long, hide = true)]
    quiet: bool,
    /// All arguments are images in any case
    #[arg(short, long, hide = true)]
    multi_image_archive: bool,
    /// Only for podman's folders of layers
    #[arg(long, hide = true)]
    compress: bool,
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

impl Run for Save {
    fn run(self, globals: &Globals) -> Result<u8> {
        let format = match self.format.as_deref() {
            None | Some("docker-archive") => Format::Docker,
            Some("oci-archive") => Format::Oci,
            Some(other) => {
                return Err(Failure::new(format!("unknown format {other:?}: must be docker-archive or oci-archive"))
                    .exit(exit::ENGINE)
                    .into());
            }
        };
        // podman's flags: two that say what is so already, and one with podman's own refusal.
        let _ = (self.quiet, self.multi_image_archive);
        if self.compress {
            return Err(Failure::new("--compress can only be set when --format is 'docker-dir'")
                .hint("compress the archive: ctr save IMAGE | gzip")
                .exit(exit::ENGINE)
                .into());
        }
        let path = self.output.as_deref().filter(|path| !path.as_os_str().is_empty());
        if path.is_none() && stdout().is_terminal() {
            bail!("cowardly refusing to save to a terminal. Use the -o flag or redirect");
        }
        if let Some(path) = path {
            check_file(path).context("failed to save image")?;
        }
        let store = globals.store()?;
        blobs::prepare(&store)?;
        let archive = gather(&store, &self.images, self.platform.as_ref(), format).map_err(disk_full)?;
        if let Some(warning) = &archive.warning {
            error::warn(warning);
        }
        let write = |file: File| archive.write(&store, file).map(|()| 0);
        match path {
            None => to_stdout(write(File::from(stdout().as_fd().try_clone_to_owned()?)), "save"),
            Some(path) => to_file(path, write).map(|_| 0).map_err(disk_full),
        }
    }
}
