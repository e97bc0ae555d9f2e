//! A container's changes become an image: `commit`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2, read, setsid};
use serde_json::{Map, Value, json};

use crate::container::config::{Config, ContainerConfig, Empty, RootFs};
use crate::container::files::diff::hidden;
use crate::container::files::tree::Entered;
use crate::container::state::{PROCESS, Process};
use crate::error::{self, Failure};
use crate::image::digest::Digest;
use crate::image::make::{self, Format, Wanted};
use crate::image::pack::layer;
use crate::image::reference::Reference;
use crate::image::{blobs, change};
use crate::runtime::cgroup::Cgroup;
use crate::store::{Store, record};
use crate::sys::process::{Fork, exit_now, fork};
use crate::sys::signals;

/// What the image shall be.
#[derive(Debug)]
pub struct Commit {
    pub name: Option<Reference>,
    pub author: String,
    pub message: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// No process of the container runs meanwhile, where it can be stopped from running.
    pub pause: bool,
    pub format: Format,
}

/// Makes the image; returns its id. Interrupted, it puts away what it made ([`signals::caught`]).
///
/// # Errors
/// The container has no image, or its image was removed; a change that makes no sense; a full disk.
pub fn commit(store: &Store, config: &ContainerConfig, wanted: &Commit) -> Result<Digest> {
    let RootFs::Image { id: image, .. } = &config.root else {
        let failure = Failure::new(format!("container {} has no image to add a layer to", config.id));
        return Err(failure.hint("its root is a directory of the host's: tar -C DIR -c . | ctr import -").into());
    };
    if wanted.name.as_ref().is_some_and(|name| name.digest().is_some()) {
        return Err(Failure::new("refusing to create a tag with a digest reference").into());
    }
    let entered = Entered::enter(store)?;
    let base = make::base(store, image)?;
    // What is wrong with the words is said before anything is made.
    let mut image_config = base.config.get("config").and_then(Value::as_object).cloned().unwrap_or_default();
    settle(&mut image_config, &config.config);
    change::apply(&mut image_config, &wanted.changes)?;

    signals::catch();
    blobs::prepare(store)?;
    let (upper, below) = entered.layers(store, config)?;
    let owners = entered.recorded_owners(config);
    let frozen = if wanted.pause { Frozen::hold(store, config)? } else { None };
    let hidden = hidden(&upper, below.as_ref())?;
    let has_root = below.map_or(Ok(false), |below| has_another_root(&upper, &below))?;
    let (mut unspeakable, mut shortened) = (Vec::new(), 0);
    let layer = make::layer(store, |out| {
        let packed = layer::pack(upper, &hidden, has_root, |entry| owners.inward(entry), out)?;
        (unspeakable, shortened) = (packed.unspeakable, out.shortened());
        Ok(!packed.is_empty)
    })?;
    drop(frozen);
    for path in unspeakable {
        error::warn(&format!(
            "{:?} is not in the image: in a layer, a name of this kind says that a file is gone",
            OsStr::from_bytes(&[b"/".as_slice(), &path].concat())
        ));
    }
    if shortened > 0 {
        error::warn("files became shorter while they were read: zeros stand for what was cut off");
    }
    let wanted = Wanted {
        name: wanted.name.as_ref(),
        config: image_config,
        author: &wanted.author,
        comment: &wanted.message,
        created_by: config.config.cmd.as_ref().map(|words| words.join(" ")).unwrap_or_default(),
        format: wanted.format,
    };
    make::image(store, base, layer, &wanted)
}

/// Puts into an image's configuration what the container's says, which began with the image's. What
/// is for a later build of it (`ONBUILD`) was used up by the container.
fn settle(image: &mut Map<String, Value>, container: &Config) {
    let set = |value: &BTreeMap<String, Empty>| json!(value);
    let fields = [
        ("User", json!(container.user)),
        ("ExposedPorts", set(&container.exposed_ports)),
        ("Env", json!(container.env)),
        ("Entrypoint", json!(container.entrypoint)),
        ("Cmd", json!(container.cmd)),
        ("Volumes", set(&container.volumes)),
        ("WorkingDir", json!(container.working_dir)),
        ("Labels", json!(container.labels)),
        ("StopSignal", json!(container.stop_signal)),
    ];
    for (key, value) in fields {
        let is_empty = match &value {
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty() && key != "Entrypoint" && key != "Cmd",
            Value::Object(members) => members.is_empty(),
            _ => value.is_null(),
        };
        if is_empty {
            image.remove(key);
        } else {
            image.insert(key.to_owned(), value);
        }
    }
    image.remove("OnBuild");
}

/// Whether the root folder itself was given another mode or owner.
fn has_another_root(upper: &OwnedFd, below: &OwnedFd) -> Result<bool> {
    let key = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_mode, stat.st_uid, stat.st_gid));
    Ok(key(upper)? != key(below)?)
}

/// A container none of whose processes runs until this is dropped, or the process that holds it ends,
/// however it ends: a child of it waits for just that.
struct Frozen {
    held: Option<OwnedFd>,
    guard: Pid,
}

impl Frozen {
    /// `None`: it does not run, is paused already, or has no cgroup that could be frozen; then its
    /// files are taken as they come.
    fn hold(store: &Store, config: &ContainerConfig) -> Result<Option<Self>> {
        let process: Option<Process> = record::read(&store.container(&config.id).join(PROCESS))?;
        let Some(process) = process else { return Ok(None) };
        let cgroup = Cgroup::from_paths(&process.cgroups);
        if cgroup.is_frozen() {
            return Ok(None);
        }
        let (end, held) = pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
        // The guard first: whatever becomes of this process, the container goes on.
        let guard = match fork().context("fork")? {
            Fork::Parent(guard) => guard,
            Fork::Child => {
                drop(held);
                signals::block_all();
                let _ = setsid();
                while read(&end, &mut [0]).is_err() {}
                exit_now(i32::from(cgroup.thaw().is_err()));
            }
        };
        let frozen = Self { held: Some(held), guard };
        Ok(cgroup.freeze().context("pause the container")?.then_some(frozen))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.held.take());
        while waitpid(self.guard, None) == Err(nix::errno::Errno::EINTR) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_s_words_replace_the_image_s() {
        let mut image = Map::from_iter([
            ("Cmd".to_owned(), json!(["old"])),
            ("User".to_owned(), json!("old")),
            ("Shell".to_owned(), json!(["bash"])),
            ("OnBuild".to_owned(), json!(["RUN x"])),
            ("Healthcheck".to_owned(), json!({"Test": ["NONE"]})),
        ]);
        let container = Config { cmd: Some(vec!["new".into()]), env: vec!["A=1".into()], ..Config::default() };
        settle(&mut image, &container);
        let expected = json!({
            "Cmd": ["new"], "Shell": ["bash"], "Healthcheck": {"Test": ["NONE"]}, "Env": ["A=1"]
        });
        assert_eq!(Value::Object(image), expected);
    }
}
