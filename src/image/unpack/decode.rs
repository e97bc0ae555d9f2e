//! Decompression, with a bound on what a few bytes may grow to.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

use super::bomb;

/// zstd's window: 128 MiB, what the `zstd` command takes without being asked for more. Each layer
/// in work can take that much memory.
const WINDOW_LOG: u32 = 27;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// By the first bytes, whatever the media type says.
    ///
    /// # Errors
    /// A compression that is known and not supported.
    pub fn detect(start: &[u8]) -> io::Result<Self> {
        let unsupported = |name: &str| {
            let why = format!("it is compressed with {name}; layers are compressed with gzip or zstd");
            Err(io::Error::new(io::ErrorKind::Unsupported, why))
        };
        match start {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            // A frame, or one that holds a table of contents (zstd:chunked).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => unsupported("xz"),
            [b'B', b'Z', b'h', ..] => unsupported("bzip2"),
            _ => Ok(Self::None),
        }
    }
}

#[allow(clippy::large_enum_variant, reason = "one for each layer in work")]
enum Inner<R: BufRead> {
    None(R),
    Gzip(MultiGzDecoder<R>),
    Zstd(zstd::Decoder<'static, R>),
}

/// Reads what `R` has, decompressed.
pub struct Decoder<R: BufRead> {
    inner: Inner<Counted<R>>,
    consumed: Rc<Cell<u64>>,
    made: u64,
}

impl<R: BufRead> Decoder<R> {
    /// # Errors
    /// No memory for the decompressor.
    pub fn new(input: R, compression: Compression) -> io::Result<Self> {
        let consumed = Rc::new(Cell::new(0));
        let input = Counted { input, consumed: Rc::clone(&consumed) };
        let inner = match compression {
            Compression::None => Inner::None(input),
            Compression::Gzip => Inner::Gzip(MultiGzDecoder::new(input)),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(input)?;
                decoder.window_log_max(WINDOW_LOG)?;
                Inner::Zstd(decoder)
            }
        };
        Ok(Self { inner, consumed, made: 0 })
    }

    /// Reads what stands behind the compressed data, which belongs to the blob's digest.
    ///
    /// # Errors
    /// As the input.
    pub fn finish(self) -> io::Result<()> {
        let mut rest = match self.inner {
            Inner::None(rest) => rest,
            Inner::Gzip(decoder) => decoder.into_inner(),
            Inner::Zstd(decoder) => decoder.finish(),
        };
        loop {
            let n = rest.fill_buf()?.len();
            if n == 0 {
                return Ok(());
            }
            rest.consume(n);
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = match &mut self.inner {
            Inner::None(input) => return input.read(into),
            Inner::Gzip(decoder) => decoder.read(into),
            Inner::Zstd(decoder) => decoder.read(into),
        }
        .map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::new(e.kind(), "the compressed data ends too early"),
            io::ErrorKind::Interrupted => e,
            kind => io::Error::new(kind, format!("damaged compressed data: {e}")),
        })?;
        self.made += n as u64;
        if self.made > bomb::allowed(self.consumed.get()) {
            return Err(bomb::error());
        }
        Ok(n)
    }
}

/// Counts what is taken from the input.
struct Counted<R> {
    input: R,
    consumed: Rc<Cell<u64>>,
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.consumed.set(self.consumed.get() + n as u64);
        self.input.consume(n);
    }
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(into)?;
        self.consumed.set(self.consumed.get() + n as u64);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn read_all(bytes: &[u8]) -> io::Result<u64> {
        let compression = Compression::detect(bytes)?;
        let mut decoder = Decoder::new(bytes, compression)?;
        let n = io::copy(&mut decoder, &mut io::sink())?;
        decoder.finish()?;
        Ok(n)
    }

    fn zeros(mebibytes: usize) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
        for _ in 0..mebibytes {
            encoder.write_all(&vec![0; 1 << 20]).expect("gzip");
        }
        encoder.finish().expect("gzip")
    }

    #[test]
    fn a_bomb_is_refused_and_a_large_layer_is_not() {
        assert_eq!(read_all(&zeros(200)).ok(), Some(200 << 20));
        let error = read_all(&zeros(300)).expect_err("a bomb");
        assert!(error.to_string().contains("bomb"), "{error}");
    }

    #[test]
    fn truncation_and_damage_are_errors() {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&vec![7; 100_000]).expect("gzip");
        let whole = encoder.finish().expect("gzip");
        assert_eq!(read_all(&whole).ok(), Some(100_000));
        assert!(read_all(&whole[..whole.len() - 9]).is_err(), "truncated data");
        assert!(read_all(&whole[..whole.len() - 1]).is_err(), "truncated checksum");
        let mut damaged = whole.clone();
        let last = damaged.len() - 5;
        damaged[last] ^= 1;
        assert!(read_all(&damaged).is_err(), "wrong checksum");
        let zstd = zstd::encode_all(&vec![7; 100_000][..], 1).expect("zstd");
        assert_eq!(read_all(&zstd).ok(), Some(100_000));
        assert!(read_all(&zstd[..zstd.len() - 3]).is_err(), "truncated zstd");
    }

    #[test]
    fn other_compressions_are_named() {
        let error = Compression::detect(b"BZh9").expect_err("bzip2");
        assert!(error.to_string().contains("bzip2"), "{error}");
    }
}
