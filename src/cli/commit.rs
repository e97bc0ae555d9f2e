//! `ctr commit`.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cli::complete::Kind;
use crate::cli::options::boolean;
use crate::cli::{Globals, Run, output};
use crate::container::commit::{Commit, commit};
use crate::container::{list, start};
use crate::events;
use crate::image::make::Format;
use crate::image::reference::Reference;
use crate::store::names;
use crate::sys::{process, signals};

/// Create a new image from a container's changes
///
/// What is mounted in the container is not in the image: volumes, folders of the host.
///
/// What the container changed in its files becomes a layer above those of its image; its configuration, with
/// the changes of --change, becomes the image's.
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr commit web web:patched
  ctr commit -m 'with curl' -c 'CMD [\"curl\"]' -c 'ENV A=1' box tools:1
  ctr commit --pause=false box               the container runs on meanwhile")]
pub struct CommitCommand {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, value_name = "text", default_value = "", hide_default_value = true)]
    author: String,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "instruction")]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long, value_name = "text", default_value = "", hide_default_value = true)]
    message: String,
    /// Pause container during commit (default true)
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean, value_name = "bool")]
    pause: Option<bool>,
    /// Write the image's id to this file
    #[arg(long, value_name = "file")]
    iidfile: Option<PathBuf>,
    /// Which manifest the image has: oci or docker
    #[arg(short, long, value_name = "type",
        add = Kind::Words(&["docker", "oci"]), value_parser = format, default_value = "oci", hide_default_value = true)]
    format: Format,
    /// Nothing but the id is printed, as without it
    #[arg(short, long)]
    quiet: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// What the image is called; without it, it has an id alone
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<Reference>,
}

impl Run for CommitCommand {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let id = names::resolve(&store, &self.container)?;
        // Puts one in order that is recorded as running and does not.
        list::one(&store, &id)?;
        let config = start::config(&store, &id)?;
        let wanted = Commit {
            name: self.name.map(Reference::or_latest),
            author: self.author,
            message: self.message,
            changes: self.change,
            pause: self.pause.unwrap_or(true),
            format: self.format,
        };
        let made = commit(&store, &config, &wanted).map_err(crate::image::disk_full);
        if let (Err(_), Some(signal)) = (&made, signals::caught()) {
            process::die_of(signal);
        }
        let image = made?;
        let name = wanted.name.as_ref().map(Reference::familiar).unwrap_or_default();
        let more = [("comment", &*wanted.message), ("imageID", image.as_str()), ("imageRef", &*name)];
        events::of_container(&store, &id, "commit", &more);
        if let Some(path) = &self.iidfile {
            std::fs::write(path, image.as_str()).with_context(|| format!("write {path:?}"))?;
        }
        output::print(&format!("{image}\n"));
        Ok(0)
    }
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "oci" => Ok(Format::Oci),
        "docker" => Ok(Format::Docker),
        _ => Err(format!("unrecognized image format {text:?}: oci or docker")),
    }
}
