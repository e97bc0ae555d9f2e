//! The two roots: what survives a reboot, and what does not.

use std::fs::DirBuilder;
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
        let store = Self::located(root, run)?;
        let me = geteuid();
        own(&store.root, me)?;
        // The last directory made is the mark that all are there: one system call on a hot path.
        if !store.is_made() {
            for dir in ["containers", "names", "image", "layers", "networks", "networks/names", "networks/holders"] {
                make_dirs(&store.root.join(dir))?;
            }
        }
        own(&store.run, me)?;
        make_dirs(&store.run.join("containers"))?;
        Ok(store)
    }

    /// The roots as they are, for who only looks; `None`: nothing was ever stored.
    ///
    /// # Errors
    /// There is no home directory to have one in.
    pub fn existing(root: Option<&Path>, run: Option<&Path>) -> Result<Option<Self>> {
        Ok(Some(Self::located(root, run)?).filter(Self::is_made))
    }

    fn located(root: Option<&Path>, run: Option<&Path>) -> Result<Self> {
        let me = geteuid();
        let root = match root {
            Some(path) => absolute(path)?,
            None => default_root(me)?,
        };
        let run = match run {
            Some(path) => absolute(path)?,
            None => default_run(me),
        };
        Ok(Self { root, run })
    }

    /// Both roots as they stand, made and checked earlier by the process that passes them on.
    #[must_use]
    pub fn at(root: PathBuf, run: PathBuf) -> Self {
        Self { root, run }
    }

    fn is_made(&self) -> bool {
        self.networks().join("holders").is_dir()
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

    /// The records of all networks, in `names/` symbolic links to them, and in `holders/` who has the
    /// user's network namespace open.
    #[must_use]
    pub fn networks(&self) -> PathBuf {
        self.root.join("networks")
    }

    /// One network's own directory.
    #[must_use]
    pub fn network(&self, id: &Id) -> PathBuf {
        self.root.join("networks").join(id.as_str())
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
        None => crate::passwd::user(&me.to_string())
            .map(|user| PathBuf::from(user.home))
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

/// Makes a directory that is there already on a hot path: one system call then.
fn make_dirs(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => DirBuilder::new().recursive(true).mode(0o700).create(path),
        done => done,
    }
    .map_err(|e| {
        let failure = Failure::new(format!("cannot make the directory {path:?}")).source(e);
        failure.hint("pass --root DIR and --runroot DIR for another place").into()
    })
}

/// Makes a root where there is none, and refuses one that another user has prepared (`/tmp` is open
/// to all), before anything is made in it.
fn own(path: &Path, me: Uid) -> Result<()> {
    let meta = match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make_dirs(path)?;
            std::fs::symlink_metadata(path)
        }
        found => found,
    };
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    use super::*;

    #[test]
    fn roots_are_made_for_their_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let (root, run) = (home.path().join("a/root"), home.path().join("b/run"));
        for _ in 0..2 {
            let store = Store::open(Some(&root), Some(&run)).unwrap();
            assert!(store.layers().is_dir() && run.join("containers").is_dir());
        }
        for dir in [&root, &run] {
            assert_eq!(std::fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700);
        }
        // One's own link is followed.
        let link = home.path().join("link");
        symlink(&run, &link).unwrap();
        Store::open(Some(&root), Some(&link)).unwrap();
    }

    #[test]
    fn nothing_is_made_in_a_root_that_another_has_prepared() {
        if !geteuid().is_root() {
            // Nobody else can give a link away.
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let (root, target) = (home.path().join("root"), home.path().join("target"));
        std::fs::create_dir(&target).unwrap();
        let planted = home.path().join("planted");
        symlink(&target, &planted).unwrap();
        lchown(&planted, Some(12345), None).unwrap();
        for (root, run) in [(&root, &planted), (&planted, &root)] {
            let refused = Store::open(Some(root), Some(run)).unwrap_err().to_string();
            assert!(refused.contains("not a directory of yours (it belongs to uid 12345)"), "{refused}");
        }
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
    }
}
