//! `ctr manifest add`, `annotate` and `remove`: what is in a list and what is said of it.

use anyhow::Result;

use super::Said;
use crate::cli::{Globals, Run, output};
use crate::image::manifests;
use crate::image::reference::Reference;

/// Add images to a local manifest list
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr manifest add web:1 web:1-arm64
  ctr manifest add --arch arm --variant v7 web:1 example.com/web:arm")]
pub struct Add {
    /// All images of an IMAGE that is a list, not just the one for this machine
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    said: Said,
    #[arg(value_name = "MANIFEST_LIST")]
    list: Reference,
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

impl Run for Add {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let digest = manifests::add(&store, &self.list, &self.images, self.all, &self.said.into())?;
        output::print(&format!("{digest}\n"));
        Ok(0)
    }
}

/// Add additional information to a local image manifest
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr manifest annotate --os linux --arch arm64 --variant v8 web:1 web:1-arm64")]
pub struct Annotate {
    #[command(flatten)]
    said: Said,
    #[arg(value_name = "MANIFEST_LIST")]
    list: Reference,
    /// A name, or the digest that the list has
    #[arg(value_name = "MANIFEST")]
    manifest: String,
}

impl Run for Annotate {
    fn run(self, globals: &Globals) -> Result<u8> {
        manifests::annotate(&globals.store()?, &self.list, &self.manifest, &self.said.into())?;
        Ok(0)
    }
}

/// Remove an image from a local manifest list
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr manifest remove web:1 web:1-arm64")]
pub struct Remove {
    #[arg(value_name = "MANIFEST_LIST")]
    list: Reference,
    /// A name, or the digest that the list has
    #[arg(value_name = "MANIFEST")]
    manifest: String,
}

impl Run for Remove {
    fn run(self, globals: &Globals) -> Result<u8> {
        let digest = manifests::take_out(&globals.store()?, &self.list, &self.manifest)?;
        output::print(&format!("{digest}\n"));
        Ok(0)
    }
}
