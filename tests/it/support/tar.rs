//! A writer of layers that lets everything through: no name is checked, nothing is made right.
//! Formats: POSIX.1-2017 `pax` ("pax Interchange Format", ustar header block), and the names of
//! extended attributes as `star` and GNU tar write them (`SCHILY.xattr.`).

use std::fmt::Write;

/// An entry of an archive.
#[derive(Debug, Clone)]
pub struct Entry {
    pub path: Vec<u8>,
    /// `typeflag`: `0` file, `1` hard link, `2` symbolic link, `3` character and `4` block device,
    /// `5` directory, `6` fifo.
    pub kind: u8,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds, and nanoseconds after them.
    pub time: (i64, u32),
    pub target: Vec<u8>,
    pub data: Vec<u8>,
    pub device: (u32, u32),
    pub xattrs: Vec<(String, Vec<u8>)>,
}

impl Entry {
    fn new(kind: u8, path: impl AsRef<[u8]>, mode: u32) -> Self {
        Self {
            path: path.as_ref().to_vec(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            time: (1_700_000_000, 0),
            target: Vec::new(),
            data: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }

    pub fn file(path: impl AsRef<[u8]>, mode: u32, data: impl AsRef<[u8]>) -> Self {
        Self { data: data.as_ref().to_vec(), ..Self::new(b'0', path, mode) }
    }

    pub fn dir(path: impl AsRef<[u8]>, mode: u32) -> Self {
        Self::new(b'5', path, mode)
    }

    pub fn symlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self { target: target.as_ref().to_vec(), ..Self::new(b'2', path, 0o777) }
    }

    pub fn hard_link(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self { target: target.as_ref().to_vec(), ..Self::new(b'1', path, 0o644) }
    }

    pub fn char_device(path: impl AsRef<[u8]>, mode: u32, device: (u32, u32)) -> Self {
        Self { device, ..Self::new(b'3', path, mode) }
    }

    pub fn block_device(path: impl AsRef<[u8]>, mode: u32, device: (u32, u32)) -> Self {
        Self { device, ..Self::new(b'4', path, mode) }
    }

    pub fn fifo(path: impl AsRef<[u8]>, mode: u32) -> Self {
        Self::new(b'6', path, mode)
    }

    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    pub fn time(mut self, seconds: i64, nanoseconds: u32) -> Self {
        self.time = (seconds, nanoseconds);
        self
    }

    pub fn xattr(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.xattrs.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    fn write(&self, into: &mut Vec<u8>) {
        let mut records = Vec::new();
        if self.path.len() > 100 {
            record(&mut records, "path", &self.path);
        }
        if self.target.len() > 100 {
            record(&mut records, "linkpath", &self.target);
        }
        if self.time.1 != 0 || self.time.0 < 0 || self.time.0 > 0o777_7777_7777 {
            record(&mut records, "mtime", time(self.time).as_bytes());
        }
        for (name, id) in [("uid", self.uid), ("gid", self.gid)] {
            if id > 0o777_7777 {
                record(&mut records, name, id.to_string().as_bytes());
            }
        }
        for (name, value) in &self.xattrs {
            record(&mut records, &format!("SCHILY.xattr.{name}"), value);
        }
        if !records.is_empty() {
            let extended = Self { data: records, ..Self::new(b'x', "PaxHeaders/x", 0o644) };
            extended.write_block(into);
        }
        self.write_block(into);
    }

    fn write_block(&self, into: &mut Vec<u8>) {
        let mut block = [0; 512];
        let name = &self.path[..self.path.len().min(100)];
        block[..name.len()].copy_from_slice(name);
        octal(&mut block[100..108], u64::from(self.mode));
        octal(&mut block[108..116], u64::from(self.uid & 0o777_7777));
        octal(&mut block[116..124], u64::from(self.gid & 0o777_7777));
        octal(&mut block[124..136], self.data.len() as u64);
        octal(&mut block[136..148], u64::try_from(self.time.0).unwrap_or_default() & 0o777_7777_7777);
        block[148..156].fill(b' ');
        block[156] = self.kind;
        let target = &self.target[..self.target.len().min(100)];
        block[157..157 + target.len()].copy_from_slice(target);
        block[257..265].copy_from_slice(b"ustar\x0000");
        octal(&mut block[329..337], u64::from(self.device.0));
        octal(&mut block[337..345], u64::from(self.device.1));
        let sum = block.iter().map(|b| u64::from(*b)).sum();
        octal(&mut block[148..155], sum);
        into.extend_from_slice(&block);
        into.extend_from_slice(&self.data);
        into.resize(into.len().next_multiple_of(512), 0);
    }
}

/// A number as octal digits and a NUL that fill the field.
fn octal(field: &mut [u8], number: u64) {
    let width = field.len() - 1;
    let digits = format!("{number:0width$o}");
    field[..width].copy_from_slice(digits.as_bytes());
}

/// `LENGTH NAME=VALUE\n`, where LENGTH counts itself.
fn record(into: &mut Vec<u8>, name: &str, value: &[u8]) {
    let rest = name.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() > rest.to_string().len() {
        length += 1;
    }
    into.extend_from_slice(format!("{length} {name}=").as_bytes());
    into.extend_from_slice(value);
    into.push(b'\n');
}

/// Seconds as a decimal fraction. Nanoseconds count forwards from the second below.
fn time((seconds, nanoseconds): (i64, u32)) -> String {
    let mut text = String::new();
    if seconds < 0 && nanoseconds > 0 {
        let _ = write!(text, "-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds);
    } else {
        let _ = write!(text, "{seconds}.{nanoseconds:09}");
    }
    text
}

/// A layer: entries in their order.
#[derive(Debug, Clone, Default)]
pub struct Layer(pub Vec<Entry>);

impl Layer {
    pub fn new(entries: impl IntoIterator<Item = Entry>) -> Self {
        Self(entries.into_iter().collect())
    }

    /// The archive, with its two blocks of zeros at the end.
    pub fn tar(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in &self.0 {
            entry.write(&mut bytes);
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }
}
