//! Other limits for a container: at once, where it runs, and for each later start.

use anyhow::{Context, Result};

use crate::container::config::{ContainerConfig, Resources};
use crate::container::spec::resources;
use crate::container::state::{self, Process};
use crate::container::{list, start};
use crate::error::Failure;
use crate::runtime::cgroup::{Cgroup, Change};
use crate::store::record::Durability;
use crate::store::{Id, Lock, Store, record};

/// All of the container's limits in its directory, once they were changed: [`Resources`].
pub const RESOURCES: &str = "resources.json";

/// Changes what is asked for; what is zero, empty or `None` stays as it is.
///
/// # Errors
/// It contradicts what is set already (Docker's sentences), or the kernel refuses a limit: then all
/// limits are as they were.
pub fn update(store: &Store, id: &Id, asked: &Resources) -> Result<()> {
    // What a killed monitor left is put in order first.
    list::one(store, id)?;
    let place = store.container(id);
    let _lock = Lock::exclusive(&place).with_context(|| format!("lock {place:?}"))?;
    let before = start::config(store, id)?;
    let mut after = before.clone();
    merge(&mut after.host_config.resources, asked)?;
    let path = place.join(RESOURCES);
    let durability = if before.host_config.auto_remove { Durability::Unsynced } else { Durability::Synced };
    // Written first: where the disk is full, nothing has happened.
    record::write(&path, &after.host_config.resources, durability)?;
    let applied = apply(store, &before, &after);
    if applied.is_err() {
        // As it was: a file that was not there means what config.json says, as this one does then.
        let _ = record::write(&path, &before.host_config.resources, durability);
    }
    applied
}

fn apply(store: &Store, before: &ContainerConfig, after: &ContainerConfig) -> Result<()> {
    let (from, to) = (resources::of(&before.host_config)?, resources::of(&after.host_config)?);
    let change = Change { from: &from, to: &to };
    let path = store.container(&after.id).join(state::PROCESS);
    let process = if state::is_alive(store, &after.id) { record::read::<Process>(&path)? } else { None };
    let Some(process) = process else { return change.check() };
    change.apply(&Cgroup::from_paths(&process.cgroups))
}

/// Docker's rules (moby, `UpdateContainer`).
fn merge(set: &mut Resources, asked: &Resources) -> Result<()> {
    fn replace<T: PartialEq + Default + Clone>(set: &mut T, asked: &T) {
        if *asked != T::default() {
            set.clone_from(asked);
        }
    }

    let conflict = |text: &str| Err(Failure::new(text).exit(1).into());
    for (contradicts, what) in [
        (asked.nano_cpus > 0 && set.cpu_period > 0, "Nano CPUs cannot be updated as CPU Period has already been set"),
        (asked.nano_cpus > 0 && set.cpu_quota > 0, "Nano CPUs cannot be updated as CPU Quota has already been set"),
        (asked.cpu_period > 0 && set.nano_cpus > 0, "CPU Period cannot be updated as NanoCPUs has already been set"),
        (asked.cpu_quota > 0 && set.nano_cpus > 0, "CPU Quota cannot be updated as NanoCPUs has already been set"),
    ] {
        if contradicts {
            return conflict(&format!("Conflicting options: {what}"));
        }
    }
    // Nothing is larger than no limit.
    if asked.memory > set.memory_swap && set.memory_swap >= 0 && asked.memory_swap == 0 {
        return conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        );
    }
    replace(&mut set.blkio_weight, &asked.blkio_weight);
    replace(&mut set.cpu_shares, &asked.cpu_shares);
    replace(&mut set.nano_cpus, &asked.nano_cpus);
    replace(&mut set.cpu_period, &asked.cpu_period);
    replace(&mut set.cpu_quota, &asked.cpu_quota);
    replace(&mut set.cpuset_cpus, &asked.cpuset_cpus);
    replace(&mut set.cpuset_mems, &asked.cpuset_mems);
    replace(&mut set.memory, &asked.memory);
    replace(&mut set.memory_swap, &asked.memory_swap);
    replace(&mut set.memory_reservation, &asked.memory_reservation);
    replace(&mut set.cpu_realtime_period, &asked.cpu_realtime_period);
    replace(&mut set.cpu_realtime_runtime, &asked.cpu_realtime_runtime);
    replace(&mut set.pids_limit, &asked.pids_limit);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_stays() {
        let mut set = Resources { memory: 100, memory_swap: 200, cpu_shares: 5, ..Resources::default() };
        merge(&mut set, &Resources { memory: 150, pids_limit: Some(-1), ..Resources::default() }).unwrap();
        assert_eq!((set.memory, set.memory_swap, set.cpu_shares, set.pids_limit), (150, 200, 5, Some(-1)));
    }

    #[test]
    fn contradictions_are_said_as_docker_says_them() {
        let none = Resources::default();
        let message = |set: &Resources, asked: &Resources| merge(&mut set.clone(), asked).unwrap_err().to_string();
        let swap = "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the \
                    same time";
        assert_eq!(message(&none, &Resources { memory: 1, ..none.clone() }), swap);
        let (nano, quota) = (Resources { nano_cpus: 1, ..none.clone() }, Resources { cpu_quota: 1, ..none.clone() });
        let text = "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set";
        assert_eq!(message(&quota, &nano), text);
        let text = "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set";
        assert_eq!(message(&nano, &quota), text);
    }
}
