//! A registry to push to that is as difficult as a test wants: HTTP on loopback, blobs in memory, every
//! upload resumable as the specification has it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::archive::digest;

/// What it does to people.
#[derive(Debug, Default, Clone)]
pub struct Whims {
    /// Break the connection off behind so many bytes of an upload, so many times.
    pub breaks: Option<(usize, u32)>,
    /// Answer the first requests for an upload with this status and `Retry-After`.
    pub busy: Option<(u16, String, u32)>,
    /// Take no more than so many bytes at once.
    pub most: Option<usize>,
    /// Know nothing of PATCH.
    pub only_put: bool,
    /// Give nothing from other repositories.
    pub mounts_nothing: bool,
    /// Who asks with this `Authorization` may; others get the challenge.
    pub demand: Option<(String, String)>,
    /// Say that something else was stored.
    pub lies: bool,
    /// Send uploads to this address.
    pub elsewhere: Option<String>,
    /// At the next break, refuse all connections for so long.
    pub outage: Option<Duration>,
}

#[derive(Debug, Default)]
struct Shelf {
    whims: Whims,
    blobs: HashMap<String, Vec<u8>>,
    manifests: HashMap<String, (String, Vec<u8>)>,
    uploads: HashMap<String, Vec<u8>>,
    asked: Vec<String>,
}

#[derive(Debug)]
pub struct Uploads {
    /// `127.0.0.1:PORT`.
    pub host: String,
    shelf: Arc<Mutex<Shelf>>,
}

impl Uploads {
    pub fn start(whims: Whims) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let shelf = Arc::new(Mutex::new(Shelf { whims, ..Shelf::default() }));
        let shared = Arc::clone(&shelf);
        std::thread::spawn(move || listen(listener, &shared));
        Self { host, shelf }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap()
    }

    /// The requests so far: `PATCH /v2/a/blobs/uploads/1 0-9`, with the range where there is one.
    pub fn asked(&self) -> Vec<String> {
        self.shelf().asked.clone()
    }

    pub fn forget(&self) {
        self.shelf().asked.clear();
    }

    pub fn change(&self, whims: Whims) {
        self.shelf().whims = whims;
    }

    /// The bytes of a blob.
    pub fn blob(&self, digest: &str) -> Vec<u8> {
        self.shelf().blobs.get(digest).cloned().unwrap_or_else(|| panic!("no blob {digest}"))
    }

    /// A manifest by `repository:tag`, with its media type.
    pub fn manifest(&self, name: &str) -> (String, Vec<u8>) {
        self.shelf().manifests.get(name).cloned().unwrap_or_else(|| panic!("no manifest {name}"))
    }
}

fn listen(mut listener: TcpListener, shelf: &Arc<Mutex<Shelf>>) {
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    loop {
        let outage = {
            let mut shelf = shelf.lock().unwrap();
            // Once the break has come.
            if shelf.whims.breaks.is_none_or(|(_, times)| times == 0) { shelf.whims.outage.take() } else { None }
        };
        if let Some(outage) = outage {
            drop(listener);
            std::thread::sleep(outage);
            listener = TcpListener::bind(address).unwrap();
            listener.set_nonblocking(true).unwrap();
        }
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        let shelf = Arc::clone(shelf);
        std::thread::spawn(move || while serve(&stream, &shelf).is_some() {});
    }
}

struct Request {
    method: String,
    path: String,
    query: HashMap<String, String>,
    headers: HashMap<String, String>,
}

fn serve(stream: &TcpStream, shelf: &Mutex<Shelf>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    match reader.read_line(&mut line) {
        Ok(0) => return None,
        Ok(_) => {}
        Err(_) => {
            // The beginning of TLS: said as every HTTP server says it.
            let mut stream = stream;
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
            return None;
        }
    }
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = query.map(|(name, value)| (name.to_owned(), value.replace("%3A", ":").replace("%2F", "/"))).collect();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let request = Request { method, path: path.to_owned(), query, headers };
    let most = {
        let mut shelf = shelf.lock().unwrap();
        let range = request.headers.get("content-range").map(|range| format!(" {range}")).unwrap_or_default();
        shelf.asked.push(format!("{} {}{range}", request.method, request.path));
        // One break less for the next one.
        let is_upload = matches!(request.method.as_str(), "PATCH" | "PUT") && request.path.contains("/uploads/");
        match shelf.whims.breaks.filter(|(_, times)| is_upload && *times > 0) {
            Some((at, times)) => {
                shelf.whims.breaks = Some((at, times - 1));
                Some(at)
            }
            None => None,
        }
    };
    let mut body = Vec::new();
    let whole = read_body(&mut reader, &request.headers, most, &mut body);
    let mut shelf = shelf.lock().unwrap();
    if !whole {
        // What arrived stays, as with a registry that writes as it reads.
        if let Some(upload) = request.path.rsplit('/').next().and_then(|id| shelf.uploads.get_mut(id)) {
            upload.extend(body);
        }
        let _ = stream.shutdown(Shutdown::Both);
        return None;
    }
    let (status, headers, body) = answer(&mut shelf, &request, body);
    let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = stream;
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    if request.method != "HEAD" {
        stream.write_all(&body).ok()?;
    }
    Some(())
}

/// Reads a request's body; false: it was broken off.
fn read_body(
    reader: &mut impl BufRead,
    headers: &HashMap<String, String>,
    most: Option<usize>,
    body: &mut Vec<u8>,
) -> bool {
    let enough = |body: &Vec<u8>| most.is_some_and(|most| body.len() >= most);
    let one = |reader: &mut dyn BufRead, mut left: usize, body: &mut Vec<u8>| -> bool {
        while left > 0 {
            let mut piece = vec![0; left.min(65536)];
            match reader.read(&mut piece) {
                Ok(0) | Err(_) => return false,
                Ok(n) => {
                    body.extend_from_slice(&piece[..n]);
                    left -= n;
                }
            }
            if enough(body) {
                return false;
            }
        }
        true
    };
    if most == Some(0) {
        return false;
    }
    if let Some(length) = headers.get("content-length") {
        return one(reader, length.parse().unwrap(), body);
    }
    if headers.get("transfer-encoding").map(String::as_str) != Some("chunked") {
        return true;
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return false;
        }
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut end = Vec::new();
        if !one(reader, length, body) || !one(reader, 2, &mut end) {
            return false;
        }
        if length == 0 {
            return true;
        }
    }
}

type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

fn answer(shelf: &mut Shelf, request: &Request, body: Vec<u8>) -> Answer {
    let error = |status: u16, code: &str| -> Answer {
        (status, Vec::new(), format!(r#"{{"errors":[{{"code":"{code}","message":"so it is"}}]}}"#).into_bytes())
    };
    let path = request.path.as_str();
    if let Some((wanted, challenge)) = &shelf.whims.demand
        && path.starts_with("/v2/")
        && request.headers.get("authorization") != Some(wanted)
    {
        return (401, vec![("WWW-Authenticate", challenge.clone())], Vec::new());
    }
    if path == "/v2/" {
        return (200, Vec::new(), b"{}".to_vec());
    }
    if path == "/token" {
        return (200, Vec::new(), br#"{"token":"t0k3n"}"#.to_vec());
    }
    let Some(rest) = path.strip_prefix("/v2/") else { return error(404, "UNKNOWN") };
    if let Some((name, id)) = rest.split_once("/blobs/uploads/") {
        return upload(shelf, request, name, id, body);
    }
    if let Some((_, digest)) = rest.split_once("/blobs/") {
        // One store for all repositories, in which each has to be given what it has.
        let key = format!("{}@{digest}", rest.split_once("/blobs/").unwrap().0);
        return match shelf.manifests.contains_key(&key).then(|| shelf.blobs.get(digest)).flatten() {
            Some(blob) => (200, Vec::new(), blob.clone()),
            None => error(404, "BLOB_UNKNOWN"),
        };
    }
    let Some((name, tag)) = rest.split_once("/manifests/") else { return error(404, "UNKNOWN") };
    if request.method == "PUT" {
        let kind = request.headers["content-type"].clone();
        let said = if shelf.whims.lies { self::digest(b"else") } else { self::digest(&body) };
        shelf.manifests.insert(format!("{name}:{tag}"), (kind, body));
        return (201, vec![("Docker-Content-Digest", said)], Vec::new());
    }
    match shelf.manifests.get(&format!("{name}:{tag}")) {
        Some((kind, bytes)) => (200, vec![("Content-Type", kind.clone())], bytes.clone()),
        None => error(404, "MANIFEST_UNKNOWN"),
    }
}

fn upload(shelf: &mut Shelf, request: &Request, name: &str, id: &str, body: Vec<u8>) -> Answer {
    let error = |status: u16, code: &str| -> Answer {
        (status, Vec::new(), format!(r#"{{"errors":[{{"code":"{code}","message":"so it is"}}]}}"#).into_bytes())
    };
    if let Some((status, wait, times)) = shelf.whims.busy.clone()
        && times > 0
    {
        shelf.whims.busy = Some((status, wait.clone(), times - 1));
        return (status, vec![("Retry-After", wait)], Vec::new());
    }
    let place = shelf.whims.elsewhere.clone().unwrap_or_default();
    let location = |id: &str| ("Location", format!("{place}/v2/{name}/blobs/uploads/{id}"));
    let has = |shelf: &mut Shelf, digest: &str| {
        shelf.manifests.insert(format!("{name}@{digest}"), (String::new(), Vec::new()));
    };
    match request.method.as_str() {
        "POST" => {
            if let (Some(digest), Some(from)) = (request.query.get("mount"), request.query.get("from"))
                && !shelf.whims.mounts_nothing
                && shelf.manifests.contains_key(&format!("{from}@{digest}"))
            {
                has(shelf, digest);
                return (201, Vec::new(), Vec::new());
            }
            let id = format!("u{}", shelf.asked.len());
            shelf.uploads.insert(id.clone(), Vec::new());
            (202, vec![location(&id)], Vec::new())
        }
        "GET" => match shelf.uploads.get(id) {
            Some(upload) => {
                (204, vec![location(id), ("Range", format!("0-{}", upload.len().saturating_sub(1)))], Vec::new())
            }
            None => error(404, "BLOB_UPLOAD_UNKNOWN"),
        },
        "PATCH" if shelf.whims.only_put => error(405, "UNSUPPORTED"),
        "PATCH" | "PUT" => {
            if shelf.whims.most.is_some_and(|most| body.len() > most) {
                return error(413, "SIZE_INVALID");
            }
            let Some(upload) = shelf.uploads.get_mut(id) else { return error(404, "BLOB_UPLOAD_UNKNOWN") };
            if let Some((start, _)) = request.headers.get("content-range").and_then(|range| range.split_once('-'))
                && start.parse() != Ok(upload.len())
            {
                return error(416, "RANGE_INVALID");
            }
            upload.extend(body);
            let Some(wanted) = request.query.get("digest") else {
                let range = format!("0-{}", upload.len().saturating_sub(1));
                return (202, vec![location(id), ("Range", range)], Vec::new());
            };
            let blob = shelf.uploads.remove(id).unwrap();
            if self::digest(&blob) != *wanted {
                return error(400, "DIGEST_INVALID");
            }
            shelf.blobs.insert(wanted.clone(), blob);
            has(shelf, wanted);
            (201, Vec::new(), Vec::new())
        }
        _ => error(405, "UNSUPPORTED"),
    }
}
