//! `ctr tag`.

use anyhow::{Context, Result};

use crate::cli::{Globals, Run};
use crate::image::reference::Reference;
use crate::image::tag::tag;

/// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr tag busybox registry.example.com/team/busybox:1
  ctr tag 0123456789ab mine")]
pub struct Tag {
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

impl Run for Tag {
    fn run(self, globals: &Globals) -> Result<u8> {
        let target = &self.target;
        let wrong = || format!("Error parsing reference: {target:?} is not a valid repository/tag");
        let name: Reference = target.parse().with_context(wrong)?;
        let store = globals.store()?;
        tag(&store, &self.source, &name).map_err(crate::image::disk_full)?;
        Ok(0)
    }
}
