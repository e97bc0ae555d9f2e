//! From a layer's compressed bytes to a folder of files, in one pass and at the same time:
//!
//! ```text
//! source ─> sha256 ─> blob file
//!              └─> decompress ─> sha256 ─> tar ─> files
//! ```
//!
//! Three threads, joined by short queues: memory stays bounded however large the layer is, and
//! a truncated or hostile archive ends all three. Nothing is visible in the store until the
//! caller has compared both digests and publishes the folder.

pub mod apply;
mod decode;
pub mod path;
pub(super) mod queue;
pub mod tar;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};

pub use apply::{Applied, Powers};
pub use decode::{Compression, Decoder};

use self::apply::Applier;
use self::tar::Reader;
use crate::error::Failure;
use crate::image::digest::{Digest, Hasher};

/// What went through.
#[derive(Debug)]
pub struct Streamed {
    /// Digest and length of the bytes as they came.
    pub blob: Digest,
    pub blob_size: u64,
    pub compression: Compression,
    /// Digest of the archive.
    pub diff: Digest,
    pub applied: Applied,
}

/// Unpacks `source` into the empty folder `dir`, and writes its bytes as they come to `copy`.
///
/// `limit` is the largest number of bytes that `source` may have; `read` is told of each that came.
///
/// # Errors
/// The first thing that went wrong, seen from the source on: a connection that broke shows up as
/// that, and not as the truncated archive that it leads to.
pub fn stream(
    mut source: impl Read,
    limit: u64,
    mut copy: Option<&mut File>,
    dir: &Path,
    powers: Powers,
    mut read: impl FnMut(u64),
) -> Result<Streamed> {
    let applier = Applier::new(dir, powers).with_context(|| format!("unpack into {dir:?}"))?;
    let (compressed_in, compressed_out) = queue::pair();
    let (plain_in, plain_out) = queue::pair();
    std::thread::scope(|threads| {
        let second = threads.spawn(move || decompress(compressed_out, &plain_in));
        let third = threads.spawn(move || unpack(applier, plain_out));

        let mut hasher = Hasher::default();
        let mut size = 0;
        let fetched = (|| -> Result<()> {
            loop {
                let mut chunk = compressed_in.buffer();
                let n = fill(&mut source, &mut chunk)?;
                if n == 0 {
                    return Ok(());
                }
                chunk.truncate(n);
                size += n as u64;
                if size > limit {
                    return Err(Failure::new(format!("it is larger than the {limit} bytes that were promised")).into());
                }
                hasher.update(&chunk);
                if let Some(file) = &mut copy {
                    file.write_all(&chunk).context("write the layer's blob")?;
                }
                read(n as u64);
                if compressed_in.send(chunk).is_err() {
                    // The stages behind gave up; theirs is the error.
                    return Ok(());
                }
            }
        })();
        // Tells the next stage that there is no more.
        drop(compressed_in);
        let (second, third) = (join(second), join(third));
        fetched?;
        // A stage that fails makes the one before it stop without an error of its own.
        let (diff, compression) = match second {
            Ok(Some(done)) => done,
            Ok(None) => {
                third?;
                return Err(Failure::new("the archive was not read to its end").into());
            }
            Err(error) => return Err(error.into()),
        };
        let applied = third?;
        Ok(Streamed { blob: hasher.finish(), blob_size: size, compression, diff, applied })
    })
}

/// The second stage; `None` when the third one gave up.
fn decompress(mut input: queue::Output, output: &queue::Input) -> io::Result<Option<(Digest, Compression)>> {
    let compression = Compression::detect(input.fill_buf()?)?;
    let mut hasher = Hasher::default();
    let mut plain = Decoder::new(input, compression)?;
    loop {
        let mut chunk = output.buffer();
        let n = fill(&mut plain, &mut chunk)?;
        if n == 0 {
            plain.finish()?;
            return Ok(Some((hasher.finish(), compression)));
        }
        chunk.truncate(n);
        hasher.update(&chunk);
        if output.send(chunk).is_err() {
            return Ok(None);
        }
    }
}

/// The third stage.
fn unpack(mut applier: Applier, input: queue::Output) -> Result<Applied> {
    // Of this thread alone from here on: modes are as the archive says, without a chmod for each.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).context("unshare the umask")?;
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let mut reader = Reader::new(input);
    while let Some(entry) = reader.next_entry()? {
        applier.add(&entry, &mut reader).with_context(|| format!("unpack {:?}", OsStr::from_bytes(&entry.path)))?;
    }
    let applied = applier.finish().context("set the times of folders")?;
    // What stands behind the archive's end belongs to the digest too.
    let mut input = reader.into_inner();
    loop {
        let n = input.fill_buf()?.len();
        if n == 0 {
            return Ok(applied);
        }
        input.consume(n);
    }
}

/// Fills `buffer` as far as the source goes.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
