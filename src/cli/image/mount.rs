//! `ctr image mount` and `unmount`.

use anyhow::Result;
use nix::unistd::geteuid;
use serde_json::json;

use crate::cli::{Globals, Run, each, output, usage};
use crate::error::{Failure, exit};
use crate::image::additional::within_reach;
use crate::image::garbage::collect;
use crate::image::index::Index;
use crate::image::{self, find, no_such_image};
use crate::store::Store;

/// Mount an image's root filesystem, read-only
#[derive(Debug, clap::Parser)]
#[command(after_help = "It prints where; without an image it lists those that are mounted. An ordinary user does this
in the namespace of ctr unshare, with which the mounts end.

Examples:
  ctr image mount web:1
  ctr unshare sh -c 'ls $(ctr image mount web:1)/etc'")]
pub struct Mount {
    /// All images
    #[arg(short, long)]
    all: bool,
    /// json, or a table without it
    #[arg(long, value_name = "format")]
    format: Option<String>,
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

impl Run for Mount {
    fn run(self, globals: &Globals) -> Result<u8> {
        if let Some(format) = self.format.as_deref().filter(|format| !matches!(*format, "" | "json")) {
            return Err(Failure::new(format!("only json is a format here, not {format:?}")).exit(exit::ENGINE).into());
        }
        in_namespace("mount")?;
        let store = globals.store()?;
        let mut images = self.images;
        if self.all {
            images.extend(ids(&store)?);
        }
        if images.is_empty() {
            return list(&store, self.format.is_some());
        }
        let many = images.len() > 1;
        Ok(each(&images, |name| {
            let image = within_reach(&store, find(&store, name)?.ok_or_else(|| no_such_image(name))?)?;
            let place = image::mount::mount(&store, &image)?;
            output::print(&if many {
                format!("{name} {}\n", place.display())
            } else {
                format!("{}\n", place.display())
            });
            Ok(())
        }))
    }
}

/// Unmount an image's root filesystem
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr image unmount web:1
  ctr image unmount -a")]
pub struct Unmount {
    /// All that are mounted
    #[arg(short, long)]
    all: bool,
    /// Though somebody be at work there: it goes when the last one leaves
    #[arg(short, long)]
    force: bool,
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

impl Run for Unmount {
    fn run(self, globals: &Globals) -> Result<u8> {
        in_namespace("unmount")?;
        let store = globals.store()?;
        let mut images = self.images;
        if self.all {
            images.extend(image::mount::mounted(&store)?);
        }
        if images.is_empty() && !self.all {
            return Err(usage::too_few("image unmount", 1));
        }
        Ok(each(&images, |name| {
            let id = mounted_by(&store, name)?;
            if !image::mount::unmount(&store, &id, self.force)? {
                return Err(Failure::new(format!("image {name:?} is not mounted")).into());
            }
            output::print(&format!("{id}\n"));
            // The mount was all that kept its layers.
            if !Index::read(&store)?.entries.iter().any(|entry| entry.image.hex() == id) {
                collect(&store)?;
            }
            Ok(())
        }))
    }
}

/// The id, without `sha256:`, of the image that is meant: one of the store, or one that is gone and still mounted.
fn mounted_by(store: &Store, name: &str) -> Result<String> {
    let found = find(store, name);
    if let Ok(Some(image)) = found {
        return Ok(image.id.trim_start_matches("sha256:").to_owned());
    }
    let start = name.trim_start_matches("sha256:");
    let mut ids = image::mount::mounted(store)?;
    ids.retain(|id| !start.is_empty() && id.starts_with(start));
    match ids.as_slice() {
        [id] => Ok(id.clone()),
        _ => Err(found.err().unwrap_or_else(|| no_such_image(name).into())),
    }
}

/// An ordinary user's own process has no right to mount anything, and what it mounted in a namespace of its
/// own would be gone with it.
fn in_namespace(command: &str) -> Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::new(format!("cannot run command \"ctr image {command}\" as an ordinary user"))
        .hint(format!("run it in: ctr unshare ctr image {command}"))
        .exit(exit::ENGINE)
        .into())
}

fn ids(store: &Store) -> Result<Vec<String>> {
    let mut ids: Vec<String> = Index::read(store)?.entries.iter().map(|entry| entry.image.to_string()).collect();
    ids.sort();
    ids.dedup();
    Ok(ids)
}

fn list(store: &Store, is_json: bool) -> Result<u8> {
    // An image that is gone has its id.
    let mut all: Vec<(String, Vec<String>, String)> = Vec::new();
    for id in image::mount::mounted(store)? {
        let names = find(store, &format!("sha256:{id}")).ok().flatten().map(|image| image.names).unwrap_or_default();
        let place = image::mount::place(store, &id).display().to_string();
        all.push((id, names, place));
    }
    if is_json {
        let rows = all.iter().map(|(id, names, place)| json!({"id": id, "Repositories": names, "mountpoint": place}));
        output::print(&format!("{}\n", serde_json::to_string_pretty(&rows.collect::<Vec<_>>())?));
        return Ok(0);
    }
    for (id, names, place) in &all {
        let name = names.first().cloned().unwrap_or_else(|| format!("sha256:{id}"));
        output::print(&format!("{name}  {place}\n"));
    }
    Ok(0)
}
