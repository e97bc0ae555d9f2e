//! `ctr run`.

use std::io::{IsTerminal, Write};

use anyhow::{Context, Result};

use crate::cli::options::extras::Preserved;
use crate::cli::options::{Options, Request, Source};
use crate::cli::{Globals, Run, engine_failure, output};
use crate::container::attach::{self, Attach, Outcome};
use crate::container::config::RootFs;
use crate::container::create::{self, Created, New};
use crate::container::ids;
use crate::container::remove::{self, Removal};
use crate::container::start;
use crate::error::{Failure, exit};
use crate::monitor::Streams;
use crate::store::{Store, names};
use crate::{image, sys};

/// Make a container and run a command in it
///
/// The image is pulled where it is missing, a container is made of it with what the flags say, and the
/// command, or else the image's own, is started in it. ctr stays until that ends, and passes on input, output
/// and signals; with --detach it leaves at once. Flags stand before the image: what is behind it belongs to
/// the command.
#[derive(Debug, clap::Parser)]
#[command(
    disable_help_flag = true,
    override_usage = "ctr run [OPTIONS] IMAGE [COMMAND] [ARG...]",
    after_help = "Examples:
  ctr run --rm -it busybox sh                   a shell, and nothing left behind
  ctr run -d --name web -v ./site:/srv:ro httpd in the background
  ctr run -d -p 8080:80 --network front httpd   a published port, on a network
  ctr run --rm -m 512m --cpus 1.5 debian make   with limits
  ctr run --rm --rootfs ./tree /bin/sh          a directory instead of an image

Exit code: the command's own; 125 when ctr fails, 126 when the command cannot be
executed, 127 when it is not found, 128 and its number when a signal ended it."
)]
pub struct RunCommand {
    /// Run in the background and print the id
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave a container with a terminal (ctrl-p,ctrl-q)
    #[arg(long, value_name = "keys")]
    detach_keys: Option<String>,
    /// Pass signals on to the command
    #[arg(long, action = clap::ArgAction::Set, value_name = "bool", default_value = "true", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = super::options::boolean, hide_default_value = true)]
    sig_proxy: bool,
    #[command(flatten)]
    preserved: Preserved,
    #[command(flatten)]
    options: Options,
}

impl Run for RunCommand {
    fn run(self, globals: &Globals) -> Result<u8> {
        engine_failure(self.go(globals))
    }
}

impl RunCommand {
    fn go(self, globals: &Globals) -> Result<u8> {
        let descriptors = self.preserved.take()?;
        let detach = self.detach;
        let (mut request, identity, process) = self.options.check(globals.words, detach)?;
        require_terminal(process.tty && request.config.attach_stdin)?;
        let size = process.tty.then(terminal_size).flatten();
        if let Some((rows, columns)) = size {
            request.host_config.console_size = [rows, columns];
        }
        let store = globals.store()?;
        let config = &request.config;
        let streams =
            Streams { stdin: config.attach_stdin, stdout: config.attach_stdout, stderr: config.attach_stderr };
        let Created { config, lock, .. } =
            make(&store, request, identity.platform.as_deref(), identity.quiet, identity.replace, true)?;
        let started = start::start_with(&store, &config, lock, (!detach).then_some(streams), size, descriptors);
        let connection = match started {
            Ok(connection) => connection,
            Err(error) => {
                if detach {
                    // As Docker: what was made is told, whatever becomes of it.
                    output::print(&format!("{}\n", config.id));
                }
                if config.host_config.auto_remove {
                    // The start's own error is the one to be told.
                    let _ = remove::remove(&store, &config.id, Removal { force: true });
                }
                return Err(error);
            }
        };
        if detach {
            output::print(&format!("{}\n", config.id));
            return Ok(0);
        }
        let attach = Attach { streams, tty: process.tty, detach_keys: self.detach_keys, sig_proxy: self.sig_proxy };
        match attach::session(connection, &attach)? {
            Outcome::Exited(code) => Ok(code),
            Outcome::Detached => Ok(super::left(&store, &config.id, "detach")),
        }
    }
}

/// From a checked request to a container: image, merge, record, `--cidfile`.
pub fn make(
    store: &Store,
    mut request: Request,
    platform: Option<&str>,
    quiet: bool,
    replace: bool,
    starts_at_once: bool,
) -> Result<Created> {
    if let Some(name) = request.name.as_deref().filter(|name| !name.is_empty()) {
        names::check(name)?;
    }
    request.find_containers(store)?;
    // Whoever's ids are kept is who runs, whatever the image says.
    let is_user_given = !request.config.user.is_empty();
    let (root, image) = match request.source.clone() {
        Source::Image(wanted) => {
            let image = image::obtain(store, &wanted, request.pull, platform, quiet)?;
            request.complete(Some(&image.config))?;
            (RootFs::Image { id: image.id.clone(), layers: image.layers.clone() }, Some(image))
        }
        Source::Directory { path, overlay } => {
            request.complete(None)?;
            let Some(path) = path.to_str().map(str::to_owned) else {
                return Err(Failure::new(format!("{path:?} is not UTF-8")).exit(exit::ENGINE).into());
            };
            let root = if overlay {
                RootFs::Image { id: String::new(), layers: vec![path] }
            } else {
                RootFs::Directory { path }
            };
            (root, None)
        }
    };
    let (root, reserved) = give_ids(store, &mut request, root, is_user_given)?;
    if let Some(name) = request.name.as_deref().filter(|_| replace)
        && let Some(owner) = names::owner(store, name)?
    {
        remove::remove(store, &owner, Removal { force: true }).with_context(|| format!("replace {name:?}"))?;
    }
    let secrets = super::options::secrets::find(store, &request.secrets)?;
    let file = request.host_config.container_id_file.clone();
    let new = New {
        name: request.name,
        root,
        image,
        config: request.config,
        host_config: request.host_config,
        endpoints: request.endpoints,
        secrets,
        starts_at_once,
    };
    let created = create::create(store, new)?;
    drop(reserved);
    if !file.is_empty() {
        let written =
            std::fs::File::create_new(&file).and_then(|mut f| f.write_all(created.config.id.as_str().as_bytes()));
        if let Err(error) = written {
            let _ = remove::discard(store, &created.config.id, &created.name);
            return Err(Failure::new(format!("write the container ID file {file:?}"))
                .source(error)
                .exit(exit::ENGINE)
                .into());
        }
    }
    Ok(created)
}

/// The container's ids, a root whose files have them, and its accounts. What is reserved is so until
/// the container has a record.
fn give_ids(
    store: &Store,
    request: &mut Request,
    mut root: RootFs,
    is_user_given: bool,
) -> Result<(RootFs, Option<ids::Planned>)> {
    let shared = request.shared_ids(store)?;
    let planned = match &shared {
        Some(shared) if request.host_config.userns_mode.is_empty() => ids::Planned::of(shared.0.clone()),
        _ => ids::plan(store, &request.host_config, &request.config, &root)?,
    };
    if shared.is_some_and(|shared| shared.0 != planned.ids) {
        return Err(Failure::new("conflicting options: --userns and namespaces of a container that has other ids")
            .hint("leave --userns away: the ids are then the other container's")
            .exit(exit::ENGINE)
            .into());
    }
    if let Some((uid, gid)) = planned.caller.filter(|_| !is_user_given) {
        request.config.user = format!("{uid}:{gid}");
    }
    let (passwd, group) = request.accounts.entries(&request.config, &request.host_config, planned.caller)?;
    request.host_config.extras.passwd_entries = passwd;
    request.host_config.extras.group_entries = group;
    let Some(ids) = &planned.ids else { return Ok((root, None)) };
    if let RootFs::Image { layers, .. } = &mut root {
        *layers = image::mapped::layers(store, layers, ids)?;
    }
    request.host_config.ids = Some(ids.clone());
    Ok((root, Some(planned)))
}

/// Docker's refusal to give a terminal's input to what is not fed by one.
pub fn require_terminal(wanted: bool) -> Result<()> {
    if wanted && !std::io::stdin().is_terminal() {
        return Err(Failure::new("the input device is not a TTY")
            .hint("leave -t away, or -i, when the input comes from a file or a pipe")
            .exit(1)
            .into());
    }
    Ok(())
}

/// Rows and columns of the terminal that this command runs in.
#[must_use]
pub fn terminal_size() -> Option<(u16, u16)> {
    use std::os::fd::AsFd;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    [stdout.as_fd(), stdin.as_fd(), stderr.as_fd()].into_iter().find_map(sys::terminal::size)
}
