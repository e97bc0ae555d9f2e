//! `ctr manifest create`.

use anyhow::Result;

use crate::cli::{Globals, Run, output};
use crate::image::manifests::create;
use crate::image::reference::Reference;

/// Create a local manifest list for annotating and pushing to a registry
#[derive(Debug, clap::Parser)]
#[command(after_help = "MANIFESTs are images of the store, or else of a registry.

Examples:
  ctr manifest create registry.example.com/web:1 web:1-amd64 web:1-arm64
  ctr manifest create --amend registry.example.com/web:1 web:1-s390x")]
pub struct Create {
    /// Amend an existing manifest list
    #[arg(short, long)]
    amend: bool,
    /// All images of a MANIFEST that is a list, not just the one for this machine
    #[arg(long)]
    all: bool,
    /// What registries.conf and daemon.json say of a registry counts in any case
    #[arg(long, hide = true)]
    insecure: bool,
    #[arg(value_name = "MANIFEST_LIST")]
    list: Reference,
    #[arg(value_name = "MANIFEST")]
    manifests: Vec<String>,
}

impl Run for Create {
    fn run(self, globals: &Globals) -> Result<u8> {
        super::warn_insecure(self.insecure);
        let store = globals.store()?;
        let name = create(&store, &self.list, &self.manifests, self.all, self.amend)?;
        output::print(&format!("Created manifest list {name}\n"));
        Ok(0)
    }
}
