//! One layer: from the registry, or from what an interrupted pull has left of it, into the store.

use std::fs::File;
use std::io::{self, Read};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

use super::Report;
use super::partial::Partial;
use super::reuse::{Assembly, Donors, Plan};
use crate::error::Failure;
use crate::image::blobs::{self, Temporary};
use crate::image::digest::Digest;
use crate::image::index::Descriptor;
use crate::image::layers::{self, Claim, Pinned};
use crate::image::reference::Reference;
use crate::image::unpack::{self, Powers, Streamed};
use crate::registry::{BlobReader, Repository};
use crate::store::{Lock, Store};

/// A layer that stays, and its blob, which stays as well when there is one.
pub type Fetched = (Pinned, Option<Lock>);

/// What the layers of one pull have in common.
pub struct Pull<'a> {
    pub store: &'a Store,
    pub repository: &'a Repository,
    /// By which the image is asked for.
    pub name: &'a Reference,
    /// All of the image's.
    pub layers: &'a [Descriptor],
    /// Where parts of them may be, once somebody asks.
    pub donors: OnceLock<Donors>,
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
            log::debug!("layer {} is here already", descriptor.digest);
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
            let done = self.with_partial(descriptor, diff, &mut partial, &unpacked)?;
            (partial.publish(self.store, &done.blob)?, done)
        } else {
            let blob = Temporary::in_dir(&blobs::dir(self.store));
            let mut source = Source::new(self, descriptor, None, None)?;
            let done = self.unpack(&mut source, descriptor, diff, (&mut blob.create()?, 0), &unpacked)?;
            (blobs::publish(self.store, &done.blob, &blob)?, done)
        };
        let pinned = layers::publish(self.store, diff, &done.blob, &unpacked, done.applied)?;
        self.report.complete(short);
        Ok((pinned, Some(lock)))
    }

    /// Reads what is known, then fetches the rest, but for what other layers have; where that does not
    /// fit, all of it.
    fn with_partial(
        &self,
        descriptor: &Descriptor,
        diff: &Digest,
        partial: &mut Partial,
        unpacked: &Temporary,
    ) -> Result<Streamed> {
        let plan = self.plan(descriptor, partial.known);
        let (is_planned, known) = (plan.is_some(), partial.known);
        let mut source = Source::new(self, descriptor, Some(partial), plan)?;
        let first = self.unpack(&mut source, descriptor, diff, (&mut partial.file, known), unpacked);
        let Err(error) = first else { return first };
        // What is put together of the wrong parts can be of any size: a full disk says nothing of the layer.
        if source.broke || (is_of_the_disk(&error) && !is_planned) {
            return Err(error);
        }
        drop(source);
        // What is wrong stays wrong: it must not meet the next try as well.
        partial.restart()?;
        if known == 0 && !is_planned {
            return Err(error);
        }
        self.report.again(descriptor.digest.short());
        layers::empty(unpacked)?;
        let mut source = Source::new(self, descriptor, None, None)?;
        let second = self.unpack(&mut source, descriptor, diff, (&mut partial.file, 0), unpacked);
        if let Err(error) = &second
            && !source.broke
            && !is_of_the_disk(error)
        {
            partial.restart()?;
        }
        second
    }

    /// How the rest can be put together of what is here, where it can.
    fn plan(&self, descriptor: &Descriptor, known: u64) -> Option<Plan> {
        if !Plan::is_for(descriptor, known) {
            return None;
        }
        let donors = self.donors.get_or_init(|| Donors::find(self.store, self.name, self.layers).unwrap_or_default());
        // What is wrong with its table does not matter to who fetches all of it.
        let above = self.layers.iter().rev().position(|layer| layer.digest == descriptor.digest)?;
        let plan = Plan::make(self.repository, descriptor, known, donors.open(self.store, above)).ok()??;
        self.report.reused(descriptor.digest.short(), plan.reused, descriptor.size);
        log::debug!("layer {}: {} of {} bytes are here already", descriptor.digest, plan.reused, descriptor.size);
        Some(plan)
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

/// A blob: what is known of it, then the rest from the registry or by a plan. Ends when another layer failed.
struct Source<'a> {
    pull: &'a Pull<'a>,
    descriptor: &'a Descriptor,
    known: Option<io::Take<File>>,
    plan: Option<Plan>,
    rest: Option<Rest<'a>>,
    read: u64,
    /// The registry did not give what was asked of it, or another layer failed.
    broke: bool,
}

enum Rest<'a> {
    Plain(BlobReader<'a>),
    Planned(Assembly<'a>),
}

impl Read for Rest<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(into),
            Self::Planned(assembly) => assembly.read(into),
        }
    }
}

impl<'a> Source<'a> {
    fn new(
        pull: &'a Pull<'a>,
        descriptor: &'a Descriptor,
        partial: Option<&Partial>,
        plan: Option<Plan>,
    ) -> Result<Self> {
        // By a position of its own: the other one stands where the next bytes go.
        let known = match partial.filter(|partial| partial.known > 0) {
            Some(partial) => Some(partial.reader()?.take(partial.known)),
            None => None,
        };
        let mut source = Self { pull, descriptor, known, plan, rest: None, read: 0, broke: false };
        // Asked for at once where nothing is known, so that what is wrong is said before anything is made.
        if source.known.is_none() {
            source.rest()?;
        }
        Ok(source)
    }

    fn rest(&mut self) -> Result<&mut Rest<'a>> {
        let (pull, descriptor) = (self.pull, self.descriptor);
        let rest = match (self.rest.take(), self.plan.take()) {
            (Some(rest), _) => rest,
            (None, Some(plan)) => Rest::Planned(Assembly::new(plan, pull.repository, descriptor, self.read)),
            (None, None) => Rest::Plain(pull.repository.blob_from(&descriptor.digest, descriptor.size, self.read)?),
        };
        Ok(self.rest.insert(rest))
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
        let got = self.rest().map_err(io::Error::other).and_then(|rest| rest.read(into));
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
