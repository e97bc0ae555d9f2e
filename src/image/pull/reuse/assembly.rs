//! Reads a blob by its plan.

use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::{From, Piece, Plan};
use crate::image::index::Descriptor;
use crate::registry::{BlobReader, Repository};

/// A blob that is put together.
pub struct Assembly<'a> {
    plan: Plan,
    repository: &'a Repository,
    layer: &'a Descriptor,
    at: u64,
    /// The present piece.
    number: usize,
    remote: Option<BlobReader<'a>>,
    /// A part could not be had: the registry is asked for all that is left.
    whole: bool,
}

impl<'a> Assembly<'a> {
    /// From `at` on.
    pub fn new(plan: Plan, repository: &'a Repository, layer: &'a Descriptor, at: u64) -> Self {
        Self { plan, repository, layer, at, number: 0, remote: None, whole: false }
    }

    /// From the registry, up to `end` of a part.
    fn ask(&mut self, end: u64, into: &mut [u8]) -> io::Result<usize> {
        let (digest, size, at) = (&self.layer.digest, self.layer.size, self.at);
        if let Some(remote) = &mut self.remote {
            return remote.read(into);
        }
        let rest = if self.whole {
            self.repository.blob_from(digest, size, at)
        } else {
            self.repository.blob_part(digest, size, at..end)
        };
        self.remote.insert(rest.map_err(io::Error::other)?).read(into)
    }

    /// Of the present piece; nothing where a donor is not what it was.
    fn read_piece(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(Piece { range, from }) = self.plan.pieces.get(self.number) else { return Ok(0) };
        let room = into.len().min(usize::try_from(range.end - self.at).unwrap_or(usize::MAX));
        let (into, within, end) = (&mut into[..room], self.at - range.start, range.end);
        match *from {
            From::Registry => self.ask(end, into),
            // Its disk is damaged, or somebody has cut it.
            From::Donor(number, offset) => {
                let donor = &self.plan.donors[number as usize].file;
                Ok(donor.read_at(into, offset + within).unwrap_or(0))
            }
            From::Tail => {
                let rest = usize::try_from(within).ok().and_then(|within| self.plan.tail.get(within..));
                rest.unwrap_or_default().read(into)
            }
        }
    }
}

impl Read for Assembly<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !self.whole && self.plan.pieces.get(self.number).is_some_and(|piece| piece.range.end <= self.at) {
            self.number += 1;
            // To its end, for the connection to serve the next request; what is wrong with that one shows there.
            let _ = self.remote.take().map(|mut done| done.read(&mut [0]));
        }
        // What fails in parts may go as a whole: not each of a registry's servers need give parts.
        let mut n = if self.whole { 0 } else { self.read_piece(into).unwrap_or(0) };
        if n == 0 && self.at < self.layer.size && !into.is_empty() {
            if !self.whole {
                (self.whole, self.remote) = (true, None);
            }
            n = self.ask(self.layer.size, into)?;
        }
        self.at += n as u64;
        Ok(n)
    }
}
