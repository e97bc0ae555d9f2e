//! How fast a container may receive and send: tc(8), tc-tbf(8), tc-u32(8), tc-mirred(8).
//!
//! Both limits sit on the port, outside of the container, where its root cannot remove them. What goes
//! into the container is what the port sends: a token bucket (TBF) there. What comes out of it is what
//! the port receives, and what is received cannot be queued: it is led through an interface that exists
//! for that (IFB), which has a token bucket on what it "sends", and comes back to the port from there.

use anyhow::{Context, Result};
use nix::errno::Errno;

use crate::error::Failure;
use crate::network::Rate;
use crate::network::link::{self, Link};
use crate::network::netlink::{Message, Refused, Socket, flags};

/// Bytes of `struct tcmsg`.
const TCMSG: usize = 20;

// linux/pkt_sched.h.
const TC_H_ROOT: u32 = 0xffff_ffff;
const TC_H_INGRESS: u32 = 0xffff_fff1;
/// `ffff:`, the handle of the ingress queue.
const INGRESS: u32 = 0xffff_0000;
const TC_LINKLAYER_ETHERNET: u8 = 1;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;

// linux/pkt_cls.h, linux/tc_act/tc_mirred.h.
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TC_U32_TERMINAL: u8 = 1;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TC_ACT_STOLEN: i32 = 4;
const TCA_MIRRED_PARMS: u16 = 2;
const TCA_EGRESS_REDIR: i32 = 1;

/// linux/if_ether.h: packets of every protocol.
const ETH_P_ALL: u16 = 3;

/// The least that may be sent at once: a few packets, or nothing passes.
const LEAST_BURST: u64 = 16 << 10;
const MOST_BURST: u64 = 32 << 20;
/// The least that may wait: two packets as they are before segmentation.
const LEAST_QUEUE: u64 = 128 << 10;

/// Where a container's limit on what it sends came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Egress {
    /// Out of the container's reach, or there is none.
    Outside,
    /// In the container, whose root can remove it with `CAP_NET_ADMIN`: the kernel lacks what it takes
    /// (IFB, the u32 classifier, mirred). Worth a warning.
    Inside,
}

/// Sets the limits of the container behind `port` (its interface there is `interface`) to `rate`;
/// without any, none are left. Idempotent.
///
/// # Errors
/// The kernel has no token buckets.
pub fn limit(space: &mut Socket, container: &mut Socket, port: &str, interface: &str, rate: &Rate) -> Result<Egress> {
    let there = link::find(space, port)?.with_context(|| format!("no interface \"{port}\""))?;
    match rate.ingress {
        Some(bits) => bucket(space, &there, bits).map_err(|refused| {
            unlimited(format!("limit what goes into the container to {bits} bits a second"), refused)
        })?,
        None => without(space, there.index, TC_H_ROOT)?,
    }
    let Some(bits) = rate.egress else {
        remove(space, port)?;
        without(space, there.index, TC_H_INGRESS)?;
        if let Some(own) = link::find(container, interface)? {
            without(container, own.index, TC_H_ROOT)?;
        }
        return Ok(Egress::Outside);
    };
    let what = format!("limit what the container sends to {bits} bits a second");
    match detour(space, &there, bits) {
        Ok(()) => Ok(Egress::Outside),
        // The kernel does not know the kind of interface, queue, classifier or action.
        Err(refused) if matches!(refused.errno, Errno::EOPNOTSUPP | Errno::ENOENT) => {
            remove(space, port)?;
            let own = link::find(container, interface)?.with_context(|| format!("no interface \"{interface}\""))?;
            bucket(container, &own, bits).map_err(|refused| unlimited(what, refused))?;
            Ok(Egress::Inside)
        }
        Err(refused) => Err(unlimited(what, refused)),
    }
}

/// Removes what [`limit`] made beside the port, which goes with the port itself no more than the port's
/// other end does: to be called when the container is gone, too. `false`: there was nothing.
///
/// # Errors
/// The kernel's refusal.
pub fn remove(space: &mut Socket, port: &str) -> Result<bool> {
    link::remove(space, &detour_name(port))
}

/// The name of the interface that the port's packets are led through.
#[must_use]
pub fn detour_name(port: &str) -> String {
    // Names of ports are `veth` and something random; the end tells them apart.
    let own = port.strip_prefix("veth").unwrap_or(port);
    let room = link::LONGEST_NAME - "ifb".len();
    format!("ifb{}", own.get(own.len().saturating_sub(room)..).unwrap_or(own))
}

/// Leads what the port receives through a token bucket.
fn detour(space: &mut Socket, port: &Link, bits: u64) -> Result<(), Refused> {
    let name = detour_name(&port.name);
    let mut message = link::making(&name, Some(port.mtu), None);
    message.nest(libc::IFLA_LINKINFO, |info| {
        info.put_text(libc::IFLA_INFO_KIND, "ifb");
    });
    unless_there(space.request(message))?;
    let mut ask = Message::new(libc::RTM_GETLINK, 0, &link::head(0, link::Power::Same));
    ask.put_text(libc::IFLA_IFNAME, &name);
    let ifb = space.get(ask).ok().and_then(|body| Link::parse(&body)).ok_or(Refused::from(Errno::ENODEV))?;
    bucket(space, &ifb, bits)?;
    space.request(link::up(&name))?;

    let mut queue =
        Message::new(libc::RTM_NEWQDISC, flags::CREATE | flags::EXCL, &tcmsg(port.index, INGRESS, TC_H_INGRESS, 0));
    queue.put_text(libc::TCA_KIND, "ingress");
    let fresh = space.request(queue);
    let filter = redirection(port.index, ifb.index);
    match fresh {
        // What it has may lead to an interface that is gone, or be what somebody did not finish.
        Err(Refused { errno: Errno::EEXIST, .. }) => {
            let old = Message::new(libc::RTM_DELTFILTER, 0, &tcmsg(port.index, 0, INGRESS, 0));
            space.request(old)?;
            space.request(filter)
        }
        fresh => fresh.and_then(|()| space.request(filter)),
    }
}

/// `tc filter add dev PORT parent ffff: protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev IFB`
fn redirection(port: u32, ifb: u32) -> Message {
    // Upper half: the priority; lower: ETH_P_ALL, in network byte order.
    let info = 1 << 16 | u32::from(ETH_P_ALL.to_be());
    let head = tcmsg(port, 0, INGRESS, info);
    let mut filter = Message::new(libc::RTM_NEWTFILTER, flags::CREATE | flags::EXCL, &head);
    // `struct tc_u32_sel` with one key, whose mask of 0 fits everything.
    let mut selector = [0; 16 + 16];
    selector[0] = TC_U32_TERMINAL;
    selector[2] = 1;
    // `struct tc_mirred`: index, capabilities, action, two counts, how, where.
    let mirred: Vec<u8> = [0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, ifb.cast_signed()]
        .into_iter()
        .flat_map(i32::to_ne_bytes)
        .collect();
    filter.put_text(libc::TCA_KIND, "u32").nest(libc::TCA_OPTIONS, |options| {
        options.put(TCA_U32_SEL, &selector).nest(TCA_U32_ACT, |actions| {
            // The first of a list.
            actions.nest(1, |action| {
                action.put_text(TCA_ACT_KIND, "mirred").nest(TCA_ACT_OPTIONS, |options| {
                    options.put(TCA_MIRRED_PARMS, &mirred);
                });
            });
        });
    });
    filter
}

/// Has the interface send no faster than that.
fn bucket(socket: &mut Socket, interface: &Link, bits: u64) -> Result<(), Refused> {
    let bucket = Bucket::new(bits, interface.mtu);
    let head = tcmsg(interface.index, 0, TC_H_ROOT, 0);
    let mut message = Message::new(libc::RTM_NEWQDISC, flags::CREATE | flags::REPLACE, &head);
    message.put_text(libc::TCA_KIND, "tbf").nest(libc::TCA_OPTIONS, |options| {
        options.put(TCA_TBF_PARMS, &bucket.parameters());
        options.put(TCA_TBF_RATE64, &bucket.rate.to_ne_bytes());
        options.put_u32(TCA_TBF_BURST, bucket.burst);
    });
    socket.request(message)
}

/// A token bucket, in bytes.
#[derive(Debug, PartialEq, Eq)]
struct Bucket {
    /// A second.
    rate: u64,
    /// What may be sent at once.
    burst: u32,
    /// What may wait.
    queue: u32,
}

impl Bucket {
    fn new(bits: u64, mtu: u32) -> Self {
        let rate = (bits / 8).max(1);
        // 5 ms, more than a clock's tick of a kernel with HZ=250; and two packets, whatever their size.
        let burst = (rate / 200).clamp(LEAST_BURST.max(2 * u64::from(mtu)), MOST_BURST);
        // 50 ms: TCP fills a longer queue only with delay.
        let queue = (rate / 20).clamp(LEAST_QUEUE, 8 * MOST_BURST) + burst;
        let short = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self { rate, burst: short(burst), queue: short(queue) }
    }

    /// `struct tc_tbf_qopt`: two `struct tc_ratespec` of 12 bytes, of which the second is for a peak rate;
    /// the queue's limit; the burst and the MTU, which `TCA_TBF_BURST` replaces.
    fn parameters(&self) -> [u8; 36] {
        let mut out = [0; 36];
        out[1] = TC_LINKLAYER_ETHERNET;
        out[8..12].copy_from_slice(&u32::try_from(self.rate).unwrap_or(u32::MAX).to_ne_bytes());
        out[24..28].copy_from_slice(&self.queue.to_ne_bytes());
        out
    }
}

/// Removes the queue at that place; none there is no error.
fn without(socket: &mut Socket, index: u32, parent: u32) -> Result<()> {
    match socket.request(Message::new(libc::RTM_DELQDISC, 0, &tcmsg(index, 0, parent, 0))) {
        // ENOENT: the one there is the kernel's own; EINVAL: there is none for what is received.
        Ok(()) | Err(Refused { errno: Errno::ENOENT | Errno::EINVAL | Errno::EOPNOTSUPP, .. }) => Ok(()),
        Err(refused) => Err(link::failed("remove a bandwidth limit", refused)),
    }
}

fn unless_there(done: Result<(), Refused>) -> Result<(), Refused> {
    match done {
        Err(Refused { errno: Errno::EEXIST, .. }) => Ok(()),
        done => done,
    }
}

/// `struct tcmsg`.
fn tcmsg(index: u32, handle: u32, parent: u32, info: u32) -> [u8; TCMSG] {
    let mut head = [0; TCMSG];
    for (place, value) in head[4..].chunks_exact_mut(4).zip([index, handle, parent, info]) {
        place.copy_from_slice(&value.to_ne_bytes());
    }
    head
}

fn unlimited(what: String, refused: Refused) -> anyhow::Error {
    match refused.errno {
        // The kernel's answer to a kind of queue that it does not know.
        Errno::ENOENT | Errno::EOPNOTSUPP => Failure::new(what)
            .source(Failure::new("this kernel has no token bucket filter"))
            .hint("as root: modprobe sch_tbf")
            .into(),
        _ => link::failed(what, refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_pass_what_they_are_to_pass() {
        assert_eq!(Bucket::new(1_000_000, 1500), Bucket { rate: 125_000, burst: 16 << 10, queue: (128 + 16) << 10 });
        assert_eq!(Bucket::new(0, 1500).rate, 1);
        assert_eq!(Bucket::new(8_000_000, 65520).burst, 131_040);
        let fast = Bucket::new(400_000_000_000, 1500);
        assert_eq!((fast.rate, fast.burst), (50_000_000_000, 32 << 20));
        assert_eq!(&fast.parameters()[8..12], &[0xff; 4]);
    }

    #[test]
    fn a_port_has_one_detour() {
        assert_eq!(detour_name("veth1a2b3c4"), "ifb1a2b3c4");
        assert_eq!(detour_name("a-name-of-15-by"), "ifbame-of-15-by");
        assert!(link::check_name(&detour_name("a-name-of-15-by")).is_ok());
    }
}
