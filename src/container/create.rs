//! Making a container: everything under a temporary name, a rename into place, then the claim of
//! its name. Whoever is killed on the way leaves garbage that [`super::list`] sweeps, or a container
//! whose name is not claimed: its maker held its lock, so that one found unlocked is finished
//! or removed by the next command.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::container::config::{Config, ContainerConfig, Endpoint, HostConfig, RootFs};
use crate::container::network::Wish;
use crate::container::secret::{self, Given};
use crate::container::state::{Phase, State};
use crate::container::{heal, name, remove};
use crate::error::{Failure, exit};
use crate::events;
use crate::image::Image;
use crate::store::names::{self, Claim};
use crate::store::record::{self, Durability};
use crate::store::{Id, Lock, Store, tree};
use crate::userns;

/// In the root of every container of an image, empty.
pub const MARK: &str = ".dockerenv";

/// What is wanted, complete.
#[derive(Debug)]
pub struct New {
    /// `None`: one is made up.
    pub name: Option<String>,
    pub root: RootFs,
    /// The image that `root` has the layers of.
    pub image: Option<Image>,
    pub config: Config,
    pub host_config: HostConfig,
    /// What is wanted of each network, in the order of the command line.
    pub endpoints: Vec<Endpoint>,
    pub secrets: Vec<Given>,
    /// It is started at once by this same command: one that is left unstarted and is to be removed
    /// at its end was ended early.
    pub starts_at_once: bool,
}

/// A container that was just made.
#[derive(Debug)]
pub struct Created {
    pub config: ContainerConfig,
    /// Held since before anybody else could see it.
    pub lock: Lock,
    /// Its name.
    pub name: String,
}

/// Makes it.
///
/// # Errors
/// The name is taken (Docker's `Conflict.`), the image went away, the disk is full. Nothing of the
/// container is left then.
pub fn create(store: &Store, new: New) -> Result<Created> {
    if let Some(name) = &new.name {
        // Found early, it costs no directory; the claim below is what decides.
        if let Some(owner) =
            names::owner(store, name)?.filter(|owner| store.container(owner).join("config.json").exists())
        {
            return Err(conflict(name, &owner, exit::ENGINE));
        }
    }
    let id = Id::random().context("make an id")?;
    let name = match &new.name {
        Some(name) => name.clone(),
        None => name::random(0)?,
    };
    let config = ContainerConfig {
        id: id.clone(),
        created: Timestamp::now(),
        root: new.root,
        config: new.config,
        host_config: new.host_config,
        endpoints: new.endpoints,
        secrets: new.secrets,
    };
    let mut state = State {
        name,
        image: config.config.image.clone(),
        image_id: match &config.root {
            RootFs::Image { id, .. } => id.clone(),
            RootFs::Directory { .. } => String::new(),
        },
        command: config.argv(),
        created: config.created,
        phase: Phase::Created { failure: None },
        ports: String::new(),
        networks: Wish::of(&config).names(),
        labels: config.config.labels.clone(),
        restarts: 0,
        unstarted: new.starts_at_once && config.host_config.auto_remove,
    };
    let place = store.container(&id);
    let temporary = record::temporary_beside(&place);
    let lock = fill(store, &temporary, &place, &config, &state).inspect_err(|_| {
        // Best effort: what stays is swept later.
        let _ = tree::remove(&temporary);
    })?;
    let is_there = new.image.as_ref().map_or(Ok(true), crate::image::Image::is_there);
    let claimed = match is_there {
        // From the rename on a removal of the image sees this container and spares its layers; one
        // that was faster has taken the image out of the index before.
        Ok(true) => claim(store, &place, &id, &mut state, new.name.is_some()),
        Ok(false) => Err(Failure::new(format!("image {:?} was removed meanwhile", config.config.image))
            .hint("pull it again")
            .exit(exit::ENGINE)
            .into()),
        Err(error) => Err(error),
    };
    if let Err(error) = claimed {
        let _ = remove::discard(store, &id, &state.name);
        return Err(error);
    }
    events::container(store, &id, &state, "create", &[]);
    Ok(Created { config, lock, name: state.name })
}

fn fill(store: &Store, temporary: &Path, place: &Path, config: &ContainerConfig, state: &State) -> Result<Lock> {
    let make = |path: &Path| {
        DirBuilder::new().mode(0o700).create(path).with_context(|| format!("make the directory {path:?}"))
    };
    make(temporary)?;
    let lock = Lock::exclusive(temporary).with_context(|| format!("lock {temporary:?}"))?;
    let durability = durability(config);
    if let RootFs::Image { layers, .. } = &config.root {
        let upper = temporary.join("upper");
        make(&upper)?;
        make(&temporary.join("work"))?;
        // The upper directory is what the container's "/" looks like.
        let mode = layers.first().and_then(|top| fs::metadata(store.layers().join(top)).ok());
        let mode = mode.map_or(0o755, |meta| meta.permissions().mode() & 0o7777);
        fs::set_permissions(&upper, Permissions::from_mode(mode))
            .with_context(|| format!("set the mode of {upper:?}"))?;
        let mark = mark(store, layers, &upper)?;
        // Root's is seen with the container's ids when it is mounted.
        if let Some(ids) = config.host_config.ids.as_ref().filter(|_| !userns::is_host_root()) {
            let (uid, gid) = ids.root();
            let made = [mark, Some(upper.clone())];
            userns::within(store, || {
                Ok(made.iter().flatten().try_for_each(|path| chown(path, Some(uid), Some(gid)))?)
            })
            .with_context(|| format!("give {upper:?} to the container's root"))?;
        }
    }
    secret::keep(store, temporary, &config.secrets)?;
    record::write(&temporary.join("config.json"), config, durability)?;
    record::write(&temporary.join("state.json"), state, Durability::Unsynced)?;
    fs::rename(temporary, place).with_context(|| format!("make {place:?}"))?;
    if durability == Durability::Synced {
        record::sync_parent(place).with_context(|| format!("sync {:?}", store.containers()))?;
    }
    Ok(lock)
}

/// Docker's sign of a container, by which programs know that they are in one; `None` where the image
/// has something of this name, which stays. `upper` is nobody else's yet: no link can lie there.
fn mark(store: &Store, layers: &[String], upper: &Path) -> Result<Option<PathBuf>> {
    let mut in_layers = layers.iter().map(|layer| fs::symlink_metadata(store.layers().join(layer).join(MARK)));
    // The topmost decides, and may say that it is gone.
    let is_there = |found: &io::Result<_>| !found.as_ref().is_err_and(|e| e.kind() == ErrorKind::NotFound);
    match in_layers.find(is_there) {
        None => {}
        Some(Ok(found)) if found.file_type().is_char_device() && found.rdev() == 0 => {}
        Some(_) => return Ok(None),
    }
    let path = upper.join(MARK);
    let make = || -> io::Result<()> {
        let file = File::options().write(true).create_new(true).open(&path)?;
        // Whatever the umask.
        file.set_permissions(Permissions::from_mode(0o755))
    };
    make().with_context(|| format!("make {path:?}"))?;
    Ok(Some(path))
}

/// Gives the container its name; one that was made up gives way to another when it is taken.
fn claim(store: &Store, place: &Path, id: &Id, state: &mut State, is_given: bool) -> Result<()> {
    for attempt in 1.. {
        match claim_name(store, &state.name, id)? {
            Claim::Made => return Ok(()),
            Claim::Taken(owner) if is_given || attempt > 100 => {
                return Err(conflict(&state.name, &owner, exit::ENGINE));
            }
            Claim::Taken(_) => {
                state.name = name::random(attempt)?;
                record::write(&place.join("state.json"), state, Durability::Unsynced)?;
            }
        }
    }
    Ok(())
}

/// [`names::claim`], past a name that a killed `rename` left with a container that is called
/// something else.
///
/// # Errors
/// As [`names::claim`].
pub fn claim_name(store: &Store, name: &str, id: &Id) -> Result<Claim> {
    let claim = names::claim(store, name, id)?;
    let Claim::Taken(owner) = &claim else { return Ok(claim) };
    let place = store.container(owner);
    // Held by whoever makes or renames it now: then the claim is good.
    let Ok(Some(_lock)) = Lock::try_exclusive(&place) else { return Ok(claim) };
    match record::read::<State>(&place.join("state.json"))? {
        Some(state) if state.name != name => {
            names::release(store, name, owner)?;
            names::claim(store, name, id)
        }
        _ => Ok(claim),
    }
}

/// A container that its own end removes needs not be there after a power loss.
fn durability(config: &ContainerConfig) -> Durability {
    if config.host_config.auto_remove { Durability::Unsynced } else { Durability::Synced }
}

/// Docker's words, which scripts look for. `code`: exit code, 125 where a container is made.
#[must_use]
pub fn conflict(name: &str, owner: &Id, code: u8) -> anyhow::Error {
    Failure::new(format!(
        "Conflict. The container name \"/{name}\" is already in use by container {:?}. You have to remove (or rename) \
         that container to be able to reuse that name.",
        owner.as_str()
    ))
    .exit(code)
    .into()
}

/// Finishes or removes a container whose maker died before it had its name. Called for containers
/// that were never started; nothing happens to one that is complete, or still being made.
///
/// # Errors
/// Its directory cannot be changed.
pub fn settle(store: &Store, id: &Id, state: &State) -> Result<Settled> {
    let is_named = names::owner(store, &state.name)?.as_ref() == Some(id);
    if is_named && !state.unstarted {
        return Ok(Settled::Whole);
    }
    let place = store.container(id);
    let lock = match Lock::try_exclusive(&place) {
        Ok(Some(lock)) => lock,
        Ok(None) if is_named => return Ok(Settled::Whole),
        Ok(None) => return Ok(Settled::Unfinished),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Settled::Gone),
        Err(e) => return Err(e).with_context(|| format!("lock {place:?}")),
    };
    // It may have got further while this waited for its turn.
    let Some(state) = record::read::<State>(&place.join("state.json"))? else { return Ok(Settled::Gone) };
    if !matches!(state.phase, Phase::Created { .. }) {
        return Ok(Settled::Whole);
    }
    let is_named =
        names::claim(store, &state.name, id)? == Claim::Made || names::owner(store, &state.name)?.as_ref() == Some(id);
    if is_named && !state.unstarted {
        return Ok(Settled::Whole);
    }
    heal::remove_old_traces(store, id);
    remove::discard(store, id, &state.name)?;
    if state.unstarted {
        events::container(store, id, &state, "destroy", &[]);
    }
    drop(lock);
    Ok(Settled::Gone)
}

/// What [`settle`] found or made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    Whole,
    /// Its maker is at work.
    Unfinished,
    Gone,
}
