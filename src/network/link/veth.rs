//! A container's interface and its port in the bridge: veth(4).

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Instant;

use anyhow::Result;
use nix::errno::Errno;

use crate::error::Failure;
use crate::network::link::{self, IFINFOMSG, Link};
use crate::network::netlink::{Message, Refused, Socket};

// linux/veth.h, linux/if_link.h, what libc has no names for.
const VETH_INFO_PEER: u16 = 1;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_FLUSH: u16 = 24;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const BR_STATE_DISABLED: u8 = 0;

/// A pair that is to be made.
#[derive(Debug)]
pub struct Veth<'a> {
    /// Its name in the space.
    pub port: &'a str,
    /// The index of the bridge it is a port of.
    pub bridge: u32,
    /// It exchanges nothing with other isolated ports of the bridge (`enable_icc=false`).
    pub isolated: bool,
    /// What leaves by the port may come in by it again: a container that reaches itself through its
    /// published port, where bridged packets are led through the rules (br_netfilter).
    pub hairpin: bool,
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
    set_up_port(space, veth.port, veth.isolated, veth.hairpin)
}

fn set_up_port(space: &mut Socket, port: &str, isolated: bool, hairpin: bool) -> Result<()> {
    if !isolated && !hairpin {
        return Ok(());
    }
    set_port(space, port, |data| {
        data.put_u8(IFLA_BRPORT_MODE, hairpin.into());
        data.put_u8(IFLA_BRPORT_ISOLATED, isolated.into());
    })
    .map_err(|refused| link::failed(format!("set up the port \"{port}\" of the bridge"), refused))
}

fn set_port(space: &mut Socket, port: &str, settings: impl FnOnce(&mut Message)) -> Result<(), Refused> {
    let mut message = Message::new(libc::RTM_NEWLINK, 0, &[0; IFINFOMSG]);
    message.put_text(libc::IFLA_IFNAME, port).nest(libc::IFLA_LINKINFO, |info| {
        info.put_text(IFLA_INFO_SLAVE_KIND, "bridge").nest(IFLA_INFO_SLAVE_DATA, settings);
    });
    space.request(message)
}

/// Puts a port back into the bridge of that index, where it is not in it: the one that it was in was
/// removed. `false`: it was there, or there is no such port.
///
/// # Errors
/// The kernel's refusal.
pub fn rejoin(space: &mut Socket, port: &str, bridge: u32, isolated: bool, hairpin: bool) -> Result<bool> {
    let Some(there) = link::find(space, port)?.filter(|there| there.bridge != Some(bridge)) else { return Ok(false) };
    let mut message = Message::new(libc::RTM_NEWLINK, 0, &link::head(there.index, link::Power::On));
    message.put_u32(libc::IFLA_MASTER, bridge);
    let what = || format!("put \"{port}\" back into its bridge");
    space.request(message).map_err(|refused| link::failed(what(), refused))?;
    // What a port is told goes with the bridge.
    set_up_port(space, port, isolated, hairpin)?;
    Ok(true)
}

/// Takes a container's port out of the traffic, at once. The pair goes with the container's network
/// namespace, which the kernel takes its time for (`cleanup_net`); and until then whoever gets the
/// container's addresses, and with them its Ethernet address, would share them with the dead.
///
/// # Errors
/// The kernel's refusal; not that the port is gone.
pub fn shut(space: &mut Socket, port: &str) -> Result<()> {
    let done = set_port(space, port, |data| {
        data.put_u8(IFLA_BRPORT_STATE, BR_STATE_DISABLED);
        data.put(IFLA_BRPORT_FLUSH, &[]);
    });
    match done {
        Err(refused) if !matches!(refused.errno, Errno::ENODEV | Errno::ENETDOWN) => {
            Err(link::failed(format!("shut the port \"{port}\" of the bridge"), refused))
        }
        _ => Ok(()),
    }
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

/// Switches the port on, when the container's end is configured: the first packet that is sent after
/// this arrives.
///
/// That an interface's carrier came is something the kernel acts on later (`net/core/link_watch.c`):
/// until then neither the ends nor the bridge send anything, ARP requests are lost, and they are
/// repeated a second later. Since Linux 6.9 it does so at once when asked for the one interface;
/// earlier ones are asked until it is done.
///
/// # Errors
/// The port or the container is gone.
pub fn raise(space: &mut Socket, container: &mut Socket, veth: &Veth) -> Result<()> {
    link::set_up(space, veth.port)?;
    let end = Instant::now() + link::PATIENCE;
    // The bridge last: its carrier comes with its first port's.
    until_running(end, || link::find(space, veth.port))?;
    until_running(end, || link::find(container, veth.interface))?;
    until_running(end, || link::by_index(space, veth.bridge))
}

/// `look`: the interface, as long as it is there.
fn until_running(end: Instant, mut look: impl FnMut() -> Result<Option<Link>>) -> Result<()> {
    // An end that somebody in the container switched off again keeps nobody waiting for long.
    link::until(end, || Ok(look()?.is_none_or(|link| link.running)))
}
