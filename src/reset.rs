//! Taking away all that ctr keeps for a user: `ctr system reset`. Everything is gone about as far as it
//! can be: what fails is reported, and the rest goes on.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Error, Result};

use crate::container::list;
use crate::container::remove::{self, Removal};
use crate::image::mount;
use crate::network::{record as networks, teardown};
use crate::store::{Store, names};
use crate::userns;

/// What lies in the storage root, and in the run root. Whatever else is there is somebody else's.
const ROOT: [&str; 8] = ["containers", "names", "networks", "secrets", "image", "layers", "mounts", "events"];
const RUN: [&str; 3] = ["containers", "seccomp", "warned-no-subordinate-ids"];

/// Names of the containers that run.
///
/// # Errors
/// The containers cannot be listed.
pub fn running(store: &Store) -> Result<Vec<String>> {
    let containers = list::all(store, |_, _| {})?;
    let runs = containers.into_iter().filter(|container| container.status().is_running());
    Ok(runs.map(|container| container.state.name).collect())
}

/// Removes everything, and tells `failed` what could not be.
pub fn all(store: &Store, mut failed: impl FnMut(&Error)) {
    let mut report = |outcome: Result<()>| {
        if let Err(e) = outcome {
            failed(&e);
        }
    };
    match names::ids(store) {
        Ok(ids) => ids.iter().for_each(|id| report(remove::remove(store, id, Removal { force: true }))),
        Err(e) => report(Err(e)),
    }
    // Interfaces and rules before the records that say what they are called.
    match networks::list(store) {
        Ok(networks) => {
            for network in &networks {
                let done =
                    teardown::network(store, network).with_context(|| format!("remove network {:?}", network.name));
                report(done);
            }
            report(teardown::rules(store));
        }
        Err(e) => report(Err(e)),
    }
    report(userns::enter(store));
    match mount::everywhere(store) {
        Ok(mounts) => mounts.keys().for_each(|id| report(mount::detach(store, id))),
        Err(e) => report(Err(e)),
    }
    for (root, entries) in [(store.root(), &ROOT[..]), (store.run(), &RUN[..])] {
        for entry in entries {
            report(remove::destroy(store, &root.join(entry)));
        }
        report(remove_empty(root));
    }
}

/// The root itself, unless something else is in it or it is a mount point.
fn remove_empty(root: &Path) -> Result<()> {
    match fs::remove_dir(root) {
        Err(e) if matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy | ErrorKind::NotFound) => {
            Ok(())
        }
        // The directory above it is another's, as /run/user is root's, or it is a link.
        Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::NotADirectory) => Ok(()),
        other => other.with_context(|| format!("remove {root:?}")),
    }
}
