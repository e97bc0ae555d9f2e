//! The two roots: what survives a reboot, and what does not.

use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::unistd::{Uid, geteuid};

use crate::error::Failure;
use crate::store::Id;

/// Both roots of one user's state, made and checked.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    run: PathBuf,
}

impl Store {
    /// Finds both roots and makes what is missing.
    ///
    /// `root` and `run` are `--root` and `--runroot`; without them root has `/var/lib/ctr` and
    /// `/run/ctr`, others have `$XDG_DATA_HOME/ctr` (`~/.local/share/ctr`) and
    /// `$XDG_RUNTIME_DIR/ctr` (`/tmp/ctr-UID` where a machine has no such directory).
    ///
    /// # Errors
    /// A root that cannot be made, or that belongs to somebody else.
    pub fn open(root: Option<&Path>, run: Option<&Path>) -> Result<Self> {
        let me = geteuid();
        let root = match root {
            Some(path) => absolute(path)?,
            None => default_root(me)?,
        };
        let run = match run {
            Some(path) => absolute(path)?,
            None => default_run(me),
        };
        let store = Self { root, run };
        // The last directory made is the mark that all are there: one system call on a hot path.
        if !store.is_made() {
            for dir in ["containers", "names", "image", "layers"] {
                make_dirs(&store.root.join(dir))?;
            }
        }
        own(&store.root, me)?;
        make_dirs(&store.run.join("containers"))?;
        own(&store.run, me)?;
        Ok(store)
    }

    /// Both roots as they stand, made and checked earlier by the process that passes them on.
    #[must_use]
    pub fn at(root: PathBuf, run: PathBuf) -> Self {
        Self { root, run }
    }

    fn is_made(&self) -> bool {
        self.layers().is_dir()
    }

    /// What survives a reboot.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What a reboot takes away.
    #[must_use]
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The records and the writable layers of all containers.
    #[must_use]
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// One container's own directory.
    #[must_use]
    pub fn container(&self, id: &Id) -> PathBuf {
        self.root.join("containers").join(id.as_str())
    }

    /// What of a container exists only while it runs.
    #[must_use]
    pub fn container_run(&self, id: &Id) -> PathBuf {
        self.run.join("containers").join(id.as_str())
    }

    /// Symbolic links from names to containers.
    #[must_use]
    pub fn names(&self) -> PathBuf {
        self.root.join("names")
    }

    /// The OCI image layout.
    #[must_use]
    pub fn image_layout(&self) -> PathBuf {
        self.root.join("image")
    }

    /// Unpacked layers by diff id.
    #[must_use]
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// Compiled seccomp filters.
    #[must_use]
    pub fn seccomp_cache(&self) -> PathBuf {
        self.run.join("seccomp")
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("storage root {path:?}"))
}

fn default_root(me: Uid) -> Result<PathBuf> {
    if crate::userns::is_host_root() {
        return Ok("/var/lib/ctr".into());
    }
    if let Some(data) = absolute_variable("XDG_DATA_HOME") {
        return Ok(data.join("ctr"));
    }
    let home = match absolute_variable("HOME") {
        Some(home) => home,
        None => nix::unistd::User::from_uid(me)
            .ok()
            .flatten()
            .map(|user| user.dir)
            .filter(|dir| dir.is_absolute())
            .ok_or_else(|| {
                Failure::new("no home directory to keep containers in").hint("set HOME or pass --root DIR")
            })?,
    };
    Ok(home.join(".local/share/ctr"))
}

fn default_run(me: Uid) -> PathBuf {
    if crate::userns::is_host_root() {
        return "/run/ctr".into();
    }
    if let Some(dir) = absolute_variable("XDG_RUNTIME_DIR").filter(|dir| dir.is_dir()) {
        return dir.join("ctr");
    }
    // `su` and cron give no XDG_RUNTIME_DIR although logind has made the directory.
    let logind = PathBuf::from(format!("/run/user/{me}"));
    if std::fs::metadata(&logind).is_ok_and(|m| m.uid() == me.as_raw()) {
        return logind.join("ctr");
    }
    format!("/tmp/ctr-{me}").into()
}

fn absolute_variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn make_dirs(path: &Path) -> Result<()> {
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(e) => {
            let failure = Failure::new(format!("cannot make the directory {path:?}")).source(e);
            Err(failure.hint("pass --root DIR and --runroot DIR for another place").into())
        }
    }
}

/// Refuses a root that another user could have prepared (`/tmp` is open to all).
fn own(path: &Path, me: Uid) -> Result<()> {
    let meta: io::Result<Metadata> = std::fs::symlink_metadata(path);
    let meta = meta.with_context(|| format!("storage root {path:?}"))?;
    // A root given by a symbolic link is the user's own wish; its target is what counts.
    let meta = if meta.is_symlink() && meta.uid() == me.as_raw() { std::fs::metadata(path)? } else { meta };
    if meta.is_dir() && meta.uid() == me.as_raw() {
        return Ok(());
    }
    Err(Failure::new(format!("{path:?} is not a directory of yours (it belongs to uid {})", meta.uid()))
        .hint("pass --root DIR and --runroot DIR for another place")
        .into())
}
