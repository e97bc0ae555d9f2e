//! Networks: bridges, addresses, names and the way outside.
//!
//! One model for root and for everybody else: bridges, veth pairs, addresses and rules in *a*
//! network namespace ([`space::Space`]). For root that is the one ctr runs in; for an ordinary user
//! it is one that all of this user's containers share, held by their monitors, and the outside is
//! reached through the uplink, a process that joins its connections to sockets of the host's.
//!
//! Called by the monitor, which connects its container before the process starts and serves the
//! names it asks for, and by the commands that manage networks.

pub mod bridge;
pub mod configuration;
pub mod dns;
pub mod doctor;
pub mod firewall;
pub mod inspect;
pub mod link;
pub mod listen;
pub mod mac;
pub mod member;
pub mod names;
pub mod netlink;
pub mod nft;
pub mod pasta;
pub mod pool;
pub mod ports;
pub mod record;
pub mod rules;
pub mod settings;
pub mod space;
pub mod sysctl;
pub mod teardown;
pub mod uplink;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A protocol that ports are published for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|protocol| protocol.as_str().eq_ignore_ascii_case(text))
    }
}

/// One port of the host's that leads to one of the container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Published {
    /// The host's address; `0.0.0.0`, `::`: all of them.
    pub host: IpAddr,
    /// 0: none leads to it, the container's own address is reached ([`Published::is_routed`]).
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
}

impl Published {
    /// Whether the container's own port is reached, by who has a route to it, and none of the host's:
    /// gateway mode `routed`.
    #[must_use]
    pub fn is_routed(&self) -> bool {
        self.host_port == 0
    }

    /// `0.0.0.0:8080`, `[::]:8080`; `0.0.0.0:`, as Docker has it, where no port of the host's leads to it.
    #[must_use]
    pub fn outside(&self) -> String {
        let place = std::net::SocketAddr::new(self.host, self.host_port).to_string();
        if self.is_routed() { place.trim_end_matches('0').to_owned() } else { place }
    }
}

/// Bandwidth limits in bits a second; `None`: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Rate {
    /// Into the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<u64>,
    /// Out of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<u64>,
}

impl Rate {
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
