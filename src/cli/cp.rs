//! `ctr cp`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{IsTerminal, stderr, stdin, stdout};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::cli::options::boolean;
use crate::cli::output::{self, units};
use crate::cli::{Globals, Run};
use crate::container::files::copy::{Inside, Options, bring_in, take_out, unpack_in, write_out};
use crate::container::files::place::container_of;
use crate::container::start;
use crate::error;
use crate::events;
use crate::store::names;

/// How often the progress on a terminal is renewed.
const PAUSE: Duration = Duration::from_millis(75);

/// Copy files/folders between a container and the local filesystem
///
/// Use '-' as the source to read a tar archive from stdin and extract it to a directory destination
/// in a container. Use '-' as the destination to stream a tar archive of a container source to stdout.
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n       ctr cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    after_help = "Examples:
  ctr cp web:/etc/nginx/nginx.conf .         a file, also of a stopped one
  ctr cp ./site/. web:/usr/share/nginx/html  what a folder holds, into another
  ctr cp web:/var/log - | tar t              a folder as an archive
  tar c --owner=33 data | ctr cp - web:/srv  an archive, its owners kept"
)]
pub struct Cp {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean, value_name = "bool")]
    quiet: Option<bool>,
    /// CONTAINER:PATH, a path of the host's, or - for an archive
    #[arg(value_name = "SRC_PATH")]
    source: OsString,
    /// Likewise
    #[arg(value_name = "DEST_PATH")]
    destination: OsString,
}

impl Run for Cp {
    fn run(self, globals: &Globals) -> Result<u8> {
        if self.source.is_empty() {
            bail!("source can not be empty");
        }
        if self.destination.is_empty() {
            bail!("destination can not be empty");
        }
        let (from, to) = (container_of(&self.source), container_of(&self.destination));
        let (is_out, (name, path), local) = match (from, to) {
            (Some(_), Some(_)) => bail!("copying between containers is not supported"),
            (None, None) => bail!("must specify at least one container source"),
            (Some(from), None) => (true, from, &self.destination),
            (None, Some(to)) => (false, to, &self.source),
        };
        let store = globals.store()?;
        let id = names::resolve(&store, name)?;
        let config = start::config(&store, &id)?;
        let inside = Inside { store: &store, config: &config, name, path };
        let options = Options { follow: self.follow_link, archive: self.archive };
        if is_out && local == "-" {
            let archive = File::from(stdout().as_fd().try_clone_to_owned()?);
            events::of_container(&store, &id, "archive-path", &[]);
            return to_stdout(write_out(inside, archive, self.follow_link), "cp");
        }
        let quiet = self.quiet.unwrap_or(!stdout().is_terminal());
        let mut progress = Progress::new(if is_out { "Copying from container - " } else { "Copying to container - " });
        let mut told = |bytes| progress.add(bytes, quiet);
        let copied = copy(is_out, inside, local, options, &mut told);
        let total = progress.end();
        let destination = copied?;
        events::of_container(&store, &id, if is_out { "archive-path" } else { "extract-to-dir" }, &[]);
        if !quiet {
            output::say(&format!("Successfully copied {} to {destination}", units::size(total)));
        }
        Ok(0)
    }
}

/// Copies, and returns the destination as Docker shows it.
fn copy(
    is_out: bool,
    inside: Inside<'_>,
    local: &OsStr,
    options: Options,
    told: &mut dyn FnMut(u64),
) -> Result<String> {
    if is_out {
        use std::os::unix::ffi::OsStrExt;
        let route = take_out(inside, local, options, told)?;
        return Ok(OsStr::from_bytes(&route.shown()).to_string_lossy().into_owned());
    }
    if local == "-" {
        return unpack_in(inside, File::from(stdin().as_fd().try_clone_to_owned()?), told);
    }
    bring_in(inside, local, options, told)
}

/// What an archive on standard output came to. A reader that left ends the command as it ends every
/// other program of a pipe.
pub fn to_stdout(written: Result<u64>, command: &str) -> Result<u8> {
    match written {
        Err(failure) => {
            let broken = failure.chain().any(|cause| {
                cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
            });
            if broken { Ok(128 + 13) } else { Err(failure) }
        }
        Ok(shortened) => {
            warn_shortened(shortened, command);
            Ok(0)
        }
    }
}

/// Says that files changed under the archive's hands.
pub fn warn_shortened(files: u64, command: &str) {
    if files > 0 {
        let what = if files == 1 { "a file".to_owned() } else { format!("{files} files") };
        error::warn(&format!("{what} became shorter during {command}: zeros stand for what was cut off"));
    }
}

/// How far it is, on a terminal's line.
struct Progress {
    label: &'static str,
    bytes: u64,
    shown: Option<Instant>,
    started: Instant,
}

impl Progress {
    fn new(label: &'static str) -> Self {
        Self { label, bytes: 0, shown: None, started: Instant::now() }
    }

    fn add(&mut self, bytes: u64, quiet: bool) {
        self.bytes += bytes;
        let last = self.shown.unwrap_or(self.started);
        if !quiet && last.elapsed() > PAUSE && stderr().is_terminal() {
            self.shown = Some(Instant::now());
            output::print_error(format!("\r\x1b[K{}{}", self.label, units::size(self.bytes)).as_bytes());
        }
    }

    /// Takes the line away; returns the bytes.
    fn end(&self) -> u64 {
        if self.shown.is_some() {
            output::print_error(b"\r\x1b[K");
        }
        self.bytes
    }
}
