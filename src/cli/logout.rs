//! `ctr logout`.

use std::path::PathBuf;

use anyhow::Result;

use super::login::domain;
use crate::cli::{Globals, Run, output};
use crate::config::credentials::Place;

/// Log out from a registry
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr logout registry.example.com")]
pub struct Logout {
    /// File with the credentials, instead of ~/.docker/config.json
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Host and perhaps port [default: Docker Hub]
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

impl Run for Logout {
    fn run(self, _: &Globals) -> Result<u8> {
        let domain = domain(self.server.as_deref());
        let place = Place::choose(self.authfile)?;
        // Docker's sentence, whether there was something to remove or not.
        output::print(&format!("Removing login credentials for {}\n", place.key(&domain)));
        place.forget(&domain)?;
        Ok(0)
    }
}
