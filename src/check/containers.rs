//! Containers: their records, names, layers and secrets, and what killed processes left of them.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use nix::unistd::Pid;

use super::Finding;
use crate::container::config::{ContainerConfig, RootFs};
use crate::container::secret;
use crate::container::state::{self, ALIVE, PROCESS, Phase, Process, State};
use crate::container::{create, heal, remove};
use crate::error;
use crate::monitor;
use crate::secret as secrets;
use crate::store::names::{self, Claim};
use crate::store::{Id, Lock, Store, record, sweep, tree};
use crate::sys::pidfd;

/// All that is wrong with containers.
pub(super) fn look(store: &Store) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for id in names::ids(store)? {
        // Being made, started or removed just now: whoever is at it puts it in order.
        if let Ok(Some(_lock)) = Lock::try_exclusive(&store.container(&id)) {
            one(store, &id, &mut found);
        }
    }
    links(store, &mut found)?;
    run_directories(store, &mut found);
    monitors(store, &mut found);
    for path in [store.containers(), secrets::folder(store)].iter().flat_map(|folder| sweep::garbage(folder)) {
        found.push(Finding::repairable(
            path.display().to_string(),
            "left half made by a command that was killed",
            "remove it",
            move |store| remove::destroy(store, &path),
        ));
    }
    Ok(found)
}

fn one(store: &Store, id: &Id, found: &mut Vec<Finding>) {
    let place = store.container(id);
    let mut object = format!("container {}", id.short());
    let state = record::read::<State>(&place.join("state.json"));
    if let Ok(Some(state)) = &state {
        object = format!("container {} ({})", state.name, id.short());
    }
    let config = record::read::<ContainerConfig>(&place.join("config.json"));
    let forcibly = format!("ctr rm -f {} removes it", id.short());
    let mut damaged = |file: &str, problem: Option<&anyhow::Error>| {
        let problem = problem.map_or_else(|| format!("it has no {file}"), error::message);
        found.push(Finding::lasting(&object, problem, &forcibly));
    };
    match &config {
        Ok(Some(_)) => {}
        Ok(None) => damaged("config.json", None),
        Err(e) => damaged("config.json", Some(e)),
    }
    match &state {
        Ok(Some(_)) => {}
        Ok(None) => damaged("state.json", None),
        Err(e) => damaged("state.json", Some(e)),
    }
    let (Ok(Some(config)), Ok(Some(state))) = (config, state) else { return };
    if config.id != *id {
        found.push(Finding::lasting(&object, format!("its config.json is of container {}", config.id), &forcibly));
    }
    name(store, id, &object, &state, found);
    end(store, id, &object, &state, found);
    if let RootFs::Image { layers, .. } = &config.root {
        for layer in layers.iter().filter(|layer| !store.layers().join(layer).is_dir()) {
            found.push(Finding::lasting(
                &object,
                format!("its layer {} is missing", &layer[..layer.len().min(12)]),
                format!("pull or load its image again: {}", state.image),
            ));
        }
        for folder in ["upper", "work"].into_iter().filter(|folder| !place.join(folder).is_dir()) {
            found.push(Finding::lasting(&object, format!("its folder {folder:?} is missing"), &forcibly));
        }
    }
    for name in secret::missing(store, &config) {
        found.push(Finding::lasting(&object, format!("the content of its secret {name:?} is missing"), &forcibly));
    }
}

/// It has the name that its state says.
fn name(store: &Store, id: &Id, object: &str, state: &State, found: &mut Vec<Finding>) {
    let owner = names::owner(store, &state.name).ok().flatten();
    if owner.as_ref() == Some(id) {
        return;
    }
    let exists = |id: &Id| store.container(id).join("config.json").exists();
    if let Some(other) = owner.filter(exists) {
        let problem = format!("its name {:?} leads to container {}", state.name, other.short());
        let advice = format!("ctr rename {} NAME gives it another one", id.short());
        found.push(Finding::lasting(object, problem, advice));
        return;
    }
    let (id, wanted) = (id.clone(), state.name.clone());
    let problem = format!("nothing leads from its name {wanted:?} to it");
    found.push(Finding::repairable(object, problem, "make the link again", move |store| {
        match create::claim_name(store, &wanted, &id)? {
            Claim::Made => Ok(()),
            Claim::Taken(other) => Err(create::conflict(&wanted, &other, 1)),
        }
    }));
}

/// One that ended is recorded so, and nothing of its run is left.
fn end(store: &Store, id: &Id, object: &str, state: &State, found: &mut Vec<Finding>) {
    if state::is_alive(store, id) {
        return;
    }
    let put_in_order = {
        let id = id.clone();
        move |store: &Store| heal::heal(store, &id).map(drop)
    };
    if matches!(state.phase, Phase::Running { .. }) {
        let problem = "recorded as running, and its monitor is gone";
        found.push(Finding::repairable(
            object,
            problem,
            "record that it was killed, and remove what it left",
            put_in_order,
        ));
        return;
    }
    let process: Option<Process> = record::read(&store.container(id).join(PROCESS)).ok().flatten();
    if process.is_some() || store.container(id).join(ALIVE).exists() {
        let problem = "a killed monitor left its records and perhaps processes, cgroups and addresses";
        found.push(Finding::repairable(object, problem, "end and remove them", put_in_order));
    }
}

/// Each name leads to a container that is there and is called so.
fn links(store: &Store, found: &mut Vec<Finding>) -> Result<()> {
    let folder = store.names();
    for entry in fs::read_dir(&folder).with_context(|| format!("read {folder:?}"))?.flatten() {
        let path = entry.path();
        let object = format!("name {}", entry.file_name().display());
        let Some(name) = entry.file_name().to_str().map(str::to_owned).filter(|name| names::is_valid(name)) else {
            found.push(Finding::lasting(object, "no container can be called so", format!("look at {path:?}")));
            continue;
        };
        let Some(id) = names::owner(store, &name)? else {
            found.push(Finding::lasting(object, "it is no link to a container", format!("look at {path:?}")));
            continue;
        };
        let state = record::read::<State>(&store.container(&id).join("state.json"));
        let problem = match state {
            _ if !store.container(&id).exists() => "it leads to a container that is not there".to_owned(),
            Ok(Some(state)) if state.name != name => format!("it leads to a container that is called {:?}", state.name),
            _ => continue,
        };
        // A rename in this moment has both.
        if store.container(&id).exists() && !Lock::try_exclusive(&store.container(&id)).is_ok_and(|lock| lock.is_some())
        {
            continue;
        }
        found.push(Finding::repairable(object, problem, "remove the link", move |store| {
            names::release(store, &name, &id)
        }));
    }
    Ok(())
}

/// Only what runs has a directory in the run root.
fn run_directories(store: &Store, found: &mut Vec<Finding>) {
    for entry in fs::read_dir(store.run().join("containers")).into_iter().flatten().flatten() {
        let path = entry.path();
        let id = entry.file_name().to_str().and_then(|name| name.parse::<Id>().ok());
        // One that is there and has ended was looked at above.
        if id.as_ref().is_some_and(|id| store.container(id).exists()) {
            continue;
        }
        let problem = "left by a container that is no more";
        found.push(Finding::repairable(path.display().to_string(), problem, "remove it", move |_| {
            Ok(tree::remove(&path)?)
        }));
    }
}

/// Monitors of this storage root whose container was taken away under them.
fn monitors(store: &Store, found: &mut Vec<Finding>) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if forsaken(store, &entry.path()).is_none() {
            continue;
        }
        let problem = "a monitor whose container is no more";
        let object = format!("process {pid}");
        found.push(Finding::repairable(object, problem, "kill it, and its container with it", move |store| {
            let handle = pidfd::open(Pid::from_raw(pid)).with_context(|| format!("open process {pid}"))?;
            // Asked after the descriptor was opened, so that it is about the process that is killed.
            if forsaken(store, Path::new(&format!("/proc/{pid}"))).is_some() {
                pidfd::signal(handle.as_fd(), libc::SIGKILL).with_context(|| format!("kill process {pid}"))?;
            }
            Ok(())
        }));
    }
}

/// The id of the container that is no more, where the process is its monitor.
fn forsaken(store: &Store, process: &Path) -> Option<Id> {
    use std::os::unix::ffi::OsStrExt;
    let words = fs::read(process.join("cmdline")).ok()?;
    let mut words = words.split(|byte| *byte == 0);
    let is_monitor = words.next() == Some(monitor::run::NAME.as_bytes());
    let id: Id = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let is_ours = words.next() == Some(store.root().as_os_str().as_bytes());
    (is_monitor && is_ours && !store.container(&id).exists()).then_some(id)
}
