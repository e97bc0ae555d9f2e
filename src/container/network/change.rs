//! Changing what a container is to be on: at once where it runs, by its monitor; else by writing
//! down what its next start is to do.

use anyhow::{Context, Result, bail};

use crate::container::config::{Endpoint, PortBindings};
use crate::container::network::{self, Mode, Request, Wish};
use crate::container::signal::Running;
use crate::container::state::{self, State};
use crate::container::{list, start, stop};
use crate::error::Failure;
use crate::network::{names as networks, record as network_record};
use crate::store::record::{self, Durability};
use crate::store::{Id, Lock, Store, names};

/// `network connect`.
///
/// # Errors
/// Docker's sentences: no such network, or a container that can be on none.
pub fn connect(store: &Store, id: &Id, endpoint: Endpoint) -> Result<()> {
    let endpoint = Endpoint { network: name(store, &endpoint.network)?, ..endpoint };
    if !networks::PREDEFINED.contains(&endpoint.network.as_str()) {
        network_record::get(store, &endpoint.network)?.check_joinable()?;
    }
    change(store, id, &Request::Connect(endpoint.clone()), |wish, _| {
        for name in [&endpoint.network, &wish.own_name()] {
            match name.as_str() {
                "host" => bail!("container cannot be disconnected from host network or connected to host network"),
                "none" => bail!(
                    "container cannot be connected to multiple networks with one of the networks in private (none) mode"
                ),
                _ => {}
            }
        }
        if wish.mode != Mode::Networks {
            bail!(
                "container sharing network namespace with another container or host cannot be connected to any other \
                 network"
            );
        }
        match wish.endpoints.iter_mut().find(|other| other.network == endpoint.network) {
            Some(other) => *other = endpoint.clone(),
            None => wish.endpoints.push(endpoint.clone()),
        }
        Ok(())
    })
}

/// `network disconnect`. `force`: although the monitor cannot take all of it down.
///
/// # Errors
/// Docker's sentences.
pub fn disconnect(store: &Store, id: &Id, wanted: &str, force: bool) -> Result<()> {
    // One that was removed can still be wished for.
    let name = name(store, wanted).unwrap_or_else(|_| wanted.to_owned());
    change(store, id, &Request::Disconnect { network: name.clone(), force }, |wish, _| {
        if name == "host" || wish.mode == Mode::Host {
            bail!("container cannot be disconnected from host network or connected to host network");
        }
        if wish.mode == Mode::None && name == "none" {
            // From here on it can be connected.
            wish.mode = Mode::Networks;
            return Ok(());
        }
        let before = wish.endpoints.len();
        wish.endpoints.retain(|endpoint| endpoint.network != name);
        if wish.endpoints.len() == before {
            networks::resolve(store, wanted)?;
            bail!("container {id} is not connected to network {name}");
        }
        Ok(())
    })
}

/// `update --publish-add`, `--publish-rm`. In `remove` an address or a port that is not given stands
/// for all of them.
///
/// # Errors
/// A port that is not published cannot be removed.
pub fn publish(store: &Store, id: &Id, add: &PortBindings, remove: &PortBindings) -> Result<()> {
    change(store, id, &Request::Publish { add: add.clone(), remove: remove.clone() }, |wish, running| {
        if wish.mode != Mode::Networks {
            bail!("container {} is on no network that ports can be published of", id.short());
        }
        if running {
            // What is published now the monitor knows: ports that were chosen are in no wish.
            return Ok(());
        }
        for (port, bindings) in remove {
            let own = wish.port_bindings.get_mut(port).filter(|own| !own.is_empty());
            let Some(own) = own else { bail!("port {port} is not published") };
            for binding in bindings {
                let before = own.len();
                own.retain(|other| !binding.covers(other));
                if own.len() == before {
                    bail!("port {port} is not published on {:?} {:?}", binding.host_ip, binding.host_port);
                }
            }
            if own.is_empty() {
                wish.port_bindings.remove(port);
            }
        }
        for (port, bindings) in add {
            let own = wish.port_bindings.entry(port.clone()).or_default();
            own.extend(bindings.iter().filter(|&binding| !own.contains(binding)).cloned().collect::<Vec<_>>());
        }
        Ok(())
    })
}

/// `rm --link CONTAINER/ALIAS`: the container loses the names that `--link` gave another one there.
///
/// # Errors
/// Docker's sentences: no such container or alias; a container's name alone.
pub fn unlink(store: &Store, name: &str) -> Result<()> {
    let missing = || Failure::new(format!("No such container: {name}"));
    let Some((container, alias)) = name.rsplit_once('/') else {
        names::resolve(store, name)?;
        return Err(Failure::new("Conflict, cannot remove the default link name of the container").into());
    };
    let Ok(id) = names::resolve(store, container) else { return Err(missing().into()) };
    change(store, &id, &Request::Unlink { alias: alias.to_owned() }, |wish, _| {
        if wish.unlink(alias) { Ok(()) } else { Err(missing().into()) }
    })
}

/// Has the monitor do it, or does it to what is written down. `apply` is told whether the container
/// runs; what it refuses is not done either way.
fn change(store: &Store, id: &Id, request: &Request, apply: impl Fn(&mut Wish, bool) -> Result<()>) -> Result<()> {
    // Puts one in order that is recorded as running and does not.
    list::one(store, id)?;
    let place = store.container(id);
    let lock = Lock::exclusive(&place).with_context(|| format!("lock {place:?}"))?;
    let config = start::config(store, id)?;
    let mut wish = network::wish(store, &config)?;
    let was = wish.clone();
    let running = state::is_alive(store, id);
    apply(&mut wish, running)?;
    if running {
        // The monitor takes the lock itself.
        drop(lock);
        let done = network::live(store, id, request);
        if done.is_err() && Running::find(store, id)?.is_none() && !state::is_launching(store, id) {
            // It has ended, and its monitor was about to leave: then it is one that does not run.
            stop::wait_for_monitor(store, id)?;
            return change(store, id, request, apply);
        }
        return done;
    }
    if wish == was {
        return Ok(());
    }
    network::set_wish(store, &config, &wish)?;
    let path = place.join("state.json");
    let gone = || Failure::new(format!("No such container: {id}"));
    let mut state = record::read::<State>(&path)?.ok_or_else(gone)?;
    state.networks = wish.names();
    record::write(&path, &state, Durability::Unsynced)
}

impl Wish {
    /// What a container without a network of ctr's is on, as `network ls` has it.
    fn own_name(&self) -> String {
        match self.mode {
            Mode::Host => "host".into(),
            Mode::None => "none".into(),
            _ => String::new(),
        }
    }
}

/// The network's own name: what a wish is kept by.
///
/// # Errors
/// There is no such network.
pub fn name(store: &Store, wanted: &str) -> Result<String> {
    // The default one need not be there yet.
    if matches!(wanted, "bridge" | "default") {
        return Ok("bridge".into());
    }
    if networks::PREDEFINED.contains(&wanted) || networks::owner(store, wanted)?.is_some() {
        return Ok(wanted.to_owned());
    }
    Ok(network_record::get(store, wanted)?.name)
}
