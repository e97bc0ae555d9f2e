//! A registry that lies: about digests, lengths, kinds and contents. Each lie ends with one clear sentence,
//! soon, in little memory, and with nothing of it in the store.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::hostile_layers::watched;
use crate::support::{Entry, Image, Layer, Packing, Reply, Sandbox, Server, both, digest};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// KiB that a command may take, however much is thrown at it.
const MEMORY: u64 = 200_000;

/// Every path below the store, but for the beginnings of blobs that the next pull may go on with and for
/// what really is what its name says.
fn tree(root: &Path) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let bytes = || std::fs::read(&path).unwrap_or_default();
            let is_true = name.strip_prefix("image/blobs/sha256/").is_some_and(|hex| digest(&bytes()).ends_with(hex));
            if name == "image/partial" || is_true {
                continue;
            }
            if entry.file_type().unwrap().is_dir() && name.matches('/').count() < 3 {
                folders.push(path);
            }
            all.insert(name);
        }
    }
    all
}

/// The command refuses with this sentence, soon, and changes nothing.
#[track_caller]
pub fn refused(cx: &Sandbox, line: &str, reason: &str) {
    let before = tree(&cx.root());
    let begin = std::time::Instant::now();
    let (ran, most) = watched(cx.spawn(line));
    ran.refuses(1, reason);
    assert!(ran.err().len() < 2000, "a sentence is shorter than this:\n{ran}");
    assert!(!ran.err().chars().any(|c| c.is_control() && c != '\n'), "{ran:?}");
    assert!(begin.elapsed().as_secs() < 30, "it takes too long\n{ran}");
    assert!(most < MEMORY, "{most} KiB of memory\n{ran}");
    assert_eq!(tree(&cx.root()), before, "something was left\n{ran}");
}

/// A store in which everything is made that the first image makes.
fn store(cx: &Sandbox) {
    cx.busybox();
}

/// One layer of its own.
fn one_layer(name: &str) -> Image {
    Image::new(name).layer(&Layer::new([Entry::file(name.replace(['/', ':'], "-"), 0o644, name)]))
}

fn describe(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()})
}

/// Serves a document by a tag of `hostile`, and returns the full reference.
pub fn document(server: &Server, tag: &str, kind: &str, bytes: impl Into<Vec<u8>>) -> String {
    server.put(&format!("/v2/hostile/manifests/{tag}"), Reply::ok(kind, bytes));
    format!("{}/hostile:{tag}", server.host)
}

/// Serves a blob of `hostile`, and returns its descriptor.
fn blob(server: &Server, kind: &str, bytes: &[u8]) -> Value {
    server.put(&format!("/v2/hostile/blobs/{}", digest(bytes)), Reply::ok("application/octet-stream", bytes));
    describe(kind, bytes)
}

/// A manifest as it should be, of an image that is served.
fn manifest(server: &Server) -> Value {
    let image = one_layer("hostile:good");
    server.serve_image(&image);
    serde_json::from_slice(&image.manifest()).unwrap()
}

both!(digests_that_are_others, |cx| {
    store(cx);
    let server = Server::start();
    let image = one_layer("hostile:good");
    server.serve_image(&image);
    let (name, other) = (digest(&image.manifest()), one_layer("hostile:other").manifest());
    let by_digest = format!("/v2/hostile/manifests/{name}");
    server.put(&by_digest, Reply::ok(MANIFEST, other).with("Docker-Content-Digest", &name));
    let lie = "the registry sent something else: its digest is sha256:[..], not sha256:[..]";
    refused(cx, &format!("pull -q {}/hostile@{name}", server.host), &format!("manifest of \"[..]\": {lie}"));
    let index = json!({"schemaVersion": 2, "manifests": [describe(MANIFEST, &image.manifest())]}).to_string();
    let reference = document(&server, "index", INDEX, index);
    refused(cx, &format!("pull -q {reference}"), &format!("manifest of \"[..]\": {lie}"));
    // Of a configuration, of a layer.
    let good = format!("pull -q {}/hostile:good", server.host);
    let config = format!("/v2/hostile/blobs/{}", image.id());
    server.change(&config, |reply| reply.body.push(b' '));
    refused(cx, &good, &format!("blob \"[..]\": {lie}"));
    server.change(&config, |reply| {
        reply.body.pop();
    });
    server.change_layers(&image, |reply| reply.body[20] ^= 1);
    refused(cx, &good, "layer \"[..]\": [..]");
    server.change_layers(&image, |reply| reply.body[20] ^= 1);
    cx.ctr(&good).succeeds();
});

both!(lengths_that_are_others, |cx| {
    store(cx);
    let server = Server::start();
    let good = manifest(&server);
    let size = |pointer: &str| good.pointer(pointer).unwrap()["size"].as_u64().unwrap();
    let changed = |pointer: &str, size: Value| {
        let mut lie = good.clone();
        lie.pointer_mut(pointer).unwrap()["size"] = size;
        format!("pull -q {}", document(&server, "length", MANIFEST, lie.to_string()))
    };
    let (config, layer) = (size("/config"), size("/layers/0"));
    let says = |said: u64| format!("blob \"[..]\" has {config} bytes, the manifest says {said}");
    for said in [0, config - 1, config + 1, 1 << 40] {
        refused(cx, &changed("/config", said.into()), &says(said));
    }
    let promised = |said: u64| format!("layer \"[..]\": it is larger than the {said} bytes that were promised");
    refused(cx, &changed("/layers/0", (layer - 1).into()), &promised(layer - 1));
    refused(cx, &changed("/layers/0", 0.into()), "layer \"[..]\": it is larger than the 0 bytes that were promised");
    let longer = format!("layer \"[..]\": the connection broke 5 times at byte {layer} of {}: [..]", layer + 1);
    refused(cx, &changed("/layers/0", (layer + 1).into()), &longer);
    for absurd in [1_u64 << 63, u64::MAX] {
        let why = format!("damaged manifest: blob \"[..]\" has {absurd} bytes");
        refused(cx, &changed("/layers/0", absurd.into()), &why);
    }
    for none in [json!(-1), json!("7"), json!(1.5), Value::Null] {
        refused(cx, &changed("/layers/0", none), "damaged manifest: [..]");
    }
    // What the answer itself says.
    let whole = good.to_string();
    let lying = |length: usize| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {MANIFEST}\r\nContent-Length: {length}\r\n\r\n{whole}");
        server.put("/v2/hostile/manifests/said", Reply::raw(head));
        format!("pull -q {}/hostile:said", server.host)
    };
    refused(cx, &lying(whole.len() - 7), "damaged manifest: [..]");
    refused(cx, &lying(whole.len() + 7), "manifest of \"[..]\": [..]");
    cx.ctr(&changed("/layers/0", layer.into())).succeeds();
});

both!(sizes_of_layers_that_are_here_already, |cx| {
    // Nobody fetches them, so nobody finds out; sums of them must not break what counts them.
    let server = Server::start();
    let image = one_layer("hostile:good");
    cx.ctr(&format!("pull -q {}", server.serve_image(&image))).succeeds();
    let mut lie: Value = serde_json::from_slice(&image.manifest()).unwrap();
    lie["layers"][0]["size"] = (1_u64 << 50).into();
    let reference = document(&server, "sizes", MANIFEST, lie.to_string());
    let ran = cx.ctr(&format!("pull -q {reference}"));
    assert!(ran.code == 0 || ran.code == 1, "{ran}");
    for line in ["images", "images --tree", "system df -v", "history -q hostile", "image prune -f", "system check -q"] {
        let ran = cx.ctr(line);
        assert!(ran.code <= 1 && !ran.err().contains("panicked"), "{line}\n{ran}");
    }
});

both!(bodies_without_an_end, |cx| {
    store(cx);
    let server = Server::start();
    let chunked = |head: &str| {
        let piece = [&b"10000\r\n"[..], &*vec![b' '; 0x10000], b"\r\n"].concat();
        let head = format!("HTTP/1.1 {head}\r\nTransfer-Encoding: chunked\r\n\r\n");
        Reply { for_ever: Some(piece), ..Reply::raw(head) }
    };
    let larger = "it is larger than 4 MiB, the most that is read";
    server.put("/v2/hostile/manifests/endless", chunked("200 OK"));
    refused(cx, &format!("pull -q {}/hostile:endless", server.host), &format!("manifest of \"[..]\": {larger}"));
    server.put("/v2/hostile/tags/list", chunked("200 OK"));
    refused(cx, &format!("pull -qa {}/hostile", server.host), &format!("tags of \"[..]\": {larger}"));
    for status in ["400 Bad", "403 Forbidden", "404 Not Found", "418 Teapot"] {
        server.put("/v2/hostile/manifests/endless", chunked(status));
        refused(cx, &format!("pull -q {}/hostile:endless", server.host), "[..]");
    }
    let image = one_layer("hostile:layer");
    let reference = server.serve_image(&image);
    server.put(&format!("/v2/hostile/blobs/{}", image.id()), chunked("200 OK"));
    refused(cx, &format!("pull -q {reference}"), &format!("blob \"[..]\": {larger}"));
    server.serve_image(&image);
    server.change_layers(&image, |reply| *reply = chunked("200 OK"));
    refused(cx, &format!("pull -q {reference}"), "layer \"[..]\": it is larger than the [..] bytes that were promised");
    // Headers without an end, and answers before the answer.
    let header = b"X-Flood: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(1000);
    let flood = Reply { for_ever: Some(header), ..Reply::raw("HTTP/1.1 200 OK\r\n") };
    server.put("/v2/hostile/manifests/flood", flood);
    refused(cx, &format!("pull -q {}/hostile:flood", server.host), "[..]");
});

both!(lists_without_an_end, |cx| {
    store(cx);
    let server = Server::start();
    // The next page is always this one.
    let list =
        Reply::ok("application/json", r#"{"tags":["a","b"]}"#).with("Link", "</v2/hostile/tags/list>; rel=\"next\"");
    server.put("/v2/hostile/tags/list", list);
    refused(cx, &format!("pull -qa {}/hostile", server.host), "tags of \"[..]\": the registry's list goes in a circle");
    let many: Vec<String> = (0..150_000).map(|n| format!("t{n}")).collect();
    server.put("/v2/hostile/tags/list", Reply::ok("application/json", json!({"tags": many}).to_string()));
    refused(cx, &format!("pull -qa {}/hostile", server.host), "[..]hostile has more than 100000 tags");
    for tag in ["../../../v2/x", "a\u{1b}[2J", "", "a b", "a?b", "a\nctr: all is well", "-f", &"x".repeat(500)] {
        let tags = json!({"tags": ["good", tag]}).to_string();
        server.put("/v2/hostile/tags/list", Reply::ok("application/json", tags));
        refused(cx, &format!("pull -qa {}/hostile", server.host), "the registry names a tag \"[..]\", which is none");
    }
    assert!(!server.asked().iter().any(|line| line.contains("manifests")), "{:#?}", server.asked());
});

both!(manifests_of_other_kinds, |cx| {
    store(cx);
    let server = Server::start();
    let good = manifest(&server);
    let pull = |kind: &str, bytes: &str| format!("pull -q {}", document(&server, "kind", kind, bytes));
    let lie = |member: &str, value: Value| {
        let mut lie = good.clone();
        lie[member] = value;
        lie.to_string()
    };
    refused(
        cx,
        &pull(INDEX, &good.to_string()),
        "damaged manifest: the registry calls it \"[..]index[..]\", which it is not",
    );
    refused(
        cx,
        &pull(MANIFEST, &lie("mediaType", INDEX.into())),
        "damaged manifest: it calls itself \"[..]\", which it is not",
    );
    refused(
        cx,
        &pull(MANIFEST, &lie("mediaType", "text/html".into())),
        "damaged manifest: it calls itself \"[..]\", which it is not",
    );
    refused(
        cx,
        &pull(MANIFEST, &lie("manifests", json!([]))),
        "damaged manifest: it is an index and a manifest at once",
    );
    let old = r#"{"schemaVersion":1,"name":"x","tag":"1","architecture":"amd64","fsLayers":[],"history":[]}"#;
    for kind in ["application/vnd.docker.distribution.manifest.v1+prettyjws", MANIFEST, "text/plain"] {
        refused(cx, &pull(kind, old), "the image has a manifest of Docker's schema 1, which was given up in 2019");
    }
    let mut artifact = good.clone();
    artifact["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json".into();
    refused(cx, &pull(MANIFEST, &artifact.to_string()), "not a container image but an artifact of type \"[..]\"");
    let mut other = good.clone();
    other["layers"][0]["digest"] = "sha512:00".into();
    refused(
        cx,
        &pull(MANIFEST, &other.to_string()),
        "damaged manifest: digest \"sha512:00\": only sha256 is supported[..]",
    );
    for wrong in [
        "../../../../etc/passwd".to_owned(),
        "x".repeat(1 << 20),
        format!("sha256:{}", "A".repeat(64)),
        "\u{1b}[2J".to_owned(),
    ] {
        other["layers"][0]["digest"] = wrong.into();
        refused_at_length(cx, &pull(MANIFEST, &other.to_string()));
    }
    let html = "<!DOCTYPE html><title>Log in to the network</title>";
    refused(cx, &pull("text/html", html), "damaged manifest: [..]");
    refused(cx, &pull(MANIFEST, &"[".repeat(1 << 20)), "damaged manifest: [..]");
    let twice = good.to_string().replacen('{', r#"{"layers":[],"#, 1);
    refused(cx, &pull(MANIFEST, &twice), "damaged manifest: duplicate field `layers`[..]");
    let layers: Vec<Value> = (0..501).map(|_| good["layers"][0].clone()).collect();
    refused(cx, &pull(MANIFEST, &lie("layers", layers.into())), "the image has more than 500 layers");
    // Pictures of a layer elsewhere are not looked at, wherever that is.
    let mut foreign = good.clone();
    foreign["layers"][0] = json!({
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": digest(b"foreign"), "size": 7,
        "urls": ["file:///etc/passwd", format!("http://{}/secret", server.host), "http://169.254.169.254/latest/meta-data"],
    });
    refused(cx, &pull(MANIFEST, &foreign.to_string()), "layer \"[..]\": blob sha256:[..] of \"[..]\" not found");
    assert!(!server.asked().iter().any(|line| line.contains("/secret")), "{:#?}", server.asked());
});

/// [`refused`], where the sentence quotes what may be long.
#[track_caller]
fn refused_at_length(cx: &Sandbox, line: &str) {
    let before = tree(&cx.root());
    let ran = cx.ctr(line);
    assert!(ran.code == 1 && ran.err().starts_with("ctr: damaged manifest: ") && ran.err().len() < 10_000, "{ran}");
    assert!(!ran.err().contains('\u{1b}'), "{ran:?}");
    assert_eq!(tree(&cx.root()), before, "something was left\n{ran}");
}

both!(indexes_that_lead_nowhere, |cx| {
    store(cx);
    let server = Server::start();
    let platform = json!({"os": "linux", "architecture": crate::support::architecture()});
    let mut bytes = manifest(&server).to_string().into_bytes();
    let mut kind = MANIFEST;
    for depth in 1..6 {
        server.put(&format!("/v2/hostile/manifests/{}", digest(&bytes)), Reply::ok(kind, bytes.clone()));
        let mut entry = describe(kind, &bytes);
        entry["platform"] = platform.clone();
        bytes = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string().into_bytes();
        kind = INDEX;
        let reference = document(&server, &format!("deep-{depth}"), INDEX, bytes.clone());
        if depth > 2 {
            refused(cx, &format!("pull -q {reference}"), "damaged manifest: indexes that lead to indexes");
        }
    }
    // One that leads to itself cannot be made; one that says that it does is found out.
    let itself = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": INDEX, "digest": digest(b"itself"), "size": 6, "platform": platform,
    }]});
    let reference = document(&server, "loop", INDEX, itself.to_string());
    server.copy("/v2/hostile/manifests/loop", &format!("/v2/hostile/manifests/{}", digest(b"itself")));
    refused(cx, &format!("pull -q {reference}"), "manifest of \"[..]\": the registry sent something else: [..]");
    let empty = document(&server, "empty", INDEX, r#"{"schemaVersion":2,"manifests":[]}"#);
    refused(cx, &format!("pull -q {empty}"), "no matching manifest for linux/[..]");
    refused(cx, &format!("pull -q --all-platforms {empty}"), "[..]hostile:empty is an index without an image");
});

both!(configurations_that_do_not_fit, |cx| {
    store(cx);
    let server = Server::start();
    let tar = Layer::new([Entry::file("x", 0o644, "x")]).tar();
    let layer = blob(&server, "application/vnd.oci.image.layer.v1.tar", &tar);
    let pull = |diffs: Value| {
        let config = json!({"architecture": crate::support::architecture(), "os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs}});
        let config = blob(&server, CONFIG, config.to_string().as_bytes());
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        format!("pull -q {}", document(&server, "config", MANIFEST, manifest.to_string()))
    };
    let is = digest(&tar);
    refused(
        cx,
        &pull(json!([digest(b"x")])),
        "layer \"[..]\": its files have the digest [..], the configuration says [..]",
    );
    for (diffs, count) in [(json!([]), 0), (json!([is, is]), 2)] {
        let why = format!("damaged image configuration: it has {count} layers, the manifest 1");
        refused(cx, &pull(diffs), &why);
    }
    for diffs in [json!(["../../../../etc"]), json!([7]), json!("x"), Value::Null] {
        refused(cx, &pull(diffs), "damaged image configuration: [..]");
    }
    for bytes in ["", "[]", "7", r#"{"rootfs":7}"#] {
        let config = blob(&server, CONFIG, bytes.as_bytes());
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        let reference = document(&server, "config", MANIFEST, manifest.to_string());
        refused(cx, &format!("pull -q {reference}"), "damaged image configuration: [..]");
    }
    // A layer that is a bomb: a thousand times larger than what came.
    let zeros = vec![0; 1 << 20];
    let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut member, &zeros).unwrap();
    let bomb = member.finish().unwrap().repeat(600);
    let image = Image::new("hostile:bomb").packed(Packing::Gzip).layer_blob(bomb, digest(b"never reached"));
    let reference = server.serve_image(&image);
    refused(cx, &format!("pull -q {reference}"), "layer \"[..]\": [..]");
});

both!(pieces_that_do_not_fit, |cx| {
    store(cx);
    let server = Server::start();
    let whole = manifest(&server).to_string();
    let pull = format!("pull -q {}/hostile:chunks", server.host);
    let chunks = |body: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {MANIFEST}\r\nTransfer-Encoding: chunked\r\n\r\n");
        server.put("/v2/hostile/manifests/chunks", Reply::raw(head + body));
    };
    let length = whole.len();
    for body in [
        format!("{length:x}\r\n{}", &whole[..length / 2]),
        format!("{length:x}\r\n{whole}\r\n"),
        format!("{length:x}\r\n{whole}\r\n7"),
        format!("ffffffffffffffffff\r\n{whole}\r\n0\r\n\r\n"),
        format!("-1\r\n{whole}\r\n0\r\n\r\n"),
        format!("zz\r\n{whole}\r\n0\r\n\r\n"),
        whole.clone(),
    ] {
        chunks(&body);
        refused(cx, &pull, "manifest of \"[..]\": [..]");
    }
    chunks(&format!("{length:x}\r\n{whole}\r\n0\r\n\r\n"));
    cx.ctr(&pull).succeeds();
    for raw in ["", "HTTP/1.1", "HTTP/1.1 abc\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 999999 X\r\n\r\n"] {
        server.put("/v2/hostile/manifests/raw", Reply::raw(raw));
        refused(cx, &format!("pull -q {}/hostile:raw", server.host), "[..]");
    }
});

both!(ranges_that_were_not_asked_for, |cx| {
    store(cx);
    let server = Server::start();
    let image = one_layer("hostile:ranges");
    let reference = server.serve_image(&image);
    let (name, bytes) = image.blobs().remove(0);
    let path = format!("/v2/hostile/blobs/{name}");
    let partial = |range: &str| {
        let head = format!("HTTP/1.1 206 Partial\r\nContent-Range: {range}\r\nContent-Length: {}\r\n\r\n", bytes.len());
        server.put(&path, Reply::raw([head.as_bytes(), &bytes].concat()));
    };
    let another = "layer \"[..]\": the registry sent another part of the blob than was asked for";
    for range in ["bytes 7-9/10", "bytes 99999999999999999999-1/1", "bytes -", "lines 0-9/10", ""] {
        partial(range);
        refused(cx, &format!("pull -q {reference}"), another);
    }
    // Bytes of something else for the rest of a transfer that broke: the digest finds them.
    server.put(
        &path,
        Reply { broken: Some((bytes.len() / 2, 1)), ..Reply::ok("application/octet-stream", bytes.clone()) },
    );
    server.change(&path, |reply| reply.body.truncate(bytes.len() - 1));
    refused(cx, &format!("pull -q {reference}"), "layer \"[..]\": [..]");
    server.put(&path, Reply::ok("application/octet-stream", bytes.clone()));
    cx.ctr(&format!("pull -q {reference}")).succeeds();
});
