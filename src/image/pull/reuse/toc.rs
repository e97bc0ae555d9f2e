//! Tables of contents that some layers carry at their end: which part of the compressed blob is which file.
//!
//! Two kinds are known. *eStargz* (containerd/stargz-snapshotter, docs/estargz.md): each file's contents
//! begin a gzip member, the next files' headers are behind them in it; the table is a JSON file in the
//! last member but one, and the last one, of 51 bytes, says where. *zstd:chunked* (containers/storage,
//! pkg/chunked): contents and headers are zstd frames of their own, the table is in a frame that
//! decompressors skip, and the layer's descriptor says where.
//!
//! A table is a guess at what a part of a blob holds, and from a stranger: what is made of it goes
//! through the digests of the whole layer.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;

use anyhow::Result;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sha2::{Digest as _, Sha256};

use crate::error::Failure;
use crate::image::index::Descriptor;
use crate::image::unpack::tar::Reader;
use crate::image::unpack::{Compression, Decoder};

/// Set on eStargz layers: the digest of the table's JSON text.
const STARGZ: &str = "containerd.io/snapshot/stargz/toc.digest";
/// Set on zstd:chunked layers, the second one by tools from before 2023: `offset:length:length when
/// decompressed:1` of the table.
const CHUNKED: [&str; 2] =
    ["io.github.containers.zstd-chunked.manifest-position", "io.containers.zstd-chunked.manifest-position"];
/// The last gzip member of an eStargz.
pub const FOOTER: usize = 51;
/// The table's file name in an eStargz.
const NAME: &[u8] = b"stargz.index.json";
/// Bytes of a table, compressed and not: enough for some 80,000 files. Larger ones would show in memory.
pub const MAX_PACKED: u64 = 8 << 20;
const MAX_TEXT: u64 = 32 << 20;
/// Of a row, and of what is between two.
const MAX_ROW: usize = 64 << 10;

/// Of a tar archive.
const BLOCK: u64 = 512;

/// Where a blob's table of contents is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Where the blob's last [`FOOTER`] bytes say.
    Stargz,
    /// There.
    Chunked(Range<u64>),
}

impl Place {
    /// Whether a layer has one.
    #[must_use]
    pub fn of(layer: &Descriptor) -> Option<Self> {
        let notes = layer.annotations.as_ref()?;
        if let Some(position) = CHUNKED.iter().find_map(|name| notes.get(*name)) {
            let mut numbers = position.split(':').map(|number| number.parse::<u64>().ok());
            let (start, length, kind) = (numbers.next()??, numbers.next()??, numbers.nth(1)??);
            let end = start.checked_add(length).filter(|end| *end <= layer.size)?;
            return (kind == 1 && length <= MAX_PACKED).then_some(Self::Chunked(start..end));
        }
        notes.contains_key(STARGZ).then_some(Self::Stargz)
    }

    /// Reads a table's parts. `table`: the blob from the table on, which is at `start` of it.
    ///
    /// # Errors
    /// It is no table of this kind, or damaged; what `each` returns.
    pub fn read(&self, table: impl BufRead, start: u64, each: &mut dyn FnMut(Part)) -> Result<()> {
        let mut parts = Parts::new(each);
        match self {
            Self::Stargz => {
                let mut archive = Reader::new(BufReader::new(Decoder::new(table, Compression::Gzip)?));
                let entry = archive.next_entry()?;
                let size = entry.filter(|entry| entry.path == NAME && !entry.is_sparse()).map(|entry| entry.size);
                let size = size.ok_or_else(|| Failure::new("no table of contents is where its footer says"))?;
                parts.read(archive.into_inner().take(size.min(MAX_TEXT)))?;
            }
            Self::Chunked(place) => {
                let table = table.take(place.end - place.start);
                parts.read(Decoder::new(table, Compression::Zstd)?.take(MAX_TEXT))?;
            }
        }
        parts.end_contents();
        // A zstd frame that is skipped has a header of eight bytes.
        parts.close(if *self == Self::Stargz { start } else { start.saturating_sub(8) });
        if parts.is_ordered { Ok(()) } else { Err(Failure::new("a table of contents that is not in order").into()) }
    }
}

/// Where an eStargz's table begins, by its last [`FOOTER`] bytes.
#[must_use]
pub fn of_footer(footer: &[u8]) -> Option<u64> {
    // A gzip header with an extra field, its length, the subfield's name and its length, and that itself.
    let field = footer.get(16..38)?;
    let digits =
        field.strip_suffix(b"STARGZ").filter(|_| footer.starts_with(&[0x1f, 0x8b]) && &footer[12..14] == b"SG")?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// A part of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub start: u64,
    pub length: u64,
    /// Of what the table says of it: parts with the same one have the same bytes, in all likelihood.
    pub key: Key,
}

/// Half of a SHA-256: an accident is not likely, and an intended one gains nothing.
pub type Key = [u8; 16];

/// What the table says of a file, or of a piece of one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    r#type: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    end_offset: u64,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    chunk_digest: String,
    #[serde(default)]
    chunk_size: u64,
    #[serde(default)]
    chunk_offset: u64,
    /// What its header has.
    #[serde(flatten)]
    header: serde_json::Map<String, serde_json::Value>,
}

/// Cuts a blob into parts, as its table goes by.
struct Parts<'a> {
    each: &'a mut dyn FnMut(Part),
    /// The present part's beginning, and what is known of it.
    start: u64,
    known: Sha256,
    /// Where the present file's contents end, if the table says so, and how many bytes they are.
    contents_end: u64,
    size: u64,
    is_ordered: bool,
}

impl<'a> Parts<'a> {
    fn new(each: &'a mut dyn FnMut(Part)) -> Self {
        Self { each, start: 0, known: Sha256::new(), contents_end: 0, size: 0, is_ordered: true }
    }

    fn read(&mut self, text: impl Read) -> Result<()> {
        let left = Cell::new(MAX_ROW);
        let mut json = serde_json::Deserializer::from_reader(Bounded { text: BufReader::new(text), left: &left });
        Ok(Table { parts: self, left: &left }.deserialize(&mut json)?)
    }

    fn row(&mut self, row: &Row) {
        if row.r#type != "chunk" {
            self.end_contents();
            (self.contents_end, self.size) = (row.end_offset, row.size);
            let header = serde_json::to_vec(&row.header).unwrap_or_default();
            self.tell(&[row.r#type.as_bytes(), &row.size.to_le_bytes(), &header]);
        }
        if row.offset > 0 {
            self.close(row.offset);
            let digest = if row.chunk_digest.is_empty() { &row.digest } else { &row.chunk_digest };
            self.tell(&[digest.as_bytes(), &row.chunk_size.to_le_bytes(), &row.chunk_offset.to_le_bytes()]);
        }
    }

    /// Of a file whose next header is a part of its own: that one begins with what fills up the block.
    fn end_contents(&mut self) {
        if self.contents_end > 0 {
            self.close(self.contents_end);
            self.tell(&[&(self.size % BLOCK).to_le_bytes()]);
        }
    }

    fn tell(&mut self, words: &[&[u8]]) {
        for word in words {
            self.known.update((word.len() as u64).to_le_bytes());
            self.known.update(word);
        }
    }

    /// The present part ends, and the next one begins.
    fn close(&mut self, end: u64) {
        let Some(length) = end.checked_sub(self.start) else {
            self.is_ordered = false;
            return;
        };
        // Several small files can share a part.
        if length > 0 {
            self.known.update(length.to_le_bytes());
            let whole: [u8; 32] = self.known.finalize_reset().into();
            let mut key = Key::default();
            key.copy_from_slice(&whole[..16]);
            (self.each)(Part { start: self.start, length, key });
            self.start = end;
        }
    }
}

/// The table as a whole, its rows handed on as they come: they need not be in memory together.
struct Table<'a, 'b> {
    parts: &'a mut Parts<'b>,
    /// See [`Bounded`].
    left: &'a Cell<usize>,
}

/// Text of which so many bytes are left until the row has to end: what is made of a row in memory is
/// a multiple of its text.
struct Bounded<'a, R> {
    text: R,
    left: &'a Cell<usize>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.text.read(into)?;
        let left = self.left.get().checked_sub(n);
        self.left.set(left.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a row without an end"))?);
        Ok(n)
    }
}

impl<'de> DeserializeSeed<'de> for Table<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Table<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of contents")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "version" if map.next_value::<u64>()? == 1 => {}
                "version" => return Err(A::Error::custom("a table of contents of another version")),
                "entries" => map.next_value_seed(Rows { parts: &mut *self.parts, left: self.left })?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct Rows<'a, 'b> {
    parts: &'a mut Parts<'b>,
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Rows<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table's rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while let Some(row) = rows.next_element::<Row>()? {
            self.parts.row(&row);
            self.left.set(MAX_ROW);
        }
        Ok(())
    }
}
