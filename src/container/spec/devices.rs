//! `--device`, and all devices for `--privileged`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::stat::{major, minor};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType};

use crate::container::config::HostConfig;
use crate::error::{Failure, exit};

/// The device nodes beyond the standard ones that the container is given.
pub fn of(host: &HostConfig) -> Result<Vec<LinuxDevice>> {
    nodes(host)?
        .into_iter()
        .map(|(source, target)| {
            node(&source, &target)?
                .ok_or_else(|| Failure::new(format!("{source:?} is not a device node any more")).into())
        })
        .collect()
}

/// The same as files of the host's, each with its place in the container.
pub fn nodes(host: &HostConfig) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut devices = BTreeMap::new();
    if host.privileged {
        walk(Path::new("/dev"), &mut |path| {
            if is_node(path) {
                devices.insert(path.to_path_buf(), path.to_path_buf());
            }
        });
    }
    for wanted in &host.resources.devices {
        let source = Path::new(&wanted.path_on_host);
        let target = Path::new(&wanted.path_in_container);
        let gathering = || format!("error gathering device information while adding custom device {source:?}");
        let meta = fs::metadata(source).map_err(|e| Failure::new(gathering()).source(e))?;
        let mut found = is_node(source);
        if found {
            devices.insert(target.to_path_buf(), source.to_path_buf());
        } else if meta.is_dir() {
            walk(source, &mut |path| {
                let below = path.strip_prefix(source).unwrap_or(path);
                if is_node(path) {
                    found = true;
                    devices.insert(target.join(below), path.to_path_buf());
                }
            });
        }
        if !found {
            return Err(Failure::new(format!("{}: not a device node", gathering())).exit(exit::ENGINE).into());
        }
    }
    Ok(devices.into_iter().map(|(target, source)| (source, target)).collect())
}

fn is_node(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device() || meta.file_type().is_char_device())
}

fn node(source: &Path, target: &Path) -> Result<Option<LinuxDevice>> {
    let meta = fs::metadata(source).with_context(|| format!("{source:?}"))?;
    let kind = match meta.file_type() {
        t if t.is_block_device() => LinuxDeviceType::B,
        t if t.is_char_device() => LinuxDeviceType::C,
        _ => return Ok(None),
    };
    let number = meta.rdev();
    let builder = LinuxDeviceBuilder::default()
        .path(target)
        .typ(kind)
        .major(i64::try_from(major(number))?)
        .minor(i64::try_from(minor(number))?)
        .file_mode(meta.mode() & 0o7777);
    Ok(Some(builder.uid(meta.uid()).gid(meta.gid()).build()?))
}

/// Calls `each` for all that is no directory below `dir`. What the container has of its own is
/// left out: its terminals, shared memory and queues.
fn walk(dir: &Path, each: &mut dyn FnMut(&Path)) {
    const OWN: &[&str] = &["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console", "ptmx"];
    let entries: io::Result<Vec<PathBuf>> =
        fs::read_dir(dir).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect());
    for path in entries.unwrap_or_default() {
        let own = path.file_name().and_then(|n| n.to_str()).is_some_and(|name| OWN.contains(&name));
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() && !own => walk(&path, each),
            Ok(meta) if !meta.is_dir() && !meta.is_symlink() && !own => each(&path),
            _ => {}
        }
    }
}
