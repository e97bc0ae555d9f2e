//! `ctr version`.

use anyhow::Result;
use nix::sys::utsname::uname;
use serde_json::{Value, json};

use crate::cli::output::template;
use crate::cli::{Globals, Run, output};

/// Show the version
#[derive(Debug, clap::Parser)]
pub struct Version {
    /// json, or a Go template
    #[arg(short, long, value_name = "format")]
    format: Option<String>,
}

/// The version of Docker's API whose shapes `inspect` and the like print.
const API: &str = "1.48";

impl Run for Version {
    fn run(self, _: &Globals) -> Result<u8> {
        let known = known()?;
        if let Some(source) = self.format.as_deref().filter(|format| !format.is_empty()) {
            output::print(&template::render(source, &known)?);
            return Ok(0);
        }
        let field = |name: &str| known["Client"][name].as_str().unwrap_or_default().to_owned();
        output::print(&format!(
            "ctr version {}\n API version:  {API} (Docker's, whose shapes are printed)\n OS/Arch:      {}/{}\n \
             Kernel:       {}\n",
            field("Version"),
            field("Os"),
            field("Arch"),
            field("KernelVersion"),
        ));
        Ok(0)
    }
}

/// Docker's shape. There is no server: scripts that ask for its version mean the engine, and that
/// is this binary.
fn known() -> Result<Value> {
    let system = uname()?;
    let about = json!({
        "Platform": { "Name": "ctr" },
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": API,
        "Os": "linux",
        "Arch": architecture(),
        "KernelVersion": system.release().to_string_lossy(),
    });
    Ok(json!({ "Client": about, "Server": about }))
}

/// Go's name of this machine's architecture.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}
