//! From a layer's compressed bytes to a folder of files, in one pass and at the same time:
//!
//! ```text
//! source ─> sha256 ─> blob file
//!              └─> decompress ─> sha256 ─> tar ─> names and large files
//!                                                 └─> small files' contents, owners, times
//! ```
//!
//! Four threads or some more, a line of the picture having one or two, joined by short queues: memory
//! stays bounded however large the layer is, and a truncated or hostile archive ends all of them. Nothing is visible in the store until the
//! caller has compared both digests and publishes the folder.

pub mod apply;
mod bomb;
mod decode;
mod fill;
pub mod foreign;
pub mod path;
pub(super) mod queue;
pub mod tar;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};

pub use apply::{Applied, Powers};
pub use decode::{Compression, Decoder};

use self::apply::Applier;
use self::tar::Reader;
use crate::error::Failure;
use crate::image::digest::{Digest, Hasher};
use crate::sys::writeback;

/// Bytes of a blob after which they begin to go to the disk, so that little is left to sync at the end.
const WRITEBACK: u64 = 4 << 20;

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

/// Who is told how it gets on.
#[derive(Clone, Copy)]
pub struct Told<'a> {
    /// So many more bytes of the source came.
    pub read: &'a (dyn Fn(u64) + Sync),
    /// So many more bytes of the archive were unpacked.
    pub made: &'a (dyn Fn(u64) + Sync),
}

/// Unpacks `source` into the empty folder `dir`, and writes its bytes as they come to `copy`.
///
/// `limit` is the largest number of bytes that `source` may have; `read` is told of each that came.
///
/// # Errors
/// As [`stream_from`].
pub fn stream(
    source: impl Read,
    limit: u64,
    copy: Option<&mut File>,
    dir: &Path,
    powers: Powers,
    read: impl Fn(u64) + Sync,
) -> Result<Streamed> {
    let told = Told { read: &read, made: &|_| {} };
    stream_from(source, limit, copy.map(|file| (file, 0)), dir, powers, told)
}

/// The same for a source whose first bytes are in `copy` already, as many as stand beside it.
///
/// # Errors
/// The first thing that went wrong, seen from the source on: a connection that broke shows up as
/// that, and not as the truncated archive that it leads to.
pub fn stream_from(
    mut source: impl Read,
    limit: u64,
    mut copy: Option<(&mut File, u64)>,
    dir: &Path,
    powers: Powers,
    told: Told<'_>,
) -> Result<Streamed> {
    let applier = Applier::new(dir, powers).with_context(|| format!("unpack into {dir:?}"))?;
    let (compressed_in, compressed_out) = queue::pair();
    let (plain_in, plain_out) = queue::pair();
    let first = filled(&mut source, compressed_in.buffer())?;
    let compression = Compression::detect(&first)?;
    // Who has less to do hashes: gzip takes longer to decompress than files to make, zstd does not.
    let (early, late) = if compression == Compression::Gzip { (false, true) } else { (true, false) };
    let mut first = Some(first);
    std::thread::scope(|threads| {
        let second = threads.spawn(move || decompress(compressed_out, compression, &plain_in, early));
        let third = threads.spawn(move || unpack(applier, plain_out.told(told.made), late));

        let mut hasher = Hasher::default();
        let mut size = 0;
        let mut begun = 0;
        let fetched = (|| -> Result<()> {
            loop {
                let chunk = match first.take() {
                    Some(first) => first,
                    None => filled(&mut source, compressed_in.buffer())?,
                };
                let n = chunk.len();
                if n == 0 {
                    return Ok(());
                }
                size += n as u64;
                if size > limit {
                    return Err(Failure::new(format!("it is larger than the {limit} bytes that were promised")).into());
                }
                hasher.update(&chunk);
                if let Some((file, known)) = &mut copy {
                    let new = usize::try_from(size.saturating_sub(*known)).unwrap_or(n).min(n);
                    file.write_all(&chunk[n - new..]).context("write the layer's blob")?;
                    if size - begun >= WRITEBACK {
                        writeback::begin(&mut **file, begun, size - begun);
                        begun = size;
                    }
                }
                (told.read)(n as u64);
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
        let is_whole = second?;
        let (hashed_late, applied) = third?;
        let Some(hashed_early) = is_whole else {
            return Err(Failure::new("the archive was not read to its end").into());
        };
        let diff = if early { hashed_early } else { hashed_late }.finish();
        Ok(Streamed { blob: hasher.finish(), blob_size: size, compression, diff, applied })
    })
}

/// The second stage; `None` when the third one gave up.
fn decompress(
    input: queue::Output,
    compression: Compression,
    output: &queue::Input,
    hashes: bool,
) -> io::Result<Option<Hasher>> {
    let mut plain = Decoder::new(input, compression)?;
    let mut hasher = Hasher::default();
    loop {
        let chunk = filled(&mut plain, output.buffer())?;
        if chunk.is_empty() {
            plain.finish()?;
            return Ok(Some(hasher));
        }
        if hashes {
            hasher.update(&chunk);
        }
        if output.send(chunk).is_err() {
            return Ok(None);
        }
    }
}

/// The third stage.
fn unpack(mut applier: Applier, input: queue::Output, hashes: bool) -> Result<(Hasher, Applied)> {
    // Of this thread alone from here on: modes are as the archive says, without a chmod for each.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).context("unshare the umask")?;
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let mut reader = Reader::new(if hashes { input.hashed() } else { input });
    while let Some(entry) = reader.next_entry()? {
        applier.add(&entry, &mut reader)?;
    }
    let applied = applier.finish()?;
    // What stands behind the archive's end belongs to the digest too.
    let mut input = reader.into_inner();
    loop {
        let n = input.fill_buf()?.len();
        if n == 0 {
            return Ok((input.hasher(), applied));
        }
        input.consume(n);
    }
}

/// As much of `buffer` as the source fills; empty at its end.
fn filled(source: &mut impl Read, mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
