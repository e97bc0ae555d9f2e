//! An archive of images as it lies: which members it has, and what they hold.
//!
//! Its members come in any order, so one that cannot be read at random (standard input, or
//! compressed) is first decompressed into a temporary file of the store. Nothing of it is trusted: a
//! name or link that leads out of it is no member, and one that is there twice makes all of it void,
//! since two readers could take two different ones.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::error::Failure;
use crate::image::blobs::{self, Temporary};
use crate::image::digest::Digest;
use crate::image::unpack::foreign::{self, Foreign};
use crate::image::unpack::path::clean;
use crate::image::unpack::tar::{Kind, Reader};
use crate::image::unpack::{self, Compression, Decoder};

/// Members that are remembered: an image has some hundred at most.
const MAX_MEMBERS: usize = 100_000;
/// Bytes of their names.
const MAX_NAMES: usize = 16 << 20;
/// Links from member to member that are followed.
const MAX_LINKS: usize = 8;

/// Where a member's data start, and how many bytes they are.
pub type Place = (u64, u64);

/// An archive that can be read at random.
pub struct Archive {
    file: File,
    files: HashMap<Vec<u8>, Place>,
    /// `None`: it leads out of the archive.
    links: HashMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Archive {
    /// `dir`: for its copy, where it needs one.
    ///
    /// # Errors
    /// No archive, a damaged one, or one that has a member twice; no room for its copy.
    pub fn open(mut source: File, dir: &Path) -> Result<Self> {
        let plain = source.metadata()?.is_file() && {
            let mut start = [0; 8];
            let n = source.read_at(&mut start, 0)?;
            foreign::program(&start[..n]).is_none() && Compression::detect(&start[..n])? == Compression::None
        };
        if plain {
            source.seek(SeekFrom::Start(0))?;
            return Self::index(source);
        }
        let mut input = BufReader::with_capacity(1 << 17, source);
        let start = io::BufRead::fill_buf(&mut input)?;
        let spool = Temporary::in_dir(dir);
        let mut file = spool.create()?;
        let copied = if let Some(program) = foreign::program(start) {
            io::copy(&mut Foreign::start(program, input, dir)?, &mut file)
        } else {
            let compression = Compression::detect(start)?;
            io::copy(&mut Decoder::new(input, compression)?, &mut file)
        };
        copied.context("decompress it")?;
        file.flush()?;
        file.seek(SeekFrom::Start(0))?;
        Self::index(file)
    }

    fn index(file: File) -> Result<Self> {
        let mut archive = Self { file, files: HashMap::new(), links: HashMap::new() };
        let length = archive.file.metadata()?.len();
        // Small: it is refilled behind each member's data, which are not read here.
        let mut reader = Reader::new(BufReader::with_capacity(2048, archive.file.try_clone()?));
        let mut names = 0;
        while let Some(entry) = reader.next_entry()? {
            let start = reader.seek_past()?;
            let Ok(path) = clean(&entry.path) else { continue };
            match entry.kind {
                Kind::File => {
                    if length.saturating_sub(start) < entry.size {
                        return Err(Failure::new("it ends too early").into());
                    }
                    if let Some(_twice) = archive.files.insert(path.clone(), (start, entry.size)) {
                        let name = String::from_utf8_lossy(&path).into_owned();
                        return Err(Failure::new(format!("damaged archive: it has the member {name:?} twice")).into());
                    }
                }
                Kind::Symlink => {
                    let (folder, _) = unpack::path::split(&path);
                    let target = match entry.link.first() {
                        Some(b'/') => None,
                        _ => clean(&[folder, b"/", &entry.link].concat()).ok(),
                    };
                    archive.links.insert(path, target);
                }
                Kind::HardLink => {
                    archive.links.insert(path, clean(&entry.link).ok());
                }
                _ => {}
            }
            names += entry.path.len() + entry.link.len();
            if archive.files.len() + archive.links.len() > MAX_MEMBERS || names > MAX_NAMES {
                return Err(Failure::new(format!("it has more than {MAX_MEMBERS} members, or too long names")).into());
            }
        }
        Ok(archive)
    }

    /// Where a member's data are; old archives share layers by links.
    ///
    /// # Errors
    /// It is a link that leads out of the archive.
    pub fn member(&self, name: &str) -> Result<Option<Place>> {
        let mut path = clean(name.as_bytes()).with_context(|| format!("damaged archive: member {name:?}"))?;
        for _ in 0..MAX_LINKS {
            if let Some(place) = self.files.get(&path) {
                return Ok(Some(*place));
            }
            match self.links.get(&path) {
                Some(Some(target)) => path.clone_from(target),
                Some(None) => {
                    let why = format!("damaged archive: the member {name:?} is a link that leads out of it");
                    return Err(Failure::new(why).into());
                }
                None => break,
            }
        }
        Ok(None)
    }

    pub fn reader(&self, (start, size): Place) -> impl Read {
        Section { file: &self.file, position: start, end: start + size }
    }

    /// # Errors
    /// One that is not supported.
    pub fn compression(&self, (start, size): Place) -> Result<Compression> {
        let mut bytes = [0; 8];
        let n = self.file.read_at(&mut bytes[..usize::try_from(size).unwrap_or(8).min(8)], start)?;
        Ok(Compression::detect(&bytes[..n])?)
    }

    /// A small member; `None`: there is none of that name.
    ///
    /// # Errors
    /// It is larger than a document may be.
    pub fn document(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(place) = self.member(name)? else { return Ok(None) };
        blobs::bounded(self.reader(place)).with_context(|| format!("member {name:?}")).map(Some)
    }

    /// [`Archive::document`] that has to be there.
    ///
    /// # Errors
    /// It is not there.
    pub fn needed(&self, name: &str) -> Result<Vec<u8>> {
        self.document(name)?.ok_or_else(|| missing(name))
    }

    /// A document by its digest, by which it is checked.
    ///
    /// # Errors
    /// It is not there, or is another one.
    pub fn blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let name = blob_name(digest);
        let bytes = self.needed(&name)?;
        let is = Digest::of(&bytes);
        if is == *digest {
            return Ok(bytes);
        }
        Err(Failure::new(format!("damaged archive: member {name:?} has the digest {is}")).into())
    }
}

/// A part of a file.
struct Section<'a> {
    file: &'a File,
    position: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX).min(into.len());
        let n = self.file.read_at(&mut into[..left], self.position)?;
        self.position += n as u64;
        Ok(n)
    }
}

/// Where an OCI image layout has a blob.
pub fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

pub fn missing(name: &str) -> anyhow::Error {
    Failure::new(format!("damaged archive: it has no member {name:?}")).into()
}
