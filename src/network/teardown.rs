//! Taking away what a container or a network has in the [`Space`].

use anyhow::Result;

use crate::error;
use crate::events;
use crate::network::link::{rate, veth};
use crate::network::member::{self, Member};
use crate::network::record::{Driver, Network};
use crate::network::space::Space;
use crate::network::{Published, bridge, firewall, names, rules};
use crate::store::{Id, Store};
use crate::sys::process::{Fork, exit_now, fork};
use crate::userns;

/// A member that is none any more: its rules, and then its record with its addresses. Its
/// interfaces go with the container's network namespace, which costs nobody anything; to remove one
/// takes the kernel tens of milliseconds.
///
/// # Errors
/// The rules stay; the record is gone all the same.
pub fn forget(store: &Store, space: &Space, network: &Network, member: &Member) -> Result<()> {
    let removed = release(space, network, member);
    member::leave(store, &network.id, &member.container)?;
    removed
}

/// What the kernel has of a member, its interfaces aside.
///
/// # Errors
/// The kernel's refusal.
pub fn release(space: &Space, network: &Network, member: &Member) -> Result<()> {
    if network.driver != Driver::Bridge {
        return Ok(());
    }
    // What fails keeps nothing else from being done.
    let unpublished = match &member.published[..] {
        [] => Ok(()),
        published => firewall::unpublish(space, &rules::publications(network, published, member)),
    };
    let shut = space.route().and_then(|mut socket| {
        let unlimited = if member.rate.is_none() { Ok(()) } else { rate::remove(&mut socket, &member.port).map(drop) };
        veth::shut(&mut socket, &member.port).and(unlimited)
    });
    let removed = firewall::remove_member(space, &rules::of_member(member));
    unpublished.and(shut).and(removed)
}

/// What is to be [`release`]d of a member that died: not the ports that another container has had since,
/// which the kernel knows by their number alone.
#[must_use]
pub fn inherited(store: &Store, dead: &Member) -> Member {
    let mut dead = dead.clone();
    if dead.published.is_empty() {
        return dead;
    }
    let networks = names::ids(store).unwrap_or_default();
    let others = networks.iter().flat_map(|network| member::living(store, network).unwrap_or_default());
    let taken: Vec<Published> =
        others.filter(|other| other.container != dead.container).flat_map(|other| other.published).collect();
    let is_same = |a: &Published, b: &Published| {
        !a.is_routed() && (a.host, a.host_port, a.protocol) == (b.host, b.host_port, b.protocol)
    };
    dead.published.retain(|port| !taken.iter().any(|other| is_same(port, other)));
    dead
}

/// All memberships of a container whose monitor was killed. Called by whoever puts it in order.
///
/// # Errors
/// The records cannot be read.
pub fn forget_all(store: &Store, container: &Id) -> Result<()> {
    let memberships = member::of_container(store, container)?;
    Space::forget(store, container);
    if memberships.is_empty() {
        return Ok(());
    }
    let done = in_space(store, |space| {
        for (network, member) in &memberships {
            match space {
                Some(space) => forget(store, space, network, &inherited(store, member))?,
                // The last of the user's containers: the rules went with the namespace.
                None => member::leave(store, &network.id, container)?,
            }
        }
        Ok(())
    });
    for (network, _) in &memberships {
        events::network(store, network, "disconnect", Some(container));
    }
    done
}

/// A network's bridge and rules: the last step of its removal, when nobody is on it.
///
/// # Errors
/// The kernel's refusal.
pub fn network(store: &Store, network: &Network) -> Result<()> {
    if network.driver != Driver::Bridge {
        return Ok(());
    }
    in_space(store, |space| {
        let Some(space) = space else { return Ok(()) };
        bridge::remove(space, network)
    })
}

/// The rules that all networks share, when the last one is gone: another store of root's on this machine
/// has them too.
///
/// # Errors
/// The kernel's refusal.
pub fn rules(store: &Store) -> Result<()> {
    in_space(store, |space| space.map_or(Ok(()), firewall::unload_unused))
}

/// Runs `body` with the space there is, as a process that may change it: an ordinary user's belongs
/// to the user's own user namespace, which a child enters.
fn in_space(store: &Store, body: impl FnOnce(Option<&Space>) -> Result<()>) -> Result<()> {
    let Some(space) = Space::find(store)? else { return body(None) };
    if !space.is_apart() || nix::unistd::geteuid().is_root() {
        return body(Some(&space));
    }
    match fork()? {
        Fork::Child => {
            let done = userns::enter(store).and_then(|()| body(Some(&space)));
            if let Err(e) = &done {
                error::warn(&error::message(e));
            }
            exit_now(i32::from(done.is_err()))
        }
        Fork::Parent(child) => {
            nix::sys::wait::waitpid(child, None)?;
            Ok(())
        }
    }
}
