//! `ctr manifest rm` and `exists`.

use anyhow::Result;

use crate::cli::{Globals, Run, each, engine_failure};
use crate::image::manifests;
use crate::image::reference::Reference;
use crate::userns;

/// Delete one or more manifest lists from local storage
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr manifest rm web:1")]
pub struct Rm {
    #[arg(value_name = "MANIFEST_LIST", required = true)]
    lists: Vec<String>,
}

impl Run for Rm {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        userns::enter(&store)?;
        Ok(each(&self.lists, |name| manifests::delete(&store, &name.parse::<Reference>()?)))
    }
}

/// Tell whether there is such a manifest list
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr manifest exists web:1 || echo none

It prints nothing: the exit code is 0 if there is one, 1 if there is none.")]
pub struct Exists {
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
}

impl Run for Exists {
    fn run(self, globals: &Globals) -> Result<u8> {
        engine_failure(globals.store().map(|store| {
            let name = self.list.parse::<Reference>().ok();
            u8::from(name.and_then(|name| manifests::existing(&store, &name).ok()).is_none())
        }))
    }
}
