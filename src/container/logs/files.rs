//! The files of a log: all of them in their order, the place where the last lines begin, and reading
//! on from there.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result};
use flate2::read::MultiGzDecoder;

use super::Wanted;
use super::record::{self, Next, Record};
use crate::monitor::log::file::{GZ, numbered, with_suffix};
use crate::monitor::log::{Format, frame};

/// How often the files are opened anew when they were rotated in the meantime.
const TRIES: u32 = 100;

#[derive(Debug)]
pub(super) struct LogFile {
    pub file: File,
    pub compressed: bool,
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Start {
    /// Which file.
    pub file: usize,
    within: Within,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    /// From this byte on.
    Byte(u64),
    /// Behind so many ends of lines: a compressed file has no other way in.
    Lines(u64),
}

impl Default for Within {
    fn default() -> Self {
        Self::Byte(0)
    }
}

impl Start {
    /// Where a file is begun with.
    pub(super) fn within(&self, file: usize) -> Within {
        if file == self.file { self.within } else { Within::default() }
    }
}

/// All files that are there, the oldest first.
pub(super) fn open_all(path: &Path) -> Result<Vec<LogFile>> {
    let mut files = Vec::new();
    for _ in 0..TRIES {
        files = open_once(path).with_context(|| format!("open the log {path:?}"))?;
        // A rotation while they were opened may have hidden one, or shown it twice.
        match (files.last(), File::open(path)) {
            (Some(last), Ok(now)) if !is_same(&last.file, &now) => {}
            _ => break,
        }
    }
    Ok(files)
}

fn open_once(path: &Path) -> io::Result<Vec<LogFile>> {
    let mut files: Vec<LogFile> = Vec::new();
    for n in 0.. {
        let plain = numbered(path, n);
        let missing = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
        let found = match File::open(&plain) {
            Err(e) if missing(&e) && n > 0 => (File::open(with_suffix(&plain, GZ)), true),
            other => (other, false),
        };
        match found {
            (Ok(file), compressed) if !files.iter().any(|f| is_same(&f.file, &file)) => {
                files.push(LogFile { file, compressed });
            }
            (Ok(_), _) => {}
            (Err(e), _) if missing(&e) => break,
            (Err(e), _) => return Err(e),
        }
    }
    files.reverse();
    Ok(files)
}

fn is_same(a: &File, b: &File) -> bool {
    let number = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
    number(a) == number(b)
}

impl LogFile {
    pub(super) fn reader(self, format: Format, start: Within) -> Reader {
        let (offset, skip) = match start {
            Within::Byte(offset) => (offset, 0),
            Within::Lines(lines) => (0, lines),
        };
        let place = Place { file: self.file, offset };
        let source: Box<dyn Read> =
            if self.compressed { Box::new(MultiGzDecoder::new(place)) } else { Box::new(place) };
        Reader { source, format, skip, rest: Vec::new() }
    }

    fn again(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, compressed: self.compressed })
    }
}

/// A place in a file. Not the open file's own one: others read the same open file.
struct Place {
    file: File,
    offset: u64,
}

impl Read for Place {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(buffer, self.offset)?;
        self.offset += got as u64;
        Ok(got)
    }
}

/// A file that is read record by record as it grows.
pub(super) struct Reader {
    source: Box<dyn Read>,
    format: Format,
    /// Ends of lines to pass first.
    skip: u64,
    /// The beginning of a record whose end has not been written yet.
    rest: Vec<u8>,
}

impl Reader {
    /// Reads to the end; false: past what is wanted.
    pub(super) fn drain(&mut self, wanted: &Wanted, sink: &mut impl FnMut(&Record<'_>)) -> Result<bool> {
        const CHUNK: usize = 128 * 1024;
        loop {
            let held = self.rest.len();
            self.rest.resize(held + CHUNK, 0);
            let got = self.source.read(&mut self.rest[held..]);
            self.rest.truncate(held + got.as_ref().copied().unwrap_or(0));
            match got {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e).context("read the log"),
                Ok(0) => return Ok(true),
                Ok(_) => {}
            }
            let mut at = 0;
            loop {
                match record::next(self.format, &self.rest[at..]) {
                    Next::Record(record, length) => {
                        at += length;
                        if self.skip > 0 {
                            self.skip -= u64::from(record.ended);
                        } else if !wanted.pass_on(&record, sink) {
                            return Ok(false);
                        }
                    }
                    Next::Damaged(length) if length > 0 => at += length,
                    Next::Damaged(_) | Next::Unfinished => break,
                }
            }
            self.rest.drain(..at);
        }
    }
}

/// Where the last `lines` lines begin.
pub(super) fn tail(files: &mut [LogFile], format: Format, lines: u64) -> Result<Start> {
    let mut found = 0;
    // The last line counts though its end may not have come yet.
    let mut ends_line = true;
    for (index, file) in files.iter().enumerate().rev() {
        if file.compressed {
            let mut ends = 0;
            let all = Wanted::default();
            file.again()?.reader(format, Within::default()).drain(&all, &mut |record| {
                ends += u64::from(record.ended);
            })?;
            if ends > lines - found {
                return Ok(Start { file: index, within: Within::Lines(ends - (lines - found)) });
            }
            found += ends;
            continue;
        }
        let mut end = file.file.metadata()?.len();
        let mut backwards = Backwards { file: &file.file, format, block: Vec::new(), from: end };
        while let Some(record) = backwards.record_before(end)? {
            let is_end = record.is_line_end || ends_line;
            ends_line = false;
            if is_end {
                if found == lines {
                    return Ok(Start { file: index, within: Within::Byte(end) });
                }
                found += 1;
            }
            end = record.from;
        }
    }
    Ok(Start::default())
}

/// A file read block by block from its end.
struct Backwards<'a> {
    file: &'a File,
    format: Format,
    /// What was read, from `from` on.
    block: Vec<u8>,
    from: u64,
}

struct Found {
    from: u64,
    is_line_end: bool,
}

impl Backwards<'_> {
    /// The record that ends at `end`; `None` at the beginning of the file.
    fn record_before(&mut self, end: u64) -> Result<Option<Found>> {
        const BLOCK: u64 = 64 * 1024;
        if end == 0 {
            return Ok(None);
        }
        loop {
            let known = usize::try_from(end - self.from)?;
            let whole = &self.block[..known];
            let begin = match self.format {
                // The newline at the very end is this record's own.
                Format::Json => memchr::memrchr(b'\n', &whole[..known.saturating_sub(1)]).map(|at| at + 1),
                Format::Frames => match frame::length_before(whole) {
                    Some(length) => known.checked_sub(length),
                    // Damaged: all before is lost.
                    None if known >= frame::TAIL => return Ok(None),
                    None => None,
                },
            };
            if begin.is_some() || self.from == 0 && known > 0 {
                let at = begin.unwrap_or(0);
                let text = &whole[at..];
                let is_line_end = match self.format {
                    Format::Json => record::line(text).is_some_and(|record| record.ended),
                    Format::Frames => matches!(frame::parse(text), Ok(Some(frame)) if frame.ended),
                };
                return Ok(Some(Found { from: self.from + at as u64, is_line_end }));
            }
            let more = BLOCK.min(self.from);
            let mut block = vec![0; usize::try_from(more)?];
            self.from -= more;
            self.file.read_exact_at(&mut block, self.from).context("read the log")?;
            // What lies behind `end` was dealt with.
            block.extend_from_slice(whole);
            self.block = block;
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
