//! Networks: their records and names, and members that are none any more.

use std::fs;

use anyhow::Result;

use super::Finding;
use crate::container::{heal, state};
use crate::error;
use crate::network::{member, names, record};
use crate::store::{Id, Store, sweep, tree};

pub(super) fn look(store: &Store) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for id in names::ids(store)? {
        let object = format!("network {}", id.short());
        match record::read(store, &id) {
            Ok(Some(network)) => {
                let object = format!("network {} ({})", network.name, id.short());
                if names::owner(store, &network.name)?.as_ref() != Some(&id) {
                    let problem = format!("nothing leads from its name {:?} to it", network.name);
                    found.push(Finding::lasting(object, problem, format!("ctr network rm {} removes it", id.short())));
                }
            }
            Ok(None) => {
                found.push(Finding::lasting(
                    object,
                    "it has no network.json",
                    format!("look at {:?}", store.network(&id)),
                ));
            }
            Err(e) => {
                let advice = format!("remove {:?} when no container is on it", store.network(&id));
                found.push(Finding::lasting(object, error::message(&e), advice));
            }
        }
        members(store, &id, &mut found);
    }
    for entry in fs::read_dir(store.networks().join("names")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if names::owner(store, &name)?.is_none() {
            let path = entry.path();
            let problem = "it leads to a network that is not there";
            found.push(Finding::repairable(format!("network name {name}"), problem, "remove the link", move |_| {
                Ok(fs::remove_file(&path)?)
            }));
        }
    }
    for path in sweep::garbage(&store.networks()) {
        let problem = "left half made by a command that was killed";
        found.push(Finding::repairable(path.display().to_string(), problem, "remove it", move |_| {
            Ok(tree::remove(&path)?)
        }));
    }
    Ok(found)
}

fn members(store: &Store, network: &Id, found: &mut Vec<Finding>) {
    let object = format!("network {}", network.short());
    let members = match member::members(store, network) {
        Ok(members) => members,
        Err(e) => {
            found.push(Finding::lasting(object, error::message(&e), "stop the containers that are on it"));
            return;
        }
    };
    for member in members.into_iter().filter(|member| !state::is_alive(store, &member.container)) {
        let (network, container) = (network.clone(), member.container);
        let problem = format!("container {} has an address there and does not run", container.short());
        found.push(Finding::repairable(&object, problem, "give the address back", move |store| {
            if store.container(&container).exists() {
                heal::heal(store, &container)?;
            }
            member::leave(store, &network, &container)
        }));
    }
}
