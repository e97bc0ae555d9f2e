//! What is uploaded: a blob as it is, a layer that is compressed while it is read, a document. Each can
//! be read again from anywhere, for a connection that broke: what is compressed is compressed once more
//! up to there, to the same bytes.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::read::GzEncoder;

use crate::error::Failure;
use crate::image::blobs::Checked;
use crate::image::digest::{Digest, Hasher};
use crate::image::unpack::{Compression, Decoder};
use crate::registry::upload::Content;

/// Bytes that are read from a file at once.
const BUFFER: usize = 256 << 10;

/// Bytes that are here already.
pub struct Document<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Document<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl Read for Document<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = (&self.bytes[self.at..]).read(into)?;
        self.at += n;
        Ok(n)
    }
}

impl Content for Document<'_> {
    fn restart(&mut self, at: u64) -> io::Result<()> {
        self.at = usize::try_from(at).unwrap_or(usize::MAX).min(self.bytes.len());
        Ok(())
    }

    fn length(&self) -> Option<u64> {
        Some(self.bytes.len() as u64)
    }

    fn digest(&self) -> Option<Digest> {
        Some(Digest::of(self.bytes))
    }
}

impl Content for Checked {
    fn restart(&mut self, at: u64) -> io::Result<()> {
        Self::restart(self, at)
    }

    fn length(&self) -> Option<u64> {
        Some(self.size())
    }

    fn digest(&self) -> Option<Digest> {
        Some(Self::digest(self).clone())
    }
}

/// A layer's archive as it is unpacked, which fails at its end where it is not what the layer is called by.
struct Archive<R> {
    inner: R,
    hasher: Hasher,
    diff: Digest,
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        self.hasher.update(&into[..n]);
        if n == 0 && !into.is_empty() {
            let is = self.hasher.clone().finish();
            if is != self.diff {
                let why = format!("the layer's blob is damaged: its archive has the digest {is}, not {}", self.diff);
                let failure = Failure::new(why).hint("fetch what is damaged again with: ctr system check --repair");
                return Err(io::Error::new(io::ErrorKind::InvalidData, failure));
            }
        }
        Ok(n)
    }
}

/// A blob of the store, compressed otherwise.
pub struct Packed {
    path: PathBuf,
    diff: Digest,
    stored: Compression,
    format: Compression,
    level: i32,
    encoder: Box<dyn Read>,
    hasher: Hasher,
    digest: Option<Digest>,
}

impl Packed {
    /// `diff`: what it is once unpacked.
    pub fn open(path: &Path, diff: &Digest, stored: Compression, format: Compression, level: i32) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            diff: diff.clone(),
            stored,
            format,
            level,
            encoder: encoder(path, diff, stored, format, level)?,
            hasher: Hasher::default(),
            digest: None,
        })
    }
}

fn encoder(
    path: &Path,
    diff: &Digest,
    stored: Compression,
    format: Compression,
    level: i32,
) -> io::Result<Box<dyn Read>> {
    let inner = Decoder::new(BufReader::with_capacity(BUFFER, File::open(path)?), stored)?;
    let source = Archive { inner, hasher: Hasher::default(), diff: diff.clone() };
    Ok(match format {
        // No name and no time in its header: the same files have the same digest.
        Compression::Gzip => Box::new(GzEncoder::new(source, flate2::Compression::new(level.unsigned_abs().min(9)))),
        Compression::Zstd => Box::new(zstd::stream::read::Encoder::new(source, level)?),
        Compression::None => Box::new(source),
    })
}

impl Read for Packed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.encoder.read(into)?;
        self.hasher.update(&into[..n]);
        if n == 0 && !into.is_empty() && self.digest.is_none() {
            self.digest = Some(self.hasher.clone().finish());
        }
        Ok(n)
    }
}

impl Content for Packed {
    fn restart(&mut self, at: u64) -> io::Result<()> {
        self.encoder = encoder(&self.path, &self.diff, self.stored, self.format, self.level)?;
        self.hasher = Hasher::default();
        if io::copy(&mut self.take(at), &mut io::sink())? < at {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Nobody knows before.
    fn length(&self) -> Option<u64> {
        None
    }

    fn digest(&self) -> Option<Digest> {
        self.digest.clone()
    }
}

/// Ends when another layer failed.
pub struct Stoppable<'a, C> {
    pub inner: C,
    pub stop: &'a AtomicBool,
}

impl<C: Content> Read for Stoppable<'_, C> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped, because another layer failed"));
        }
        self.inner.read(into)
    }
}

impl<C: Content> Content for Stoppable<'_, C> {
    fn restart(&mut self, at: u64) -> io::Result<()> {
        self.inner.restart(at)
    }

    fn length(&self) -> Option<u64> {
        self.inner.length()
    }

    fn digest(&self) -> Option<Digest> {
        self.inner.digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_twice_is_the_same_from_anywhere() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("blob");
        let bytes: Vec<u8> = (0..500_000_u32).flat_map(|n| (n % 977).to_le_bytes()).collect();
        std::fs::write(&path, &bytes).expect("write");
        for (format, level) in [(Compression::Gzip, 6), (Compression::Zstd, 3), (Compression::None, 0)] {
            let mut packed = Packed::open(&path, &Digest::of(&bytes), Compression::None, format, level).expect("open");
            let mut whole = Vec::new();
            packed.read_to_end(&mut whole).expect("read");
            assert_eq!(packed.digest(), Some(Digest::of(&whole)));
            let mut rest = Vec::new();
            packed.restart(1000).expect("again");
            packed.read_to_end(&mut rest).expect("read");
            assert!(rest == whole[1000..] && packed.digest() == Some(Digest::of(&whole)));
            let mut plain = Vec::new();
            Decoder::new(&whole[..], format).expect("decoder").read_to_end(&mut plain).expect("good");
            assert!(plain == bytes, "{format:?}");
            assert!(packed.restart(whole.len() as u64 + 1).is_err());
            let mut other =
                Packed::open(&path, &Digest::of(b"another"), Compression::None, format, level).expect("open");
            let error = other.read_to_end(&mut Vec::new()).expect_err("not that layer");
            assert!(error.to_string().contains("is damaged"), "{error}");
        }
    }
}
