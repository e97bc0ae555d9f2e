//! `ctr network connect` and `ctr network disconnect`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, bail};

use crate::cli::options::{csv, endpoints, rate};
use crate::cli::{Globals, Run};
use crate::container::config::Endpoint;
use crate::container::network::change;
use crate::container::state;
use crate::error::Failure;
use crate::network::mac::Mac;
use crate::network::{Rate, member, record};
use crate::store::{Store, names};

/// Connect a container to a network
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr network connect [OPTIONS] NETWORK CONTAINER",
    after_help = "A container that runs is connected at once, another one when it is started.

Examples:
  ctr network connect back web
  ctr network connect --alias db --ip 10.20.0.5 back postgres"
)]
pub struct Connect {
    /// Further names to be found by there
    #[arg(long, value_name = "name", value_delimiter = ',', value_parser = endpoints::alias)]
    alias: Vec<String>,
    /// Options of the driver
    #[arg(long, value_name = "name=value")]
    driver_opt: Vec<String>,
    /// The network with the highest is the way outside
    #[arg(long, value_name = "int", default_value = "0", hide_default_value = true)]
    gw_priority: i64,
    /// IPv4 address there
    #[arg(long, value_name = "address", value_parser = endpoints::ipv4)]
    ip: Option<Ipv4Addr>,
    /// IPv6 address there
    #[arg(long, value_name = "address", value_parser = endpoints::ipv6)]
    ip6: Option<Ipv6Addr>,
    /// Find another container by its name, or by an alias
    #[arg(long, value_name = "container[:alias]", value_parser = endpoints::link)]
    link: Vec<String>,
    /// Further addresses there
    #[arg(long, value_name = "address", value_delimiter = ',', value_parser = endpoints::link_local)]
    link_local_ip: Vec<IpAddr>,
    /// Hardware address there
    #[arg(long, value_name = "address", value_parser = endpoints::mac)]
    mac_address: Option<Mac>,
    /// What may pass in a second there: 10mbit, in=10mbit,out=2mbit
    #[arg(long, value_name = "rate", value_parser = rate::rate)]
    rate: Option<Rate>,
    #[arg(value_name = "NETWORK")]
    network: String,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Run for Connect {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let mut endpoint = Endpoint {
            network: self.network,
            aliases: self.alias,
            ipv4_address: self.ip,
            ipv6_address: self.ip6,
            mac_address: self.mac_address,
            link_local_ips: self.link_local_ip,
            gw_priority: self.gw_priority,
            links: self.link,
            rate: self.rate.unwrap_or_default(),
            ..Endpoint::default()
        };
        for options in &self.driver_opt {
            // What has commas of its own is in double quotes.
            for option in csv::fields(options).map_err(Failure::new)? {
                endpoints::driver_option(&mut endpoint, &option).map_err(Failure::new)?;
            }
        }
        if matches!(endpoint.network.as_str(), "bridge" | "default") {
            endpoints::on_default(&endpoint)?;
        }
        let id = names::resolve(&store, &self.container)?;
        for link in &endpoint.links {
            let name = link.split(':').next().unwrap_or_default();
            names::resolve(&store, name)?;
        }
        change::connect(&store, &id, endpoint)?;
        Ok(0)
    }
}

/// Disconnect a container from a network
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr network disconnect [OPTIONS] NETWORK CONTAINER",
    after_help = "Examples:
  ctr network disconnect back web"
)]
pub struct Disconnect {
    /// Although it cannot be done cleanly, or the container is no more
    #[arg(short, long)]
    force: bool,
    #[arg(value_name = "NETWORK")]
    network: String,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Run for Disconnect {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        match names::resolve(&store, &self.container) {
            Ok(id) => change::disconnect(&store, &id, &self.network, self.force)?,
            Err(_) if self.force => forget(&store, &self.network, &self.container)?,
            Err(e) => return Err(e),
        }
        Ok(0)
    }
}

/// Ends the membership of a container that is no more.
fn forget(store: &Store, network: &str, container: &str) -> Result<()> {
    let network = record::get(store, network)?;
    let members = member::members(store, &network.id)?;
    let is_meant = |id: &str, name: &str| name == container || (container.len() >= 4 && id.starts_with(container));
    let found = members.iter().find(|member| is_meant(member.container.as_str(), &member.name));
    match found.filter(|member| !state::is_alive(store, &member.container)) {
        Some(member) => member::leave(store, &network.id, &member.container),
        None => bail!("No such container: {container}"),
    }
}
