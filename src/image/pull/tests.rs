//! Pulls from a small registry in this process that is as kind or as hostile as a test wants.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::image::find;

/// What is answered to a path: a status, headers, a body.
pub type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);
type Handler = dyn Fn(&str, &HashMap<String, String>) -> Answer + Send + Sync;

/// A registry on a loopback port; its thread ends with the process.
pub struct Server {
    pub address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&str, &HashMap<String, String>) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log): (Arc<Handler>, _) = (Arc::new(answer), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                std::thread::spawn(move || serve(stream, &*answer, &log));
            }
        });
        Self { address, asked }
    }

    pub fn name(&self) -> Reference {
        format!("{}/app:1", self.address).parse().expect("reference")
    }

    pub fn asked(&self, part: &str) -> usize {
        self.asked.lock().expect("log").iter().filter(|path| path.contains(part)).count()
    }
}

fn serve(stream: TcpStream, answer: &Handler, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    // A TLS greeting is not a line of text.
    if reader.read_line(&mut line).is_err() || !line.starts_with("GET ") {
        let _ = reader.get_mut().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        return;
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = HashMap::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).is_err() || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
    }
    log.lock().expect("log").push(format!("{path} {}", headers.get("range").map_or("", String::as_str)));
    let (status, extra, body) = answer(&path, &headers);
    let mut head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
    if !extra.iter().any(|(name, _)| *name == "Content-Length") {
        let _ = write!(head, "Content-Length: {}\r\n", body.len());
    }
    for (name, value) in extra {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let _ = reader.get_mut().write_all((head + "\r\n").as_bytes());
    let _ = reader.get_mut().write_all(&body);
}

/// An image of one layer, as a registry has it.
#[derive(Clone)]
pub struct Sample {
    pub layer: Vec<u8>,
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
}

impl Sample {
    fn new() -> Self {
        let mut archive = ::tar::Builder::new(Vec::new());
        let mut header = ::tar::Header::new_gnu();
        let data: Vec<u8> = (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, "file", &data[..]).expect("archive");
        let layer = archive.into_inner().expect("archive");
        Self::of(&layer, &Digest::of(&layer))
    }

    pub fn of(layer: &[u8], diff: &Digest) -> Self {
        let config = json!({
            "architecture": Platform::host().architecture, "os": "linux",
            "config": {"Cmd": ["x"], "ExposedPorts": null, "Labels": null},
            "rootfs": {"type": "layers", "diff_ids": [diff.as_str()]},
        });
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest::OCI_MANIFEST,
            "config": {"mediaType": manifest::OCI_CONFIG, "digest": Digest::of(&config).as_str(), "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": Digest::of(layer).as_str(), "size": layer.len()}],
        });
        Self { layer: layer.to_vec(), config, manifest: manifest.to_string().into_bytes() }
    }

    /// What a good registry answers.
    pub fn answer(&self, path: &str) -> Answer {
        let known = [&self.layer, &self.config, &self.manifest];
        let body = if path.ends_with("/manifests/1") {
            Some(&self.manifest)
        } else {
            known.into_iter().find(|bytes| path.ends_with(Digest::of(bytes).as_str()))
        };
        match body {
            Some(body) => (200, Vec::new(), body.clone()),
            None if path == "/v2/" => (200, Vec::new(), Vec::new()),
            None => (404, Vec::new(), Vec::new()),
        }
    }

    pub fn is_layer(&self, path: &str) -> bool {
        path.ends_with(Digest::of(&self.layer).as_str())
    }
}

struct Silent;

impl Report for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn exists(&self, _: &str) {}
    fn bytes(&self, _: &str, _: u64) {}
    fn unpacked(&self, _: &str, _: u64) {}
    fn reused(&self, _: &str, _: u64, _: u64) {}
    fn again(&self, _: &str) {}
    fn complete(&self, _: &str) {}
}

pub fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Store::open(Some(&dir.path().join("root")), Some(&dir.path().join("run"))).expect("store");
    (dir, store)
}

/// The error of a pull that must fail, and that it left nothing.
fn refused(server: &Server) -> String {
    let (_dir, store) = store();
    let error = pull(&store, &server.name(), None, &Silent).expect_err("a hostile registry");
    let left: Vec<_> = std::fs::read_dir(store.layers()).expect("layers").flatten().map(|e| e.file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(find(&store, &server.name().to_string()).expect("index").is_none());
    format!("{error:#}")
}

#[test]
fn an_image_comes_whole_and_is_found() {
    let sample = Sample::new();
    let answers = sample.clone();
    let server = Server::start(move |path, _| answers.answer(path));
    let (_dir, store) = store();
    assert!(pull(&store, &server.name(), None, &Silent).expect("pull").newer);
    let image = find(&store, &server.name().to_string()).expect("find").expect("there");
    assert_eq!(image.id, Digest::of(&sample.config).as_str());
    assert!(image.is_there().expect("index"));
    let file = std::fs::metadata(store.layers().join(&image.layers[0]).join("file")).expect("the file");
    assert_eq!(file.len(), 100_000);
    assert!(!pull(&store, &server.name(), None, &Silent).expect("again").newer);
    assert_eq!(server.asked("/blobs/"), 2, "nothing is fetched twice");
    crate::image::remove::remove(&store, &image.id, &[], false).expect("remove");
    assert!(!image.is_there().expect("index"));
    for dir in [store.layers(), blobs::dir(&store)] {
        assert_eq!(std::fs::read_dir(&dir).expect("dir").count(), 0, "{dir:?} is empty");
    }
}

#[test]
fn a_broken_connection_goes_on_where_it_broke() {
    for ranges in [true, false] {
        let sample = Sample::new();
        let answers = sample.clone();
        let tries = AtomicUsize::new(0);
        let server = Server::start(move |path, headers| {
            let (status, mut extra, body) = answers.answer(path);
            if !answers.is_layer(path) {
                return (status, extra, body);
            }
            extra.push(("Content-Length", body.len().to_string()));
            if tries.fetch_add(1, Ordering::Relaxed) == 0 {
                return (status, extra, body[..60_000].to_vec());
            }
            let from = headers.get("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
            match from.filter(|_| ranges) {
                Some(from) => {
                    let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
                    (206, vec![("Content-Range", range)], body[from..].to_vec())
                }
                None => (status, extra, body),
            }
        });
        let (_dir, store) = store();
        pull(&store, &server.name(), None, &Silent).expect("pull");
        assert_eq!(server.asked("bytes=60000-"), 1, "the rest is asked for");
    }
}

#[test]
fn a_busy_registry_is_asked_again() {
    let sample = Sample::new();
    let tries = AtomicUsize::new(0);
    let server = Server::start(move |path, _| {
        if path.contains("manifests") && tries.fetch_add(1, Ordering::Relaxed) < 2 {
            return (503, Vec::new(), Vec::new());
        }
        sample.answer(path)
    });
    let (_dir, store) = store();
    pull(&store, &server.name(), None, &Silent).expect("pull");
    assert_eq!(server.asked("manifests"), 3);
}

#[test]
fn what_is_not_what_it_should_be_is_refused() {
    let sample = Sample::new();
    let answers = sample.clone();
    let server = Server::start(move |path, _| {
        let (status, extra, mut body) = answers.answer(path);
        if answers.is_layer(path) {
            body[600] ^= 1;
        }
        (status, extra, body)
    });
    assert!(refused(&server).contains("its digest is"), "a layer of another digest");

    let wrong = Sample::of(&sample.layer, &Digest::of(b"another"));
    let server = Server::start(move |path, _| wrong.answer(path));
    assert!(refused(&server).contains("the configuration says"), "a layer of another diff id");

    let answers = sample.clone();
    let config = Digest::of(&sample.config);
    let server = Server::start(move |path, _| {
        let (status, extra, mut body) = answers.answer(path);
        if path.ends_with(config.as_str()) {
            body.push(b' ');
        }
        (status, extra, body)
    });
    assert!(refused(&server).contains("something else"), "a configuration of another digest");

    let answers = sample.clone();
    let server = Server::start(move |path, _| {
        if path.contains("manifests") { (200, Vec::new(), vec![b' '; 100 << 20]) } else { answers.answer(path) }
    });
    assert!(refused(&server).contains("larger than 4 MiB"), "a manifest of 100 MiB");
}

#[test]
fn credentials_stay_with_the_registry() {
    let seen = Arc::new(Mutex::new(None));
    let sample = Sample::new();
    let (answers, log) = (sample.clone(), Arc::clone(&seen));
    let elsewhere = Server::start(move |_, headers| {
        *log.lock().expect("log") = Some(headers.contains_key("authorization"));
        (200, Vec::new(), answers.layer.clone())
    });
    let (answers, target) = (sample, elsewhere.address.clone());
    let server = Server::start(move |path, headers| {
        if path.starts_with("/token") {
            return (200, Vec::new(), br#"{"token":"secret"}"#.to_vec());
        }
        if headers.get("authorization").map(String::as_str) != Some("Bearer secret") {
            let realm = format!("Bearer realm=\"http://{}/token\",service=\"s\"", headers["host"]);
            return (401, vec![("WWW-Authenticate", realm)], Vec::new());
        }
        if answers.is_layer(path) {
            return (307, vec![("Location", format!("http://{target}/layer"))], Vec::new());
        }
        answers.answer(path)
    });
    let (_dir, store) = store();
    pull(&store, &server.name(), None, &Silent).expect("pull");
    assert_eq!(*seen.lock().expect("log"), Some(false), "redirected without the token");
    assert_eq!(server.asked("/token"), 1, "one token for all");
    assert_eq!(server.asked("scope=repository%3Aapp%3Apull"), 1);
}

#[test]
fn one_of_a_list_is_for_this_machine() {
    let sample = Sample::new();
    let digest = Digest::of(&sample.manifest);
    let size = sample.manifest.len();
    let entry = |architecture: &str, digest: &Digest| {
        json!({"mediaType": manifest::OCI_MANIFEST, "digest": digest.as_str(), "size": size,
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let list = json!({"schemaVersion": 2, "mediaType": manifest::OCI_INDEX, "manifests": [
        entry("pdp11", &Digest::of(b"other")), entry(&Platform::host().architecture, &digest)]});
    let list = list.to_string().into_bytes();
    let top = Digest::of(&list);
    let server = Server::start(move |path, _| {
        if path.ends_with("/manifests/1") { (200, Vec::new(), list.clone()) } else { sample.answer(path) }
    });
    let (_dir, store) = store();
    assert_eq!(pull(&store, &server.name(), None, &Silent).expect("pull").digest, top);
    let by_digest = format!("{}/app@{top}", server.address);
    assert!(find(&store, &by_digest).expect("find").is_some(), "found by the list's digest");
    let other = "linux/s390x".parse::<Platform>().expect("platform");
    let error = pull(&store, &server.name(), Some(&other), &Silent).expect_err("no such platform");
    assert!(format!("{error:#}").contains("no matching manifest for linux/s390x"));
}

#[test]
fn a_single_image_for_another_platform_is_refused() {
    let sample = Sample::new();
    let server = Server::start(move |path, _| sample.answer(path));
    let (_dir, store) = store();
    let (name, host) = (server.name(), Platform::host());
    let other = "linux/s390x".parse::<Platform>().expect("platform");
    let error = pull(&store, &name, Some(&other), &Silent).expect_err("another platform");
    let expected = format!(
        "image with reference {name} was found but does not match the specified platform: wanted linux/s390x, actual: {host}"
    );
    assert_eq!(format!("{error:#}"), expected);
    assert!(find(&store, &name.to_string()).expect("index").is_none(), "nothing is tagged");
    pull(&store, &name, Some(&host), &Silent).expect("pull");
    let before = server.asked("");
    let wanted = host.to_string();
    crate::image::obtain(&store, &name.to_string(), crate::image::PullPolicy::Missing, Some(&wanted), true)
        .expect("obtain");
    assert_eq!(server.asked(""), before, "what fits is not pulled again");
}
