//! Parts of a layer that the store has already, in the blob of another one: they are not fetched again.
//!
//! Layers with a table of contents ([`toc`]) are cut into parts by it, the layer that is wanted and those
//! of images from the same registry. What looks the same is taken from the disk, the rest is asked for,
//! and the blob that is put together goes the way that the registry's bytes go, through both digests.
//! So a table that lies, or a blob that is damaged, costs a second download and nothing else; what is
//! pushed or saved later is the registry's, byte for byte. Tools that trust the table's own digests
//! alone have neither.
//!
//! Only images of the same registry give parts: another one cannot ask, by what it is asked for, what
//! a user has from elsewhere.

#[cfg(test)]
mod tests;
mod toc;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

use self::toc::{Key, Part, Place};
use crate::error::Failure;
use crate::image::blobs;
use crate::image::index::{Descriptor, Index};
use crate::image::manifest::{self, Document};
use crate::image::reference::Reference;
use crate::registry::{BlobReader, Repository};
use crate::store::{Lock, Store};

/// Layers whose tables are read, those of the same repository first.
const MOST_DONORS: usize = 32;
/// What is between two parts that are asked for is asked for as well, if it is no more: a request costs
/// the time in which so many bytes come.
const GAP: u64 = 32 << 10;
/// Requests for one layer.
const MOST_REQUESTS: usize = 128;
/// Fewer bytes are not worth it.
const LEAST: u64 = 128 << 10;
/// Parts of a layer that are remembered.
const MOST_PARTS: usize = 1 << 18;

/// How a blob is put together.
pub struct Plan {
    pieces: Vec<Piece>,
    donors: Vec<(File, Lock)>,
    /// The blob's end, with its table: it came when the table was read.
    tail: Vec<u8>,
    /// Bytes that are here already.
    pub reused: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    range: Range<u64>,
    from: From,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Registry,
    /// A donor, and where it is in it.
    Donor(usize, u64),
    Tail,
}

/// Layers with a table of contents, of images that came from the registry that a name belongs to.
///
/// # Errors
/// The index cannot be read. What is damaged is no donor.
pub fn donors(store: &Store, name: &Reference) -> Result<Vec<Descriptor>> {
    let index = Index::read(store)?;
    let mut found: Vec<(bool, Descriptor)> = Vec::new();
    for entry in index.entries.iter().filter(|entry| entry.repo_digest.is_some()) {
        let Some(Ok(from)) = entry.name.as_ref().map(|name| name.parse::<Reference>()) else { continue };
        if from.domain() != name.domain() {
            continue;
        }
        let Ok(Some(bytes)) = blobs::read(store, &entry.manifest.digest) else { continue };
        let Ok(Document::Manifest(manifest)) = manifest::parse(&bytes) else { continue };
        let is_far = from.path() != name.path();
        for layer in manifest.layers.into_iter().filter(|layer| Place::of(layer).is_some()) {
            if !found.iter().any(|(_, known)| known.digest == layer.digest) {
                found.push((is_far, layer));
            }
        }
    }
    found.sort_by_key(|(is_far, _)| *is_far);
    found.truncate(MOST_DONORS);
    Ok(found.into_iter().map(|(_, layer)| layer).collect())
}

impl Plan {
    /// Whether a layer can be put together at all.
    #[must_use]
    pub fn is_for(layer: &Descriptor) -> bool {
        layer.size > LEAST && Place::of(layer).is_some()
    }

    /// `None`: the layer has no table, or too little of it is here.
    ///
    /// # Errors
    /// The registry does not give the table, or it is damaged: the layer is fetched as any other.
    pub fn make(
        store: &Store,
        repository: &Repository,
        layer: &Descriptor,
        donors: &[Descriptor],
    ) -> Result<Option<Self>> {
        let Some(place) = Place::of(layer) else { return Ok(None) };
        let donors: Vec<_> = donors.iter().filter_map(|donor| open(store, donor)).collect();
        if donors.is_empty() {
            return Ok(None);
        }
        let (start, tail) = fetch_tail(repository, layer, &place)?;
        let mut parts = Vec::new();
        place.read(tail.as_slice(), start, &mut |part| {
            if parts.len() <= MOST_PARTS {
                parts.push(part);
            }
        })?;
        if parts.len() > MOST_PARTS {
            return Err(Failure::new("a table of contents of too many rows").into());
        }
        let mut here = Here::of(&parts);
        for (number, (descriptor, file, _)) in donors.iter().enumerate() {
            // A damaged one has given what it could.
            let _ = here.search(number, descriptor, file);
        }
        let pieces = pieces(&parts, &here.found, start..layer.size);
        let reused = pieces.iter().filter(|piece| matches!(piece.from, From::Donor(..))).map(Piece::length).sum();
        let donors = donors.into_iter().map(|(_, file, lock)| (file, lock)).collect();
        Ok((reused >= LEAST).then_some(Self { pieces, donors, tail, reused }))
    }
}

/// A layer's blob; `None` when it is not here.
fn open<'a>(store: &Store, layer: &'a Descriptor) -> Option<(&'a Descriptor, File, Lock)> {
    let lock = blobs::pin(store, &layer.digest).ok()??;
    let file = File::open(blobs::path(store, &layer.digest)).ok()?;
    (file.metadata().ok()?.len() == layer.size).then_some((layer, file, lock))
}

/// The blob from its table on, and where that is.
fn fetch_tail(repository: &Repository, layer: &Descriptor, place: &Place) -> Result<(u64, Vec<u8>)> {
    let fetch = |part: Range<u64>| -> Result<Vec<u8>> {
        let wanted = part.end.saturating_sub(part.start);
        if wanted > toc::MAX_PACKED {
            return Err(Failure::new("a table of contents of too many bytes").into());
        }
        let mut bytes = Vec::new();
        repository.blob_part(&layer.digest, layer.size, part)?.take(wanted).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let size = layer.size;
    match place {
        Place::Chunked(place) => Ok((place.start, fetch(place.start..size)?)),
        Place::Stargz => {
            // With the footer comes what is likely to be the table.
            let guess = size.saturating_sub((size / 32).clamp(16 << 10, 1 << 20));
            let mut tail = fetch(guess..size)?;
            let footer = tail.len().checked_sub(toc::FOOTER).and_then(|at| toc::of_footer(&tail[at..]));
            let start = footer.filter(|start| *start < size).context("no footer of an eStargz")?;
            if start < guess {
                let mut whole = fetch(start..guess)?;
                whole.append(&mut tail);
                return Ok((start, whole));
            }
            tail.drain(..usize::try_from(start - guess)?);
            Ok((start, tail))
        }
    }
}

/// What of a layer's parts is in the store.
struct Here {
    wanted: HashMap<Key, Vec<usize>>,
    /// By part: the donor, and where in it.
    found: Vec<Option<(usize, u64)>>,
}

impl Here {
    fn of(parts: &[Part]) -> Self {
        let mut wanted: HashMap<Key, Vec<usize>> = HashMap::with_capacity(parts.len());
        for (n, part) in parts.iter().enumerate() {
            wanted.entry(part.key).or_default().push(n);
        }
        Self { wanted, found: vec![None; parts.len()] }
    }

    fn search(&mut self, number: usize, donor: &Descriptor, file: &File) -> Result<()> {
        let place = Place::of(donor).context("no table")?;
        let start = match &place {
            Place::Chunked(place) => place.start,
            Place::Stargz => {
                let mut footer = [0; toc::FOOTER];
                file.read_exact_at(&mut footer, donor.size.saturating_sub(toc::FOOTER as u64))?;
                toc::of_footer(&footer).context("no footer of an eStargz")?
            }
        };
        let mut table = file;
        table.seek(SeekFrom::Start(start))?;
        place.read(BufReader::new(table.take(toc::MAX_PACKED)), start, &mut |part| {
            for n in self.wanted.remove(&part.key).into_iter().flatten() {
                self.found[n] = Some((number, part.start));
            }
        })
    }
}

/// Puts the parts together to as few pieces as can be; the last one is the tail.
fn pieces(parts: &[Part], found: &[Option<(usize, u64)>], tail: Range<u64>) -> Vec<Piece> {
    let mut all: Vec<Piece> = Vec::new();
    let mut at = 0;
    let places = parts.iter().zip(found).map(|(part, place)| (part.start..part.start + part.length, place));
    for (range, place) in places {
        at = range.end;
        push(&mut all, range, place.map_or(From::Registry, |(donor, offset)| From::Donor(donor, offset)));
    }
    // What is between the last part and the table: the table's own header.
    if at < tail.start {
        push(&mut all, at..tail.start, From::Registry);
    }
    let mut gap = GAP;
    while {
        all = without_gaps(all, gap);
        all.iter().filter(|piece| piece.from == From::Registry).count() > MOST_REQUESTS
    } {
        gap *= 2;
    }
    push(&mut all, tail, From::Tail);
    all
}

/// Adds a piece, to the last one if it goes on there.
fn push(all: &mut Vec<Piece>, range: Range<u64>, from: From) {
    if let Some(last) = all.last_mut() {
        let goes_on = match (last.from, from) {
            (From::Registry, From::Registry) => true,
            (From::Donor(one, start), From::Donor(other, offset)) => one == other && start + last.length() == offset,
            _ => false,
        };
        if goes_on {
            last.range.end = range.end;
            return;
        }
    }
    all.push(Piece { range, from });
}

/// Asks for what is here too where that is short and between two pieces that are asked for.
fn without_gaps(pieces: Vec<Piece>, gap: u64) -> Vec<Piece> {
    let mut all: Vec<Piece> = Vec::with_capacity(pieces.len());
    // Where the last run of pieces that are here begins.
    let mut run: Option<usize> = None;
    for piece in pieces {
        if piece.from != From::Registry {
            run = run.or(Some(all.len()));
            all.push(piece);
            continue;
        }
        let short = run.take().filter(|first| {
            let start = all[*first].range.start;
            *first > 0 && piece.range.start - start <= gap
        });
        if let Some(first) = short {
            all.truncate(first);
        }
        match all.last_mut().filter(|last| last.from == From::Registry) {
            Some(last) => last.range.end = piece.range.end,
            None => all.push(piece),
        }
    }
    all
}

impl Piece {
    fn length(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// Reads a blob by its plan.
pub struct Assembly<'a> {
    plan: Plan,
    repository: &'a Repository,
    layer: &'a Descriptor,
    at: u64,
    /// The present piece.
    number: usize,
    remote: Option<BlobReader<'a>>,
    /// The registry has not given a part: it is asked for all that is left.
    whole: bool,
}

impl<'a> Assembly<'a> {
    /// From `at` on.
    pub fn new(plan: Plan, repository: &'a Repository, layer: &'a Descriptor, at: u64) -> Self {
        Self { plan, repository, layer, at, number: 0, remote: None, whole: false }
    }

    /// From the registry, up to `end`.
    fn ask(&mut self, end: u64, into: &mut [u8]) -> io::Result<usize> {
        let (digest, size) = (&self.layer.digest, self.layer.size);
        let remote = match self.remote.take() {
            Some(remote) => remote,
            None => {
                let part = (!self.whole).then(|| self.repository.blob_part(digest, size, self.at..end).ok()).flatten();
                self.whole |= part.is_none();
                match part {
                    Some(part) => part,
                    None => self.repository.blob_from(digest, size, self.at).map_err(io::Error::other)?,
                }
            }
        };
        self.remote.insert(remote).read(into)
    }

    /// Of the present piece; nothing where a donor is not what it was.
    fn read_piece(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(Piece { range, from }) = self.plan.pieces.get(self.number) else { return Ok(0) };
        let room = into.len().min(usize::try_from(range.end - self.at).unwrap_or(usize::MAX));
        let (into, within, end) = (&mut into[..room], self.at - range.start, range.end);
        match *from {
            From::Registry => self.ask(end, into),
            // Its disk is damaged, or somebody has cut it.
            From::Donor(number, offset) => Ok(self.plan.donors[number].0.read_at(into, offset + within).unwrap_or(0)),
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
        let mut n = if self.whole { 0 } else { self.read_piece(into)? };
        if n == 0 && self.at < self.layer.size && !into.is_empty() {
            self.whole = true;
            n = self.ask(self.layer.size, into)?;
        }
        self.at += n as u64;
        Ok(n)
    }
}
