//! The file of the json-file driver: appended to, rotated, always ending with a whole record.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::error::Failure;

/// How large a log may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a file; 0: no limit.
    pub size: u64,
    /// Files, the current one among them.
    pub files: u32,
}

impl Limits {
    /// From `max-size` and `max-file`, as Docker has them.
    pub(super) fn check(options: &BTreeMap<String, String>) -> Result<Self> {
        let mut limits = Self { size: 0, files: 1 };
        for (name, value) in options {
            let bad = || Failure::new(format!("invalid value {value:?} for log opt {name:?}"));
            match name.as_str() {
                "max-size" if value == "-1" => {}
                "max-size" => limits.size = bytes(value).filter(|&n| n > 0).ok_or_else(bad)?,
                "max-file" => limits.files = value.parse().ok().filter(|&n| n > 0).ok_or_else(bad)?,
                _ => return Err(super::unknown_option(name, "json-file")),
            }
        }
        if limits.files > 1 && limits.size == 0 {
            return Err(Failure::new("log opt \"max-file\" needs \"max-size\"").into());
        }
        Ok(limits)
    }
}

/// `10m`, `1.5GB`, `512`: powers of 1024, as Docker's `max-size` has them.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[number.len()..].trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    let number: f64 = number.trim().parse().ok()?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    (0.0..1e6)
        .contains(&number)
        .then(|| (number * f64::from(1u32 << (shift % 30)) * f64::from(1u32 << (shift / 30 * 30))) as u64)
}

#[derive(Debug)]
pub(super) struct JsonFile {
    path: PathBuf,
    file: File,
    /// Bytes in the file, all of whole records.
    length: u64,
    limits: Limits,
    /// Why records are left out at present, and how many bytes of them were.
    gap: Option<(io::ErrorKind, u64)>,
    problem: Option<String>,
    told: bool,
}

impl JsonFile {
    pub(super) fn open(path: PathBuf, limits: Limits) -> Result<Self> {
        let file = append_to(&path).with_context(|| format!("open the log {path:?}"))?;
        let length = file.metadata()?.len();
        let mut log = Self { path, file, length, limits, gap: None, problem: None, told: false };
        log.drop_torn_record();
        Ok(log)
    }

    /// Appends whole records, or none of them.
    pub(super) fn append(&mut self, records: &[u8], now: &str) {
        if self.limits.size > 0 && self.length > 0 && self.length + records.len() as u64 > self.limits.size {
            self.rotate();
        }
        let written = match self.gap.take() {
            None => self.write(records),
            // The mark goes first: only when there is room for it too, the gap has ended.
            Some((kind, bytes)) => self.write(&[&mark(kind, bytes, now), records].concat()).inspect_err(|_| {
                self.gap = Some((kind, bytes));
            }),
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
        let numbered = |n: u32| {
            let mut name = self.path.clone().into_os_string();
            if n > 0 {
                name.push(format!(".{n}"));
            }
            PathBuf::from(name)
        };
        for n in (1..self.limits.files).rev() {
            let _ = fs::rename(numbered(n - 1), numbered(n));
        }
        if self.limits.files == 1 {
            let _ = fs::remove_file(&self.path);
        }
        // A new file rather than a truncated one: whoever reads the old one reads it to its end.
        if let Ok(file) = append_to(&self.path) {
            self.length = file.metadata().map_or(0, |m| m.len());
            self.file = file;
        }
    }

    /// A monitor that was killed may have left a record half written.
    fn drop_torn_record(&mut self) {
        use std::os::unix::fs::FileExt;
        let mut last = [b'\n'];
        let _ = self.file.read_at(&mut last, self.length.saturating_sub(1));
        if last != *b"\n" {
            // Longer than any record.
            let mut tail = vec![0u8; 256 * 1024];
            let from = self.length.saturating_sub(tail.len() as u64);
            let Ok(got) = self.file.read_at(&mut tail, from) else { return };
            let tail = &tail[..got];
            let whole = tail.iter().rposition(|&b| b == b'\n').map_or(from, |at| from + at as u64 + 1);
            if self.file.set_len(whole).is_ok() {
                self.length = whole;
            }
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    File::options().read(true).append(true).create(true).mode(0o640).open(path)
}

fn mark(kind: io::ErrorKind, bytes: u64, now: &str) -> Vec<u8> {
    let text = format!("[ctr: {bytes} bytes of log are missing here: {kind}]");
    format!("{{\"log\":\"{text}\\n\",\"stream\":\"stderr\",\"time\":\"{now}\"}}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn options_are_checked_by_name() {
        let limits = Limits::check(&options(&[("max-size", "10m"), ("max-file", "3")])).expect("valid");
        assert_eq!(limits, Limits { size: 10 << 20, files: 3 });
        assert_eq!(bytes("1.5GB"), Some(3 << 29));
        assert_eq!(bytes("2t"), Some(2 << 40));
        assert_eq!(bytes("512"), Some(512));
        for bad in [("max-size", "0"), ("max-size", "x"), ("max-file", "0"), ("max-file", "2"), ("compress", "true")] {
            assert!(Limits::check(&options(&[bad])).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn files_are_rotated_and_the_oldest_goes() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("log");
        let mut log = JsonFile::open(path.clone(), Limits { size: 10, files: 3 }).expect("open");
        for record in ["aaaaaaa\n", "bbbbbbb\n", "ccccccc\n", "ddddddd\n"] {
            log.append(record.as_bytes(), "T");
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
        assert_eq!(
            (read("log"), read("log.1"), read("log.2"), read("log.3")),
            ("ddddddd\n".into(), "ccccccc\n".into(), "bbbbbbb\n".into(), String::new())
        );
    }

    #[test]
    fn a_torn_record_is_dropped() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("log");
        fs::write(&path, "whole\ntor").expect("write");
        let mut log = JsonFile::open(path.clone(), Limits { size: 0, files: 1 }).expect("open");
        log.append(b"next\n", "T");
        assert_eq!(fs::read_to_string(&path).expect("read"), "whole\nnext\n");
    }

    #[test]
    fn a_full_disk_is_told_once_and_the_gap_is_marked() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("log");
        let mut log = JsonFile::open(path.clone(), Limits { size: 0, files: 1 }).expect("open");
        let real = std::mem::replace(&mut log.file, File::options().write(true).open("/dev/full").expect("/dev/full"));
        log.append(b"lost\n", "T");
        assert!(log.take_problem().expect("told").contains("No space left on device"));
        log.append(b"lost too\n", "T");
        assert_eq!(log.take_problem(), None);
        log.file = real;
        log.append(b"next\n", "T");
        let text = fs::read_to_string(&path).expect("read");
        assert!(
            text.contains("14 bytes of log are missing here: no storage space") && text.ends_with("}\nnext\n"),
            "{text}"
        );
    }
}
