//! A registry that misbehaves: HTTP on loopback that answers what a test wants, byte for byte.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Image;
use super::archive::digest;

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Break the connection off after so many bytes of the body, so many times.
    pub broken: Option<(usize, u32)>,
    /// Send half of the body, and the rest in pieces with pauses between them, over about this time.
    pub slow: Option<Duration>,
    /// Send this many bytes of spaces for a body.
    pub endless: Option<u64>,
    /// Send these bytes, the head among them, and nothing else; then hang up.
    pub raw: Option<Vec<u8>>,
    /// Behind them these again and again, until nobody listens any more.
    pub for_ever: Option<Vec<u8>>,
}

impl Reply {
    pub fn ok(kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            headers: vec![("Content-Type".into(), kind.into())],
            body: body.into(),
            broken: None,
            slow: None,
            endless: None,
            raw: None,
            for_ever: None,
        }
    }

    /// An answer byte for byte, behind which the connection ends.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { raw: Some(bytes.into()), ..Self::ok("", "") }
    }

    /// With one more header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// To another address.
    pub fn redirect(status: u16, location: &str) -> Self {
        Self { status, ..Self::ok("text/plain", "elsewhere") }.with("Location", location)
    }
}

/// What the server has and what it was asked.
#[derive(Debug, Default)]
struct Shelf {
    replies: HashMap<String, Reply>,
    asked: Vec<String>,
    /// Each `Authorization` that came.
    told: Vec<String>,
    /// The `Authorization` that images are given for, and the `WWW-Authenticate` without it.
    demand: Option<(String, String)>,
}

#[derive(Debug)]
pub struct Server {
    /// `127.0.0.1:PORT`.
    pub host: String,
    shelf: Arc<Mutex<Shelf>>,
}

impl Server {
    /// Starts it with nothing but `/v2/`.
    pub fn start() -> Self {
        Self::at(Ipv4Addr::LOCALHOST)
    }

    /// The same at an address of the network that this thread is in.
    pub fn at(address: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let shelf = Arc::new(Mutex::new(Shelf::default()));
        let server = Self { host, shelf: Arc::clone(&shelf) };
        server.put("/v2/", Reply::ok("application/json", "{}"));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shelf = Arc::clone(&shelf);
                std::thread::spawn(move || serve(&stream, &shelf));
            }
        });
        server
    }

    /// Answers `path` with `reply` from now on.
    pub fn put(&self, path: &str, reply: Reply) {
        self.shelf.lock().unwrap().replies.insert(path.to_owned(), reply);
    }

    /// Serves an image, and returns its full reference.
    pub fn serve_image(&self, image: &Image) -> String {
        let (name, tag) = image.name.rsplit_once(':').unwrap();
        let manifest = image.manifest();
        for reference in [tag.to_owned(), digest(&manifest)] {
            let reply = Reply::ok("application/vnd.oci.image.manifest.v1+json", manifest.clone());
            self.put(&format!("/v2/{name}/manifests/{reference}"), reply);
        }
        for (digest, blob) in image.blobs() {
            self.put(&format!("/v2/{name}/blobs/{digest}"), Reply::ok("application/octet-stream", blob));
        }
        format!("{}/{}", self.host, image.name)
    }

    /// Answers `to` as it does `from`.
    pub fn copy(&self, from: &str, to: &str) {
        let mut shelf = self.shelf.lock().unwrap();
        let reply = shelf.replies.get(from).unwrap_or_else(|| panic!("no {from}")).clone();
        shelf.replies.insert(to.to_owned(), reply);
    }

    /// Changes an answer that is there already.
    pub fn change(&self, path: &str, change: impl FnOnce(&mut Reply)) {
        change(self.shelf.lock().unwrap().replies.get_mut(path).unwrap_or_else(|| panic!("no {path}")));
    }

    /// Changes the answers for all layers of an image.
    pub fn change_layers(&self, image: &Image, change: impl Fn(&mut Reply)) {
        let (name, _) = image.name.rsplit_once(':').unwrap();
        let id = image.id();
        for (digest, _) in image.blobs().into_iter().filter(|(digest, _)| *digest != id) {
            self.change(&format!("/v2/{name}/blobs/{digest}"), &change);
        }
    }

    /// Gives images only to those who send this `Authorization`; others get the challenge.
    pub fn demand(&self, authorization: &str, challenge: &str) {
        self.shelf.lock().unwrap().demand = Some((authorization.to_owned(), challenge.to_owned()));
    }

    /// What it was told of who asks: the `Authorization` of each request that has one.
    pub fn told(&self) -> Vec<String> {
        self.shelf.lock().unwrap().told.clone()
    }

    /// The requests so far: `GET /v2/`, and ` bytes=10-` behind it for a range.
    pub fn asked(&self) -> Vec<String> {
        self.shelf.lock().unwrap().asked.clone()
    }
}

/// Answers a connection's requests one after the other.
fn serve(stream: &TcpStream, shelf: &Mutex<Shelf>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        match reader.read_line(&mut first) {
            Ok(0) => return,
            Ok(_) => {}
            Err(_) => {
                // The beginning of TLS: said as every HTTP server says it, so that the client knows.
                let mut stream = stream;
                let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
                return;
            }
        }
        let (mut range, mut authorization) = (None, None);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(':') else { continue };
            match name.to_ascii_lowercase().as_str() {
                "range" => range = Some(value.trim().to_owned()),
                "authorization" => authorization = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = path.split('?').next().unwrap_or_default();
        let reply = {
            let mut shelf = shelf.lock().unwrap();
            shelf.told.extend(authorization.clone());
            shelf.asked.push(match &range {
                None => format!("{method} {path}"),
                Some(range) => format!("{method} {path} {range}"),
            });
            let refused = shelf.demand.clone().filter(|(wanted, _)| authorization.as_ref() != Some(wanted));
            let reply = shelf.replies.get_mut(path).map(|reply| {
                let now = reply.clone();
                // One break less for the next request.
                reply.broken = reply.broken.and_then(|(at, times)| (times > 1).then(|| (at, times - 1)));
                now
            });
            let nothing = Reply::ok("application/json", r#"{"errors":[]}"#);
            match (refused.filter(|_| path.starts_with("/v2/")), reply) {
                (Some((_, challenge)), _) => {
                    Reply { status: 401, headers: vec![("WWW-Authenticate".into(), challenge)], ..nothing }
                }
                (None, Some(reply)) => reply,
                (None, None) => Reply { status: 404, ..nothing },
            }
        };
        if answer(stream, method, range.as_deref(), &reply).is_err() || reply.broken.is_some() || reply.raw.is_some() {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

fn answer(mut stream: &TcpStream, method: &str, range: Option<&str>, reply: &Reply) -> std::io::Result<()> {
    if let Some(raw) = &reply.raw {
        stream.write_all(raw)?;
        while let Some(piece) = &reply.for_ever {
            stream.write_all(piece)?;
        }
        return Ok(());
    }
    let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()).unwrap_or(0);
    let body = &reply.body[usize::min(from, reply.body.len())..];
    let status = if from > 0 { 206 } else { reply.status };
    let length = reply.endless.unwrap_or(body.len() as u64);
    let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n");
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if from > 0 {
        head += &format!("Content-Range: bytes {from}-{}/{}\r\n", reply.body.len() - 1, reply.body.len());
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if method == "HEAD" {
        return Ok(());
    }
    if let Some(length) = reply.endless {
        for _ in 0..length.div_ceil(65536) {
            stream.write_all(&vec![b' '; 65536])?;
        }
        return Ok(());
    }
    let body = &body[..reply.broken.map_or(body.len(), |(at, _)| at.min(body.len()))];
    match reply.slow {
        None => stream.write_all(body),
        Some(time) => {
            let (half, rest) = body.split_at(body.len() / 2);
            stream.write_all(half)?;
            for piece in rest.chunks(rest.len().div_ceil(50).max(1)) {
                stream.write_all(piece)?;
                std::thread::sleep(time / 50);
            }
            Ok(())
        }
    }
}
