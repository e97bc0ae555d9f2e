//! A short queue of buffers between two stages. Buffers go back when they are empty, so that a
//! layer of any size passes through the same few.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use crate::image::digest::Hasher;

/// Bytes of a buffer: large enough that a queue's cost does not show, small enough for the cache.
const BUFFER: usize = 128 << 10;
/// Buffers that wait.
const LENGTH: usize = 8;

/// The side that fills.
pub struct Input {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
}

/// The side that reads; ends when the other side is dropped.
pub struct Output<'a> {
    full: Receiver<Vec<u8>>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    hasher: Option<Hasher>,
    told: &'a (dyn Fn(u64) + Sync),
}

/// The reader has gone.
pub struct Gone;

pub fn pair<'a>() -> (Input, Output<'a>) {
    let (full_in, full_out) = sync_channel(LENGTH);
    let (empty_in, empty_out) = channel();
    (
        Input { full: full_in, empty: empty_out },
        Output { full: full_out, empty: empty_in, current: Vec::new(), position: 0, hasher: None, told: &|_| {} },
    )
}

impl Input {
    /// A buffer to fill, its contents whatever they were.
    pub fn buffer(&self) -> Vec<u8> {
        let mut buffer = self.empty.try_recv().unwrap_or_default();
        buffer.resize(BUFFER, 0);
        buffer
    }

    pub fn send(&self, buffer: Vec<u8>) -> Result<(), Gone> {
        self.full.send(buffer).map_err(|_| Gone)
    }
}

impl<'a> Output<'a> {
    /// From here on all that comes is hashed, by who reads it.
    #[must_use]
    pub fn hashed(self) -> Self {
        Self { hasher: Some(Hasher::default()), ..self }
    }

    /// From here on `told` is told how much comes.
    #[must_use]
    pub fn told<'b>(self, told: &'b (dyn Fn(u64) + Sync)) -> Output<'b>
    where
        'a: 'b,
    {
        Output { told, ..self }
    }

    /// What [`Self::hashed`] has come to; of everything, when all was read.
    #[must_use]
    pub fn hasher(self) -> Hasher {
        self.hasher.unwrap_or_default()
    }
}

impl BufRead for Output<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.position == self.current.len() {
            let Ok(next) = self.full.recv() else {
                return Ok(&[]);
            };
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&next);
            }
            (self.told)(next.len() as u64);
            // The other side may have ended already; then nobody wants the buffer.
            let _ = self.empty.send(std::mem::replace(&mut self.current, next));
            self.position = 0;
        }
        Ok(&self.current[self.position..])
    }

    fn consume(&mut self, n: usize) {
        self.position += n;
    }
}

impl Read for Output<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let chunk = self.fill_buf()?;
        let n = chunk.len().min(into.len());
        into[..n].copy_from_slice(&chunk[..n]);
        self.consume(n);
        Ok(n)
    }
}
