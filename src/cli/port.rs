//! `ctr port`.

use anyhow::{Result, bail};

use crate::cli::complete::{Kind, Which};
use crate::cli::{Globals, Run, output};
use crate::container::{list, network};
use crate::error::Failure;
use crate::network::Published;
use crate::store::names;

/// List the ports of a container that are published
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr port CONTAINER [PRIVATE_PORT[/PROTO]]",
    after_help = "Examples:
  ctr port web          80/tcp -> 0.0.0.0:8080
  ctr port web 80       0.0.0.0:8080"
)]
pub struct Port {
    #[arg(value_name = "CONTAINER", add = Kind::Containers(Which::Running))]
    container: String,
    /// Where this one is published
    #[arg(value_name = "PRIVATE_PORT[/PROTO]")]
    port: Option<String>,
}

impl Run for Port {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let id = names::resolve(&store, &self.container)?;
        // Puts one in order that is recorded as running and does not.
        list::one(&store, &id)?;
        let published = network::published(&store, &id)?;
        let Some(wanted) = self.port.as_ref().filter(|port| !port.is_empty()) else {
            let line = |p: &Published| format!("{}/{} -> {}\n", p.container_port, p.protocol.as_str(), p.outside());
            output::print(&published.iter().map(line).collect::<String>());
            return Ok(0);
        };
        let (port, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
        let number: u16 = port.parse().map_err(|_| {
            let is_number = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            let why = if is_number { "value out of range" } else { "invalid syntax" };
            Failure::new(format!("invalid port ({port}): strconv.ParseUint: parsing {port:?}: {why}"))
        })?;
        let found: String = published
            .iter()
            .filter(|p| p.container_port == number && p.protocol.as_str() == protocol)
            .map(|p| p.outside() + "\n")
            .collect();
        if found.is_empty() {
            bail!("No public port '{wanted}' published for {}", self.container);
        }
        output::print(&found);
        Ok(0)
    }
}
