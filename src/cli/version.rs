//! `ctr version`.

use anyhow::Result;

use crate::cli::{Globals, Run, output};

/// Show the version
#[derive(Debug, clap::Parser)]
pub struct Version {}

impl Run for Version {
    fn run(self, _: &Globals) -> Result<u8> {
        output::print(&format!("ctr version {}\n", env!("CARGO_PKG_VERSION")));
        Ok(0)
    }
}
