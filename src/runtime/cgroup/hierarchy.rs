//! Which cgroup hierarchies this machine has, where they are mounted, and where in them we are.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// A mounted hierarchy as this process sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) mount: PathBuf,
    /// The directory of the cgroup that we are in.
    pub(super) own: PathBuf,
    /// What v1 calls it, in the order of /proc/self/cgroup: `cpu`, `cpu,cpuacct`, `name=systemd`.
    pub(super) controllers: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Machine {
    Unified(Hierarchy),
    /// By controller; several may lead to one hierarchy, and one that has none is there by its name:
    /// `name=systemd`.
    V1(BTreeMap<String, Hierarchy>),
    None,
}

impl Machine {
    pub(super) fn find() -> io::Result<Self> {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo")?;
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        Ok(Self::parse(&mountinfo, &own))
    }

    /// From the texts of `/proc/self/mountinfo` (proc_pid_mountinfo(5)) and `/proc/self/cgroup`
    /// (cgroups(7)).
    pub(super) fn parse(mountinfo: &str, own: &str) -> Self {
        let mut v1 = BTreeMap::new();
        let mut unified = None;
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let mut left = left.split(' ').skip(3);
            let (Some(root), Some(mount)) = (left.next(), left.next()) else { continue };
            let mut right = right.split(' ');
            let (kind, options) = (right.next().unwrap_or(""), right.nth(1).unwrap_or(""));
            let (root, mount) = (unescape(root), PathBuf::from(unescape(mount)));
            match kind {
                "cgroup2" => {
                    let Some(path) = line_of(own, "") else { continue };
                    let hierarchy = Hierarchy { own: below(&mount, &root, path), mount, controllers: Vec::new() };
                    // The first mount is the distribution's; later ones are somebody's copies.
                    unified.get_or_insert(hierarchy);
                }
                "cgroup" => {
                    let names = own.lines().filter_map(|l| l.split(':').nth(1)).filter(|n| !n.is_empty());
                    let Some(names) = names
                        .into_iter()
                        .find(|names| names.split(',').all(|name| options.split(',').any(|option| option == name)))
                    else {
                        continue;
                    };
                    let Some(path) = line_of(own, names) else { continue };
                    let controllers: Vec<String> = names.split(',').map(Into::into).collect();
                    for name in &controllers {
                        v1.entry(name.clone()).or_insert_with(|| Hierarchy {
                            own: below(&mount, &root, path),
                            mount: mount.clone(),
                            controllers: controllers.clone(),
                        });
                    }
                }
                _ => {}
            }
        }
        match unified {
            _ if v1.keys().any(|name| is_controller(name)) => Self::V1(v1),
            Some(hierarchy) => Self::Unified(hierarchy),
            None => Self::None,
        }
    }
}

/// Whether this is a controller's name, and not that of a hierarchy without one.
pub(super) fn is_controller(name: &str) -> bool {
    !name.starts_with("name=")
}

/// Our path in the hierarchy with these controllers.
fn line_of<'a>(own: &'a str, names: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        (parts.next()? == names).then(|| parts.next()).flatten()
    })
}

/// The directory of cgroup `path` below a mount that shows the tree from `root` on. A path that
/// the mount does not show (another cgroup namespace's) gives the mount itself.
fn below(mount: &Path, root: &str, path: &str) -> PathBuf {
    let inside = if root == "/" { Some(path) } else { path.strip_prefix(root) };
    let inside = inside.filter(|rest| root == "/" || rest.is_empty() || rest.starts_with('/'));
    let inside = inside.unwrap_or("").trim_start_matches('/');
    if inside.split('/').any(|part| part == "..") { mount.to_owned() } else { mount.join(inside) }
}

/// `\040` to a blank: proc_pid_mountinfo(5).
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        if let Some(byte) = rest.get(at + 1..at + 4).and_then(|octal| u8::from_str_radix(octal, 8).ok()) {
            out.push(char::from(byte));
            rest = &rest[at + 4..];
        } else {
            out.push('\\');
            rest = &rest[at + 1..];
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unified_machine() {
        let mountinfo = "32 27 0:27 / /sys/fs/cgroup rw,nosuid shared:8 - cgroup2 cgroup2 rw,nsdelegate\n\
                         33 27 0:28 / /tmp/with\\040blank rw - cgroup2 cgroup2 rw\n";
        let own = "0::/user.slice/user-1000.slice/session-1.scope\n";
        let Machine::Unified(h) = Machine::parse(mountinfo, own) else { panic!() };
        assert_eq!(h.mount, Path::new("/sys/fs/cgroup"));
        assert_eq!(h.own, Path::new("/sys/fs/cgroup/user.slice/user-1000.slice/session-1.scope"));
        assert_eq!(unescape("/tmp/with\\040blank\\x"), "/tmp/with blank\\x");
    }

    #[test]
    fn a_machine_with_both() {
        let mountinfo = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                         32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                         35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                         40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                         41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = "4:memory:/docker/abc/x\n2:cpu,cpuacct:/\n9:name=systemd:/\n0::/\n";
        let Machine::V1(map) = Machine::parse(mountinfo, own) else { panic!() };
        assert_eq!(map.keys().collect::<Vec<_>>(), ["cpu", "cpuacct", "memory", "name=systemd"]);
        assert_eq!(map["memory"].own, Path::new("/sys/fs/cgroup/memory/x"));
        assert_eq!(map["cpu"], map["cpuacct"]);
    }

    #[test]
    fn a_machine_without() {
        assert_eq!(Machine::parse("31 23 0:28 / / rw - ext4 a rw\n", ""), Machine::None);
        // A hierarchy that has no controller limits nothing.
        let named = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
        assert_eq!(Machine::parse(named, "9:name=systemd:/\n"), Machine::None);
    }

    #[test]
    fn a_path_outside_the_mount_is_the_mount() {
        assert_eq!(below(Path::new("/m"), "/", "/../../x"), Path::new("/m"));
        assert_eq!(below(Path::new("/m"), "/a", "/ab"), Path::new("/m"));
        assert_eq!(below(Path::new("/m"), "/a", "/a"), Path::new("/m/"));
    }
}
