//! Networks that are only configurations: `network create --config-only` makes one that nothing can
//! be on, `--config-from` a network from what it says.

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::network::record::{self, Driver, Network, New};
use crate::store::{Id, Store};

/// What a configuration says beside its record's subnets and options, which are as they were given:
/// nothing was chosen, and nothing is taken from other networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    pub ipv4: bool,
    pub ipv6: bool,
}

impl Network {
    /// # Errors
    /// It is a configuration: nothing can be on it.
    pub fn check_joinable(&self) -> Result<()> {
        if self.configuration.is_none() {
            return Ok(());
        }
        Err(Failure::new("cannot create endpoint on configuration-only network")
            .hint(format!("make a network from it: ctr network create --config-from {} NAME", self.name))
            .into())
    }
}

impl New {
    /// What a configuration, and what is made from one, cannot have. Docker's sentences.
    ///
    /// # Errors
    /// It has it.
    pub(super) fn check_configuration(&self) -> Result<()> {
        if self.config_only && (self.internal || self.attachable) {
            bail!(
                "configuration network can only contain network specific fields. Network operator fields like [ ingress | \
                 internal | attachable | scope ] are not supported."
            );
        }
        if self.config_from.is_empty() {
            return Ok(());
        }
        if self.config_only {
            bail!("a configuration network cannot depend on another configuration network");
        }
        let own = self.ipv6 || !self.labels.is_empty() || !self.ipam_options.is_empty() || !self.subnets.is_empty();
        if own || !self.ipv4 {
            bail!("user specified configurations are not supported if the network depends on a configuration network");
        }
        if !self.options.is_empty() {
            bail!(
                "network driver specific options are not supported if the network depends on a configuration network"
            );
        }
        Ok(())
    }

    /// The configuration: what was given, of which nothing is had.
    pub(super) fn into_configuration(self) -> Result<Network> {
        Ok(Network {
            id: Id::random().context("make an id")?,
            name: self.name,
            created: Timestamp::now(),
            driver: Driver::Null,
            internal: false,
            subnets: self.subnets,
            options: self.options,
            labels: self.labels,
            attachable: false,
            ipam_options: self.ipam_options,
            found: None,
            configuration: Some(Configuration { ipv4: self.ipv4, ipv6: self.ipv6 }),
            config_from: String::new(),
        })
    }

    /// It with what the configuration says that it is to be made from. To be called under the lock of
    /// all networks.
    ///
    /// # Errors
    /// There is no such configuration.
    pub(super) fn configured(self, store: &Store) -> Result<Self> {
        if self.config_from.is_empty() {
            return Ok(self);
        }
        let missing = || Failure::new(format!("configuration network {:?} not found", self.config_from));
        let found = record::list(store)?.into_iter().filter_map(|network| Some((network.configuration?, network)));
        let is_it = |network: &Network| network.name == self.config_from || *network.id.as_str() == self.config_from;
        let (configuration, from) = { found }.find(|(_, network)| is_it(network)).ok_or_else(missing)?;
        Ok(Self {
            ipv4: configuration.ipv4,
            ipv6: configuration.ipv6,
            subnets: from.subnets,
            options: from.options,
            ipam_options: from.ipam_options,
            labels: from.labels,
            config_from: from.name,
            ..self
        })
    }
}

/// # Errors
/// A network was made from it.
pub(super) fn check_unused(store: &Store, network: &Network) -> Result<()> {
    if network.configuration.is_none() {
        return Ok(());
    }
    let users: Vec<String> = record::list(store)?
        .into_iter()
        .filter(|user| user.config_from == network.name)
        .map(|user| user.name)
        .collect();
    if users.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("configuration network {:?} is in use", network.name))
        .hint(format!("made from it: {}", users.join(", ")))
        .into())
}
