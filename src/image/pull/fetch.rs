//! One layer: from the registry, or from what an interrupted pull has left of it, into the store.

use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

use super::Report;
use super::partial::Partial;
use crate::error::Failure;
use crate::image::blobs::{self, Temporary};
use crate::image::digest::Digest;
use crate::image::index::Descriptor;
use crate::image::layers::{self, Claim, Pinned};
use crate::image::unpack::{self, Powers, Streamed};
use crate::registry::{BlobReader, Repository};
use crate::store::{Lock, Store};

/// A layer that stays, and its blob, which stays as well when there is one.
pub type Fetched = (Pinned, Option<Lock>);

/// What the layers of one pull have in common.
pub struct Pull<'a> {
    pub store: &'a Store,
    pub repository: &'a Repository,
    pub powers: Powers,
    pub report: &'a dyn Report,
    /// Another layer has failed.
    pub stop: &'a AtomicBool,
}

impl Pull<'_> {
    /// Brings a layer, unless the store has it or another process brings it.
    ///
    /// # Errors
    /// What came is not what the digests say; the connection, the disk. What came until then stays
    /// for the next try, where it may be of use.
    pub fn layer(&self, descriptor: &Descriptor, diff: &Digest) -> Result<Fetched> {
        let short = descriptor.digest.short();
        let have = |pinned| -> Result<Fetched> {
            self.report.exists(short);
            Ok((pinned, blobs::pin(self.store, &descriptor.digest)?))
        };
        // Without the claim first: a layer that is there needs none.
        if let Some(pinned) = layers::pin(self.store, diff)? {
            return have(pinned);
        }
        self.report.begin(short, descriptor.size);
        let _claim = Claim::wait(self.store, diff)?;
        if let Some(pinned) = layers::pin(self.store, diff)? {
            return have(pinned);
        }
        let unpacked = layers::temporary(self.store)?;
        // The claim is for the files. A blob can belong to two claims, by a manifest that is wrong: who
        // comes second goes without what is known of it.
        let (lock, done) = if let Some(mut partial) = Partial::open(self.store, &descriptor.digest, descriptor.size)? {
            let done = self.resume(descriptor, diff, &mut partial, &unpacked)?;
            (partial.publish(self.store, &done.blob)?, done)
        } else {
            let blob = Temporary::in_dir(&blobs::dir(self.store));
            let mut source = Source::new(self, descriptor, None)?;
            let done = self.unpack(&mut source, descriptor, diff, (&mut blob.create()?, 0), &unpacked)?;
            (blobs::publish(self.store, &done.blob, &blob)?, done)
        };
        let pinned = layers::publish(self.store, diff, &unpacked, done.applied)?;
        self.report.complete(short);
        Ok((pinned, Some(lock)))
    }

    /// Reads what is known, then fetches the rest; where that does not fit, all of it.
    fn resume(
        &self,
        descriptor: &Descriptor,
        diff: &Digest,
        partial: &mut Partial,
        unpacked: &Temporary,
    ) -> Result<Streamed> {
        let mut source = Source::new(self, descriptor, Some(partial))?;
        let known = partial.known;
        let first = self.unpack(&mut source, descriptor, diff, (&mut partial.file, known), unpacked);
        let Err(error) = first else { return first };
        if source.broke || is_of_the_disk(&error) {
            return Err(error);
        }
        // What is wrong stays wrong: it must not meet the next try as well.
        partial.restart()?;
        if known == 0 {
            return Err(error);
        }
        self.report.again(descriptor.digest.short());
        layers::empty(unpacked)?;
        let mut source = Source::new(self, descriptor, None)?;
        let second = self.unpack(&mut source, descriptor, diff, (&mut partial.file, 0), unpacked);
        if let Err(error) = &second
            && !source.broke
            && !is_of_the_disk(error)
        {
            partial.restart()?;
        }
        second
    }

    /// `copy`: the file that the blob is written to, and how much of it is there.
    fn unpack(
        &self,
        source: &mut Source<'_>,
        descriptor: &Descriptor,
        diff: &Digest,
        copy: (&mut File, u64),
        into: &Temporary,
    ) -> Result<Streamed> {
        let short = descriptor.digest.short();
        let told = unpack::Told { read: &|n| self.report.bytes(short, n), made: &|n| self.report.unpacked(short, n) };
        let done = unpack::stream_from(source, descriptor.size, Some(copy), into.path(), self.powers, told)?;
        if done.blob != descriptor.digest {
            let why = format!("the registry sent something else: its digest is {}", done.blob);
            return Err(Failure::new(why).into());
        }
        if done.diff != *diff {
            let why = format!("its files have the digest {}, the configuration says {diff}", done.diff);
            return Err(Failure::new(why).into());
        }
        Ok(done)
    }
}

/// Not the bytes are to blame, but where they were to go.
fn is_of_the_disk(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let errno = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        let errno = errno.or_else(|| cause.downcast_ref::<nix::errno::Errno>().map(|e| *e as i32));
        matches!(errno, Some(libc::ENOSPC | libc::EDQUOT | libc::EROFS | libc::EIO | libc::ENOMEM | libc::EMFILE))
    })
}

/// A blob: what is known of it, then the rest from the registry. Ends when another layer failed.
struct Source<'a> {
    pull: &'a Pull<'a>,
    descriptor: &'a Descriptor,
    known: Option<io::Take<File>>,
    rest: Option<BlobReader<'a>>,
    read: u64,
    /// The registry did not give what was asked of it, or another layer failed.
    broke: bool,
}

impl<'a> Source<'a> {
    fn new(pull: &'a Pull<'a>, descriptor: &'a Descriptor, partial: Option<&Partial>) -> Result<Self> {
        // By a position of its own: the other one stands where the next bytes go.
        let known = match partial.filter(|partial| partial.known > 0) {
            Some(partial) => Some(partial.reader()?.take(partial.known)),
            None => None,
        };
        // Asked for at once where nothing is known, so that what is wrong is said before anything is made.
        let rest = match &known {
            None => Some(pull.repository.blob_from(&descriptor.digest, descriptor.size, 0)?),
            Some(_) => None,
        };
        Ok(Self { pull, descriptor, known, rest, read: 0, broke: false })
    }

    fn registry(&mut self) -> io::Result<&mut BlobReader<'a>> {
        if self.rest.is_none() {
            let (digest, size) = (&self.descriptor.digest, self.descriptor.size);
            let reader = self.pull.repository.blob_from(digest, size, self.read).map_err(io::Error::other)?;
            self.rest = Some(reader);
        }
        self.rest.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Read for Source<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.pull.stop.load(Ordering::Relaxed) {
            self.broke = true;
            return Err(io::Error::other("stopped, because another layer failed"));
        }
        if let Some(known) = &mut self.known {
            let n = known.read(into)?;
            self.read += n as u64;
            if n > 0 {
                return Ok(n);
            }
            self.known = None;
        }
        // Whole already: the registry need not be asked.
        if self.rest.is_none() && self.read == self.descriptor.size {
            return Ok(0);
        }
        let got = self.registry().and_then(|reader| reader.read(into));
        match got {
            Ok(n) => {
                self.read += n as u64;
                Ok(n)
            }
            Err(error) => {
                self.broke |= error.kind() != io::ErrorKind::Interrupted;
                Err(error)
            }
        }
    }
}
