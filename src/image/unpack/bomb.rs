//! How much a few compressed bytes may become.

use std::io;

/// What a layer may grow to in any case, in bytes.
const FREE: u64 = 256 << 20;
/// How many times larger than its compressed form it may be beyond that. Archives of programs grow
/// 2 to 5 times, of text 10 times; only files of nothing but zeros pass this, which gzip shrinks a
/// thousandfold.
const RATIO: u64 = 200;

/// The most that so many bytes may become.
pub fn allowed(consumed: u64) -> u64 {
    FREE.max(consumed.saturating_mul(RATIO))
}

pub fn error() -> io::Error {
    let why = format!(
        "it grows more than {RATIO} times when decompressed, beyond {} MiB: refused as a decompression bomb",
        FREE >> 20
    );
    io::Error::new(io::ErrorKind::InvalidData, why)
}
