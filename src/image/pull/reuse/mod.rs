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

mod assembly;
mod donors;
#[cfg(test)]
mod tests;
mod toc;

use std::collections::HashMap;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

use self::donors::Donor;
use self::toc::{Key, Part, Place};
use crate::error::Failure;
use crate::image::index::Descriptor;
use crate::registry::Repository;

pub use self::assembly::Assembly;
pub use self::donors::Donors;

/// What is between two parts that are asked for is asked for as well, if it is no more: a request costs
/// the time in which so many bytes come.
const GAP: u64 = 32 << 10;
/// Requests for one layer.
const MOST_REQUESTS: usize = 128;
/// Fewer bytes are not worth it.
const LEAST: u64 = 128 << 10;
/// Parts of a layer that are remembered, of some 80 bytes each: two for each of 65,000 files.
const MOST_PARTS: usize = 1 << 17;

/// How a blob is put together.
pub struct Plan {
    pieces: Vec<Piece>,
    donors: Vec<Donor>,
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
    /// A donor's number, and where it is in it.
    Donor(u32, u64),
    Tail,
}

impl Plan {
    /// Whether a layer of which so many bytes are known can be put together at all.
    #[must_use]
    pub fn is_for(layer: &Descriptor, known: u64) -> bool {
        layer.size.saturating_sub(known) > LEAST && Place::of(layer).is_some()
    }

    /// `None`: the layer has no table, or too little of it is here. `known`: bytes of its beginning that
    /// need not come from anywhere.
    ///
    /// # Errors
    /// The registry does not give the table, or it is damaged: the layer is fetched as any other.
    pub fn make(repository: &Repository, layer: &Descriptor, known: u64, donors: Vec<Donor>) -> Result<Option<Self>> {
        let Some(place) = Place::of(layer).filter(|_| !donors.is_empty()) else { return Ok(None) };
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
        for (number, donor) in (0..).zip(&donors) {
            // A damaged one has given what it could.
            if !here.wanted.is_empty() {
                let _ = here.search(number, donor);
            }
        }
        let pieces = pieces(&parts, &here.found, start..layer.size);
        let ours = pieces.iter().filter(|piece| matches!(piece.from, From::Donor(..)));
        let reused = ours.map(|piece| piece.range.end.max(known) - piece.range.start.max(known)).sum();
        Ok((reused >= LEAST).then_some(Self { pieces, donors, tail, reused }))
    }
}

/// The blob from its table on, and where that is.
fn fetch_tail(repository: &Repository, layer: &Descriptor, place: &Place) -> Result<(u64, Vec<u8>)> {
    let fetch = |part: Range<u64>| -> Result<Vec<u8>> {
        let wanted = part.end.saturating_sub(part.start);
        if wanted > toc::MAX_PACKED {
            return Err(Failure::new("a table of contents of too many bytes").into());
        }
        let mut bytes = Vec::new();
        repository.blob_part(&layer.digest, layer.size, part)?.read_to_end(&mut bytes)?;
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
    /// The last part with a key, and for each part the one before it with the same.
    wanted: HashMap<Key, u32>,
    before: Vec<Option<u32>>,
    /// By part: the donor's number, and where in it.
    found: Vec<Option<(u32, u64)>>,
}

impl Here {
    fn of(parts: &[Part]) -> Self {
        let mut wanted = HashMap::with_capacity(parts.len());
        let before = (0..).zip(parts).map(|(number, part)| wanted.insert(part.key, number)).collect();
        Self { wanted, before, found: vec![None; parts.len()] }
    }

    fn search(&mut self, number: u32, donor: &Donor) -> Result<()> {
        let start = match &donor.place {
            Place::Chunked(place) => place.start,
            Place::Stargz => {
                let mut footer = [0; toc::FOOTER];
                donor.file.read_exact_at(&mut footer, donor.size.saturating_sub(toc::FOOTER as u64))?;
                toc::of_footer(&footer).context("no footer of an eStargz")?
            }
        };
        let mut table = &donor.file;
        table.seek(SeekFrom::Start(start))?;
        donor.place.read(BufReader::new(table.take(toc::MAX_PACKED)), start, &mut |part| {
            let mut next = self.wanted.remove(&part.key);
            while let Some(wanted) = next {
                self.found[wanted as usize] = Some((number, part.start));
                next = self.before[wanted as usize];
            }
        })
    }
}

/// Puts the parts together to as few pieces as can be; the last one is the tail.
fn pieces(parts: &[Part], found: &[Option<(u32, u64)>], tail: Range<u64>) -> Vec<Piece> {
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
