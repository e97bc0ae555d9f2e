//! The mounts of the spec, in its order, onto a root that nobody trusts.
//!
//! A target is resolved once, inside the root (openat2's `RESOLVE_IN_ROOT`), and from then on is a
//! descriptor: a link in the image leads nowhere else, and nobody can swap a part of the path
//! between the look and the mount. Binds get their options while they are attached nowhere, so
//! there is no moment at which they can be written.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;

use super::plan::Namespaces;
use super::report::{At, Fault, Link, Message, Step};
use super::{elsewhere, rooted};
use crate::sys::mount::{self, Attributes};

/// One mount of the spec, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub target: PathBuf,
    pub kind: Kind,
    /// Of the mount itself.
    pub attributes: Attributes,
    /// Of it and all below it (`rro`, `rnoexec` and so on).
    pub recursive: Attributes,
    /// A link at the target is covered, and not what it leads to.
    pub no_follow: bool,
    /// One of `MS_PRIVATE` and its like, and whether it is for all below too.
    pub propagation: (u64, bool),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Bind {
        source: PathBuf,
        recursive: bool,
    },
    /// `source` is a name that shows in mountinfo. `flags`: of the file system, not the mount.
    Filesystem {
        kind: String,
        source: String,
        flags: MsFlags,
        data: String,
    },
    /// The container's cgroups, of whichever version. `only`: of version 1, these hierarchies.
    Cgroup {
        only: Option<Vec<String>>,
    },
}

/// Options of a mount: the bits to set and to clear.
const OPTIONS: [(&str, u64, u64); 15] = [
    ("ro", mount::RDONLY, 0),
    ("rw", 0, mount::RDONLY),
    ("nosuid", mount::NOSUID, 0),
    ("suid", 0, mount::NOSUID),
    ("nodev", mount::NODEV, 0),
    ("dev", 0, mount::NODEV),
    ("noexec", mount::NOEXEC, 0),
    ("exec", 0, mount::NOEXEC),
    ("noatime", mount::NOATIME, mount::ATIME),
    ("strictatime", mount::STRICTATIME, mount::ATIME),
    ("relatime", 0, mount::ATIME),
    ("nodiratime", mount::NODIRATIME, 0),
    ("diratime", 0, mount::NODIRATIME),
    ("nosymfollow", mount::NOSYMFOLLOW, 0),
    ("symfollow", 0, mount::NOSYMFOLLOW),
];

const PROPAGATIONS: [(&str, MsFlags); 4] = [
    ("private", MsFlags::MS_PRIVATE),
    ("slave", MsFlags::MS_SLAVE),
    ("shared", MsFlags::MS_SHARED),
    ("unbindable", MsFlags::MS_UNBINDABLE),
];

/// Checks a mount of the spec.
pub fn check(mount: &oci_spec::runtime::Mount) -> Result<Mount> {
    let target = mount.destination().clone();
    ensure!(target.is_absolute(), "mount target {target:?} is not an absolute path");
    ensure!(
        mount.uid_mappings().is_none() && mount.gid_mappings().is_none(),
        "mount {target:?}: idmapped mounts are not supported yet"
    );
    let mut attributes = Attributes::default();
    let mut recursive = Attributes::default();
    let mut propagation = None;
    let mut no_follow = false;
    let mut flags = MsFlags::empty();
    let mut data = Vec::new();
    let mut bind = (mount.typ().as_deref() == Some("bind")).then_some(false);
    for option in mount.options().iter().flatten() {
        let named = |name: &str| OPTIONS.iter().find(|(o, ..)| *o == name);
        let spread = |name: &str| PROPAGATIONS.iter().find(|(p, _)| *p == name).map(|(_, flag)| flag.bits());
        let rest = option.strip_prefix('r');
        match option.as_str() {
            "bind" => bind = Some(bind.unwrap_or(false)),
            "rbind" => bind = Some(true),
            "dest-nofollow" => no_follow = true,
            "defaults" | "async" => {}
            "sync" => flags |= MsFlags::MS_SYNCHRONOUS,
            "dirsync" => flags |= MsFlags::MS_DIRSYNC,
            _ => {
                if let Some((_, set, clear)) = named(option) {
                    attributes.add(*set, *clear);
                } else if let Some((_, set, clear)) = rest.and_then(named) {
                    recursive.add(*set, *clear);
                } else if let Some(flag) = spread(option) {
                    propagation = Some((flag, false));
                } else if let Some(flag) = rest.and_then(spread) {
                    propagation = Some((flag, true));
                } else {
                    data.push(option.as_str());
                }
            }
        }
    }
    let source = mount.source().clone().unwrap_or_default();
    let kind = match (bind, mount.typ().as_deref()) {
        (Some(all), _) => {
            ensure!(data.is_empty(), "mount {target:?}: unknown option \"{}\"", data.join(","));
            ensure!(source.is_absolute(), "mount {target:?}: source {source:?} is not an absolute path");
            Kind::Bind { source, recursive: all }
        }
        (None, Some("cgroup" | "cgroup2")) => Kind::Cgroup { only: None },
        (None, Some(kind)) if !kind.is_empty() => Kind::Filesystem {
            kind: kind.into(),
            source: if source.as_os_str().is_empty() { kind.into() } else { source.to_string_lossy().into_owned() },
            flags,
            data: data.join(","),
        },
        _ => bail!("mount {target:?} has no type"),
    };
    Ok(Mount {
        target,
        kind,
        attributes,
        recursive,
        no_follow,
        propagation: propagation.unwrap_or((MsFlags::MS_PRIVATE.bits(), true)),
    })
}

impl Attributes {
    fn add(&mut self, set: u64, clear: u64) {
        self.set = self.set & !clear | set;
        self.clear = self.clear & !set | clear;
    }
}

/// Mounts the plan's mount number `index`.
pub fn mount(root: BorrowedFd, link: &Link, index: usize, mount: &Mount, namespaces: &Namespaces) -> Result<(), Fault> {
    match &mount.kind {
        Kind::Bind { source, recursive } => {
            let tree = open_source(link, index, source, *recursive)?;
            attach_bind(root, mount, &tree)
        }
        Kind::Filesystem { kind, source, flags, data } => {
            let what = format!("{kind} on {:?}", mount.target);
            let target = rooted::directory(root, &mount.target).at_path(Step::MountPoint, &mount.target)?;
            let flags = *flags | filesystem_flags(held_back(mount));
            let data = Some(data.as_str()).filter(|d| !d.is_empty());
            match nix::mount::mount(Some(source.as_str()), through(&target).as_str(), Some(kind.as_str()), flags, data)
            {
                Err(Errno::EPERM) => borrow_from_host(root, mount, kind, namespaces)
                    .unwrap_or_else(|| Err(Errno::EPERM).at(Step::MountFilesystem, what)),
                done => done.at(Step::MountFilesystem, what),
            }
        }
        Kind::Cgroup { only } => super::cgroups::mount(root, mount, only.as_deref()),
    }
}

/// Makes a mount read-only whose contents had to be made first.
pub fn finish(root: BorrowedFd, mount: &Mount) -> Result<(), Fault> {
    let late = mount.attributes.set & !held_back(mount).set;
    if late == 0 {
        return Ok(());
    }
    let there = rooted::open(root, &mount.target, OFlag::O_PATH).at_path(Step::MountPoint, &mount.target)?;
    let attributes = Attributes { set: late, ..Attributes::default() };
    mount::set_attributes(there.as_fd(), false, attributes).at_path(Step::MountAttributes, &mount.target)
}

/// The attributes without `ro` for a new `/dev`, where the devices are still to come.
fn held_back(mount: &Mount) -> Attributes {
    let mut attributes = mount.attributes;
    if mount.target == Path::new("/dev") {
        attributes.set &= !mount::RDONLY;
    }
    attributes
}

/// The source's tree, detached. Where root of the container cannot reach it, or it is another
/// container's, the parent opens it.
fn open_source(link: &Link, index: usize, source: &Path, recursive: bool) -> Result<OwnedFd, Fault> {
    let own = match elsewhere::of(source) {
        Some(_) => Err(Errno::EACCES.into()),
        None => mount::copy_tree(source, recursive),
    };
    match own {
        Err(e) if e.raw_os_error() == Some(libc::EACCES) => {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            link.send(&Message::WantSource(index)).at_path(Step::BindSource, source)?;
            match link.answer()? {
                Message::Source(tree) => Ok(tree),
                Message::NoSource(errno) => Err(errno).at_path(Step::BindSource, source),
                _ => Err(Errno::EPROTO).at_path(Step::ParentDied, source),
            }
        }
        opened => opened.at_path(Step::BindSource, source),
    }
}

/// Gives a detached tree the options of `mount` and attaches it at the target, which is made
/// where it is missing, a folder or a file as the source is.
fn attach_bind(root: BorrowedFd, mount: &Mount, tree: &OwnedFd) -> Result<(), Fault> {
    let (propagation, all) = mount.propagation;
    let own = Attributes { propagation: if all { 0 } else { propagation }, ..mount.attributes };
    let below = Attributes { propagation: if all { propagation } else { 0 }, ..mount.recursive };
    let failed = Step::MountAttributes;
    set_unlocked(tree.as_fd(), true, below).at_path(failed, &mount.target)?;
    set_unlocked(tree.as_fd(), false, own).at_path(failed, &mount.target)?;
    let folder =
        nix::sys::stat::fstat(tree).at_path(Step::BindSource, &mount.target)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let link = || {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        rooted::open(root, &mount.target, flags).or_else(|_| rooted::file(root, &mount.target))
    };
    let target = match (folder, mount.no_follow) {
        (true, _) => rooted::directory(root, &mount.target),
        (false, true) => link(),
        (false, false) => rooted::file(root, &mount.target),
    };
    let target = target.at_path(Step::MountPoint, &mount.target)?;
    mount::attach(tree.as_fd(), target.as_fd()).at_path(Step::MountPoint, &mount.target)
}

/// Sets what can be set. A flag that is locked, since the mount comes from a more privileged user
/// namespace, stays as it is: asking to clear it is not worth failing (mount_namespaces(7)).
fn set_unlocked(tree: BorrowedFd, recursive: bool, attributes: Attributes) -> std::io::Result<()> {
    if attributes == Attributes::default() {
        return Ok(());
    }
    match mount::set_attributes(tree, recursive, attributes) {
        Err(e) if e.raw_os_error() == Some(libc::EPERM) && attributes.clear != 0 => {
            let attributes = Attributes { set: attributes.set & !mount::ATIME, clear: 0, ..attributes };
            mount::set_attributes(tree, recursive, attributes)
        }
        done => done,
    }
}

/// What a user namespace may not mount, since the namespace behind it is the host's, is the host's
/// own then: sysfs without a network namespace, and so on. `None`: nothing to borrow. So it is where
/// the container has that namespace: the host's would show other interfaces, queues, processes than
/// its own, and the refusal stands, which comes from something that lies over the host's. A network
/// namespace that it joins (`--network ns:PATH`) can be one whose sysfs only others may mount.
fn borrow_from_host(root: BorrowedFd, mount: &Mount, kind: &str, namespaces: &Namespaces) -> Option<Result<(), Fault>> {
    let (host, is_own) = match kind {
        "sysfs" => ("/sys", namespaces.new.contains(CloneFlags::CLONE_NEWNET)),
        "mqueue" => ("/dev/mqueue", namespaces.own().contains(CloneFlags::CLONE_NEWIPC)),
        "proc" => ("/proc", namespaces.own().contains(CloneFlags::CLONE_NEWPID)),
        _ => return None,
    };
    if is_own { None } else { bind_host_tree(root, mount, host) }
}

/// Binds a tree of the host's with the options of `mount`; `None`: there is none.
pub fn bind_host_tree(root: BorrowedFd, mount: &Mount, host: &str) -> Option<Result<(), Fault>> {
    let tree = mount::copy_tree(Path::new(host), true).ok()?;
    // Read-only means all of it: the cgroups and what else is mounted below.
    let recursive = Attributes { clear: 0, ..mount.attributes };
    let mount = Mount { recursive, attributes: Attributes::default(), ..mount.clone() };
    Some(attach_bind(root, &mount, &tree))
}

/// The attributes as mount(2) has them.
pub fn filesystem_flags(attributes: Attributes) -> MsFlags {
    const SAME: [(u64, MsFlags); 8] = [
        (mount::RDONLY, MsFlags::MS_RDONLY),
        (mount::NOSUID, MsFlags::MS_NOSUID),
        (mount::NODEV, MsFlags::MS_NODEV),
        (mount::NOEXEC, MsFlags::MS_NOEXEC),
        (mount::NOATIME, MsFlags::MS_NOATIME),
        (mount::STRICTATIME, MsFlags::MS_STRICTATIME),
        (mount::NODIRATIME, MsFlags::MS_NODIRATIME),
        (mount::NOSYMFOLLOW, MsFlags::from_bits_retain(256)),
    ];
    SAME.iter().filter(|(bit, _)| attributes.set & bit != 0).map(|(_, flag)| *flag).collect()
}

/// A path for mount(2) that leads to exactly what `fd` names.
pub fn through(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::MountBuilder;

    fn checked(kind: &str, options: &[&str]) -> Result<Mount> {
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        check(&MountBuilder::default().destination("/x").typ(kind).source("/s").options(options).build()?)
    }

    #[test]
    fn options_become_bits() {
        let mount = checked("bind", &["rbind", "ro", "rnoexec", "noatime", "rslave"]).expect("good");
        assert_eq!(mount.kind, Kind::Bind { source: "/s".into(), recursive: true });
        assert_eq!(mount.attributes.set, mount::RDONLY | mount::NOATIME);
        assert_eq!(mount.attributes.clear, mount::ATIME);
        assert_eq!(mount.recursive.set, mount::NOEXEC);
        assert_eq!(mount.propagation, (MsFlags::MS_SLAVE.bits(), true));
        checked("bind", &["size=1"]).expect_err("not an option of a bind");
        let Kind::Filesystem { data, .. } = checked("tmpfs", &["size=1", "nosuid", "mode=755"]).expect("good").kind
        else {
            panic!("a file system")
        };
        assert_eq!(data, "size=1,mode=755");
    }
}
