//! A container's membership in a network, and with it its addresses:
//! `networks/<network id>/members/<container id>.json`, there while the container is connected and
//! runs. An address is taken when a member has it; they are given out under the lock of the
//! network's directory.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::network::{Published, Rate};
use crate::store::Id;
use crate::store::record::Record;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub container: Id,
    /// The container's name; it is found by it.
    pub name: String,
    /// Further names it is found by on this network (`--network-alias`, a compose service). Several
    /// members may have the same.
    pub aliases: Vec<String>,
    /// Docker's endpoint id.
    pub endpoint: Id,
    /// The interface in the container: `eth0` and so on.
    pub interface: String,
    /// Its other side in the [`Space`](super::space::Space); empty: it has none (macvlan).
    pub port: String,
    pub mac: [u8; 6],
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    #[serde(default, skip_serializing_if = "Rate::is_none")]
    pub rate: Rate,
    /// Ports that lead to the container through this network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
}

impl Record for Member {
    const VERSION: u32 = 1;
}
