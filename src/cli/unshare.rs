//! `ctr unshare`.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::cli::{Globals, Run};
use crate::error::{Failure, exit};
use crate::userns;

/// Run a command in the user's own user namespace, as its root
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr unshare [COMMAND] [ARG...]",
    after_help = "Examples:
  ctr unshare ls -ln ~/.local/share/ctr/containers
  ctr unshare                    $SHELL, until it ends

Files that containers wrote belong to other ids outside of it; in it they can be looked at
and removed."
)]
pub struct Unshare {
    /// The command and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    words: Vec<OsString>,
}

impl Run for Unshare {
    fn run(self, globals: &Globals) -> Result<u8> {
        if userns::is_host_root() {
            return Err(Failure::new("please use unshare with an ordinary user: root has no use for it")
                .exit(exit::ENGINE)
                .into());
        }
        let store = globals.store()?;
        userns::enter(&store)?;
        // One's own mounts too: who may mount in the user's namespace may not in the machine's mount namespace.
        unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
            .context("cut the mounts off from the host's")?;
        let shell = || std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into());
        let mut words = self.words.into_iter();
        let program = words.next().unwrap_or_else(shell);
        let error = match Command::new(&program).args(words).exec() {
            // Of a folder that may not be looked into: execvp(3).
            e if e.kind() == ErrorKind::PermissionDenied && !is_there(&program) => {
                io::Error::from_raw_os_error(libc::ENOENT)
            }
            e => e,
        };
        let code = match error.kind() {
            ErrorKind::NotFound => exit::NOT_FOUND,
            _ => exit::NOT_EXECUTABLE,
        };
        Err(Failure::new(format!("run {program:?}")).source(error).exit(code).into())
    }
}

/// Whether the program was found, wherever it is searched for.
fn is_there(program: &OsStr) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Path::new(program).components().count() > 1 || std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
