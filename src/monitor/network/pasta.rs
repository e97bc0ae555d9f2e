//! A container that the program `pasta` connects (`--network pasta`): none of ctr's networks, no
//! names of containers, nothing that could be changed while it runs.

use anyhow::Result;
use nix::unistd::Pid;

use crate::container::config::ContainerConfig;
use crate::container::network::{self, Mode, Ports, Wish};
use crate::container::state::State;
use crate::error::Failure;
use crate::network::pasta::{self, Pasta};
use crate::network::{Published, listen, ports};
use crate::store::Store;
use crate::userns;

/// Dropped, it is connected no more.
#[derive(Debug)]
pub struct Connected {
    #[allow(dead_code, reason = "held, not read")]
    pasta: Pasta,
    published: Vec<Published>,
}

impl Connected {
    /// Connects the network namespace of `process`, if that is what is wished for.
    ///
    /// # Errors
    /// A port that is taken; there is no such program, or what it says.
    pub fn by_pasta(store: &Store, config: &ContainerConfig, wish: &Wish, process: Pid) -> Result<Option<Self>> {
        let Mode::Pasta(options) = &wish.mode else { return Ok(None) };
        if userns::is_host_root() {
            return Err(Failure::new("pasta is for ordinary users' containers")
                .hint("leave --network out: root's containers are on the kernel's own bridge")
                .into());
        }
        let wanted =
            network::listeners(&wish.port_bindings, wish.publish_all_ports, config.config.exposed_ports.keys())?;
        // Bound for a moment: so ports are chosen, and one that is taken says who has it.
        let listeners = listen::bind_all(store, &wanted, false)?;
        let published: Vec<Published> = listeners.iter().flat_map(|listener| listener.published.clone()).collect();
        drop(listeners);
        network::write_ports(store, config, &Ports { published: published.clone() })?;
        let pasta = pasta::start(process, &published, options, &store.container_run(&config.id))?;
        Ok(Some(Self { pasta, published }))
    }

    /// As [`Sandbox::describe`](super::Sandbox::describe).
    pub fn describe(&self, config: &ContainerConfig, state: &mut State) {
        let exposed = config.config.exposed_ports.keys().map(String::as_str);
        state.ports = ports::shown(&self.published, exposed);
        state.networks = Vec::new();
    }
}
