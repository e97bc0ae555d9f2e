//! `ctr image tree`.

use std::fmt::Write;

use anyhow::Result;

use crate::cli::output::units;
use crate::cli::{Globals, Run, output};
use crate::image::ancestry::{Node, children, layers_of};
use crate::image::{Image, find, no_such_image};

/// Print the layers of an image as a tree, and which other images have them
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr image tree web:1
  ctr image tree --whatrequires busybox")]
pub struct Tree {
    /// The images that are built on this one instead
    #[arg(long)]
    whatrequires: bool,
    #[arg(value_name = "IMAGE")]
    image: String,
}

impl Run for Tree {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        let image = find(&store, &self.image)?.ok_or_else(|| no_such_image(&self.image))?;
        let mut text = heading(&image);
        if self.whatrequires {
            let nodes: Vec<Node> = children(&store, &image)?.into_iter().collect();
            branches(&mut text, &nodes, "");
        } else {
            branches(&mut text, &layers_of(&store, &image)?, "");
        }
        output::print(&text);
        Ok(0)
    }
}

fn heading(image: &Image) -> String {
    let id: String = image.id.trim_start_matches("sha256:").chars().take(12).collect();
    let familiar = |name: &String| {
        name.parse::<crate::image::reference::Reference>().map_or_else(|_| name.clone(), |name| name.familiar())
    };
    let names: Vec<String> = image.names.iter().map(familiar).collect();
    format!(
        "Image ID: {id}\nTags:     [{}]\nSize:     {}\nImage Layers\n",
        names.join(" "),
        units::precise_size(image.size)
    )
}

fn branches(text: &mut String, nodes: &[Node], indent: &str) {
    for (n, node) in nodes.iter().enumerate() {
        let (branch, below) = if n + 1 == nodes.len() { ("└── ", "    ") } else { ("├── ", "│   ") };
        let _ = write!(text, "{indent}{branch}ID: {} Size: {:>7}", node.diff.short(), units::precise_size(node.size));
        for (what, names) in [("Top Layer of", &node.top_of), ("Also in", &node.also_in)] {
            if !names.is_empty() {
                let _ = write!(text, " {what}: [{}]", names.join(" "));
            }
        }
        text.push('\n');
        branches(text, &node.above, &format!("{indent}{below}"));
    }
}
