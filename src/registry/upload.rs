//! Writing blobs: asked for first, taken over from another repository where they are there already, else
//! sent as one stream, which goes on where a broken connection left it (OCI distribution specification,
//! "Pushing blobs").
//!
//! A stream in one piece is what every registry takes, and the fastest. One that refuses large requests
//! gets pieces, one that knows no pieces gets a single PUT.

use std::io::{self, Read};

use anyhow::{Context, Result};
use ureq::Body;
use ureq::http::{Method, Response, header};

use super::Repository;
use super::answer::unexpected;
use super::auth::{encode, escape};
use super::client::Ask;
use super::tries::{TRIES, Tries};
use super::web::{follow, is_passing, is_refused};
use crate::error::Failure;
use crate::image::digest::Digest;

/// Bytes of a piece, for a registry that wants pieces; some take none below 5 MiB.
const PIECE: u64 = 8 << 20;

/// What is uploaded: read from its beginning to its end, and perhaps once more.
pub trait Content: Read {
    /// Lets the next byte that is read be the one at `at`.
    ///
    /// # Errors
    /// It cannot be read.
    fn restart(&mut self, at: u64) -> io::Result<()>;

    /// How long it is, where that is known before.
    fn length(&self) -> Option<u64>;

    /// Its digest, once it is known: at its end at the latest.
    fn digest(&self) -> Option<Digest>;
}

/// The answer to the wish to upload.
pub enum Begun {
    /// The registry took it over from the other repository.
    Mounted,
    Upload(Upload),
}

/// An upload under way.
#[derive(Debug)]
pub struct Upload {
    url: String,
}

impl Upload {
    /// Each answer says where the next request goes.
    fn moved(&mut self, response: &Response<Body>) -> Result<()> {
        if let Some(location) = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()) {
            self.url = follow(&self.url, location)?;
        }
        Ok(())
    }

    fn with_digest(&self, digest: &Digest) -> String {
        let separator = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{separator}digest={}", self.url, escape(digest.as_str()))
    }
}

impl Repository {
    /// Whether the registry has a blob in this repository.
    ///
    /// # Errors
    /// It does not tell.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let url = self.blob_url(digest);
        let what = || format!("blob {:?}", digest.short());
        let response = self.client.send_patiently(&Ask::head(&url, &[])).with_context(what)?;
        match response.status().as_u16() {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(unexpected(&what(), response)),
        }
    }

    /// Begins an upload. `mount`: the blob, and a repository of this registry that has it perhaps.
    ///
    /// # Errors
    /// The registry refuses.
    pub fn begin(&self, mount: Option<(&Digest, &str)>) -> Result<Begun> {
        let mut url = format!("{}/v2/{}/blobs/uploads/", self.client.base, self.path);
        if let Some((digest, from)) = mount {
            url = format!("{url}?{}", encode(&[("mount", digest.as_str()), ("from", from)]));
        }
        let ask = Ask { method: Method::POST, url: &url, headers: &[], body: &[] };
        let response = self.client.send_patiently(&ask).context("begin the upload")?;
        match response.status().as_u16() {
            201 if mount.is_some() => Ok(Begun::Mounted),
            202 => {
                let mut upload = Upload { url };
                if !response.headers().contains_key(header::LOCATION) {
                    return Err(Failure::new("the registry does not say where to upload to").into());
                }
                upload.moved(&response)?;
                Ok(Begun::Upload(upload))
            }
            404 => {
                Err(Failure::new(format!("{:?} is not a repository that can be pushed to", self.client.subject)).into())
            }
            _ => Err(unexpected("begin the upload", response)),
        }
    }

    fn begin_again(&self) -> Result<Upload> {
        match self.begin(None)? {
            Begun::Upload(upload) => Ok(upload),
            Begun::Mounted => Err(Failure::new("the registry mounts what nobody asked for").into()),
        }
    }

    /// Sends a blob; returns its digest and its length. `told`: how many bytes the registry should have
    /// by now, which can be less than before.
    ///
    /// # Errors
    /// The connection breaks again and again without getting on; the registry refuses; the content
    /// cannot be read.
    pub fn send(&self, mut upload: Upload, content: &mut dyn Content, told: &dyn Fn(u64)) -> Result<(Digest, u64)> {
        let mut tries = Tries::default();
        let (mut at, mut best) = (0, 0);
        let mut piece = None;
        content.restart(0).context("read it")?;
        loop {
            let sent = self.send_some(&upload, content, at, piece, told)?;
            match sent.answer {
                Ok(response) => match response.status().as_u16() {
                    200..=204 => {
                        upload.moved(&response)?;
                        at = sent.end;
                        tries.got_on();
                        if sent.is_last {
                            break;
                        }
                        continue;
                    }
                    // The question how far it came gets a new token, or there is a new upload.
                    401 | 404 | 410 | 416 if tries.again() => {}
                    401 | 403 => return Err(self.client.denied(response)),
                    405 | 501 => return self.send_whole(content, told),
                    413 if piece.is_none() => piece = Some(PIECE),
                    429 | 500..=599 => tries.after(response)?,
                    _ => return Err(unexpected("upload", response)),
                },
                Err(e) if is_passing(&e) || is_refused(&e) => {
                    if !tries.again() {
                        return Err(Failure::new(format!("the connection broke {TRIES} times at byte {at}"))
                            .source(e)
                            .into());
                    }
                }
                Err(e) => return Err(self.client.unreachable(e)),
            }
            at = if let Some(at) = self.arrived(&mut upload)? {
                at
            } else {
                upload = self.begin_again()?;
                0
            };
            if at > best {
                best = at;
                tries.got_on();
            }
            content.restart(at).context("read it")?;
            told(at);
        }
        let digest = content.digest().ok_or_else(|| Failure::new("the content has no end"))?;
        self.commit(&upload, &digest)?;
        Ok((digest, at))
    }

    /// One request with all that is left, or with a piece of it.
    fn send_some(
        &self,
        upload: &Upload,
        content: &mut dyn Content,
        at: u64,
        piece: Option<u64>,
        told: &dyn Fn(u64),
    ) -> Result<Sent> {
        let mut held = Vec::new();
        let mut length = content.length().map(|whole| whole.saturating_sub(at));
        if let Some(size) = piece {
            content.take(size).read_to_end(&mut held).context("read it")?;
            length = Some(held.len() as u64);
        }
        let mut bytes: &[u8] = &held;
        let source: &mut dyn Read = if piece.is_some() { &mut bytes } else { content };
        let mut counted = Counted { inner: source, at, told, failure: None };
        // A whole stream is what every registry takes; a part says which one it is.
        let range = length.filter(|length| (at > 0 || piece.is_some()) && *length > 0);
        let range = range.map(|length| format!("{at}-{}", at + length - 1));
        let mut headers = vec![(header::CONTENT_TYPE.as_str(), "application/octet-stream")];
        headers.extend(range.as_deref().map(|range| (header::CONTENT_RANGE.as_str(), range)));
        let answer = self.client.stream(&Method::PATCH, &upload.url, &headers, &mut counted, length);
        if let Some(failure) = counted.failure {
            return Err(failure).context("read it");
        }
        let end = counted.at;
        let is_last = piece.is_none_or(|size| (held.len() as u64) < size);
        Ok(Sent { answer, end, is_last })
    }

    /// How much of an upload the registry has; `None`: it knows nothing of it any more.
    fn arrived(&self, upload: &mut Upload) -> Result<Option<u64>> {
        let url = upload.url.clone();
        let response = self.client.send_patiently(&Ask::get(&url, &[])).context("ask how far the upload came")?;
        if !matches!(response.status().as_u16(), 200 | 202 | 204) {
            return Ok(None);
        }
        upload.moved(&response)?;
        let range = response.headers().get(header::RANGE).and_then(|value| value.to_str().ok());
        Ok(range.and_then(end_of_range))
    }

    /// The blob gets its name.
    fn commit(&self, upload: &Upload, digest: &Digest) -> Result<()> {
        let url = upload.with_digest(digest);
        let ask = Ask { method: Method::PUT, url: &url, headers: &[], body: &[] };
        let response = self.client.send_patiently(&ask).context("end the upload")?;
        match response.status().as_u16() {
            200..=204 => Ok(()),
            // The answer to an earlier try was lost on the way.
            404 if self.has_blob(digest)? => Ok(()),
            _ => Err(unexpected("end the upload", response)),
        }
    }

    /// All of it in a single request, for a registry that takes nothing else.
    fn send_whole(&self, content: &mut dyn Content, told: &dyn Fn(u64)) -> Result<(Digest, u64)> {
        content.restart(0).context("read it")?;
        let length = match (content.digest(), content.length()) {
            (Some(_), Some(length)) => length,
            _ => io::copy(content, &mut io::sink()).context("read it")?,
        };
        let digest = content.digest().ok_or_else(|| Failure::new("the content has no end"))?;
        let mut tries = Tries::default();
        loop {
            let url = self.begin_again()?.with_digest(&digest);
            content.restart(0).context("read it")?;
            let mut counted = Counted { inner: content, at: 0, told, failure: None };
            let headers = [(header::CONTENT_TYPE.as_str(), "application/octet-stream")];
            let answer = self.client.stream(&Method::PUT, &url, &headers, &mut counted, Some(length));
            if let Some(failure) = counted.failure {
                return Err(failure).context("read it");
            }
            match answer {
                Ok(response) => match response.status().as_u16() {
                    200..=204 => return Ok((digest, length)),
                    429 | 500..=599 => tries.after(response)?,
                    401 | 403 => return Err(self.client.denied(response)),
                    _ => return Err(unexpected("upload", response)),
                },
                Err(e) if (is_passing(&e) || is_refused(&e)) && tries.again() => {}
                Err(e) => return Err(self.client.unreachable(e)),
            }
        }
    }
}

struct Sent {
    answer: Result<Response<Body>, ureq::Error>,
    /// Behind the last byte that was handed to the network.
    end: u64,
    is_last: bool,
}

/// Counts what is read, and remembers why it could not be: the network's failures look alike.
struct Counted<'a> {
    inner: &'a mut dyn Read,
    at: u64,
    told: &'a dyn Fn(u64),
    failure: Option<io::Error>,
}

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(into) {
            Ok(n) => {
                self.at += n as u64;
                (self.told)(self.at);
                Ok(n)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(e) => {
                let kind = e.kind();
                self.failure = Some(e);
                Err(kind.into())
            }
        }
    }
}

/// Bytes that `Range: 0-9` speaks of. `0-0` is what registries say of one byte and of none.
fn end_of_range(header: &str) -> Option<u64> {
    let header = header.strip_prefix("bytes=").unwrap_or(header);
    let (start, end) = header.split_once('-')?;
    let end: u64 = end.trim().parse().ok()?;
    (start.trim() == "0" && end > 0).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrived_is_read_from_the_range() {
        assert_eq!(end_of_range("0-1023"), Some(1024));
        assert_eq!(end_of_range("bytes=0-9"), Some(10));
        for nothing in ["0-0", "5-9", "x", "", "0-"] {
            assert_eq!(end_of_range(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn the_digest_joins_the_query_that_is_there() {
        let digest = Digest::of(b"");
        let of = |url: &str| Upload { url: url.to_owned() }.with_digest(&digest);
        assert!(of("http://a/b").starts_with("http://a/b?digest=sha256%3Ae3b0"));
        assert!(of("http://a/b?c=d").starts_with("http://a/b?c=d&digest=sha256%3A"));
    }
}
