//! A container's interface and its port in the bridge: veth(4).

use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::{Result, bail};
use nix::errno::Errno;

use crate::error::Failure;
use crate::network::link::{self, IFINFOMSG};
use crate::network::netlink::{Message, Refused, Socket};

// linux/veth.h, linux/if_link.h, what libc has no names for.
const VETH_INFO_PEER: u16 = 1;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_ISOLATED: u16 = 33;

/// A pair that is to be made.
#[derive(Debug)]
pub struct Veth<'a> {
    /// Its name in the space.
    pub port: &'a str,
    /// The index of the bridge it is a port of.
    pub bridge: u32,
    /// It exchanges nothing with other isolated ports of the bridge (`enable_icc=false`).
    pub isolated: bool,
    /// The name in the container.
    pub interface: &'a str,
    /// The container's network namespace.
    pub netns: BorrowedFd<'a>,
    /// The Ethernet address in the container; `None`: random.
    pub mac: Option<[u8; 6]>,
    /// Of both ends; `None`: 1500.
    pub mtu: Option<u32>,
}

/// Makes the pair: the port in its bridge, the other end in the container, both down. Nothing is left
/// of it on failure.
///
/// # Errors
/// A name is taken; the kernel has no veth; the bridge or the container's namespace went away.
pub fn create(space: &mut Socket, veth: &Veth) -> Result<()> {
    let mut message = link::making(veth.port, veth.mtu, None);
    message.put_u32(libc::IFLA_MASTER, veth.bridge).nest(libc::IFLA_LINKINFO, |info| {
        info.put_text(libc::IFLA_INFO_KIND, "veth").nest(libc::IFLA_INFO_DATA, |data| {
            data.nest_behind(VETH_INFO_PEER, &[0; IFINFOMSG], |peer| {
                link::describe(peer, veth.interface, veth.mtu, veth.mac);
                peer.put(libc::IFLA_NET_NS_FD, &veth.netns.as_raw_fd().to_ne_bytes());
            });
        });
    });
    if let Err(refused) = space.request(message) {
        return Err(unmade(space, veth, refused));
    }
    let done = furnish(space, veth);
    if done.is_err() {
        // The first error is the one to tell.
        let _ = link::remove(space, veth.port);
    }
    done
}

/// What the kernel takes only once the port is there.
fn furnish(space: &mut Socket, veth: &Veth) -> Result<()> {
    link::without_own_addresses(space, veth.port)?;
    if !veth.isolated {
        return Ok(());
    }
    let mut message = Message::new(libc::RTM_NEWLINK, 0, &[0; IFINFOMSG]);
    message.put_text(libc::IFLA_IFNAME, veth.port).nest(libc::IFLA_LINKINFO, |info| {
        info.put_text(IFLA_INFO_SLAVE_KIND, "bridge").nest(IFLA_INFO_SLAVE_DATA, |data| {
            data.put_u8(IFLA_BRPORT_ISOLATED, 1);
        });
    });
    space.request(message).map_err(|refused| {
        link::failed(format!("isolate the port \"{}\" from the others of its bridge", veth.port), refused)
    })
}

fn unmade(space: &mut Socket, veth: &Veth, refused: Refused) -> anyhow::Error {
    if refused.errno != Errno::EEXIST {
        return link::unmade("veth", veth.port, refused);
    }
    match link::find(space, veth.port) {
        Ok(Some(other)) => {
            Failure::new(format!("make the veth \"{}\": the name is taken by {}", veth.port, other.what())).into()
        }
        _ => Failure::new(format!("the container has an interface \"{}\" already", veth.interface)).into(),
    }
}

/// Switches the port on: the container is connected when this returns. To be done when the container's
/// end is up.
///
/// # Errors
/// The port is gone.
pub fn raise(space: &mut Socket, port: &str) -> Result<()> {
    if port.is_empty() {
        bail!("a port needs a name");
    }
    link::set_up(space, port)
}
