//! `ctr port`.

use anyhow::{Result, bail};

use crate::cli::{Globals, Run, output};
use crate::container::{list, network};
use crate::network::{Protocol, Published};
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
    #[arg(value_name = "CONTAINER")]
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
        let Some(wanted) = &self.port else {
            let line = |p: &Published| format!("{}/{} -> {}\n", p.container_port, p.protocol.as_str(), p.outside());
            output::print(&published.iter().map(line).collect::<String>());
            return Ok(0);
        };
        let (port, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
        let (Ok(number), Some(protocol)) = (port.parse::<u16>(), Protocol::of(protocol)) else {
            bail!("invalid port {wanted:?}: a number, and /tcp, /udp or /sctp");
        };
        let found: String = published
            .iter()
            .filter(|p| p.container_port == number && p.protocol == protocol)
            .map(|p| p.outside() + "\n")
            .collect();
        if found.is_empty() {
            bail!("no public port '{number}/{}' published for {}", protocol.as_str(), self.container);
        }
        output::print(&found);
        Ok(0)
    }
}
