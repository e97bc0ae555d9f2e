//! Reads tar archives as a stream: ustar, GNU (long names, sparse files) and PAX (names, times,
//! owners, sizes, extended attributes, sparse files).
//!
//! The `tar` crate decodes the header's fields. Its own iterator is not used because it takes
//! extension records of any size into memory, and these archives come from strangers.

use std::io::{self, BufRead, ErrorKind, Seek, SeekFrom};

use tar::{EntryType, GnuExtSparseHeader, Header};

const BLOCK: u64 = 512;
/// Bytes of a GNU long name or a PAX record block that are taken into memory. Extended attributes
/// are at most 64 KiB each, and there are few.
const MAX_EXTENSION: u64 = 1 << 20;
/// Extended attributes of an entry; the kernel lists no more than 64 KiB of names.
const MAX_XATTRS: usize = 1024;
/// Parts of a sparse file that are remembered.
const MAX_SPARSE: usize = 1 << 16;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    Fifo,
    CharDevice,
    BlockDevice,
}

/// Seconds since 1970, and nanoseconds (0 to 999 999 999) to be added.
pub type Time = (i64, u32);

/// One entry, with what all its extension records say merged in.
#[derive(Debug)]
pub struct Entry {
    pub kind: Kind,
    /// As the archive has it: hostile.
    pub path: Vec<u8>,
    /// Target of links: hostile.
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: Time,
    pub atime: Option<Time>,
    /// Major and minor number of devices.
    pub device: (u32, u32),
    /// Extended attributes, names without the `SCHILY.xattr.` prefix.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of the file that is made, holes included.
    pub size: u64,
    /// Offset and length of each part with data; `None`: all of the file.
    sparse: Option<Vec<(u64, u64)>>,
}

impl Entry {
    /// One of root's, without a time, a mode or data.
    #[must_use]
    pub fn new(kind: Kind, path: Vec<u8>) -> Self {
        Self {
            kind,
            path,
            link: Vec::new(),
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            atime: None,
            device: (0, 0),
            xattrs: Vec::new(),
            size: 0,
            sparse: None,
        }
    }

    /// Whether the file has holes, or data that is in parts.
    #[must_use]
    pub fn is_sparse(&self) -> bool {
        self.sparse.is_some()
    }
}

/// An archive being read.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// Bytes of the present entry that were not read yet, and its padding.
    left: u64,
    padding: u64,
    /// PAX records for all entries that follow.
    global: Extensions,
}

/// What PAX and GNU records say of the entry behind them.
#[derive(Debug, Default, Clone)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<Time>,
    atime: Option<Time>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: PaxSparse,
}

/// `GNU.sparse.*`: formats 0.0 (offset and numbytes records), 0.1 (map), 1.0 (map in the data).
#[derive(Debug, Default, Clone)]
struct PaxSparse {
    version_1: bool,
    real_size: Option<u64>,
    name: Option<Vec<u8>>,
    parts: Option<Vec<(u64, u64)>>,
    offset: Option<u64>,
}

fn bad(why: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("damaged tar archive: {}", why.into()))
}

impl<R: BufRead> Reader<R> {
    pub fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0, global: Extensions::default() }
    }

    /// The input, behind the last entry that was read.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// The next entry; what was not read of the present one is skipped. `None` at the end.
    ///
    /// # Errors
    /// A damaged or truncated archive, or one whose extension records are absurdly large.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut extensions = self.global.clone();
        let mut seen_any = false;
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else {
                return if seen_any { Err(bad("it ends behind an extension record")) } else { Ok(None) };
            };
            let size = header.entry_size().map_err(|e| bad(e.to_string()))?;
            match header.entry_type() {
                EntryType::GNULongName => extensions.path = Some(until_nul(self.extension(size)?)),
                EntryType::GNULongLink => extensions.link = Some(until_nul(self.extension(size)?)),
                EntryType::XHeader => parse_pax(&self.extension(size)?, &mut extensions)?,
                EntryType::XGlobalHeader => {
                    let records = self.extension(size)?;
                    parse_pax(&records, &mut self.global)?;
                    parse_pax(&records, &mut extensions)?;
                    continue;
                }
                kind => return self.entry(&header, kind, size, extensions).map(Some),
            }
            seen_any = true;
        }
    }

    /// Hands the present file's data to `write` as (offset in the file, bytes), holes left out.
    ///
    /// # Errors
    /// A truncated archive, a sparse map that lies, and what `write` returns.
    pub fn data(&mut self, entry: &Entry, mut write: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let whole = [(0, entry.size)];
        for &(start, length) in entry.sparse.as_deref().unwrap_or(&whole) {
            if length > self.left {
                return Err(bad("a sparse file has less data than its map says"));
            }
            let mut done = 0;
            while done < length {
                let chunk = fill(&mut self.input)?;
                let n = usize::try_from(length - done).unwrap_or(usize::MAX).min(chunk.len());
                write(start + done, &chunk[..n])?;
                self.input.consume(n);
                done += n as u64;
                self.left -= n as u64;
            }
        }
        Ok(())
    }

    fn entry(&mut self, header: &Header, kind: EntryType, size: u64, ext: Extensions) -> io::Result<Entry> {
        let old = header.as_old();
        let path = ext.sparse.name.clone().or(ext.path).unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = match kind {
            // Old archives mark folders by the slash alone.
            EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Link => Kind::HardLink,
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char => Kind::CharDevice,
            EntryType::Block => Kind::BlockDevice,
            // Plain ones; and what is not known is a file, says POSIX.
            _ => Kind::File,
        };
        // Only files have data, whatever the header of another kind claims; hard links of pax -o
        // linkdata are the exception, and their data is skipped.
        let stored = match header.entry_type() {
            EntryType::Directory | EntryType::Symlink | EntryType::Fifo | EntryType::Char | EntryType::Block => 0,
            _ => ext.size.unwrap_or(size),
        };
        self.expect(stored);
        let mut entry = Entry {
            kind,
            path,
            link: ext.link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned)).unwrap_or_default(),
            mode: field(&old.mode, || header.mode())? & 0o7777,
            uid: ext.uid.map_or_else(|| field(&old.uid, || header.uid()), Ok)?,
            gid: ext.gid.map_or_else(|| field(&old.gid, || header.gid()), Ok)?,
            mtime: ext.mtime.map_or_else(|| field(&old.mtime, || mtime(header)), Ok)?,
            atime: ext.atime,
            device: (
                header.device_major().ok().flatten().unwrap_or(0),
                header.device_minor().ok().flatten().unwrap_or(0),
            ),
            xattrs: ext.xattrs,
            size: if kind == Kind::File { stored } else { 0 },
            sparse: None,
        };
        if header.entry_type() == EntryType::GNUSparse {
            self.gnu_sparse(header, &mut entry)?;
        } else if ext.sparse.version_1 {
            entry.sparse = Some(self.sparse_map_in_data()?);
        } else {
            entry.sparse = ext.sparse.parts;
        }
        if let Some(real) = ext.sparse.real_size {
            entry.size = real;
        }
        check_sparse(&entry)?;
        Ok(entry)
    }

    /// A block that is a header; `None` at the end of the archive.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        // An archive may end without its two empty blocks; docker and GNU tar take that.
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        self.input.read_exact(header.as_mut_bytes()).map_err(truncated)?;
        let bytes = header.as_bytes();
        if bytes.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        // The sum of all bytes, the sum's own field taken as blanks.
        let sum = bytes[..148].iter().chain(&bytes[156..]).map(|b| u32::from(*b)).sum::<u32>() + 8 * 32;
        if header.cksum().ok() != Some(sum) {
            return Err(bad("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    fn expect(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK;
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        let mut left = self.left.saturating_add(self.padding);
        while left > 0 {
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(fill(&mut self.input)?.len());
            self.input.consume(n);
            left -= n as u64;
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    /// The data of an extension record, whole.
    fn extension(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            return Err(bad(format!("an extension record of {size} bytes")));
        }
        self.expect(size);
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| bad("size"))?];
        self.input.read_exact(&mut bytes).map_err(truncated)?;
        self.left = 0;
        Ok(bytes)
    }

    /// GNU's old form: four parts in the header, more in the blocks behind it.
    fn gnu_sparse(&mut self, header: &Header, entry: &mut Entry) -> io::Result<()> {
        let wrong = |e: io::Error| bad(e.to_string());
        let gnu = header.as_gnu().ok_or_else(|| bad("a sparse file without a GNU header"))?;
        let mut parts = Vec::new();
        let mut add = |sparse: &[tar::GnuSparseHeader]| -> io::Result<()> {
            for part in sparse.iter().filter(|part| !part.is_empty()) {
                parts.push((part.offset().map_err(wrong)?, part.length().map_err(wrong)?));
            }
            if parts.len() > MAX_SPARSE { Err(bad("a sparse file of too many parts")) } else { Ok(()) }
        };
        add(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            // These blocks are not counted in the entry's size.
            let mut block = GnuExtSparseHeader::new();
            self.input.read_exact(block.as_mut_bytes()).map_err(truncated)?;
            add(block.sparse())?;
            more = block.is_extended();
        }
        entry.size = gnu.real_size().map_err(wrong)?;
        entry.sparse = Some(parts);
        Ok(())
    }

    /// PAX sparse 1.0: the map stands in decimal lines before the data, padded to a block.
    fn sparse_map_in_data(&mut self) -> io::Result<Vec<(u64, u64)>> {
        let mut read = 0u64;
        let mut number = |reader: &mut Self| -> io::Result<u64> {
            let mut value = 0u64;
            loop {
                let mut byte = [0];
                if reader.left == 0 {
                    return Err(bad("a sparse map without an end"));
                }
                reader.input.read_exact(&mut byte).map_err(truncated)?;
                reader.left -= 1;
                read += 1;
                match byte[0] {
                    b'\n' => return Ok(value),
                    digit @ b'0'..=b'9' => {
                        value = value
                            .checked_mul(10)
                            .and_then(|v| v.checked_add(u64::from(digit - b'0')))
                            .ok_or_else(|| bad("a number in a sparse map"))?;
                    }
                    _ => return Err(bad("a sparse map that is not numbers")),
                }
            }
        };
        let count = usize::try_from(number(self)?).unwrap_or(usize::MAX);
        if count > MAX_SPARSE {
            return Err(bad("a sparse file of too many parts"));
        }
        let mut parts = Vec::with_capacity(count);
        for _ in 0..count {
            parts.push((number(self)?, number(self)?));
        }
        let padding = read.wrapping_neg() % BLOCK;
        let mut rest = [0; 512];
        let rest = &mut rest[..usize::try_from(padding.min(self.left)).unwrap_or(0)];
        self.input.read_exact(rest).map_err(truncated)?;
        self.left -= rest.len() as u64;
        Ok(parts)
    }
}

impl<R: BufRead + Seek> Reader<R> {
    /// Jumps over the present entry's data; returns where they start.
    ///
    /// # Errors
    /// As lseek(2).
    pub fn seek_past(&mut self) -> io::Result<u64> {
        let start = self.input.stream_position()?;
        let end = start.checked_add(self.left).and_then(|end| end.checked_add(self.padding));
        self.input.seek(SeekFrom::Start(end.ok_or_else(|| bad("an entry's size"))?))?;
        (self.left, self.padding) = (0, 0);
        Ok(start)
    }
}

fn fill<R: BufRead>(input: &mut R) -> io::Result<&[u8]> {
    let chunk = input.fill_buf()?;
    if chunk.is_empty() { Err(truncated(ErrorKind::UnexpectedEof.into())) } else { Ok(chunk) }
}

fn truncated(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::UnexpectedEof { bad("it ends too early") } else { error }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// A number of the header; some tools leave fields empty that mean nothing to them.
fn field<T: Default>(bytes: &[u8], read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if bytes.iter().all(|b| matches!(b, 0 | b' ')) {
        return Ok(T::default());
    }
    read().map_err(|e| bad(e.to_string()))
}

/// The header's time; GNU's binary form may be negative.
fn mtime(header: &Header) -> io::Result<Time> {
    let field = &header.as_old().mtime;
    if field[0] == 0xff {
        let low: [u8; 8] = field[4..12].try_into().map_err(|_| bad("a time"))?;
        return Ok((i64::from_be_bytes(low), 0));
    }
    Ok((i64::try_from(header.mtime()?).unwrap_or(0), 0))
}

/// The parts of a sparse file are in order, apart, and inside the file.
fn check_sparse(entry: &Entry) -> io::Result<()> {
    let mut end = 0u64;
    for &(start, length) in entry.sparse.iter().flatten() {
        if start < end {
            return Err(bad("a sparse map that overlaps"));
        }
        end = start.checked_add(length).filter(|end| *end <= entry.size).ok_or_else(|| bad("a sparse map too long"))?;
    }
    Ok(())
}

/// PAX records, `LENGTH KEY=VALUE\n` each (pax(1), "pax Extended Header").
fn parse_pax(mut records: &[u8], ext: &mut Extensions) -> io::Result<()> {
    while !records.is_empty() && records[0] != 0 {
        let blank = records.iter().position(|b| *b == b' ').ok_or_else(|| bad("a PAX record"))?;
        let length: usize = text(&records[..blank])?.parse().map_err(|_| bad("a PAX record's length"))?;
        let record = records.get(blank + 1..length).ok_or_else(|| bad("a PAX record's length"))?;
        let record = record.strip_suffix(b"\n").ok_or_else(|| bad("a PAX record without an end"))?;
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(|| bad("a PAX record without a value"))?;
        apply_record(&record[..equals], &record[equals + 1..], ext)?;
        records = &records[length..];
    }
    Ok(())
}

fn apply_record(key: &[u8], value: &[u8], ext: &mut Extensions) -> io::Result<()> {
    let sparse = &mut ext.sparse;
    match key {
        b"path" => ext.path = Some(value.to_vec()),
        b"linkpath" => ext.link = Some(value.to_vec()),
        b"size" => ext.size = Some(number(value)?),
        b"uid" => ext.uid = Some(number(value)?),
        b"gid" => ext.gid = Some(number(value)?),
        b"mtime" => ext.mtime = Some(time(value)?),
        b"atime" => ext.atime = Some(time(value)?),
        b"GNU.sparse.major" => sparse.version_1 = number(value)? == 1,
        b"GNU.sparse.name" => sparse.name = Some(value.to_vec()),
        b"GNU.sparse.realsize" | b"GNU.sparse.size" => sparse.real_size = Some(number(value)?),
        b"GNU.sparse.offset" => sparse.offset = Some(number(value)?),
        b"GNU.sparse.numbytes" => {
            let offset = sparse.offset.take().ok_or_else(|| bad("a sparse part without an offset"))?;
            let parts = sparse.parts.get_or_insert_default();
            parts.push((offset, number(value)?));
            if parts.len() > MAX_SPARSE {
                return Err(bad("a sparse file of too many parts"));
            }
        }
        b"GNU.sparse.map" => {
            let numbers = value.split(|b| *b == b',').map(number).collect::<io::Result<Vec<_>>>()?;
            sparse.parts = Some(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect());
        }
        _ => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                ext.xattrs.retain(|(known, _)| known != name);
                ext.xattrs.push((name.to_vec(), value.to_vec()));
                // An entry may have any number of extension records, each of which is small enough.
                let bytes: usize = ext.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
                if ext.xattrs.len() > MAX_XATTRS || bytes as u64 > MAX_EXTENSION {
                    return Err(bad("too many extended attributes"));
                }
            }
        }
    }
    Ok(())
}

fn text(bytes: &[u8]) -> io::Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| bad("a PAX record that is not text"))
}

fn number(bytes: &[u8]) -> io::Result<u64> {
    text(bytes)?.parse().map_err(|_| bad("a number in a PAX record"))
}

/// Decimal seconds with a fraction; negative before 1970.
fn time(bytes: &[u8]) -> io::Result<Time> {
    let wrong = || bad("a time in a PAX record");
    let text = text(bytes)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| wrong())?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let digits = &fraction[..fraction.len().min(9)];
    let nanoseconds: u32 = format!("{digits:0<9}").parse().map_err(|_| wrong())?;
    // -1.25 is two seconds before 1970 and three quarters.
    if whole.starts_with('-') && nanoseconds > 0 {
        return Ok((seconds.checked_sub(1).ok_or_else(wrong)?, 1_000_000_000 - nanoseconds));
    }
    Ok((seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nanoseconds_and_a_sign() {
        assert_eq!(time(b"1.5").ok(), Some((1, 500_000_000)));
        assert_eq!(time(b"12").ok(), Some((12, 0)));
        assert_eq!(time(b"1.0000000019").ok(), Some((1, 1)));
        assert_eq!(time(b"-1.25").ok(), Some((-2, 750_000_000)));
        assert_eq!(time(b"-0.25").ok(), Some((-1, 750_000_000)));
        assert!(time(b"1.x").is_err());
    }

    #[test]
    fn damaged_records_are_refused() {
        for records in [&b"5 a=b"[..], b"99 path=x\n", b"1 a=b\n", b"x", b"9 pathxy\n", b"0 \n", b"13 size=-111\n"] {
            assert!(parse_pax(records, &mut Extensions::default()).is_err(), "{records:?}");
        }
    }

    #[test]
    fn many_records_are_as_absurd_as_a_large_one() {
        let mut ext = Extensions::default();
        let value = vec![b'x'; 60_000];
        let mut add = |n: u32| apply_record(format!("SCHILY.xattr.user.{n}").as_bytes(), &value, &mut ext);
        assert!((0..10).all(|n| add(n).is_ok()));
        assert!((10..100).any(|n| add(n).is_err()), "bytes");
        let mut ext = Extensions::default();
        let mut add = |n: usize| apply_record(format!("SCHILY.xattr.user.{n}").as_bytes(), b"", &mut ext);
        assert!((0..=MAX_XATTRS).any(|n| add(n).is_err()), "number");
        let mut ext = Extensions::default();
        let mut add = |key: &str| apply_record(key.as_bytes(), b"1", &mut ext);
        let mut part = || add("GNU.sparse.offset").and_then(|()| add("GNU.sparse.numbytes"));
        assert!((0..=MAX_SPARSE).any(|_| part().is_err()), "parts");
    }

    #[test]
    fn an_absurd_extension_is_refused_before_it_is_read() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let error = Reader::new(&header.as_bytes()[..]).next_entry().expect_err("a terabyte of name");
        assert!(error.to_string().contains("1099511627776"), "{error}");
    }

    #[test]
    fn a_truncated_archive_is_not_an_end() {
        let mut header = Header::new_gnu();
        header.set_path("f").expect("path");
        header.set_size(10);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        let mut reader = Reader::new(&header.as_bytes()[..]);
        let entry = reader.next_entry().expect("header").expect("entry");
        assert!(reader.data(&entry, |_, _| Ok(())).is_err());
        assert!(Reader::new(&header.as_bytes()[..100]).next_entry().is_err());
    }
}
