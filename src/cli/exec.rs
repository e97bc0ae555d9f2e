//! `ctr exec`.

use std::path::PathBuf;

use anyhow::Result;

use crate::cli::complete::{Kind, Which};
use crate::cli::options::extras::Preserved;
use crate::cli::options::lines;
use crate::cli::{Globals, Run, run, usage};
use crate::container::attach::Outcome;
use crate::container::exec::{self, Exec};
use crate::container::{pause, state};
use crate::error::{Failure, exit};
use crate::store::names;

/// Run a command in a running container
///
/// The command runs beside the container's own, with the same environment, user and limits where the flags
/// say nothing else, and ends with the container.
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr exec [OPTIONS] CONTAINER COMMAND [ARG...]",
    after_help = "Examples:
  ctr exec -it web sh
  ctr exec -u postgres -w /var/lib db psql -c 'select 1'

Exit code: the command's own; 126 when it cannot be executed, 127 when it is not found."
)]
pub struct ExecCommand {
    /// Run in the background
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave a command with a terminal (ctrl-p,ctrl-q)
    #[arg(long, value_name = "keys")]
    detach_keys: Option<String>,
    /// Set an environment variable; a bare name takes its value from here
    #[arg(short, long, value_name = "name[=value]", add = Kind::Variables, value_parser = lines::variable)]
    env: Vec<String>,
    /// Environment variables from a file, one on a line
    #[arg(long, value_name = "file")]
    env_file: Vec<PathBuf>,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give all capabilities
    #[arg(long)]
    privileged: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// User, and group, by name or number
    #[arg(short, long, value_name = "user[:group]")]
    user: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "path")]
    workdir: Option<String>,
    #[command(flatten)]
    preserved: Preserved,
    /// The newest container; the words are then the command's alone
    #[arg(short, long)]
    latest: bool,
    // One list, because flags end at its first word: what follows is the command's own.
    /// The container, then the command and its arguments
    #[arg(value_name = "CONTAINER COMMAND [ARG...]", add = Kind::Containers(Which::Running), trailing_var_arg = true, hide = true)]
    words: Vec<String>,
}

impl Run for ExecCommand {
    fn run(self, globals: &Globals) -> Result<u8> {
        let descriptors = self.preserved.take()?;
        let mut words = self.words;
        if self.latest {
            words.insert(0, super::newest(&globals.store()?)?);
        }
        let [container, argv @ ..] = words.as_slice() else { return Err(usage::too_few(globals.words, 2)) };
        if argv.is_empty() {
            return Err(usage::too_few(globals.words, 2));
        }
        if let Some(path) = self.workdir.as_deref().filter(|path| !path.starts_with('/')) {
            return Err(Failure::new(format!("the working directory {path:?} is not an absolute path"))
                .exit(exit::NOT_EXECUTABLE)
                .into());
        }
        let env = lines::variables(&self.env_file, &self.env, |name| std::env::var(name).ok())?;
        let store = globals.store()?;
        let id = names::resolve(&store, container)?;
        if !state::is_alive(&store, &id) {
            return Err(Failure::new(format!("container {id} is not running"))
                .hint(format!("ctr start {container}"))
                .into());
        }
        if pause::is_paused(&store, &id) {
            let text = format!("Container {container} is paused, unpause the container before exec");
            return Err(Failure::new(text).exit(1).into());
        }
        run::require_terminal(self.tty && self.interactive && !self.detach)?;
        let exec = Exec {
            argv: argv.to_vec(),
            env: lines::last_of_each(env),
            user: self.user.filter(|user| !user.is_empty()),
            workdir: self.workdir,
            tty: self.tty,
            interactive: self.interactive,
            detach: self.detach,
            privileged: self.privileged,
            detach_keys: self.detach_keys,
            descriptors,
        };
        match exec::run(&store, &id, &exec)? {
            Outcome::Exited(code) => Ok(code),
            Outcome::Detached if !exec.detach => Ok(super::left(&store, &id, "exec_detach")),
            Outcome::Detached => Ok(0),
        }
    }
}
