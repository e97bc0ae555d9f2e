//! What a network is: `networks/<id>/network.json`, written when it is made and never changed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::Id;
use crate::store::record::Record;

/// `networks/<id>/network.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub id: Id,
    pub name: String,
    pub created: Timestamp,
    pub driver: Driver,
    /// Nothing outside is reached from it, and nothing outside reaches it.
    pub internal: bool,
    /// IPv4 first. Without any, it has no addresses of that family.
    pub subnets: Vec<Subnet>,
    /// `--opt`, Docker's names: `com.docker.network.driver.mtu` and so on.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub attachable: bool,
}

impl Record for Network {
    const VERSION: u32 = 1;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    Bridge,
    Macvlan,
}

/// An address range of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    pub subnet: IpNet,
    /// Where addresses are chosen from; `None`: the whole subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<IpNet>,
    /// The bridge's own address, and the containers' way outside.
    pub gateway: Option<IpAddr>,
    /// Addresses that are never given out (`--aux-address name=address`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub auxiliary: BTreeMap<String, IpAddr>,
}
