//! `ctr image diff`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use crate::cli::{Globals, Run, output};
use crate::container::files::diff::Change;
use crate::container::files::tree::Entered;
use crate::error::{Failure, exit};
use crate::image::additional::within_reach;
use crate::image::difference::difference;
use crate::image::mount::view;
use crate::image::{Image, blobs, find, no_such_image};

/// Inspect changes to the image's file systems
#[derive(Debug, clap::Parser)]
#[command(after_help = "What the image has differently than the second one, or, of one image, what its topmost layer
did: A added, C changed, D deleted. Times alone are no change.

Examples:
  ctr image diff web:2 web:1
  ctr image diff --format json web:2")]
pub struct Diff {
    /// json, or lines without it
    #[arg(long, value_name = "format")]
    format: Option<String>,
    #[arg(value_name = "IMAGE")]
    image: String,
    #[arg(value_name = "IMAGE")]
    base: Option<String>,
}

impl Run for Diff {
    fn run(self, globals: &Globals) -> Result<u8> {
        if let Some(format) = self.format.as_deref().filter(|format| !matches!(*format, "" | "json")) {
            return Err(Failure::new(format!("only json is a format here, not {format:?}")).exit(exit::ENGINE).into());
        }
        let store = globals.store()?;
        // A mount namespace that nobody else sees.
        let _entered = Entered::enter(&store)?;
        blobs::prepare(&store)?;
        let get = |name: &str| -> Result<Image> {
            within_reach(&store, find(&store, name)?.ok_or_else(|| no_such_image(name))?)
        };
        let image = get(&self.image)?;
        let layers = paths(&image);
        let base = if let Some(base) = &self.base {
            paths(&get(base)?)
        } else {
            // Its topmost layer; above that there may be one of folders alone.
            let top = layers.iter().position(|path| !path.to_string_lossy().ends_with("-parents"));
            layers.iter().skip(top.unwrap_or_default() + 1).cloned().collect()
        };
        let changes = difference(&view(&store, &base)?, &view(&store, &layers)?)
            .with_context(|| format!("compare {}", self.image))?;
        if self.format.as_deref() == Some("json") {
            let of = |wanted: Change| -> Vec<String> {
                let fitting = changes.iter().filter(|(change, _)| *change == wanted);
                fitting.map(|(_, path)| String::from_utf8_lossy(path).into_owned()).collect()
            };
            let mut all = json!({});
            for (key, change) in [("changed", Change::Changed), ("added", Change::Added), ("deleted", Change::Deleted)]
            {
                let paths = of(change);
                if !paths.is_empty() {
                    all[key] = paths.into();
                }
            }
            output::print(&format!("{all}\n"));
            return Ok(0);
        }
        let mut lines = Vec::new();
        for (change, path) in changes {
            lines.extend_from_slice(format!("{} ", change.letter()).as_bytes());
            lines.extend_from_slice(&path);
            lines.push(b'\n');
        }
        output::print_bytes(&lines);
        Ok(0)
    }
}

fn paths(image: &Image) -> Vec<PathBuf> {
    image.layers.iter().map(|layer| image.home.layers().join(layer)).collect()
}
