//! Pulls that are interrupted and go on, pulls at the same time, registries that are busy; what people
//! see of it; and layers that are made to be read in parts.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::disk_full::small_disk;
use crate::support::{Entry, Image, Layer, Packing, Registry, Sandbox, Server, Terminal, both, digest, random, until};

/// Where what came of the image's last layer is kept.
fn partial(cx: &Sandbox, image: &Image) -> PathBuf {
    let layer = digest(&image.blobs().into_iter().rfind(|(digest, _)| *digest != image.id()).unwrap().1);
    cx.root().join("image/partial").join(layer.strip_prefix("sha256:").unwrap())
}

fn length(path: &std::path::Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// From where on the registry was asked for the rest of a blob, each time.
fn ranges(server: &Server) -> Vec<u64> {
    let asked = server.asked();
    let starts = asked.iter().filter_map(|line| line.split_once(" bytes=")?.1.strip_suffix('-')?.parse().ok());
    starts.collect()
}

/// A registry with one image that is so slow that nobody sees the end of it.
fn slowly(server: &Server, name: &str, bytes: usize) -> (Image, String) {
    let image = Image::small(name, [Entry::file("noise", 0o644, random(bytes))]);
    let reference = server.serve_image(&image);
    server.change_layers(&image, |reply| reply.slow = Some(Duration::from_secs(100)));
    (image, reference)
}

both!(goes_on_after_an_interruption, |cx| {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGKILL, 137)] {
        let server = Server::start();
        let (image, reference) = slowly(&server, "again/app:1", 3_000_000);
        let kept = partial(cx, &image);
        let pull = cx.spawn(&format!("pull -q {reference}"));
        until("some of the layer came", || length(&kept) > 500_000);
        pull.signal(signal);
        pull.wait().is(code, "", "");
        let came = length(&kept);
        let df = cx.ctr("system df -v --format '{{range .ImageData}}{{.Type}} {{println .Size}}{{end}}'").succeeds();
        let shown = df.lines().find_map(|line| line.strip_prefix("Unreferenced ")).unwrap();
        let (number, unit) = shown.split_at(shown.find(char::is_alphabetic).unwrap());
        let bytes = number.parse::<f64>().unwrap() * if unit == "MB" { 1e6 } else { 1e3 };
        assert!(bytes > 500_000.0, "{df}");
        server.change_layers(&image, |reply| reply.slow = None);
        cx.ctr(&format!("pull -q {reference}")).succeeds();
        assert!(ranges(&server).contains(&came), "the rest alone was asked for: {:#?}", server.asked());
        assert!(!kept.exists(), "whole, it is a blob");
        cx.ctr(&format!("run --rm {reference} wc -c /noise")).prints("3000000 /noise\n");
        cx.ctr(&format!("rmi {reference}")).succeeds();
    }
    cx.leaves_nothing();
});

both!(goes_on_when_there_is_room_again, |cx| {
    if !small_disk(cx, 16) {
        return;
    }
    let server = Server::start();
    let image = Image::small("again/full:1", [Entry::file("noise", 0o644, random(12 << 20))]);
    let reference = server.serve_image(&image);
    cx.ctr(&format!("pull -q {reference}")).fails_saying(125, "no space left on device");
    let came = length(&partial(cx, &image));
    assert!(came > 1 << 20, "{came} bytes were kept");
    let grown = Command::new("mount").args(["-o", "remount,size=64m"]).arg(cx.root()).status().unwrap();
    assert!(grown.success());
    cx.ctr(&format!("pull -q {reference}")).succeeds();
    assert_eq!(ranges(&server), [came]);
    cx.ctr(&format!("run --rm {reference} wc -c /noise")).prints("12582912 /noise\n");
});

both!(what_is_kept_is_not_believed, |cx| {
    let server = Server::start();
    let image = Image::small("again/lies:1", [Entry::file("noise", 0o644, random(300_000))]);
    let reference = server.serve_image(&image);
    let kept = partial(cx, &image);
    // Of the right beginning, of a power loss, and longer than the blob is.
    for wrong in
        [random(1000), vec![0; 4096], image.blobs()[1].1[..5000].iter().map(|b| b ^ 1).collect(), random(900_000)]
    {
        cx.ctr("images -q").prints("");
        let owner = if cx.is_root() { None } else { Some((cx.account.uid, cx.account.gid)) };
        for dir in [cx.root(), cx.root().join("image"), cx.root().join("image/partial")] {
            if !dir.is_dir() {
                fs::create_dir(&dir).unwrap();
                fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
            }
            own(&dir, owner);
        }
        fs::write(&kept, wrong).unwrap();
        own(&kept, owner);
        cx.ctr(&format!("pull -q {reference}")).succeeds();
        cx.ctr(&format!("run --rm {reference} wc -c /noise")).prints("300000 /noise\n");
        assert!(!kept.exists());
        cx.ctr(&format!("rmi {reference}")).succeeds();
    }
    cx.leaves_nothing();
});

fn own(path: &std::path::Path, owner: Option<(u32, u32)>) {
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
    }
}

both!(several_at_once_fetch_each_blob_once, |cx| {
    let server = Server::start();
    let mut image = Image::busybox().named("once/app:1");
    for n in 0..4 {
        image = image.layer(&Layer::new([Entry::file(format!("file{n}"), 0o644, random(200_000))]));
    }
    let reference = server.serve_image(&image);
    server.change_layers(&image, |reply| reply.slow = Some(Duration::from_millis(300)));
    let pulls: Vec<_> = (0..5).map(|_| cx.spawn(&format!("pull -q {reference}"))).collect();
    for pull in pulls {
        pull.wait().succeeds();
    }
    for (digest, _) in image.blobs() {
        let times = server.asked().iter().filter(|line| line.starts_with("GET ") && line.contains(&digest)).count();
        assert_eq!(times, 1, "{digest}\n{:#?}", server.asked());
    }
    cx.leaves_nothing();
});

both!(a_busy_registry_says_when_to_come_again, |cx| {
    let server = Server::start();
    let image = Image::small("busy/app:1", [Entry::file("hello", 0o644, "there\n")]);
    let reference = server.serve_image(&image);
    // All of them refuse, until somebody changes it.
    server.change_layers(&image, |reply| {
        reply.status = 429;
        reply.headers.push(("Retry-After".into(), "1".into()));
    });
    let begin = Instant::now();
    let pull = cx.spawn(&format!("pull -q {reference}"));
    until("each layer was asked for twice", || {
        server.asked().iter().filter(|line| line.contains("/blobs/")).count() >= 5
    });
    assert!(begin.elapsed() >= Duration::from_secs(1), "it waited as it was told");
    server.change_layers(&image, |reply| reply.status = 200);
    pull.wait().succeeds();
    cx.ctr(&format!("run --rm {reference} cat /hello")).prints("there\n");
});

both!(a_terminal_shows_each_layer, |cx| {
    let server = Server::start();
    let (image, reference) = slowly(&server, "shown/app:1", 3_000_000);
    let layer = digest(&image.blobs()[1].1)[7..19].to_owned();
    let terminal = Terminal::open(cx);
    terminal.resize(100, 24);
    terminal.line(&format!("$ctr pull {reference}"));
    terminal.shows(&format!("{layer}: Downloading ["));
    let is_told = |screen: &str| {
        let mut lines = screen.lines().filter(|line| line.starts_with(&layer));
        lines.any(|line| line.contains("MB/3.") && line.contains("B/s ") && line.contains(" unpacked"))
    };
    until("it shows how much came, how fast, what was made of it", || is_told(&terminal.screen()));
    terminal.keys(&["C-c"]);
    terminal.shows("^C");
    terminal.line("echo code=$?");
    terminal.shows("code=130");
    let screen = terminal.screen();
    assert!(!screen.contains("ctr: ") && !screen.contains("panicked"), "{screen}");
    server.change_layers(&image, |reply| reply.slow = Some(Duration::from_millis(500)));
    // Nobody reads much there, and nothing goes wrong.
    terminal.resize(1, 24);
    terminal.line(&format!("$ctr pull {reference} && touch done"));
    until("it is pulled on a terminal of one column", || cx.cwd().join("done").exists());
    terminal.resize(100, 24);
    terminal.line("clear");
    terminal.line(&format!("$ctr pull {reference}"));
    terminal.shows("Image is up to date");
    terminal.shows(&format!("{layer}: Already exists"));
});

both!(elsewhere_there_are_lines, |cx| {
    let server = Server::start();
    let image = Image::small("lines/app:1", [Entry::file("hello", 0o644, "there\n")]);
    let reference = server.serve_image(&image);
    let ran = cx.ctr(&format!("pull {reference}"));
    for (digest, _) in image.blobs().iter().filter(|(digest, _)| *digest != image.id()) {
        for what in ["Pulling fs layer", "Pull complete"] {
            assert!(ran.out().contains(&format!("{}: {what}\n", &digest[7..19])), "{ran}");
        }
    }
    ran.succeeds();
});

/// An eStargz layer as stargz-snapshotter's `estargz.md` describes it: a gzip member for each entry,
/// one with the table of contents, and a footer that says where that is.
fn estargz(files: &[(&str, &[u8])]) -> (Vec<u8>, Vec<u8>) {
    let (mut blob, mut plain, mut contents) = (Vec::new(), Vec::new(), Vec::new());
    let mut member = |bytes: &[u8]| {
        let at = blob.len();
        let mut gzip = flate2::write::GzEncoder::new(&mut blob, flate2::Compression::default());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap();
        plain.extend_from_slice(bytes);
        at
    };
    let entry = |name: &str, data: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        let padding = data.len().next_multiple_of(512) - data.len();
        [header.as_bytes(), data, &vec![0; padding]].concat()
    };
    for (name, data) in files {
        let at = member(&entry(name, data));
        contents.push(serde_json::json!({
            "name": name, "type": "reg", "size": data.len(), "mode": 0o644, "offset": at,
            "digest": digest(data), "chunkDigest": digest(data),
        }));
    }
    let toc = serde_json::to_vec(&serde_json::json!({"version": 1, "entries": contents})).unwrap();
    let at = member(&[entry("stargz.index.json", &toc), vec![0; 1024]].concat());
    // RFC 1952: an empty member whose extra field is `SG`, 22 bytes.
    let mut footer = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 26, 0, b'S', b'G', 22, 0];
    footer.extend_from_slice(format!("{at:016x}STARGZ").as_bytes());
    footer.extend_from_slice(&[1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(footer.len(), 51);
    blob.extend_from_slice(&footer);
    (blob, plain)
}

both!(estargz_is_gzip, |cx| {
    let server = Server::start();
    let data = random(100_000);
    let (blob, plain) = estargz(&[("hello", b"there\n"), ("noise", &data), ("empty", b"")]);
    let image = Image::busybox().named("lazy/estargz:1").layer_blob(blob, digest(&plain));
    let reference = server.serve_image(&image);
    cx.ctr(&format!("pull -q {reference}")).succeeds();
    cx.ctr(&format!("run --rm {reference} sh -c 'cat /hello; wc -c /noise /empty | head -n 2'"))
        .prints("there\n   100000 /noise\n        0 /empty\n");
});

/// An image of one layer with these files, as podman and skopeo push zstd:chunked.
fn push_chunked(image: &str, files: &[(&str, &[u8])]) -> String {
    let files = files.iter().map(|(name, data)| Entry::file(name, 0o644, *data));
    let image = Image::busybox().named(image).packed(Packing::Plain).layer(&Layer::new(files));
    let reference = format!("{}/{}", Registry::plain().host, image.name);
    let mut copy = Command::new("skopeo");
    copy.args(["copy", "-q", "--insecure-policy", "--dest-tls-verify=false", "--dest-compress-format", "zstd:chunked"]);
    copy.arg(format!("oci-archive:{}", image.oci_archive().display())).arg(format!("docker://{reference}"));
    let done = copy.output().expect("skopeo: run sh tests/setup.sh --tests");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut raw = Command::new("skopeo");
    raw.args(["inspect", "--raw", "--tls-verify=false"]).arg(format!("docker://{reference}"));
    let manifest = String::from_utf8(raw.output().unwrap().stdout).unwrap();
    assert!(manifest.contains("zstd-chunked.manifest-checksum"), "{manifest}");
    reference
}

both!(zstd_chunked_updates_fetch_what_has_changed, |cx| {
    let whose = if cx.is_root() { "root" } else { "user" };
    let (old, new) = (random(300_000), random(200_000));
    // Names and sizes at which headers and what fills up blocks differ.
    let (a, b, c) = (random(2_000_000), random(70_001), random(1));
    let first = [("hello", &b"there\n"[..]), ("a", &a), ("b", &b), ("c", &c), ("changes", &old)];
    let mut second = first;
    second[4].1 = &new;
    let names = [1, 2].map(|n| format!("lazy/chunked-{whose}:{n}"));
    let [first, second] = [(0, &first[..]), (1, &second[..])].map(|(n, files)| push_chunked(&names[n], files));
    cx.ctr(&format!("pull -q {first}")).succeeds();
    cx.ctr(&format!("run --rm {first} sh -c 'cat /hello; wc -c /changes'")).prints("there\n300000 /changes\n");
    let update = cx.ctr(&format!("pull {second}"));
    let reused = |line: &str| line.contains(": Reusing 2.07MB of 2.2") || line.contains(": Reusing 2.08MB of 2.2");
    assert!(update.out().lines().any(reused), "{update}");
    assert!(!update.out().contains("Retrying"), "{update}");
    update.succeeds();
    let check = "cat /hello; wc -c /changes; cat /a /b /c | sha256sum";
    let sum = digest(&[a, b, c].concat()).replace("sha256:", "");
    let said = format!("there\n200000 /changes\n{sum}  -\n");
    cx.ctr_args(["run", "--rm", &second, "sh", "-c", check]).prints(&said);
    // The registry's own bytes: another tool finds the whole blob, and all is in order.
    let copied = cx.home().join("copied");
    let layout = format!("oci:{}:{second}", cx.root().join("image").display());
    let copy = cx.host(&format!("skopeo copy -q --insecure-policy {layout} dir:{} 2>/dev/null", copied.display()));
    copy.succeeds();
    cx.ctr("system check").succeeds();
    // With the old image and its blob gone, all is fetched.
    cx.ctr(&format!("rmi {first} {second}")).succeeds();
    let whole = cx.ctr(&format!("pull {second}"));
    assert!(!whole.out().contains("Reusing"), "{whole}");
    whole.succeeds();
});
