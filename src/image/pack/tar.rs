//! Writes tar archives: ustar, with PAX records in front of what ustar cannot say (long names, large
//! numbers, extended attributes).
//!
//! Times are whole seconds and owners are numbers without names, as Docker writes them: the same
//! tree gives the same bytes on every machine. Names go as they are, UTF-8 or not; a reader that
//! follows POSIX to the letter would want the former, those in use (GNU, BSD, Go) take both.

use std::fs::File;
use std::io::{self, Read, Write};

use anyhow::{Context, Result};

use super::Sink;
use crate::image::unpack::tar::{Entry, Kind};

const BLOCK: u64 = 512;
/// What is collected before it is written.
const BUFFER: usize = 256 << 10;
/// The largest numbers that fit into 7 and 11 octal digits.
const MAX_ID: u64 = 0o777_7777;
const MAX_NUMBER: u64 = 0o777_7777_7777;
const NAME: usize = 100;
const PREFIX: usize = 155;

/// Where an archive goes.
pub trait Output: Write {
    /// Writes up to `size` bytes of `file` from where it stands; returns how many it had.
    ///
    /// # Errors
    /// Reading or writing.
    fn copy(&mut self, file: &File, size: u64) -> io::Result<u64>;
}

impl Output for File {
    fn copy(&mut self, file: &File, size: u64) -> io::Result<u64> {
        // Inside the kernel where that is possible: copy_file_range(2), sendfile(2), splice(2).
        io::copy(&mut file.take(size), self)
    }
}

/// An archive being written. Dropped before [`Writer::finish`], it is not complete.
#[derive(Debug)]
pub struct Writer<W: Output> {
    out: W,
    buffer: Vec<u8>,
    written: u64,
    shortened: u64,
}

impl<W: Output> Writer<W> {
    pub fn new(out: W) -> Self {
        Self { out, buffer: Vec::with_capacity(BUFFER + 4096), written: 0, shortened: 0 }
    }

    /// Bytes of the archive so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Files that became shorter while they were read; zeros stand in the place of what they lost.
    #[must_use]
    pub fn shortened(&self) -> u64 {
        self.shortened
    }

    /// Writes an entry; `data` are those of a regular file.
    ///
    /// # Errors
    /// As the output; a name that no archive can hold.
    pub fn add(&mut self, entry: &Entry, data: Option<&File>) -> io::Result<()> {
        headers(entry, &mut self.buffer)?;
        self.written += total(entry);
        let size = stored(entry);
        let had = match data {
            Some(file) if size > 0 => self.contents(file, size)?,
            _ => 0,
        };
        if had < size {
            self.shortened += 1;
            self.zeros(size - had)?;
        }
        self.zeros(padding(size))?;
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Writes the entry of a regular file whose data are read from `data`, as many as the entry says.
    ///
    /// # Errors
    /// As the output; `data` cannot be read, or has less than that.
    pub fn add_from(&mut self, entry: &Entry, data: &mut dyn Read) -> io::Result<()> {
        headers(entry, &mut self.buffer)?;
        self.written += total(entry);
        let mut left = stored(entry);
        while left > 0 {
            let begun = self.buffer.len();
            let room = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER.saturating_sub(begun).max(1));
            self.buffer.resize(begun + room, 0);
            data.read_exact(&mut self.buffer[begun..])?;
            left -= room as u64;
            if self.buffer.len() >= BUFFER {
                self.flush()?;
            }
        }
        self.zeros(padding(stored(entry)))?;
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn contents(&mut self, file: &File, size: u64) -> io::Result<u64> {
        if size < BUFFER as u64 / 4 {
            return file.take(size).read_to_end(&mut self.buffer).map(|n| n as u64);
        }
        self.flush()?;
        self.out.copy(file, size)
    }

    /// The two blocks of zeros that end an archive, and everything out.
    ///
    /// # Errors
    /// As the output.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        self.zeros(2 * BLOCK)?;
        self.flush()?;
        self.out.flush()?;
        Ok((self.out, self.written + 2 * BLOCK))
    }

    fn zeros(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let n = usize::try_from(count).unwrap_or(BUFFER).min(BUFFER);
            self.buffer.resize(self.buffer.len() + n, 0);
            count -= n as u64;
            if self.buffer.len() >= BUFFER {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl<W: Output> Sink for Writer<W> {
    fn put(&mut self, entry: &Entry, data: Option<&File>) -> Result<()> {
        self.add(entry, data).context("write the archive")
    }
}

/// Bytes that an entry takes in an archive: headers, data, padding.
#[must_use]
pub fn total(entry: &Entry) -> u64 {
    let records = records(entry).len() as u64;
    let extended = if records == 0 { 0 } else { BLOCK + records + padding(records) };
    extended + BLOCK + stored(entry) + padding(stored(entry))
}

/// [`total`] without the data.
#[must_use]
pub fn overhead(entry: &Entry) -> u64 {
    total(entry) - stored(entry)
}

/// Bytes of the two blocks at an archive's end.
pub const END: u64 = 2 * BLOCK;

fn stored(entry: &Entry) -> u64 {
    if entry.kind == Kind::File { entry.size } else { 0 }
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}

/// The name as it is written: folders end in a slash.
fn name(entry: &Entry) -> Vec<u8> {
    let mut name = entry.path.clone();
    if entry.kind == Kind::Directory && !name.ends_with(b"/") {
        name.push(b'/');
    }
    name
}

/// How ustar splits a name that is longer than its field: prefix, name. `None`: not at all.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME {
        return Some((b"", name));
    }
    // The slash between both is not stored; one at the end of a folder's name is.
    let slashes = name[..name.len() - 1].iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let mut fitting = slashes.filter(|at| *at > 0 && *at <= PREFIX && name.len() - at - 1 <= NAME);
    fitting.next().map(|at| (&name[..at], &name[at + 1..]))
}

/// The PAX records that an entry needs.
fn records(entry: &Entry) -> Vec<u8> {
    let mut all = Vec::new();
    let name = name(entry);
    if split(&name).is_none() {
        record(&mut all, b"path", &name);
    }
    if entry.link.len() > NAME {
        record(&mut all, b"linkpath", &entry.link);
    }
    for (key, id) in [(b"uid", entry.uid), (b"gid", entry.gid)] {
        if id > MAX_ID {
            record(&mut all, key, id.to_string().as_bytes());
        }
    }
    if stored(entry) > MAX_NUMBER {
        record(&mut all, b"size", entry.size.to_string().as_bytes());
    }
    if !(0..=MAX_NUMBER.cast_signed()).contains(&entry.mtime.0) {
        record(&mut all, b"mtime", entry.mtime.0.to_string().as_bytes());
    }
    for (key, value) in &entry.xattrs {
        record(&mut all, &[b"SCHILY.xattr.", key.as_slice()].concat(), value);
    }
    all
}

/// `LENGTH KEY=VALUE\n`, where LENGTH counts itself.
fn record(all: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    all.extend_from_slice(format!("{length} ").as_bytes());
    all.extend_from_slice(key);
    all.push(b'=');
    all.extend_from_slice(value);
    all.push(b'\n');
}

/// Everything in front of the data.
fn headers(entry: &Entry, out: &mut Vec<u8>) -> io::Result<()> {
    let has_zero = |bytes: &[u8]| bytes.contains(&0);
    if has_zero(&entry.path) || has_zero(&entry.link) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a name with a zero byte"));
    }
    let records = records(entry);
    if !records.is_empty() {
        let mut block = [0; 512];
        block[..9].copy_from_slice(b"pax/entry");
        fill(&mut block, b'x', 0o644, (0, 0), records.len() as u64, 0);
        out.extend_from_slice(&block);
        out.extend_from_slice(&records);
        let end = out.len() + usize::try_from(padding(records.len() as u64)).unwrap_or(0);
        out.resize(end, 0);
    }
    let mut block = [0; 512];
    let whole = name(entry);
    // Where PAX has the name, what stands here is for those who do not know PAX.
    let (prefix, short) = split(&whole).unwrap_or_else(|| (b"", &whole[whole.len().saturating_sub(NAME)..]));
    block[..short.len()].copy_from_slice(short);
    block[345..345 + prefix.len()].copy_from_slice(prefix);
    let link = &entry.link[..entry.link.len().min(NAME)];
    block[157..157 + link.len()].copy_from_slice(link);
    let kind = match entry.kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    };
    if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
        octal(&mut block[329..337], entry.device.0.into());
        octal(&mut block[337..345], entry.device.1.into());
    }
    let time = u64::try_from(entry.mtime.0).unwrap_or(0);
    fill(&mut block, kind, entry.mode, (entry.uid, entry.gid), stored(entry), time);
    out.extend_from_slice(&block);
    Ok(())
}

/// The fields that all headers have, the sum last.
fn fill(block: &mut [u8; 512], kind: u8, mode: u32, (uid, gid): (u64, u64), size: u64, time: u64) {
    octal(&mut block[100..108], (mode & 0o7777).into());
    octal(&mut block[108..116], if uid > MAX_ID { 0 } else { uid });
    octal(&mut block[116..124], if gid > MAX_ID { 0 } else { gid });
    octal(&mut block[124..136], if size > MAX_NUMBER { 0 } else { size });
    octal(&mut block[136..148], if time > MAX_NUMBER { 0 } else { time });
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum = block.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut block[148..155], sum);
}

/// Octal digits and a zero byte that fill the field.
fn octal(field: &mut [u8], number: u64) {
    let width = field.len() - 1;
    let digits = format!("{number:0width$o}");
    field[..width].copy_from_slice(&digits.as_bytes()[digits.len() - width..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::unpack::tar::Reader;
    use std::io::{Seek, SeekFrom};

    fn through(entry: &Entry, data: &[u8]) -> (Entry, Vec<u8>, Vec<u8>) {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(data).and_then(|()| file.rewind()).expect("data");
        let mut writer = Writer::new(tempfile::tempfile().expect("a file"));
        writer.add(entry, Some(&file)).expect("written");
        assert_eq!(writer.written(), total(entry));
        let (mut archive, length) = writer.finish().expect("finished");
        archive.seek(SeekFrom::Start(0)).expect("rewound");
        let mut bytes = Vec::new();
        archive.read_to_end(&mut bytes).expect("read");
        assert_eq!(bytes.len() as u64, length);
        let mut reader = Reader::new(&bytes[..]);
        let read = reader.next_entry().expect("good").expect("an entry");
        let mut content = Vec::new();
        let take = |_, part: &[u8]| {
            content.extend_from_slice(part);
            Ok(())
        };
        reader.data(&read, take).expect("data");
        assert!(reader.next_entry().expect("good").is_none());
        (read, content, bytes)
    }

    #[test]
    fn what_is_written_is_read() {
        let long = [b"d/".repeat(60), b"\xff\xfe".repeat(80)].concat();
        let mut entry = Entry::new(Kind::File, long.clone());
        entry.mode = 0o4755;
        (entry.uid, entry.gid) = (3_000_000_000, 7);
        entry.mtime = (-5, 0);
        entry.size = 5;
        entry.xattrs = vec![(b"user.k=v".to_vec(), b"a\nb\0".to_vec()), (b"user.z".to_vec(), vec![b'z'; 70_000])];
        let (read, content, _) = through(&entry, b"hello");
        assert_eq!((read.path, content), (long, b"hello".to_vec()));
        assert_eq!((read.mode, read.uid, read.gid, read.mtime), (0o4755, 3_000_000_000, 7, (-5, 0)));
        assert_eq!(read.xattrs[1], entry.xattrs[1]);
        let mut link = Entry::new(Kind::Symlink, b"l".to_vec());
        link.link = b"../".repeat(500);
        assert_eq!(through(&link, b"").0.link, link.link);
    }

    #[test]
    fn names_that_ustar_can_split_need_no_record() {
        let path = [b"a".repeat(90), b"b".repeat(90)].join(&b'/');
        let (read, _, bytes) = through(&Entry::new(Kind::Directory, path.clone()), b"");
        assert_eq!(read.path, [path, b"/".to_vec()].concat());
        assert_eq!(bytes.len(), 512 + 1024);
    }

    #[test]
    fn a_file_that_shrank_is_filled_up() {
        let mut entry = Entry::new(Kind::File, b"f".to_vec());
        entry.size = 1000;
        let (_, content, bytes) = through(&entry, b"short");
        assert!(content.starts_with(b"short\0") && content.len() == 1000 && bytes.len() == 512 + 1024 + 1024);
    }

    #[test]
    fn lengths_of_records_count_themselves() {
        for length in [1, 80, 89, 90, 91, 92, 980, 990, 991, 992, 9_990] {
            let mut all = Vec::new();
            record(&mut all, b"k", &b"v".repeat(length));
            let text = String::from_utf8(all.clone()).expect("text");
            assert_eq!(text.split(' ').next().and_then(|n| n.parse().ok()), Some(all.len()));
        }
    }
}
