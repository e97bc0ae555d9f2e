//! The contents of a file that is copied: from another file, or from an archive.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use crate::image::unpack::tar::{Entry, Reader};

/// Bytes of a file that is read whole: what looking for holes costs, and asking the kernel to copy, is
/// more than that.
const SMALL: u64 = 64 << 10;
/// Bytes between two reports of how far a file is.
const CHUNK: u64 = 8 << 20;

/// The contents of a file to be made.
pub enum Data<'a> {
    None,
    File(&'a File),
    Archive(&'a mut dyn Contents),
}

/// What an archive has for its present entry.
pub trait Contents {
    /// # Errors
    /// As the archive, and as writing.
    fn write_to(&mut self, entry: &Entry, file: &mut File, told: &mut dyn FnMut(u64)) -> io::Result<()>;
}

impl<R: BufRead> Contents for Reader<R> {
    fn write_to(&mut self, entry: &Entry, file: &mut File, told: &mut dyn FnMut(u64)) -> io::Result<()> {
        let mut position = 0;
        self.data(entry, |offset, bytes| {
            if offset != position {
                file.seek(SeekFrom::Start(offset))?;
            }
            file.write_all(bytes)?;
            position = offset + bytes.len() as u64;
            told(bytes.len() as u64);
            Ok(())
        })?;
        if position == entry.size { Ok(()) } else { file.set_len(entry.size) }
    }
}

/// Copies a file's data, holes left out. Where the file is longer by now than it was, the rest is
/// left behind; one of no length may be one of the kernel's, which has data all the same.
pub fn copy(from: &File, to: &mut File, size: u64, told: &mut dyn FnMut(u64)) -> io::Result<()> {
    if size == 0 {
        return io::copy(&mut from.take(CHUNK), to).map(drop);
    }
    let offset = |n: u64| i64::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge));
    let mut reader = from;
    if size <= SMALL {
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        reader.take(size).read_to_end(&mut bytes)?;
        told(bytes.len() as u64);
        return to.write_all(&bytes);
    }
    let (mut position, mut written) = (0, 0);
    while position < size {
        // What cannot tell is data throughout.
        let start = match lseek(from, offset(position)?, Whence::SeekData) {
            Ok(start) => start.unsigned_abs().min(size),
            Err(Errno::ENXIO) => size,
            Err(_) => position,
        };
        let hole = lseek(from, offset(start)?, Whence::SeekHole).map_or(size, |end| end.unsigned_abs().min(size));
        told(start - position);
        position = start;
        reader.seek(SeekFrom::Start(position))?;
        to.seek(SeekFrom::Start(position))?;
        while position < hole {
            let n = io::copy(&mut reader.take(CHUNK.min(hole - position)), to)?;
            if n == 0 {
                // It became shorter.
                return Ok(());
            }
            position += n;
            written = position;
            told(n);
        }
    }
    // A hole at the end.
    if written == size { Ok(()) } else { to.set_len(position) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_stay_holes() {
        use std::os::unix::fs::{FileExt, MetadataExt};
        let home = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let from = File::create_new(home.path().join("from")).expect("made");
        from.set_len(64 << 20).expect("long");
        from.write_all_at(b"middle", 32 << 20).expect("written");
        let from = File::open(home.path().join("from")).expect("open");
        let mut to = File::create_new(home.path().join("to")).expect("made");
        let mut count = 0;
        copy(&from, &mut to, 64 << 20, &mut |n| count += n).expect("copied");
        let meta = to.metadata().expect("there");
        assert_eq!((meta.len(), count), (64 << 20, 64 << 20));
        assert!(meta.blocks() < 1000, "{}", meta.blocks());
        assert_eq!(std::fs::read(home.path().join("to")).expect("read")[32 << 20..][..6], *b"middle");
    }
}
