//! Opens a container's files, as the container has them.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Pid, Uid, fchdir, setfsgid, setfsuid};

use crate::container::bind::Bind;
use crate::container::config::{ContainerConfig, RootFs};
use crate::container::state::{PROCESS, Phase, Process};
use crate::container::{list, state};
use crate::error::Failure;
use crate::image::unpack::tar::Entry;
use crate::runtime::{self, Root, rooted};
use crate::store::{Id, Lock, Store, record};
use crate::sys::credentials;
use crate::sys::mount::{self as api, Attributes};
use crate::sys::openat2::open_in_root;
use crate::sys::pidfd;
use crate::userns::{self, IdMap};

/// How long a start or an end that is under way is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who the kernel takes for the owner of what belongs to none: /proc/sys/kernel/overflowuid.
const NOBODY: u64 = 65_534;

const FOLDER: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// The files of a container.
#[derive(Debug)]
pub struct Tree {
    pub root: OwnedFd,
    /// What the kernel and ctr keep in the container rather than it, which no copy goes into: /proc,
    /// /sys, /dev. Empty where nothing runs.
    pub system: Vec<(u64, u64)>,
    pub owners: Owners,
    /// Keeps it from being started while it is written to.
    _lock: Option<Lock>,
}

/// How owners as this process sees them become the container's own, and the other way round. Without
/// maps they are the same.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    uids: Vec<IdMap>,
    gids: Vec<IdMap>,
}

impl Owners {
    /// Those of a process that runs.
    fn of_process(pid: i32) -> Self {
        let (uids, gids) = userns::maps_of(pid);
        let same = |maps: &[IdMap]| maps.iter().all(|map| map.inside == map.outside);
        if same(&uids) && same(&gids) { Self::default() } else { Self { uids, gids } }
    }

    /// Says of an object what the container would. An owner that it does not know is nobody to it.
    pub fn inward(&self, entry: &mut Entry) {
        let inward = |maps: &[IdMap], id: u64| {
            let within = |map: &IdMap| {
                let offset = id.checked_sub(map.outside.into()).filter(|n| *n < map.count.into())?;
                Some(u64::from(map.inside) + offset)
            };
            if maps.is_empty() { id } else { maps.iter().find_map(within).unwrap_or(NOBODY) }
        };
        (entry.uid, entry.gid) = (inward(&self.uids, entry.uid), inward(&self.gids, entry.gid));
    }

    /// The container's owner as this process has to name it; `None`: there is none such.
    #[must_use]
    pub fn outward(&self, uid: u64, gid: u64) -> Option<(u64, u64)> {
        let outward = |maps: &[IdMap], id: u64| {
            let within = |map: &IdMap| {
                let offset = id.checked_sub(map.inside.into()).filter(|n| *n < map.count.into())?;
                Some(u64::from(map.outside) + offset)
            };
            if maps.is_empty() { Some(id) } else { maps.iter().find_map(within) }
        };
        Some((outward(&self.uids, uid)?, outward(&self.gids, gid)?))
    }

    /// What this process makes from here on is the container's root's, until it is given its own owner. The
    /// kernel makes no file (`EOVERFLOW`) for a user whom the file system's namespace does not know, as root
    /// is not known to a container with ids of its own.
    fn make_as_root(&self) -> Result<()> {
        let (Some((uid, gid)), own) = (self.outward(0, 0), credentials::capabilities()?) else { return Ok(()) };
        let id = |id: u64| u32::try_from(id).context("an id of the container's root");
        setfsgid(Gid::from_raw(id(gid)?));
        setfsuid(Uid::from_raw(id(uid)?));
        // The last one took those away that are about files: capabilities(7).
        credentials::set_capabilities(own).context("keep the capabilities")
    }
}

/// What is wanted of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// The right to open them: this process is in the user's own user namespace and in a mount
/// namespace of its own.
#[derive(Debug)]
pub struct Entered {
    here: OwnedFd,
}

impl Entered {
    /// Brings this process there, while it has one thread still. Its files of the host are where they
    /// were; what it makes has the mode that it asks for.
    ///
    /// # Errors
    /// The namespaces cannot be made.
    pub fn enter(store: &Store) -> Result<Self> {
        userns::enter(store)?;
        // Also for those in a container with the host's processes before their eyes.
        nix::sys::prctl::set_dumpable(false)?;
        unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
            .context("cut the mounts off from the host's")?;
        nix::sys::stat::umask(Mode::empty());
        Ok(Self { here: open(".", FOLDER, Mode::empty()).context("open the working directory")? })
    }

    /// As the container itself sees them, with what is mounted in it; of one that does not run, with
    /// the host's folders that it is given.
    ///
    /// # Errors
    /// The container went away, or its root cannot be mounted.
    pub fn open(&self, store: &Store, config: &ContainerConfig, access: Access) -> Result<Tree> {
        let place = store.container(&config.id);
        loop {
            if let Some((process, pid)) = running(store, &config.id)? {
                let root = openat(&process, "root", FOLDER, Mode::empty()).context("open the container's root")?;
                let system = ["/proc", "/sys", "/dev"].map(Path::new);
                let system =
                    system.iter().filter_map(|path| identity(open_in_root(&root, *path, FOLDER).ok()?.as_fd()));
                let (system, owners) = (system.collect(), Owners::of_process(pid));
                if access == Access::Write && userns::in_first() {
                    owners.make_as_root()?;
                }
                return Ok(Tree { system, root, owners, _lock: None });
            }
            if access == Access::Read {
                let root = self.whole(store, config)?;
                if self.add_binds(root.as_fd(), config, Access::Read)? {
                    return Ok(Tree { root, system: Vec::new(), owners: self.recorded_owners(config), _lock: None });
                }
                // A place for a folder of the host's is missing, and only one who writes can make it.
            }
            let lock = Lock::exclusive(&place).with_context(|| format!("lock {place:?}"))?;
            if state::is_alive(store, &config.id) {
                continue;
            }
            let root = match &config.root {
                RootFs::Directory { path } => {
                    open(path.as_str(), FOLDER, Mode::empty()).with_context(|| format!("open {path:?}"))?
                }
                RootFs::Image { layers, .. } => {
                    let root = Root::Overlay {
                        lower: layers.iter().map(|layer| store.layers().join(layer)).collect(),
                        upper: place.join("upper"),
                        work: place.join("work"),
                        volatile: config.host_config.auto_remove,
                    };
                    let root = runtime::mount_root(&root, !userns::in_first());
                    fchdir(&self.here)?;
                    root?
                }
            };
            self.add_binds(root.as_fd(), config, Access::Write)?;
            // Behind the places for what is mounted, as at a start.
            if config.host_config.readonly_rootfs && matches!(config.root, RootFs::Image { .. }) {
                let read_only = Attributes { set: api::RDONLY, ..Attributes::default() };
                api::set_attributes(root.as_fd(), false, read_only).context("make the root read-only")?;
            }
            let owners = self.recorded_owners(config);
            return Ok(Tree { root, system: Vec::new(), owners, _lock: Some(lock) });
        }
    }

    /// What there is to be seen, for who only looks: nothing is made, no lock is taken.
    ///
    /// # Errors
    /// As [`Entered::open`].
    pub fn look(&self, store: &Store, config: &ContainerConfig) -> Result<OwnedFd> {
        if let Some((process, _)) = running(store, &config.id)? {
            return openat(&process, "root", FOLDER, Mode::empty()).context("open the container's root");
        }
        let root = self.whole(store, config)?;
        // Those for which the container has a place already.
        let _ = self.add_binds(root.as_fd(), config, Access::Read)?;
        Ok(root)
    }

    /// The container's own files alone: nothing of what is mounted in it but its root.
    ///
    /// # Errors
    /// As [`Entered::open`].
    pub fn open_alone(&self, store: &Store, config: &ContainerConfig) -> Result<(OwnedFd, Owners)> {
        if let Some((process, pid)) = running(store, &config.id)? {
            match self.root_mount_of(&process) {
                Ok(root) => return Ok((root, Owners::of_process(pid))),
                // It ended, or the kernel does not give its root without the rest: what it is made
                // of is at hand.
                Err(_) => fchdir(&self.here)?,
            }
        }
        Ok((self.whole(store, config)?, self.recorded_owners(config)))
    }

    /// Owners in the layers and in the upper folder, which no process shows: in root's they are the
    /// container's own, in another user's those of the user's namespace ([`crate::image::mapped`]).
    #[allow(clippy::unused_self, reason = "true only in the user's own namespace")]
    #[must_use]
    pub fn recorded_owners(&self, config: &ContainerConfig) -> Owners {
        match &config.host_config.ids {
            Some(ids) if !userns::in_first() && !ids.is_identity() => {
                Owners { uids: ids.uid_map.clone(), gids: ids.gid_map.clone() }
            }
            _ => Owners::default(),
        }
    }

    /// The folder of what the container changed, and what its image looks like.
    ///
    /// # Errors
    /// It has no image; the layers cannot be mounted.
    pub fn layers(&self, store: &Store, config: &ContainerConfig) -> Result<(OwnedFd, Option<OwnedFd>)> {
        let RootFs::Image { layers, .. } = &config.root else {
            let failure = Failure::new(format!("container {} has no image to compare it with", config.id));
            return Err(failure.hint("its root is a directory of the host's, used as it is (--rootfs)").into());
        };
        let path = store.container(&config.id).join("upper");
        let upper = open(&path, FOLDER, Mode::empty()).with_context(|| format!("open {path:?}"))?;
        let layers: Vec<PathBuf> = layers.iter().map(|layer| store.layers().join(layer)).collect();
        let below = if layers.is_empty() { None } else { Some(self.view(&layers)?) };
        Ok((upper, below))
    }

    /// Read-only and without a lock: nobody waits for somebody who reads slowly.
    fn whole(&self, store: &Store, config: &ContainerConfig) -> Result<OwnedFd> {
        match &config.root {
            RootFs::Directory { path } => {
                open(path.as_str(), FOLDER, Mode::empty()).with_context(|| format!("open {path:?}"))
            }
            RootFs::Image { layers, .. } => {
                let mut all = vec![store.container(&config.id).join("upper")];
                all.extend(layers.iter().map(|layer| store.layers().join(layer)));
                self.view(&all)
            }
        }
    }

    fn view(&self, layers: &[PathBuf]) -> Result<OwnedFd> {
        let view = runtime::mount_view(layers, !userns::in_first());
        fchdir(&self.here)?;
        Ok(view?)
    }

    /// A copy of the mount that a container has for its root, attached nowhere.
    fn root_mount_of(&self, process: &OwnedFd) -> Result<OwnedFd> {
        let ours = File::open("/proc/self/ns/mnt")?;
        let theirs = openat(process, "ns/mnt", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        setns(theirs, CloneFlags::CLONE_NEWNS)?;
        // Nothing is looked up there but the root itself, which setns(2) made this process's.
        let copy = api::copy_tree(Path::new("/"), false);
        setns(ours, CloneFlags::CLONE_NEWNS).context("come back from the container's mount namespace")?;
        fchdir(&self.here)?;
        Ok(copy?)
    }

    /// Mounts the host's folders and files where the container will have them. `false`: a place is
    /// missing, and may not be made.
    fn add_binds(&self, root: BorrowedFd<'_>, config: &ContainerConfig, access: Access) -> Result<bool> {
        for (source, target, read_only) in binds(config)? {
            let Ok(meta) = std::fs::metadata(&source) else { continue };
            let place = match open_in_root(root, &target, OFlag::O_PATH) {
                Err(Errno::ENOENT) if access == Access::Read => return Ok(false),
                Err(Errno::ENOENT) if meta.is_dir() => rooted::directory(root, &target),
                Err(Errno::ENOENT) => rooted::file(root, &target),
                other => other,
            };
            let place = place.with_context(|| format!("make mount point {target:?}"))?;
            let tree = api::copy_tree(&source, true).with_context(|| format!("bind source {source:?}"))?;
            if read_only {
                let set = Attributes { set: api::RDONLY, ..Attributes::default() };
                api::set_attributes(tree.as_fd(), true, set).with_context(|| format!("bind source {source:?}"))?;
            }
            api::attach(tree.as_fd(), place.as_fd()).with_context(|| format!("mount {target:?}"))?;
        }
        fchdir(&self.here)?;
        Ok(true)
    }
}

/// The host's folders and files that a container is given: source, target, read-only. Outer ones first.
fn binds(config: &ContainerConfig) -> Result<Vec<(PathBuf, PathBuf, bool)>> {
    let host = &config.host_config;
    let mut all = Vec::new();
    for text in &host.binds {
        let bind = Bind::parse(text)?;
        if bind.source.starts_with('/') {
            all.push((bind.source.clone().into(), bind.target.clone().into(), bind.has("ro")));
        }
    }
    for asked in host.mounts.iter().filter(|asked| asked.r#type == "bind") {
        all.push((asked.source.clone().into(), asked.target.clone().into(), asked.read_only));
    }
    all.sort_by_key(|(_, target, _): &(PathBuf, PathBuf, bool)| target.components().count());
    Ok(all)
}

/// The folder in /proc of a container's first process, and its number; `None`: it does not run.
fn running(store: &Store, id: &Id) -> Result<Option<(OwnedFd, i32)>> {
    let end = Instant::now() + PATIENCE;
    loop {
        if !matches!(list::one(store, id)?.state.phase, Phase::Running { .. }) {
            return Ok(None);
        }
        let process: Option<Process> = record::read(&store.container(id).join(PROCESS))?;
        if let Some(process) = process
            && let Ok(folder) = open(format!("/proc/{}", process.pid).as_str(), FOLDER, Mode::empty())
            // Asked after the folder was opened, so that it is about that process.
            && pidfd::start_time(Pid::from_raw(process.pid)) == Some(process.start_time)
            && openat(&folder, "root", FOLDER, Mode::empty()).is_ok()
        {
            return Ok(Some((folder, process.pid)));
        }
        // Its first process has ended, and its monitor is about to say so.
        if Instant::now() > end {
            return Err(Failure::new(format!("container {id} neither runs nor has ended")).into());
        }
        sleep(Duration::from_millis(5));
    }
}

/// What tells one file from another.
fn identity(file: BorrowedFd<'_>) -> Option<(u64, u64)> {
    nix::sys::stat::fstat(file).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::unpack::tar::Kind;

    #[test]
    fn owners_are_the_container_s() {
        // `--userns keep-id` of user 1000: the container's 0 is the first subordinate id.
        let maps = vec![
            IdMap { inside: 0, outside: 1, count: 1000 },
            IdMap { inside: 1000, outside: 0, count: 1 },
            IdMap { inside: 1001, outside: 1001, count: 10 },
        ];
        let owners = Owners { uids: maps.clone(), gids: maps };
        let inward = |uid: u64, gid: u64| {
            let mut entry = Entry::new(Kind::File, Vec::new());
            (entry.uid, entry.gid) = (uid, gid);
            owners.inward(&mut entry);
            (entry.uid, entry.gid)
        };
        assert_eq!([inward(0, 1), inward(1005, 5000)], [(1000, 0), (1005, NOBODY)]);
        assert_eq!([owners.outward(0, 1000), owners.outward(5000, 0)], [Some((1, 0)), None]);
        assert_eq!(Owners::default().outward(5000, 7), Some((5000, 7)));
    }
}
