//! Where on this machine a container's cgroup can be made, and by whom.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;

use super::Placement;
use super::hierarchy::{Hierarchy, Machine};
use super::scope::{self, Wanted};
use crate::error::Failure;
use crate::sys::xattr;
use crate::userns;

/// Who we are to the machine, whatever user namespace we are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    /// Root in the machine's own user namespace.
    pub(super) root: bool,
    /// The user id outside of a namespace of the user's own.
    pub(super) uid: u32,
}

impl Identity {
    pub(super) fn find() -> Self {
        Self { root: userns::is_host_root(), uid: userns::outer_uid() }
    }
}

/// The way that was chosen.
#[derive(Debug)]
pub(super) enum Way {
    /// A scope of systemd's that was asked for.
    Scope(scope::Asked),
    /// In this directory of v2, as `ctr-<id>` or `<id>`; processes that are in it give way.
    Directory { parent: PathBuf, name: String },
    /// In each hierarchy of v1, below its mount.
    V1(PathBuf),
    /// None can be made: why, and what helps.
    None { why: String, hint: &'static str },
}

pub(super) fn unit(id: &str) -> String {
    format!("ctr-{id}.scope")
}

pub(super) fn wanted(placement: &Placement) -> Wanted {
    let id = &placement.id;
    Wanted {
        unit: unit(id),
        description: format!("ctr container {}", id.get(..12).unwrap_or(id)),
        slice: placement.parent.clone(),
        pid: std::process::id(),
    }
}

pub(super) fn choose(placement: &Placement, machine: &Machine, identity: Identity) -> Result<Way> {
    let hierarchy = match machine {
        Machine::None => {
            return Ok(none("no cgroups are mounted", "mount cgroup2 on /sys/fs/cgroup"));
        }
        Machine::V1(_) if identity.root => return Ok(Way::V1(below(placement)?)),
        Machine::V1(_) => {
            return Ok(none(
                "cgroup v1 gives an ordinary user none",
                "use a machine with cgroup v2 (kernel parameter systemd.unified_cgroup_hierarchy=1), or run as root",
            ));
        }
        Machine::Unified(hierarchy) => hierarchy,
    };
    // Started again by a monitor that lives on: its scope is still there.
    if let Some(scope) = ancestor(&hierarchy.own, |name| name == unit(&placement.id)) {
        return Ok(Way::Directory { parent: scope, name: CONTAINER.into() });
    }
    if scope::booted() {
        if placement.parent.is_none()
            && let Some(service) = delegated_service(&hierarchy.own, identity.uid)
        {
            return Ok(Way::Directory { parent: service, name: format!("ctr-{}", placement.id) });
        }
        if let Some(parent) = &placement.parent
            && !is_slice(parent)
        {
            let what = "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"";
            return Err(Failure::new(what).into());
        }
        match scope::ask(identity.root, identity.uid, wanted(placement)) {
            Ok(asked) => return Ok(Way::Scope(asked)),
            // As root there is a way without.
            Err(_) if identity.root && placement.parent.is_none() => {}
            Err(e) => return Ok(without_manager(&e)),
        }
    }
    if identity.root {
        let below = hierarchy.mount.join(below(placement)?);
        let parent = below.parent().unwrap_or(&hierarchy.mount).to_owned();
        return Ok(Way::Directory { parent, name: placement.id.clone() });
    }
    if placement.parent.is_none() && is_ours(hierarchy) {
        return Ok(Way::Directory { parent: hierarchy.own.clone(), name: format!("ctr-{}", placement.id) });
    }
    Ok(none(
        "no cgroup is delegated to you",
        "use a machine with systemd, or have root give you a cgroup (chown it with its cgroup.procs, \
         cgroup.subtree_control and cgroup.threads) and run ctr in it",
    ))
}

/// The container's own cgroup in a scope, beside the monitor's.
pub(super) const CONTAINER: &str = "container";
pub(super) const MONITOR: &str = "monitor";

fn none(why: &str, hint: &'static str) -> Way {
    Way::None { why: why.into(), hint }
}

fn without_manager(e: &io::Error) -> Way {
    let hint = "log in by a session that has systemd's user manager (not by su or sudo alone), \
                or keep one for you: loginctl enable-linger";
    Way::None { why: format!("systemd's manager for you cannot be reached: {e}"), hint }
}

/// `ctr/<id>` or `<parent>/<id>`, below the root of the hierarchy.
fn below(placement: &Placement) -> Result<PathBuf> {
    let parent = Path::new(placement.parent.as_deref().unwrap_or("ctr"));
    let parent = parent.strip_prefix("/").unwrap_or(parent);
    if !parent.components().all(|c| matches!(c, Component::Normal(_))) {
        return Err(Failure::new(format!("invalid cgroup parent {parent:?}")).into());
    }
    Ok(parent.join(&placement.id))
}

fn is_slice(name: &str) -> bool {
    let stem = name.strip_suffix(".slice").unwrap_or("");
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:@\\".contains(c);
    !stem.is_empty() && stem.chars().all(plain) && (stem == "-" || !(stem.starts_with('-') || stem.ends_with('-')))
}

/// The nearest directory on the way up whose name is wanted.
fn ancestor(own: &Path, wanted: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let named = |path: &&Path| path.file_name().and_then(|n| n.to_str()).is_some_and(&wanted);
    own.ancestors().find(named).map(Path::to_owned)
}

/// The cgroup of the service that we run in, where systemd has delegated it (`Delegate=`). Not a
/// scope's: a terminal's scope may be delegated to the terminal, and ends with it.
fn delegated_service(own: &Path, uid: u32) -> Option<PathBuf> {
    let is_unit = |name: &str| [".service", ".scope"].iter().any(|kind| name.ends_with(kind));
    let unit = ancestor(own, is_unit).filter(|path| path.extension().is_some_and(|kind| kind == "service"))?;
    let manager = format!("user@{uid}.service");
    if unit.ancestors().skip(1).any(|above| above.ends_with(&manager)) {
        let name = unit.file_name()?.to_str()?;
        return scope::is_delegated(uid, name).then_some(unit);
    }
    // Since systemd 251; the attribute that only root can read is older (file-hierarchy: "user.delegate").
    let object = xattr::Object::path(&unit).ok()?;
    let set = [c"user.delegate", c"trusted.delegate"]
        .iter()
        .any(|name| matches!(object.get(name), Ok(Some(value)) if value == b"1"));
    set.then_some(unit)
}

/// A cgroup that somebody gave us without systemd.
pub(super) fn is_ours(hierarchy: &Hierarchy) -> bool {
    let me = nix::unistd::geteuid().as_raw();
    let owner = |path: &Path| std::fs::metadata(path).is_ok_and(|meta| meta.uid() == me);
    owner(&hierarchy.own) && owner(&hierarchy.own.join("cgroup.subtree_control"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents() {
        let of = |parent: Option<&str>| below(&Placement { id: "x".into(), parent: parent.map(Into::into) });
        assert_eq!(of(None).unwrap(), Path::new("ctr/x"));
        assert_eq!(of(Some("/a/b")).unwrap(), Path::new("a/b/x"));
        assert!(of(Some("../a")).is_err());
        for (name, good) in [
            ("a.slice", true),
            ("user-1.slice", true),
            ("a", false),
            (".slice", false),
            ("/a.slice", false),
            ("-a.slice", false),
        ] {
            assert_eq!(is_slice(name), good, "{name}");
        }
    }

    #[test]
    fn the_nearest_unit_counts() {
        let own = Path::new("/sys/fs/cgroup/user.slice/user@1000.service/app.slice/ctr-x.scope/monitor");
        assert_eq!(ancestor(own, |n| n == unit("x")).unwrap(), own.parent().unwrap());
        assert_eq!(delegated_service(own, 1000), None);
    }
}
