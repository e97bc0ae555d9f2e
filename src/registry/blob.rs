//! A blob's bytes, over as many connections as it takes.

use std::io::{self, Read};
use std::ops::Range;
use std::time::Duration;

use anyhow::Result;
use ureq::BodyReader;
use ureq::http::header;

use super::Repository;
use super::answer::unexpected;
use super::client::Ask;
use super::pace::Paced;
use super::tries::TRIES;
use crate::error::Failure;
use crate::image::digest::Digest;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Bytes from one break to the next by which a transfer gets on: one that gives a byte each time never ends.
const ENOUGH: u64 = 64 << 10;

/// Reads a blob, or a part of it, from its beginning to its end. When the connection breaks, the rest is asked for
/// with a Range request; a registry that ignores it sends all again, and the known part is skipped.
/// The caller checks the digest.
pub struct BlobReader<'a> {
    repository: &'a Repository,
    digest: Digest,
    /// What the manifest says.
    size: u64,
    /// The first byte that is not read any more.
    end: u64,
    /// Nobody wants the rest: a registry that sends all of it is of no use.
    is_part: bool,
    read: u64,
    body: Option<Paced<BodyReader<'static>>>,
    /// Breaks since it got on.
    breaks: u32,
    /// Bytes since the last break.
    since: u64,
}

impl Repository {
    /// A blob's bytes from `start` on, as a stream that goes on by itself where a connection breaks.
    ///
    /// # Errors
    /// It is not there.
    pub fn blob_from(&self, digest: &Digest, size: u64, start: u64) -> Result<BlobReader<'_>> {
        self.blob_reader(digest, size, start..size, false)
    }

    /// The bytes of a part of it. `size` is the whole blob's.
    ///
    /// # Errors
    /// As [`Self::blob_from`]; the registry does not heed what part it is asked for.
    pub fn blob_part(&self, digest: &Digest, size: u64, part: Range<u64>) -> Result<BlobReader<'_>> {
        self.blob_reader(digest, size, part, true)
    }

    fn blob_reader(&self, digest: &Digest, size: u64, part: Range<u64>, is_part: bool) -> Result<BlobReader<'_>> {
        let digest = digest.clone();
        let Range { start: read, end } = part;
        let mut reader =
            BlobReader { repository: self, digest, size, end, is_part, read, body: None, breaks: 0, since: 0 };
        reader.connect()?;
        Ok(reader)
    }
}

impl BlobReader<'_> {
    fn connect(&mut self) -> Result<()> {
        let url = self.repository.blob_url(&self.digest);
        let range = if self.is_part {
            format!("bytes={}-{}", self.read, self.end.saturating_sub(1))
        } else {
            format!("bytes={}-", self.read)
        };
        let headers: &[(&str, &str)] =
            if !self.is_part && self.read == 0 { &[] } else { &[(header::RANGE.as_str(), &range)] };
        let response = self.repository.client.send(&Ask::get(&url, headers))?;
        self.repository.found(&response, &self.digest)?;
        let starts = match response.status().as_u16() {
            206 => range_start(response.headers().get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok()))
                .filter(|start| *start == self.read)
                .ok_or_else(|| Failure::new("the registry sent another part of the blob than was asked for"))?,
            200 if self.is_part => {
                return Err(Failure::new("the registry sends blobs as a whole only").into());
            }
            200 => 0,
            _ => return Err(unexpected("the blob", response)),
        };
        let mut body = Paced::new(response.into_body().into_reader());
        let known = self.read - starts;
        if io::copy(&mut (&mut body).take(known), &mut io::sink())? < known {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.body = Some(body);
        Ok(())
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let attempt = match &mut self.body {
                // A whole blob goes to its end, so that one that is too long is noticed.
                Some(body) if !self.is_part => body.read(into),
                // And a part, for the connection to serve the next request.
                Some(body) if self.read == self.end => {
                    let _ = body.read(&mut [0]);
                    return Ok(0);
                }
                Some(body) => body.take(self.end - self.read).read(into),
                None => match self.connect() {
                    Ok(()) => continue,
                    // A registry that is started anew refuses connections for a while.
                    Err(e) if is_of_the_connection(&e) => Err(io::Error::other(format!("{e:#}"))),
                    // What the registry says is final; it was asked several times where that may help.
                    Err(e) => return Err(io::Error::other(format!("{e:#}"))),
                },
            };
            let why = match attempt {
                Ok(0) if self.read >= self.end => return Ok(0),
                Ok(0) => io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended too early"),
                Ok(n) => {
                    self.read += n as u64;
                    self.since += n as u64;
                    if self.since >= ENOUGH {
                        self.breaks = 0;
                    }
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => e,
            };
            self.body = None;
            self.since = 0;
            self.breaks += 1;
            if self.breaks >= TRIES {
                let text = format!("the connection broke {TRIES} times at byte {} of {}: {why}", self.read, self.size);
                return Err(io::Error::new(why.kind(), text));
            }
            std::thread::sleep(FIRST_PAUSE * 2u32.pow(self.breaks - 1));
        }
    }
}

fn is_of_the_connection(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<ureq::Error>() || cause.is::<io::Error>())
}

/// The first byte of `Content-Range: bytes 5-9/10`.
fn range_start(header: Option<&str>) -> Option<u64> {
    header?.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(range_start(Some("bytes 5-9/10")), Some(5));
        assert_eq!(range_start(Some("bytes */10")), None);
        assert_eq!(range_start(None), None);
    }
}
