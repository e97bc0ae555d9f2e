//! `ctr manifest push`.

use anyhow::Result;

use crate::cli::output::progress::{self, Stream};
use crate::cli::{Globals, Run, output};
use crate::error::{self, Failure};
use crate::image::manifests;
use crate::image::push::push_list;
use crate::image::reference::Reference;
use crate::userns;

/// Push a manifest list to a repository, with all that it leads to
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr manifest push -p registry.example.com/web:1
  ctr manifest push web:1 docker://registry.example.com/web:1")]
pub struct Push {
    /// Everything goes there in any case
    #[arg(long, hide = true)]
    all: bool,
    /// What registries.conf and daemon.json say of a registry counts in any case
    #[arg(long, hide = true)]
    insecure: bool,
    /// Remove the local manifest list after push
    #[arg(short, long, visible_alias = "rm")]
    purge: bool,
    /// Only the digest
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "MANIFEST_LIST")]
    list: Reference,
    /// Under another name
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
}

impl Run for Push {
    fn run(self, globals: &Globals) -> Result<u8> {
        super::warn_insecure(self.insecure);
        let _ = self.all;
        let name = match self.destination.as_deref() {
            None => self.list.clone(),
            Some(text) => text.strip_prefix("docker://").unwrap_or(text).parse::<Reference>()?,
        };
        if name.digest().is_some() {
            return Err(Failure::new("cannot push a digest reference").hint("give a name with a tag").into());
        }
        let name = name.or_latest();
        let store = globals.store()?;
        let list = manifests::existing(&store, &self.list)?;
        userns::enter(&store)?;
        let report = progress::push(Stream::Err, self.quiet);
        let pushed = push_list(&store, &list, &name, report.as_ref()).map_err(crate::image::disk_full)?;
        drop(report);
        if let Some(warning) = &pushed.warning {
            error::warn(warning);
        }
        output::print(&format!("{}\n", pushed.digest));
        if self.purge {
            manifests::delete(&store, &self.list)?;
        }
        Ok(0)
    }
}
