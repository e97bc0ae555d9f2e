//! `ctr import`.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result};

use crate::cli::{Globals, Run, output};
use crate::error::Failure;
use crate::image::import::{Wanted, import};
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::{registry, userns};

/// Import the contents from a tarball to create a filesystem image
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr import rootfs.tar.gz base:1
  tar c -C ./tree . | ctr import -c 'CMD [\"sh\"]' - base")]
pub struct Import {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "instruction")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "text")]
    message: Option<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "os/arch")]
    platform: Option<Platform>,
    /// An archive, the address of one, or - for standard input
    #[arg(value_name = "file|URL|-")]
    source: String,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<Reference>,
}

impl Run for Import {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        userns::enter(&store)?;
        let wanted = Wanted {
            name: self.name.map(Reference::or_latest),
            changes: self.change,
            message: self.message.unwrap_or_else(|| format!("Imported from {}", self.source)),
            platform: self.platform.unwrap_or_else(Platform::host),
        };
        let source: Box<dyn Read> = match self.source.as_str() {
            "-" => Box::new(std::io::stdin().lock()),
            url if url.starts_with("http://") || url.starts_with("https://") => Box::new(registry::download(url)?),
            path => {
                let file = File::open(path).with_context(|| format!("open {path}"))?;
                if file.metadata()?.is_dir() {
                    return Err(Failure::new(format!("{path:?} is a folder"))
                        .hint(format!("pack it first: tar -C {path} -c . | ctr import -"))
                        .into());
                }
                Box::new(file)
            }
        };
        let id = import(&store, source, &wanted).map_err(crate::image::disk_full)?;
        output::print(&format!("{id}\n"));
        Ok(0)
    }
}
