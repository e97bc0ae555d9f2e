//! `ctr push`.

use anyhow::Result;

use crate::cli::output::progress::{self, Stream};
use crate::cli::{Globals, Run, output};
use crate::error::{self, Failure};
use crate::image::additional;
use crate::image::platform::Platform;
use crate::image::push::{self, How, push};
use crate::image::reference::{DEFAULT_TAG, Reference};
use crate::image::unpack::Compression;
use crate::{image, userns};

/// Upload an image to a registry
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr push registry.example.com/team/app:1.2
  ctr push --all-tags registry.example.com/team/app
  ctr push --compression-format zstd registry.example.com/team/app:1.2

Layers that came from a registry are sent as they came, so that the image keeps its digest.")]
pub struct Push {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Compress layers with gzip or zstd; layers that are compressed otherwise are compressed again
    #[arg(long, value_name = "gzip|zstd", value_parser = format)]
    compression_format: Option<Compression>,
    /// How hard to compress: 1 to 9 with gzip, 1 to 22 with zstd
    #[arg(long, value_name = "INT")]
    compression_level: Option<i32>,
    /// Compress again what is compressed in another format, or with the level that is given
    /// (default: with --compression-format)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL",
          value_parser = crate::cli::options::boolean)]
    force_compression: Option<bool>,
    /// Push the image only if it is for this platform: os[/arch[/variant]]
    #[arg(long, value_name = "os/arch")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "NAME[:TAG]")]
    name: Reference,
}

fn format(text: &str) -> Result<Compression, String> {
    match text {
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        _ => Err("gzip or zstd".to_owned()),
    }
}

impl Push {
    fn how(&self) -> Result<How, Failure> {
        let format = self.compression_format.unwrap_or(Compression::Gzip);
        let most = if format == Compression::Zstd { 22 } else { 9 };
        if let Some(level) = self.compression_level.filter(|level| !(1..=most).contains(level)) {
            return Err(Failure::new(format!("invalid compression level {level}: it is from 1 to {most}")));
        }
        let force = self.force_compression.unwrap_or(self.compression_format.is_some());
        Ok(How { format, level: self.compression_level, force })
    }
}

impl Run for Push {
    fn run(self, globals: &Globals) -> Result<u8> {
        let how = self.how()?;
        let platform = self.platform.as_deref().filter(|p| !p.is_empty()).map(str::parse::<Platform>).transpose()?;
        if self.name.digest().is_some() {
            return Err(Failure::new("cannot push a digest reference").hint("give a name with a tag").into());
        }
        if self.all_tags && self.name.tag().is_some() {
            return Err(Failure::new("tag can't be used with --all-tags/-a").into());
        }
        if !self.quiet && !self.all_tags && self.name.tag().is_none() {
            output::print(&format!("Using default tag: {DEFAULT_TAG}\n"));
        }
        let store = globals.store()?;
        userns::enter(&store)?;
        if !self.quiet {
            output::print(&format!("The push refers to repository [{}]\n", self.name.repository()));
        }
        let wanted = self.name.clone().or_latest().to_string();
        if !self.all_tags
            && let Some(image) = additional::only_there(&store, &wanted, platform.as_ref())?
        {
            additional::adopt(&store, &image).map_err(image::disk_full)?;
        }
        let tags = push::tags(&store, &self.name)?;
        let names = if self.all_tags { tags } else { vec![self.name.clone().or_latest()] };
        for name in &names {
            let report = progress::push(Stream::Out, self.quiet);
            let pushed = push(&store, name, platform.as_ref(), how, report.as_ref()).map_err(image::disk_full)?;
            drop(report);
            if let Some(warning) = &pushed.warning {
                error::warn(warning);
            }
            if !self.quiet {
                let tag = name.wanted();
                output::print(&format!("{tag}: digest: {} size: {}\n", pushed.digest, pushed.size));
            }
        }
        if self.quiet {
            let name = if self.all_tags { self.name } else { self.name.or_latest() };
            output::print(&format!("{name}\n"));
        }
        Ok(0)
    }
}
