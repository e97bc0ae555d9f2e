//! macvlan: a container that is a machine of its own on the network of one of the host's interfaces.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::str::FromStr;

use anyhow::{Error, Result, bail};
use nix::errno::Errno;

use crate::error::Failure;
use crate::network::link::{self, route};
use crate::network::netlink::{Refused, Socket};

// linux/if_link.h.
const IFLA_MACVLAN_MODE: u16 = 1;

/// Who reaches whom on one parent: `macvlan_mode`, `--opt macvlan_mode=…`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// The interfaces of one parent reach each other directly.
    #[default]
    Bridge,
    /// Only by way of a switch that sends frames back where they came from.
    Vepa,
    /// Not at all.
    Private,
    /// One interface only, which takes the parent for itself.
    Passthru,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Vepa => "vepa",
            Self::Private => "private",
            Self::Passthru => "passthru",
        }
    }

    /// linux/if_link.h, `enum macvlan_mode`.
    fn number(self) -> u32 {
        match self {
            Self::Private => 1,
            Self::Vepa => 2,
            Self::Bridge => 4,
            Self::Passthru => 8,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let modes = [Self::Bridge, Self::Vepa, Self::Private, Self::Passthru];
        match modes.into_iter().find(|mode| mode.name() == text) {
            Some(mode) => Ok(mode),
            None => bail!("unknown macvlan mode \"{text}\": bridge, vepa, private or passthru"),
        }
    }
}

/// An interface that is to be made.
#[derive(Debug)]
pub struct Macvlan<'a> {
    /// The name of the host's interface.
    pub parent: &'a str,
    pub mode: Mode,
    /// The name in the container.
    pub interface: &'a str,
    /// The container's network namespace.
    pub netns: BorrowedFd<'a>,
    /// `None`: random.
    pub mac: Option<[u8; 6]>,
    /// `None`: the parent's.
    pub mtu: Option<u32>,
}

/// The interface that a macvlan is on when none was named: that of the default route.
///
/// # Errors
/// There is no default route.
pub fn usual_parent(host: &mut Socket) -> Result<String> {
    for ipv6 in [false, true] {
        if let Some(outside) = route::outside(host, ipv6)? {
            return Ok(outside.interface);
        }
    }
    Err(Failure::new("a macvlan network needs an interface of the machine, and no default route says which")
        .hint("name it: --opt parent=INTERFACE")
        .into())
}

/// Makes the interface, down, straight in the container. The host's namespace sees nothing of it, and it
/// goes with the container's.
/// Once it is configured, [`super::neighbour::announce`] tells the network's switches and routers where
/// its address is now.
///
/// # Errors
/// There is no such parent, or it cannot be one; the name is taken in the container; the kernel has no macvlan.
pub fn create(host: &mut Socket, macvlan: &Macvlan) -> Result<()> {
    let Some(parent) = link::find(host, macvlan.parent)? else {
        let failure =
            Failure::new(format!("make a macvlan on the interface \"{0}\": no interface \"{0}\"", macvlan.parent));
        return Err(match macvlan.parent.rsplit_once('.') {
            Some((device, id)) if id.parse::<u16>().is_ok() => {
                failure.hint(format!("as root: ip link add link {device} name {} type vlan id {id}", macvlan.parent))
            }
            _ => failure.hint("ip link shows those that there are"),
        }
        .into());
    };
    let mut message = link::making(macvlan.interface, macvlan.mtu, macvlan.mac);
    message.put_u32(libc::IFLA_LINK, parent.index);
    message.put(libc::IFLA_NET_NS_FD, &macvlan.netns.as_raw_fd().to_ne_bytes());
    message.nest(libc::IFLA_LINKINFO, |info| {
        info.put_text(libc::IFLA_INFO_KIND, "macvlan").nest(libc::IFLA_INFO_DATA, |data| {
            data.put_u32(IFLA_MACVLAN_MODE, macvlan.mode.number());
        });
    });
    host.request(message).map_err(|refused| unmade(macvlan, refused))?;
    // Down, it has no carrier whatever is configured: a parent that is down helps nobody.
    if !parent.up {
        link::set_up(host, macvlan.parent)?;
    }
    Ok(())
}

fn unmade(macvlan: &Macvlan, refused: Refused) -> Error {
    let what = format!("make a macvlan on the interface \"{}\"", macvlan.parent);
    match refused.errno {
        Errno::EEXIST => {
            Failure::new(format!("the container has an interface \"{}\" already", macvlan.interface)).into()
        }
        Errno::EOPNOTSUPP => link::unmade("macvlan", macvlan.interface, refused),
        // One of mode passthru is there, or one of this mode is to be on a parent that has others; or a bridge has it.
        Errno::EINVAL | Errno::EBUSY => Failure::new(what)
            .source(refused)
            .hint("an interface has either one macvlan of mode passthru, or others, or is the port of a bridge")
            .into(),
        _ => link::failed(what, refused),
    }
}
