//! What is mounted in the container: what each one has, the files of its own, and what the user
//! asked for.

use std::path::{Path, PathBuf};

use anyhow::Result;
use oci_spec::runtime::{Mount, MountBuilder};

use crate::container::bind::Bind;
use crate::container::config::{self, ContainerConfig, HostConfig};
use crate::container::spec::devices;
use crate::container::spec::files::{self, Names};
use crate::container::{ids, start};
use crate::error::{Failure, exit};
use crate::store::Store;
use crate::userns;

/// Bytes of `/dev/shm` unless asked otherwise, Docker's.
const SHM_SIZE: u64 = 64 << 20;

/// All mounts of the container, in the order in which they are made.
///
/// # Errors
/// A bind mount whose source does not exist.
pub fn all(store: &Store, container: &ContainerConfig, names: &Names) -> Result<Vec<Mount>> {
    let host = &container.host_config;
    let mut asked = asked_for(container)?;
    if !super::may_make_devices(host) {
        // In a user namespace nobody may make a device; the host's own node can be shown.
        for (source, place) in devices::nodes(host)? {
            asked.push(mount(place, "bind", &source, &["bind", "rprivate", "nosuid", "noexec"])?);
        }
    }
    let taken = |place: &Path| asked.iter().any(|m| m.destination() == place);
    let mut mounts = every_container(store, host)?;
    for (source, place) in files::write(store, container, names)? {
        // Private, and as writable as the root, as Docker's: programs edit these files in place.
        let mut options = vec!["rbind", "rprivate", "nosuid", "nodev", "noexec"];
        options.extend(host.readonly_rootfs.then_some("ro"));
        mounts.push(mount(place, "bind", &source, &options)?);
    }
    if !host.extras.timezone.is_empty() {
        let rules = files::timezone(store, container)?;
        // An image's is a link, mostly: it is covered, and not what it leads to.
        mounts.push(mount(
            "/etc/localtime",
            "bind",
            &rules,
            &["bind", "rprivate", "ro", "nosuid", "nodev", "noexec", NO_FOLLOW],
        )?);
    }
    mounts.retain(|m| !taken(m.destination()));
    mounts.extend(asked);
    Ok(mounts)
}

/// How the root's own mounts pass on what is mounted later; `None`: not at all.
#[must_use]
pub fn root_propagation(host: &HostConfig) -> Option<&'static str> {
    let is_slave = |option: &str| matches!(option, "rslave" | "slave");
    let of_binds = host.binds.iter().filter_map(|text| Bind::parse(text).ok());
    let of_mounts = host.mounts.iter().filter_map(|m| Some(m.bind_options.as_ref()?.propagation.as_str()));
    let has_slave = of_binds.into_iter().any(|b| is_slave(b.propagation())) || of_mounts.into_iter().any(is_slave);
    has_slave.then_some("rslave")
}

fn mount(place: impl Into<PathBuf>, kind: &str, source: impl AsRef<Path>, options: &[&str]) -> Result<Mount> {
    let options: Vec<String> = options.iter().map(|&o| o.to_owned()).collect();
    let builder = MountBuilder::default().destination(place).typ(kind).source(source.as_ref());
    Ok(builder.options(options).build()?)
}

/// The mount covers a link that lies at its place, as crun calls it.
const NO_FOLLOW: &str = "dest-nofollow";

/// What each container has (moby, `oci/defaults.go`).
fn every_container(store: &Store, host: &HostConfig) -> Result<Vec<Mount>> {
    let shm = format!("size={}", if host.shm_size == 0 { SHM_SIZE } else { host.shm_size });
    let sys = if host.privileged { "rw" } else { "ro" };
    // Group 5 is the terminals' group in every distribution, where it is mapped at all.
    let has_group = host.ids.as_ref().map_or_else(userns::has_ranges, |ids| ids::outside(&ids.gid_map, 5).is_some());
    let pts: &[&str] = if has_group {
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
    } else {
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    };
    let mut proc = vec!["nosuid", "noexec", "nodev"];
    proc.extend(host.extras.proc_options.split(',').filter(|option| !option.is_empty()));
    let cgroups = if host.extras.writable_cgroups { "rw" } else { sys };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &proc)?,
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"])?,
        mount("/dev/pts", "devpts", "devpts", pts)?,
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", sys])?,
    ];
    // In version 1 an ordinary user has no cgroup, and nothing to be shown.
    if userns::is_host_root() || Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        mounts.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", cgroups])?);
    }
    if let Some(other) = host.ipc_mode.strip_prefix("container:") {
        mounts.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?);
        if start::config(store, &other.parse()?)?.host_config.ipc_mode != "none" {
            // Found in its mount namespace by whoever mounts it.
            let memory = format!("/proc/{}/root/dev/shm", super::first_process(store, other, "IPC")?);
            mounts.push(mount("/dev/shm", "bind", &memory, &["bind", "rprivate", "nosuid", "noexec", "nodev"])?);
        }
    } else if host.ipc_mode == "host" {
        // The host's own queues and memory are what the host's ipc namespace means.
        mounts.push(mount("/dev/mqueue", "bind", "/dev/mqueue", &["rbind", "nosuid", "noexec", "nodev"])?);
        mounts.push(mount("/dev/shm", "bind", "/dev/shm", &["rbind", "nosuid", "noexec", "nodev"])?);
        mounts.retain(|m| m.source().as_ref().is_none_or(|s| !s.starts_with("/dev") || s.exists()));
    } else {
        mounts.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?);
        if host.ipc_mode != "none" {
            mounts.push(mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &shm])?);
        }
    }
    Ok(mounts)
}

/// `-v`, `--mount` and `--tmpfs`, parents before what lies in them.
fn asked_for(container: &ContainerConfig) -> Result<Vec<Mount>> {
    let host = &container.host_config;
    let mut mounts = Vec::new();
    for text in &host.binds {
        let bind = Bind::parse(text)?;
        let options = bind_options(&bind)?;
        mounts.push(mount(&bind.target, "bind", existing(Path::new(&bind.source))?, &options)?);
    }
    for asked in &host.mounts {
        mounts.push(match asked.r#type.as_str() {
            "tmpfs" => tmpfs_mount(asked)?,
            _ => bind_mount(asked)?,
        });
    }
    for (place, options) in &host.tmpfs {
        // Docker's defaults for --tmpfs; what is given comes later and wins.
        let mut all = vec!["nosuid", "nodev", "noexec"];
        all.extend(options.split(',').filter(|o| !o.is_empty()));
        mounts.push(mount(place, "tmpfs", "tmpfs", &all)?);
    }
    mounts.sort_by_key(|m| m.destination().components().count());
    Ok(mounts)
}

/// A `-v`'s options in the OCI spec's words.
fn bind_options(bind: &Bind) -> Result<Vec<&str>> {
    let mut words = vec![if bind.has("bind") { "bind" } else { "rbind" }];
    for option in &bind.options {
        match option.as_str() {
            "ro" => words.push(read_only()),
            "rshared" | "shared" => return Err(not_shared(option)),
            // SELinux labels: nothing to do where the host has none, as with Docker.
            "z" | "Z" if Path::new("/sys/fs/selinux/enforce").exists() => {
                return Err(Failure::new(format!("invalid mode: {option}: SELinux labels are not supported yet"))
                    .hint("without the option the files keep their labels")
                    .exit(exit::ENGINE)
                    .into());
            }
            "noexec" | "exec" | "nosuid" | "suid" | "nodev" | "dev" => words.push(option),
            // `nocopy`: a new volume is filled from the image, a directory of the host never is.
            _ => {}
        }
    }
    words.push(bind.propagation());
    Ok(words)
}

fn bind_mount(asked: &config::Mount) -> Result<Mount> {
    let options = asked.bind_options.clone().unwrap_or_default();
    let source = Path::new(&asked.source);
    if options.create_mountpoint && !source.exists() {
        std::fs::create_dir_all(source).map_err(|e| Failure::new(format!("cannot make {source:?}")).source(e))?;
    }
    if options.propagation.ends_with("shared") {
        return Err(not_shared(&options.propagation));
    }
    let propagation = if options.propagation.is_empty() { "rprivate" } else { &options.propagation };
    let mut words = vec![if options.non_recursive { "bind" } else { "rbind" }, propagation];
    if asked.read_only {
        words.push(match (options.read_only_non_recursive, options.read_only_force_recursive) {
            (true, _) => "ro",
            (_, true) => "rro",
            _ => read_only(),
        });
    }
    mount(&asked.target, "bind", existing(source)?, &words)
}

fn tmpfs_mount(asked: &config::Mount) -> Result<Mount> {
    let options = asked.tmpfs_options.clone().unwrap_or_default();
    let mut words = vec!["nosuid".to_owned(), "nodev".to_owned(), "noexec".to_owned()];
    if options.size_bytes > 0 {
        words.push(format!("size={}", options.size_bytes));
    }
    if options.mode > 0 {
        words.push(format!("mode={:o}", options.mode));
    }
    if asked.read_only {
        words.push("ro".to_owned());
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    mount(&asked.target, "tmpfs", "tmpfs", &words)
}

/// Read-only with all that is mounted below, as Docker since 25, where the kernel can:
/// mount_setattr(2) is there since 5.12.
fn read_only() -> &'static str {
    let release = nix::sys::utsname::uname().ok().and_then(|u| u.release().to_str().map(str::to_owned));
    let mut numbers = release.iter().flat_map(|r| r.split(['.', '-'])).map_while(|n| n.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (5, 12) { "rro" } else { "ro" }
}

/// A monitor has its mounts from the host as slaves, so that none is ever seen there; what is made
/// in a container cannot reach the host either.
fn not_shared(option: &str) -> anyhow::Error {
    Failure::new(format!("the mount propagation {option:?} is not supported yet"))
        .hint("rslave shows the container what the host mounts later")
        .exit(exit::ENGINE)
        .into()
}

/// A bind mount's source, which must be there: a directory made by mistake hides the mistake.
fn existing(source: &Path) -> Result<&Path> {
    match std::fs::symlink_metadata(source) {
        Ok(_) => Ok(source),
        // What this user may not look at, the mount itself will report.
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Ok(source),
        Err(_) => Err(Failure::new(format!("bind source path does not exist: {}", source.display()))
            .hint(format!("mkdir -p {source:?}"))
            .exit(exit::ENGINE)
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_in_the_runtime_s_words() {
        let words = |text: &str| bind_options(&Bind::parse(text).unwrap()).map(|words| words.join(","));
        assert_eq!(words("/a:/b").unwrap(), "rbind,rprivate");
        assert_eq!(words("/a:/b:rw,rslave,nocopy,noexec").unwrap(), "rbind,noexec,rslave");
        assert_eq!(words("/a:/b:ro,bind").unwrap(), format!("bind,{},rprivate", read_only()));
        assert!(words("/a:/b:shared").is_err());
    }

    #[test]
    fn one_slave_mount_makes_the_root_take_mounts() {
        let host =
            |binds: &[&str]| HostConfig { binds: binds.iter().map(|&b| b.into()).collect(), ..HostConfig::default() };
        assert_eq!(root_propagation(&host(&["/a:/b"])), None);
        assert_eq!(root_propagation(&host(&["/a:/c:ro,rslave", "/a:/b"])), Some("rslave"));
    }
}
