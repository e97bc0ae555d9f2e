//! Updates of eStargz images from a registry that counts what it sends.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::*;
use crate::image::blobs;
use crate::image::digest::Digest;
use crate::image::pull::tests::{Sample, Server, store};
use crate::image::pull::{Report, pull};
use crate::store::Store;

/// What can be told apart: bytes that do not compress, another seed having others.
fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(step).collect()
}

fn header(name: &str, size: usize) -> Vec<u8> {
    let mut header = ::tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_size(size as u64);
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// Nothing is compressed, so that what has the same length has it in the blob too.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::none());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut all = bytes.to_vec();
    all.resize(bytes.len().next_multiple_of(512), 0);
    all
}

/// An eStargz of these files, in chunks of a megabyte, and the archive in it. `lie`: what its table says of a
/// file's digest where that is not true.
fn estargz(files: &[(&str, Vec<u8>)], lie: impl Fn(&str) -> Option<Digest>) -> (Vec<u8>, Vec<u8>) {
    let (mut blob, mut plain, mut rows) = (Vec::new(), Vec::new(), Vec::<Value>::new());
    let mut member = Vec::new();
    for (name, contents) in files {
        member.extend(header(name, contents.len()));
        for (n, chunk) in contents.chunks(1 << 20).enumerate() {
            plain.extend_from_slice(&member);
            blob.extend(gzip(&std::mem::take(&mut member)));
            let digest = lie(name).unwrap_or_else(|| Digest::of(chunk));
            rows.push(json!({
                "name": name, "type": if n == 0 { "reg" } else { "chunk" }, "mode": 420, "size": contents.len(),
                "modtime": "2023-11-14T22:13:20Z", "offset": blob.len(), "chunkOffset": n << 20,
                "chunkSize": chunk.len(), "chunkDigest": digest.as_str(),
            }));
            member = chunk.to_vec();
        }
        member = padded(&member);
    }
    plain.extend_from_slice(&member);
    blob.extend(gzip(&member));
    let start = blob.len();
    let table = json!({"version": 1, "entries": rows}).to_string().into_bytes();
    let last = [header("stargz.index.json", table.len()), padded(&table), vec![0; 1024]].concat();
    plain.extend_from_slice(&last);
    blob.extend(gzip(&last));
    blob.extend(footer(start));
    (blob, plain)
}

fn footer(start: usize) -> Vec<u8> {
    let field = format!("{start:016x}STARGZ");
    let head = [&[0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 26, 0][..], b"SG", &[22, 0], field.as_bytes()].concat();
    [&head[..], &[1, 0, 0, 255, 255], &[0; 8]].concat()
}

fn sample((blob, plain): &(Vec<u8>, Vec<u8>)) -> Sample {
    let mut sample = Sample::of(blob, &Digest::of(plain));
    let mut manifest: Value = serde_json::from_slice(&sample.manifest).unwrap();
    manifest["layers"][0]["annotations"] = json!({"containerd.io/snapshot/stargz/toc.digest": "sha256:0"});
    sample.manifest = manifest.to_string().into_bytes();
    sample
}

/// A registry with one tag that is pushed again and again.
struct Tag {
    server: Server,
    now: Arc<Mutex<Sample>>,
    sent: Arc<AtomicUsize>,
}

impl Tag {
    /// `parts`: how many requests for a part are answered with one; the others get all.
    fn of(first: Sample, parts: usize) -> Self {
        let left = AtomicUsize::new(parts);
        let (now, sent) = (Arc::new(Mutex::new(first)), Arc::new(AtomicUsize::new(0)));
        let (sample, count) = (Arc::clone(&now), Arc::clone(&sent));
        let server = Server::start(move |path, headers| {
            let sample = sample.lock().unwrap().clone();
            let one_less =
                || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
            let range = headers.get("range").filter(|_| sample.is_layer(path) && one_less());
            let (status, mut extra, mut body) = sample.answer(path);
            if let Some((start, end)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) {
                let start: usize = start.parse().unwrap();
                let end = end.parse().map_or(body.len(), |last: usize| last + 1);
                extra.push(("Content-Range", format!("bytes {start}-{}/{}", end - 1, body.len())));
                body = body[start..end].to_vec();
                count.fetch_add(body.len(), Ordering::Relaxed);
                return (206, extra, body);
            }
            if sample.is_layer(path) {
                count.fetch_add(body.len(), Ordering::Relaxed);
            }
            (status, extra, body)
        });
        Self { server, now, sent }
    }

    /// Pulls what the tag is now; the bytes of layers that were sent, and what was reported.
    fn pull(&self, store: &Store) -> (usize, Vec<String>) {
        self.sent.store(0, Ordering::Relaxed);
        let told = Told::default();
        pull(store, &self.server.name(), None, &told).unwrap();
        let layer = self.now.lock().unwrap().layer.clone();
        assert!(std::fs::read(blobs::path(store, &Digest::of(&layer))).unwrap() == layer, "the blob as it was pushed");
        (self.sent.load(Ordering::Relaxed), told.0.into_inner().unwrap())
    }
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Report for Told {
    fn begin(&self, _: &str, _: u64) {}
    fn exists(&self, _: &str) {}
    fn bytes(&self, _: &str, _: u64) {}
    fn unpacked(&self, _: &str, _: u64) {}
    fn reused(&self, _: &str, bytes: u64, of: u64) {
        self.0.lock().unwrap().push(format!("reused {} %", bytes * 100 / of));
    }
    fn again(&self, _: &str) {
        self.0.lock().unwrap().push("again".to_owned());
    }
    fn complete(&self, _: &str) {}
}

fn true_table(_: &str) -> Option<Digest> {
    None
}

/// Ten files, the one of this number in another version.
fn files(changed: usize) -> Vec<(&'static str, Vec<u8>)> {
    const NAMES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let seed = |n: usize| u32::try_from(if n == changed { n + 100 } else { n }).unwrap();
    NAMES.iter().enumerate().map(|(n, name)| (*name, noise(seed(n), 100_000 * (n + 1)))).collect()
}

#[test]
fn an_update_fetches_what_has_changed() {
    let (_dir, store) = store();
    let tag = Tag::of(sample(&estargz(&files(99), true_table)), usize::MAX);
    let (first, told) = tag.pull(&store);
    assert!(first > 5_500_000 && told.is_empty(), "{first} {told:?}");
    // One of 300 kB; its header is as it was, so the part before it is too.
    *tag.now.lock().unwrap() = sample(&estargz(&files(2), true_table));
    let (second, told) = tag.pull(&store);
    assert!((300_000..500_000).contains(&second), "{second}");
    assert_eq!(told, ["reused 94 %"]);
    // One more file at the front: all others have moved.
    let mut more = files(2);
    more.insert(0, ("new", noise(7, 5000)));
    *tag.now.lock().unwrap() = sample(&estargz(&more, true_table));
    let (third, told) = tag.pull(&store);
    assert!(third < 250_000, "{third}");
    assert_eq!(told, ["reused 99 %"]);
    let parts = tag.server.asked("bytes=");
    assert!(parts <= 6, "{parts} requests for parts");
}

#[test]
fn a_table_that_lies_costs_a_second_download() {
    let (_dir, store) = store();
    let tag = Tag::of(sample(&estargz(&files(99), true_table)), usize::MAX);
    tag.pull(&store);
    let old = Digest::of(&noise(2, 300_000));
    let liar = |name: &str| (name == "c").then(|| old.clone());
    *tag.now.lock().unwrap() = sample(&estargz(&files(2), liar));
    let (sent, told) = tag.pull(&store);
    assert!(sent > 5_500_000, "{sent}");
    assert_eq!(told.last().unwrap(), "again", "{told:?}");
}

#[test]
fn a_damaged_donor_is_found_out() {
    let (_dir, store) = store();
    let first = sample(&estargz(&files(99), true_table));
    let tag = Tag::of(first.clone(), usize::MAX);
    tag.pull(&store);
    let path = blobs::path(&store, &Digest::of(&first.layer));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[3_000_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    *tag.now.lock().unwrap() = sample(&estargz(&files(2), true_table));
    let (_, told) = tag.pull(&store);
    assert_eq!(told, ["reused 94 %", "again"]);
}

#[test]
fn without_ranges_all_is_fetched_once() {
    let (_dir, store) = store();
    let tag = Tag::of(sample(&estargz(&files(99), true_table)), 0);
    tag.pull(&store);
    *tag.now.lock().unwrap() = sample(&estargz(&files(2), true_table));
    let (_, told) = tag.pull(&store);
    assert_eq!(told, [""; 0]);
}

#[test]
fn a_registry_may_stop_giving_parts() {
    let (_dir, store) = store();
    // The table's, and a server that does not know what parts are has its turn.
    let tag = Tag::of(sample(&estargz(&files(99), true_table)), 1);
    tag.pull(&store);
    *tag.now.lock().unwrap() = sample(&estargz(&files(2), true_table));
    let (sent, told) = tag.pull(&store);
    assert_eq!(told, ["reused 94 %"]);
    assert!(sent > 5_500_000, "{sent}");
}

#[test]
fn a_row_without_an_end_is_refused() {
    let header = header("stargz.index.json", 1 << 20);
    let row = format!("{{\"version\":1,\"entries\":[{{\"type\":\"reg\",\"x\":[{}", "[0],".repeat(1 << 18));
    let table = gzip(&[header, row.into_bytes()].concat());
    let refused = Place::Stargz.read(table.as_slice(), 9, &mut |_| {}).unwrap_err();
    assert!(refused.to_string().contains("a row without an end"), "{refused}");
}

#[test]
fn a_table_without_sense_is_none() {
    let (_dir, store) = store();
    let (blob, plain) = estargz(&files(99), true_table);
    let tag = Tag::of(sample(&(blob.clone(), plain.clone())), usize::MAX);
    tag.pull(&store);
    let body = blob.len() - footer(0).len();
    for start in [0, 17, blob.len() - 60, usize::MAX] {
        // Another diff id, so that it is another layer: an empty gzip member more.
        let liar = [&blob[..body], &gzip(&padded(&start.to_le_bytes())), &footer(start)].concat();
        let more = [plain.clone(), padded(&start.to_le_bytes())].concat();
        *tag.now.lock().unwrap() = sample(&(liar, more));
        let (sent, told) = tag.pull(&store);
        assert_eq!(told, [""; 0], "{start}: {sent}");
    }
}

#[test]
fn short_gaps_are_fetched_as_well() {
    let piece = |range: Range<u64>, from| Piece { range, from };
    let (here, there) = (From::Donor(0, 0), From::Registry);
    let small = vec![piece(0..100, there), piece(100..150, here), piece(150..200, there), piece(200..9999, here)];
    let joined = without_gaps(small, 60);
    assert_eq!(joined, [piece(0..200, there), piece(200..9999, here)]);
    let first = vec![piece(0..10, here), piece(10..20, there)];
    assert_eq!(without_gaps(first.clone(), 60), first, "what is at the beginning costs no request");
}

#[test]
fn too_many_requests_become_fewer() {
    let part = |n: u64| Part { start: n * 100_000, length: 100_000, key: [0; 16] };
    let parts: Vec<Part> = (0..1000).map(part).collect();
    let found: Vec<_> = (0..1000).map(|n| (n % 2 == 0).then_some((0, n * 7))).collect();
    let pieces = pieces(&parts, &found, 100_000_000..100_000_010);
    assert!(pieces.iter().filter(|piece| piece.from == From::Registry).count() <= MOST_REQUESTS);
    assert_eq!(pieces.iter().map(Piece::length).sum::<u64>(), 100_000_010, "nothing is left out");
}
