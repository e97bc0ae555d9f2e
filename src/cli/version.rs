//! `ctr version`.

use anyhow::Result;
use nix::sys::utsname::uname;
use serde_json::{Value, json};

use crate::cli::output::template;
use crate::cli::{Globals, Run, output};

/// Show the version
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr version
  ctr version -f '{{.Client.Version}}'")]
pub struct Version {
    /// json, or a Go template
    #[arg(short, long, value_name = "format")]
    format: Option<String>,
}

/// The version of Docker's API whose shapes `inspect` and the like print.
pub const API: &str = "1.48";

impl Run for Version {
    fn run(self, _: &Globals) -> Result<u8> {
        let known = known()?;
        if let Some(source) = self.format.as_deref().filter(|format| !format.is_empty()) {
            return template::print(source, "version", &known);
        }
        let field = |of: &str, name: &str| known[of][name].as_str().unwrap_or_default().to_owned();
        output::print(&format!(
            "Client:\n Version:           {version}\n API version:       {API}\n OS/Arch:           {os}/{arch}\n \
             Context:           default\n\nServer: ctr\n Engine:\n  Version:          {version}\n  \
             API version:      {API} (minimum version {API})\n  OS/Arch:          {os}/{arch}\n  \
             Kernel:           {kernel}\n  Experimental:     false\n",
            version = field("Client", "Version"),
            os = field("Client", "Os"),
            arch = field("Client", "Arch"),
            kernel = field("Server", "KernelVersion"),
        ));
        Ok(0)
    }
}

/// Docker's shape. There is no server: scripts that ask for its version mean the engine, and that
/// is this binary.
fn known() -> Result<Value> {
    let system = uname()?;
    let version = env!("CARGO_PKG_VERSION");
    let kernel = system.release().to_string_lossy();
    Ok(json!({
        "Client": {
            "Platform": { "Name": "ctr" },
            "Version": version,
            "ApiVersion": API,
            "DefaultAPIVersion": API,
            "GitCommit": "",
            "GoVersion": "",
            "Os": "linux",
            "Arch": architecture(),
            "BuildTime": "",
            "Context": "default",
        },
        "Server": {
            "Platform": { "Name": "ctr" },
            "Components": [{
                "Name": "Engine",
                "Version": version,
                "Details": {
                    "ApiVersion": API,
                    "Arch": architecture(),
                    "Experimental": "false",
                    "KernelVersion": kernel,
                    "MinAPIVersion": API,
                    "Os": "linux",
                },
            }],
            "Version": version,
            "ApiVersion": API,
            "MinAPIVersion": API,
            "GitCommit": "",
            "GoVersion": "",
            "Os": "linux",
            "Arch": architecture(),
            "KernelVersion": kernel,
            "BuildTime": "",
        },
    }))
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
