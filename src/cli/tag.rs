//! `ctr tag`.

use anyhow::{Context, Result};

use crate::cli::{Globals, Run};
use crate::image::reference::Reference;
use crate::image::tag::tag;
use crate::image::{additional, disk_full};
use crate::userns;

/// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr tag busybox registry.example.com/team/busybox:1
  ctr tag 0123456789ab mine

An image of an additional store comes into your own with it.")]
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
        // Names are given in the own store, to what it has.
        if let Some(image) = additional::only_there(&store, &self.source, None)? {
            userns::enter(&store)?;
            additional::adopt(&store, &image).map_err(disk_full)?;
        }
        tag(&store, &self.source, &name).map_err(disk_full)?;
        Ok(0)
    }
}
