//! `--network pasta`: a container that the program `pasta` connects, in the place of ctr's networks.

use std::path::PathBuf;

use anyhow::Result;
use nix::unistd::Pid;

use crate::container::config::ContainerConfig;
use crate::container::network::{self, Mode, Wish};
use crate::container::state::State;
use crate::error::Failure;
use crate::network::listen;
use crate::network::pasta::{self, Pasta};
use crate::network::{Published, ports};
use crate::store::Store;
use crate::userns;

/// The program, and what it publishes. Dropped, it is ended.
#[derive(Debug)]
pub struct Beside {
    published: Vec<Published>,
    /// What stands behind `pasta:`.
    options: String,
    /// The container's run directory.
    directory: PathBuf,
    pasta: Option<Pasta>,
}

impl Beside {
    /// Chooses the host ports. `None`: the container is not to be connected by pasta.
    ///
    /// # Errors
    /// A port that is taken; root wants it, as whom pasta does not work.
    pub fn prepare(store: &Store, config: &ContainerConfig, wish: &Wish) -> Result<Option<Self>> {
        if wish.mode != Mode::Pasta {
            return Ok(None);
        }
        if userns::is_host_root() {
            return Err(Failure::new("--network pasta is for ordinary users' containers")
                .hint("leave --network out: root's default network needs no program")
                .into());
        }
        let exposed = config.config.exposed_ports.keys();
        let wanted = network::listeners(&wish.port_bindings, wish.publish_all_ports, exposed)?;
        // So one that is taken is said as ever. They are given up again at once: pasta binds them itself,
        // and the container's process, which is made before, is not to have copies.
        let listeners = listen::bind_all(store, &wanted, false)?;
        let published = listeners.iter().flat_map(|listener| listener.published.iter().copied()).collect();
        let options = config.host_config.network_mode.split_once(':').map_or("", |(_, options)| options).to_owned();
        Ok(Some(Self { published, options, directory: store.container_run(&config.id), pasta: None }))
    }

    /// Connects the network namespace of the container's first process, which does not run yet.
    ///
    /// # Errors
    /// There is no such program, or what it says.
    pub fn wire(&mut self, process: Pid) -> Result<()> {
        self.pasta = Some(pasta::start(process, &self.published, &self.options, &self.directory)?);
        Ok(())
    }

    /// Puts into the container's state what `ps` and `port` show.
    pub fn describe(&self, config: &ContainerConfig, state: &mut State) {
        let exposed = config.config.exposed_ports.keys().map(String::as_str);
        state.ports = ports::shown(&self.published, exposed);
        state.published.clone_from(&self.published);
    }
}
