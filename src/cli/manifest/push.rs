//! `ctr manifest push`.

use anyhow::Result;

use crate::cli::output::progress::{self, Stream};
use crate::cli::{Globals, Run, output};
use crate::image::manifests;
use crate::image::push::{How, push};
use crate::image::reference::Reference;
use crate::{image, userns};

/// Push a manifest list to a repository
#[derive(Debug, clap::Parser)]
#[command(after_help = "Images of the list that are in the store are pushed with it; others have to be in the
repository already.")]
pub struct Push {
    /// Allow push to an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Remove the local manifest list after push
    #[arg(short, long)]
    purge: bool,
    #[arg(value_name = "MANIFEST_LIST")]
    list: Reference,
}

impl Run for Push {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        userns::enter(&store)?;
        let name = self.list.or_latest();
        manifests::existing(&store, &name)?;
        let report = progress::push(Stream::Err, false);
        let how = How { insecure: self.insecure, ..How::default() };
        let pushed = push(&store, &name, None, how, report.as_ref()).map_err(image::disk_full)?;
        drop(report);
        output::print(&format!("{}\n", pushed.digest));
        if self.purge {
            manifests::delete(&store, &name)?;
        }
        Ok(0)
    }
}
