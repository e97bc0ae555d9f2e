//! `ctr tag`.

use anyhow::{Context, Result};

use crate::cli::{Globals, Run};
use crate::error::Failure;
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

const INVALID: &str = "invalid reference format";

/// Docker's words, which have the name in front alone.
fn parsed(text: &str) -> Result<Reference> {
    let wrong = || format!("Error parsing reference: {text:?} is not a valid repository/tag");
    let twice = format!("{INVALID}: {text:?}");
    let once = |failure: Failure| if failure.to_string() == twice { Failure::new(INVALID) } else { failure };
    text.parse().map_err(once).with_context(wrong)
}

/// A whole id is no name.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

impl Run for Tag {
    fn run(self, globals: &Globals) -> Result<u8> {
        let name = parsed(&self.target)?;
        if !is_id(&self.source) {
            parsed(&self.source)?;
        }
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
