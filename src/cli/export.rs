//! `ctr export`.

use std::fs::File;
use std::io::{ErrorKind, IsTerminal, stdout};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;

use crate::cli::cp::{to_stdout, warn_shortened};
use crate::cli::{Globals, Run};
use crate::container::files::export::{Whole, export};
use crate::container::files::tree::Entered;
use crate::container::start;
use crate::events;
use crate::store::names;

/// Export a container's filesystem as a tar archive
///
/// What is mounted in the container is not in it: volumes, folders of the host, /proc, /dev.
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr export -o web.tar web
  ctr export web | ctr import - web:flat     an image of one layer")]
pub struct Export {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "file")]
    output: Option<PathBuf>,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Run for Export {
    fn run(self, globals: &Globals) -> Result<u8> {
        let path = self.output.as_deref().filter(|path| !path.as_os_str().is_empty());
        if path.is_none() && stdout().is_terminal() {
            bail!("cowardly refusing to save to a terminal. Use the -o flag or redirect");
        }
        if let Some(path) = path {
            check_file(path).context("failed to export container")?;
        }
        let store = globals.store()?;
        let id = names::resolve(&store, &self.container)?;
        let config = start::config(&store, &id)?;
        let entered = Entered::enter(&store)?;
        let (root, owners) = entered.open_alone(&store, &config)?;
        events::of_container(&store, &id, "export", &[]);
        match path {
            None => to_stdout(export(root, &owners, File::from(stdout().as_fd().try_clone_to_owned()?)), "export"),
            Some(path) => {
                let shortened = to_file(path, |file| export(root, &owners, file))?;
                warn_shortened(shortened, "export");
                Ok(0)
            }
        }
    }
}

/// Whether an archive can become the file at this path.
///
/// # Errors
/// Docker's words: its folder is not there, or it is a folder or a device.
pub(super) fn check_file(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let looking = || format!("invalid output path: stat {}", folder.display());
    if !std::fs::metadata(folder).with_context(looking)?.is_dir() {
        return Err(Errno::ENOTDIR).with_context(looking);
    }
    let kind = match std::fs::metadata(path) {
        Ok(meta) => meta.file_type(),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).with_context(|| format!("failed to stat output path: stat {}", path.display())),
    };
    match () {
        () if kind.is_dir() => bail!("cannot write to a directory"),
        () if kind.is_char_device() => bail!("cannot write to a character device file"),
        () if kind.is_block_device() => bail!("cannot write to a block device file"),
        () => Ok(()),
    }
}

/// A file, whole or not at all; a pipe is written to as it is.
pub(super) fn to_file(path: &Path, write: impl FnOnce(File) -> Result<u64>) -> Result<u64> {
    if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
        return write(File::options().write(true).open(path).with_context(|| format!("open {path:?}"))?);
    }
    let whole = Whole::begin(path)?;
    let shortened = write(whole.file()?)?;
    whole.finish()?;
    Ok(shortened)
}
