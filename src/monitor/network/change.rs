//! Changes of a running container's networks: `network connect`, `network disconnect`,
//! `update --publish-add` and `--publish-rm`, `rm --link`, as its monitor carries them out.

use anyhow::{Context, Result, bail};
use nix::unistd::Pid;

use super::{Attached, Sandbox};
use crate::container::config::{ContainerConfig, Endpoint, PortBindings};
use crate::container::network::{self, Mode, Request, Wish};
use crate::container::spec::files::{self, Names};
use crate::container::start;
use crate::container::state::State;
use crate::error::Failure;
use crate::events;
use crate::network::listen::Wanted;
use crate::network::netlink::Socket;
use crate::network::{Published, link, member, record as networks, teardown};
use crate::store::record::{self, Durability};
use crate::store::{Id, Lock, Store};
use crate::sys::netns;

impl Sandbox {
    /// For a container that was started with `--network none` and runs as `process`: once it is asked to
    /// leave `none` it has what it takes to be on networks, and is on none yet. `request`: as for
    /// [`Sandbox::change`].
    ///
    /// # Errors
    /// It is asked for something else, or has no network namespace of its own; the kernel's refusal.
    pub fn open(store: &Store, id: &Id, process: Pid, request: &[u8]) -> Result<Self> {
        let leaves = |request| matches!(request, Request::Disconnect { network, .. } if network == "none");
        let asked = leaves(serde_json::from_slice(request).context("read the request")?);
        let config = start::config(store, id)?;
        let wish = network::wish(store, &config)?;
        if !asked || wish.mode != Mode::None {
            bail!("it has no network of its own");
        }
        let before = wish.clone();
        let wish = Wish { mode: Mode::Networks, endpoints: Vec::new(), ..wish };
        let state: State = record::read(&store.container(id).join("state.json"))?.context("no state.json")?;
        let sandbox = Self::prepare(store, &config, &wish, &state.name)?;
        let mut sandbox = sandbox.context("it has no network of its own")?;
        sandbox.shown = Names::default();
        sandbox.wire(process)?;
        files::lead_to_monitor(store, &config)?;
        if let Err(e) = sandbox.write_down(|own| *own = wish) {
            // Or it would be on networks by its record, and nobody there to carry that out.
            let _ = network::set_wish(store, &config, &before);
            return Err(e);
        }
        Ok(sandbox)
    }

    /// Carries out a [`Request`], given as JSON. On failure it is as it was.
    ///
    /// # Errors
    /// What kept it from being done.
    pub fn change(&mut self, request: &[u8]) -> Result<()> {
        match serde_json::from_slice(request).context("read the request")? {
            Request::Connect(endpoint) => self.connect(&endpoint),
            Request::Disconnect { network, force } => self.disconnect(&network, force),
            Request::Publish { add, remove } => self.publish(&add, &remove),
            Request::Unlink { alias } => self.unlink(&alias),
        }
    }

    fn connect(&mut self, endpoint: &Endpoint) -> Result<()> {
        let network = networks::get(&self.store, &endpoint.network)?;
        if self.attached.iter().any(|attached| attached.network.id == network.id) {
            let (name, network) = (&self.name, &network.name);
            return Err(Failure::new(format!("endpoint with name {name} already exists in network {network}")).into());
        }
        // The ports may come in by another network than before.
        self.shut()?;
        let was_shut_in = self.entrance().is_none();
        let done = self.join(endpoint, &[]).and_then(|at| {
            let done = if was_shut_in { self.take_wanted_ports() } else { Ok(()) };
            let done = done.and_then(|()| self.plug(at)).and_then(|()| self.settle());
            if done.is_err() {
                self.unplug(at);
            }
            done
        });
        if let Err(e) = done {
            let _ = self.settle();
            return Err(e);
        }
        self.write_down(|wish| {
            wish.endpoints.retain(|other| other.network != endpoint.network);
            wish.endpoints.push(endpoint.clone());
        })
    }

    fn disconnect(&mut self, network: &str, force: bool) -> Result<()> {
        let network = networks::get(&self.store, network)?;
        let at = self.attached.iter().position(|attached| attached.network.id == network.id);
        let Some(at) = at else {
            let id = &self.container;
            return Err(Failure::new(format!("container {id} is not connected to network {}", network.name)).into());
        };
        let shut = self.shut();
        self.unplug(at);
        let settled = shut.and_then(|()| self.settle());
        // Wishes have a network's own name: the beginning of an id can be another network's.
        self.write_down(|wish| wish.endpoints.retain(|endpoint| endpoint.network != network.name))?;
        if force { Ok(()) } else { settled }
    }

    /// Those that are to be published as soon as they can be.
    fn take_wanted_ports(&mut self) -> Result<()> {
        let place = self.store.container(&self.container);
        let config: ContainerConfig = record::read(&place.join("config.json"))?.context("no config.json")?;
        let wish = network::wish(&self.store, &config)?;
        self.take_ports(&config, &wish)
    }

    /// Removes one of the container's interfaces and all that belongs to it.
    fn unplug(&mut self, at: usize) {
        let attached = self.attached.remove(at);
        // It may not have got so far.
        let _ = self.namespace().and_then(|namespace| {
            let mut socket = netns::inside(namespace, Socket::route)??;
            link::remove(&mut socket, &attached.member.interface)
        });
        let _ = teardown::forget(&self.store, &self.space, &attached.network, &attached.member);
        if self.entrance().is_none() {
            self.listeners.clear();
        }
        events::network(&self.store, &attached.network, "disconnect", Some(&self.container));
    }

    /// Brings all that depends on which networks and ports there are into line with them.
    fn settle(&mut self) -> Result<()> {
        self.lead_out()?;
        self.record_published()?;
        self.reach_outside()?;
        self.let_in()?;
        self.show_resolver();
        Ok(())
    }

    /// Tells the resolver what the container may ask for now.
    fn show_resolver(&mut self) {
        let view = self.view();
        if let Some(resolver) = &mut self.resolver {
            resolver.set_view(view);
        }
    }

    fn publish(&mut self, add: &PortBindings, remove: &PortBindings) -> Result<()> {
        let mut gone = Vec::new();
        for wanted in network::listeners(remove, false, [])? {
            let its: Vec<Published> = self.published().into_iter().filter(|p| is_meant(p, &wanted)).collect();
            if its.is_empty() {
                let mut port = format!("{}/{}", wanted.container_port, wanted.protocol.as_str());
                if *wanted.ports.start() != 0 {
                    port = format!("{}->{port}", wanted.ports.start());
                }
                return Err(Failure::new(format!("port {port} of container {} is not published", self.name))
                    .hint(format!("ctr port {} shows what is", self.name))
                    .into());
            }
            gone.extend(its);
        }
        // What is wanted anew is had before anything is given up, but for the ports that are given up.
        self.shut()?;
        let (out, kept) = std::mem::take(&mut self.listeners)
            .into_iter()
            .partition::<Vec<_>, _>(|listener| listener.published.iter().any(|p| gone.contains(p)));
        self.listeners = kept;
        let wanted = network::listeners(add, false, []);
        // They wait for a network that they can come in by.
        let wanted = wanted.map(|wanted| if self.entrance().is_some() { wanted } else { Vec::new() });
        match wanted.and_then(|wanted| self.bind(wanted)) {
            Ok(added) => self.listeners.extend(added),
            Err(e) => {
                self.listeners.extend(out);
                self.settle()?;
                return Err(e);
            }
        }
        drop(out);
        self.settle()?;
        self.write_down(|wish| {
            for (port, bindings) in remove {
                let left = wish.port_bindings.remove(port).unwrap_or_default();
                let left: Vec<_> = left.into_iter().filter(|one| !bindings.iter().any(|b| b.covers(one))).collect();
                if !left.is_empty() {
                    wish.port_bindings.insert(port.clone(), left);
                }
            }
            for (port, bindings) in add {
                wish.port_bindings.entry(port.clone()).or_default().extend(bindings.iter().cloned());
            }
        })
    }

    /// Forgets whom an alias meant.
    fn unlink(&mut self, alias: &str) -> Result<()> {
        let is_kept = |link: &String| network::alias_of(link) != alias;
        self.settings.links.retain(is_kept);
        for Attached { network, member } in &mut self.attached {
            if !member.links.iter().all(is_kept) {
                member.links.retain(is_kept);
                member::update(&self.store, &network.id, &self.container, |own| own.links.retain(is_kept))?;
            }
        }
        self.show_resolver();
        self.write_down(|wish| {
            wish.unlink(alias);
        })
    }

    /// Writes down what is so now: what the next start is to do, what `ps` shows, the names in
    /// `/etc/hosts`.
    fn write_down(&mut self, change: impl FnOnce(&mut Wish)) -> Result<()> {
        let place = self.store.container(&self.container);
        let _lock = Lock::exclusive(&place).with_context(|| format!("lock {place:?}"))?;
        let config: ContainerConfig = record::read(&place.join("config.json"))?.context("no config.json")?;
        let mut wish = network::wish(&self.store, &config)?;
        change(&mut wish);
        network::set_wish(&self.store, &config, &wish)?;
        let path = place.join("state.json");
        let mut state: State = record::read(&path)?.context("no state.json")?;
        self.describe(&config, &mut state);
        record::write(&path, &state, Durability::Unsynced)?;
        let after = self.names();
        let done = files::rewrite_hosts(&self.store, &config, &self.shown, &after);
        self.shown = after;
        done
    }
}

/// Whether a published port is one that `wanted`, as given to `--publish-rm`, means: without a port
/// of the host's all of the container's, without an address that on all addresses.
fn is_meant(published: &Published, wanted: &Wanted) -> bool {
    let port = *wanted.ports.start() == 0 || published.is_routed() || wanted.ports.contains(&published.host_port);
    published.container_port == wanted.container_port
        && published.protocol == wanted.protocol
        && port
        && wanted.host.is_none_or(|host| host == published.host)
}
