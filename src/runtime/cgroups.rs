//! The container's view of its cgroups, at /sys/fs/cgroup.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::symlinkat;

use super::mounts::{Mount, filesystem_flags, through};
use super::report::{At, Fault, Step};
use super::rooted;
use crate::sys::mount::{self as api, Attributes};

/// Mounts the hierarchies: the one of version 2, or, where version 1 is in use, a folder with each
/// of them, or `only` these. What the container sees of them is what its cgroup namespace shows.
pub fn mount(root: BorrowedFd, mount: &Mount, only: Option<&[String]>) -> Result<(), Fault> {
    let target = rooted::directory(root, &mount.target).at_path(Step::MountPoint, &mount.target)?;
    let attributes = Attributes { set: mount.attributes.set | mount.recursive.set, ..Attributes::default() };
    let flags = filesystem_flags(attributes);
    let list = std::fs::read_to_string("/proc/self/cgroup").at(Step::MountCgroup, "/proc/self/cgroup")?;
    let hierarchies = first_version(&list);
    let fs =
        |kind: &str, at: &str, flags, data: Option<&str>| nix::mount::mount(Some(kind), at, Some(kind), flags, data);
    if hierarchies.is_empty() {
        return match fs("cgroup2", &through(&target), flags, None) {
            // Without a cgroup namespace of its own, a user namespace has no right to it; the host's is there to be seen.
            Err(Errno::EPERM) => bind_host(root, mount),
            done => done.at(Step::MountCgroup, "cgroup2"),
        };
    }
    let folder_flags = filesystem_flags(Attributes { set: attributes.set & !api::RDONLY, ..attributes });
    fs("tmpfs", &through(&target), folder_flags, Some("mode=755")).at(Step::MountCgroup, "tmpfs")?;
    // What is mounted there now is what the path leads to.
    let folder = rooted::open(root, &mount.target, OFlag::O_PATH | OFlag::O_DIRECTORY)
        .at_path(Step::MountPoint, &mount.target)?;
    for controllers in hierarchies {
        if only.is_some_and(|only| !only.iter().any(|one| one == controllers)) {
            continue;
        }
        let name = controllers.strip_prefix("name=").unwrap_or(controllers);
        let at = rooted::make_directory(folder.as_fd(), name.as_ref()).at(Step::MountPoint, name)?;
        fs("cgroup", &through(&at), flags, Some(controllers)).at(Step::MountCgroup, controllers)?;
        for one in name.split(',').filter(|one| *one != name) {
            match symlinkat(name, &folder, one) {
                Err(Errno::EEXIST) => {}
                done => done.at(Step::MountCgroup, one)?,
            }
        }
    }
    if attributes.set & api::RDONLY != 0 {
        let read_only = Attributes { set: api::RDONLY, ..Attributes::default() };
        api::set_attributes(folder.as_fd(), false, read_only).at_path(Step::MountAttributes, &mount.target)?;
    }
    Ok(())
}

fn bind_host(root: BorrowedFd, mount: &Mount) -> Result<(), Fault> {
    super::mounts::bind_host_tree(root, mount, "/sys/fs/cgroup")
        .unwrap_or(Err(Errno::EPERM).at(Step::MountCgroup, "cgroup2"))
}

/// The controllers of each hierarchy of version 1, as /proc/PID/cgroup has them: cgroups(7).
fn first_version(list: &str) -> Vec<&str> {
    list.lines().filter_map(|line| line.split(':').nth(1)).filter(|controllers| !controllers.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn hierarchies_are_told_apart() {
        let hybrid = "4:cpu,cpuacct:/a\n1:name=systemd:/\n0::/a:b\n";
        assert_eq!(super::first_version(hybrid), ["cpu,cpuacct", "name=systemd"]);
        assert!(super::first_version("0::/\n").is_empty());
    }
}
