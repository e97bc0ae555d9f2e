//! The files of the json-file and local drivers: appended to, rotated, always ending with a whole
//! record.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::compress::Compression;
use super::{Format, frame};

/// How large a log may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a file, after which the next one is begun; 0: no limit.
    pub size: u64,
    /// Files, the current one among them.
    pub files: u32,
    /// All but the current one are compressed (gzip).
    pub compress: bool,
}

/// The name of a rotated file; 0: of the current one. A compressed one has [`GZ`] behind it.
#[must_use]
pub fn numbered(path: &Path, n: u32) -> PathBuf {
    with_suffix(path, &if n == 0 { String::new() } else { format!(".{n}") })
}

/// What the names of compressed files end with.
pub const GZ: &str = ".gz";

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// Bytes in the file, all of whole records.
    length: u64,
    limits: Limits,
    /// Of the file that was rotated last.
    compression: Option<Compression>,
    /// Files that were begun since somebody asked; `None`: nobody wants to know.
    begun: Option<Vec<File>>,
    /// Why records are left out at present, and how many bytes of them were.
    gap: Option<(io::ErrorKind, u64)>,
    problem: Option<String>,
    told: bool,
}

impl LogFile {
    pub(super) fn open(path: PathBuf, limits: Limits, format: Format) -> Result<Self> {
        let file = append_to(&path).with_context(|| format!("open the log {path:?}"))?;
        let length = file.metadata()?.len();
        let (compression, begun, gap) = (None, None, None);
        let mut log = Self { path, file, length, limits, compression, begun, gap, problem: None, told: false };
        log.drop_torn_record(format);
        Ok(log)
    }

    /// How many bytes of records are to be gathered at most: the limit of a file is kept that well.
    pub(super) fn batch(&self) -> usize {
        const BATCH: u64 = 64 * 1024;
        let size = if self.limits.size > 0 { (self.limits.size / 8).min(BATCH) } else { BATCH };
        usize::try_from(size).unwrap_or(0)
    }

    /// How many bytes of output should come at once. A line of one byte makes a record of eighty.
    pub(super) fn piece(&self) -> usize {
        let size = if self.begun.is_some() { self.limits.size } else { 0 };
        if size == 0 { usize::MAX } else { usize::try_from(size / 4).unwrap_or(usize::MAX).max(512) }
    }

    /// Appends whole records, or none of them. `mark`: the record for so many bytes that are missing.
    pub(super) fn append(&mut self, records: &[u8], mark: impl FnOnce(&str) -> Vec<u8>) {
        if self.limits.size > 0 && self.length >= self.limits.size {
            self.rotate();
        } else if let Some(compression) = self.compression.take() {
            self.compression = compression.unless_over();
        }
        let written = match self.gap.take() {
            None => self.write(records),
            // The mark goes first: only when there is room for it too, the gap has ended.
            Some((kind, bytes)) => {
                let mark = mark(&format!("[ctr: {bytes} bytes of log are missing here: {kind}]"));
                self.write(&[&mark, records].concat()).inspect_err(|_| self.gap = Some((kind, bytes)))
            }
        };
        if let Err(e) = written {
            let (kind, bytes) = self.gap.take().unwrap_or((e.kind(), 0));
            self.gap = Some((kind, bytes + records.len() as u64));
            if !self.told {
                self.told = true;
                self.problem = Some(format!("output is not logged: write {:?}: {e}", self.path));
            }
        }
    }

    /// What the user should be told, once.
    pub(super) fn take_problem(&mut self) -> Option<String> {
        self.problem.take()
    }

    /// All files that are there, the oldest first, with whether they are compressed; from now on
    /// [`LogFile::begun`] tells which are added.
    pub(super) fn follow(&mut self) -> io::Result<Vec<(File, bool)>> {
        self.begun.get_or_insert_default();
        // Now it is either compressed or not.
        self.compression = None;
        let mut files = vec![(File::open(&self.path)?, false)];
        for n in 1..self.limits.files {
            let plain = numbered(&self.path, n);
            match File::open(&plain) {
                Ok(file) => files.push((file, false)),
                Err(_) => match File::open(with_suffix(&plain, GZ)) {
                    Ok(file) => files.push((file, true)),
                    Err(_) => break,
                },
            }
        }
        files.reverse();
        Ok(files)
    }

    pub(super) fn begun(&mut self) -> Vec<File> {
        self.begun.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Nobody follows any more.
    pub(super) fn unfollow(&mut self) {
        self.begun = None;
    }

    fn write(&mut self, records: &[u8]) -> io::Result<()> {
        self.file.write_all(records).inspect_err(|_| {
            // A part may have been written; the next record begins a line of its own.
            let _ = self.file.set_len(self.length);
        })?;
        self.length += records.len() as u64;
        Ok(())
    }

    /// `log` becomes `log.1`, `log.1` becomes `log.2`; the oldest one goes.
    fn rotate(&mut self) {
        // It works on a name that moves now.
        self.compression = None;
        for n in (1..self.limits.files).rev() {
            let (from, to) = (numbered(&self.path, n - 1), numbered(&self.path, n));
            let (from_gz, to_gz) = (with_suffix(&from, GZ), with_suffix(&to, GZ));
            // Only one of the two is there afterwards.
            if fs::rename(&from, &to).is_ok() {
                let _ = fs::remove_file(to_gz);
            } else if n > 1 && fs::rename(from_gz, to_gz).is_ok() {
                let _ = fs::remove_file(to);
            }
        }
        if self.limits.files == 1 {
            let _ = fs::remove_file(&self.path);
        }
        // A new file rather than a truncated one: whoever reads the old one reads it to its end.
        if let Ok(file) = append_to(&self.path) {
            self.length = file.metadata().map_or(0, |m| m.len());
            self.file = file;
            if let Some(begun) = &mut self.begun
                && let Ok(file) = File::open(&self.path)
            {
                begun.push(file);
            }
            if self.limits.compress && self.limits.files > 1 {
                self.compression = Compression::start(&numbered(&self.path, 1));
            }
        }
    }

    /// A monitor that was killed may have left a record half written.
    fn drop_torn_record(&mut self, format: Format) {
        let whole = match format {
            Format::Json => self.whole_lines(),
            Format::Frames => self.whole_frames(),
        };
        if let Ok(whole) = whole
            && whole < self.length
            && self.file.set_len(whole).is_ok()
        {
            self.length = whole;
        }
    }

    fn whole_lines(&self) -> io::Result<u64> {
        let mut last = [b'\n'];
        self.file.read_at(&mut last, self.length.saturating_sub(1))?;
        if last == *b"\n" {
            return Ok(self.length);
        }
        // Longer than any record.
        let mut tail = vec![0u8; 256 * 1024];
        let from = self.length.saturating_sub(tail.len() as u64);
        let got = self.file.read_at(&mut tail, from)?;
        let newline = tail[..got].iter().rposition(|&b| b == b'\n');
        Ok(newline.map_or(from, |at| from + at as u64 + 1))
    }

    fn whole_frames(&self) -> io::Result<u64> {
        let mut tail = [0; frame::TAIL];
        let at = self.length.saturating_sub(frame::TAIL as u64);
        if self.length == 0 {
            return Ok(0);
        }
        if self.file.read_exact_at(&mut tail, at).is_ok()
            && let Some(length) = frame::length_before(&tail).filter(|length| *length as u64 <= self.length)
        {
            let mut last = vec![0; length];
            self.file.read_exact_at(&mut last, self.length - length as u64)?;
            if frame::whole(&last) == length {
                return Ok(self.length);
            }
        }
        // Only now the whole file is looked at, piece by piece.
        let (mut file, mut bytes, mut whole) = (File::open(&self.path)?, Vec::new(), 0);
        while Read::by_ref(&mut file).take(1 << 16).read_to_end(&mut bytes)? > 0 {
            let length = frame::whole(&bytes);
            bytes.drain(..length);
            whole += length as u64;
        }
        Ok(whole)
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    File::options().read(true).append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNLIMITED: Limits = Limits { size: 0, files: 1, compress: false };

    fn mark(text: &str) -> Vec<u8> {
        format!("{text}\n").into_bytes()
    }

    fn append(log: &mut LogFile, records: &str) {
        log.append(records.as_bytes(), mark);
    }

    #[test]
    fn files_are_rotated_and_the_oldest_goes() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("log");
        let limits = Limits { size: 8, files: 3, compress: false };
        let mut log = LogFile::open(path, limits, Format::Json).expect("open");
        for record in ["aaaaaaa\n", "bbbbbbb\n", "ccccccc\n", "ddddddd\n"] {
            append(&mut log, record);
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
        assert_eq!(
            (read("log"), read("log.1"), read("log.2"), read("log.3")),
            ("ddddddd\n".into(), "ccccccc\n".into(), "bbbbbbb\n".into(), String::new())
        );
    }

    #[test]
    fn rotated_files_are_compressed_and_followers_get_each_once() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("log");
        let limits = Limits { size: 8, files: 3, compress: true };
        let mut log = LogFile::open(path.clone(), limits, Format::Json).expect("open");
        for record in ["aaaaaaa\n", "bbbbbbb\n", "ccccccc\n"] {
            append(&mut log, record);
        }
        let text = |(file, compressed): (File, bool)| {
            let mut text = String::new();
            let read = if compressed {
                flate2::read::GzDecoder::new(file).read_to_string(&mut text)
            } else {
                { file }.read_to_string(&mut text)
            };
            read.expect("read");
            (text, compressed)
        };
        let files: Vec<_> = log.follow().expect("follow").into_iter().map(text).collect();
        let expected = [("aaaaaaa\n", true), ("bbbbbbb\n", true), ("ccccccc\n", false)];
        assert_eq!(files, expected.map(|(text, compressed)| (text.to_owned(), compressed)));
        append(&mut log, "ddddddd\n");
        append(&mut log, "eeeeeee\n");
        let begun: Vec<_> = log.begun().into_iter().map(|file| text((file, false)).0).collect();
        assert_eq!(begun, ["ddddddd\n", "eeeeeee\n"]);
        assert!(log.begun().is_empty());
        drop(log);
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).expect("list").map(|entry| entry.expect("entry").file_name()).collect();
        names.sort();
        assert_eq!(names, ["log", "log.1.gz", "log.2.gz"]);
    }

    #[test]
    fn a_torn_record_is_dropped() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("log");
        fs::write(&path, "whole\ntor").expect("write");
        let mut log = LogFile::open(path.clone(), UNLIMITED, Format::Json).expect("open");
        append(&mut log, "next\n");
        assert_eq!(fs::read_to_string(&path).expect("read"), "whole\nnext\n");
    }

    #[test]
    fn a_torn_frame_is_dropped() {
        use super::super::lines::Line;
        use crate::monitor::protocol::Stream;
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("log");
        let mut bytes = Vec::new();
        for text in [&[b'x'; 16000][..]; 9] {
            frame::record(&mut bytes, Line { text, ended: true }, Stream::Output, 1);
        }
        for cut in [0, 1, 3, 16010, 20_000, bytes.len() - 1, bytes.len()] {
            fs::write(&path, &bytes[..cut]).expect("write");
            let log = LogFile::open(path.clone(), UNLIMITED, Format::Frames).expect("open");
            assert_eq!(log.length, frame::whole(&bytes[..cut]) as u64);
            assert_eq!(fs::metadata(&path).expect("metadata").len(), log.length);
        }
    }

    #[test]
    fn a_full_disk_is_told_once_and_the_gap_is_marked() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("log");
        let mut log = LogFile::open(path.clone(), UNLIMITED, Format::Json).expect("open");
        let real = std::mem::replace(&mut log.file, File::options().write(true).open("/dev/full").expect("/dev/full"));
        append(&mut log, "lost\n");
        assert!(log.take_problem().expect("told").contains("No space left on device"));
        append(&mut log, "lost too\n");
        assert_eq!(log.take_problem(), None);
        log.file = real;
        append(&mut log, "next\n");
        let text = fs::read_to_string(&path).expect("read");
        assert_eq!(text, "[ctr: 14 bytes of log are missing here: no storage space]\nnext\n");
    }
}
