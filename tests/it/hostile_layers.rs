//! Layers that were made to do harm: an error, nothing outside the layer's own folder, bounded
//! memory. That of a million entries is in `million`.

use std::io::Write;
use std::path::Path;

use crate::support::{Entry, Image, Layer, Packing, Running, Sandbox, both, digest, until};

/// A place outside the storage root that no layer may touch, and its path as a layer would name it
/// from anywhere.
fn victim(cx: &Sandbox) -> (std::path::PathBuf, String) {
    let dir = cx.make_dir("victim");
    cx.make_file("victim/file", "mine\n");
    let climbing = format!("{}{}", "../".repeat(20), dir.display().to_string().trim_start_matches('/'));
    (dir, climbing)
}

#[track_caller]
fn is_untouched(dir: &Path) {
    let names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["file"], "something was made or removed outside");
    assert_eq!(std::fs::read(dir.join("file")).unwrap(), b"mine\n", "a file outside was changed");
    let meta = std::fs::metadata(dir).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o7777, 0o755);
}

/// Loads the layer on top of busybox. It may be refused or be made harmless, as a root directory
/// makes `..` harmless; whichever, nothing outside may change and the store must go on working.
#[track_caller]
fn try_layer(cx: &Sandbox, name: &str, entries: Vec<Entry>) -> bool {
    let image = Image::small(&format!("{name}:1"), entries);
    let ran = cx.ctr_args(["load", "-q", "-i", image.oci_archive().to_str().unwrap()]);
    assert!(ran.code == 0 || (ran.code == 1 && ran.err().starts_with("ctr: ")), "{name}\n{ran}");
    let taken = ran.code == 0;
    assert_eq!(cx.ctr(&format!("images -q {name}")).succeeds().is_empty(), !taken, "{name}");
    taken
}

both!(names_that_lead_out, |cx| {
    let (dir, climbing) = victim(cx);
    let absolute = dir.display().to_string();
    let attacks: Vec<(&str, Vec<Entry>)> = vec![
        ("dots", vec![Entry::file(format!("{climbing}/new"), 0o644, "x")]),
        ("dots-inside", vec![Entry::dir("a/", 0o755), Entry::file(format!("a/{climbing}/new"), 0o644, "x")]),
        ("absolute", vec![Entry::file(format!("{absolute}/new"), 0o644, "x")]),
        ("absolute-dir", vec![Entry::dir(&absolute, 0o777)]),
        ("link-absolute", vec![Entry::symlink("out", &absolute), Entry::file("out/new", 0o644, "x")]),
        ("link-relative", vec![Entry::symlink("out", &climbing), Entry::file("out/new", 0o644, "x")]),
        ("link-over-file", vec![Entry::symlink("out", format!("{absolute}/file")), Entry::file("out", 0o644, "x")]),
        ("link-dir-mode", vec![Entry::symlink("out", &absolute), Entry::dir("out/", 0o777)]),
        (
            "link-chain",
            vec![Entry::symlink("one", "two"), Entry::symlink("two", &absolute), Entry::file("one/new", 0o644, "x")],
        ),
        (
            "link-deep",
            vec![
                Entry::dir("d/", 0o755),
                Entry::symlink("d/out", format!("../{climbing}")),
                Entry::dir("d/out/sub/", 0o755),
                Entry::file("d/out/sub/new", 0o644, "x"),
            ],
        ),
        ("hard-link", vec![Entry::hard_link("mine", format!("{absolute}/file")), Entry::file("mine", 0o644, "x")]),
        ("hard-link-dots", vec![Entry::hard_link("mine", format!("{climbing}/file")), Entry::file("mine", 0o644, "x")]),
        (
            "hard-link-through",
            vec![
                Entry::symlink("out", &absolute),
                Entry::hard_link("mine", "out/file"),
                Entry::file("mine", 0o644, "x"),
            ],
        ),
        (
            "hard-link-to-link",
            vec![
                Entry::symlink("out", format!("{absolute}/file")),
                Entry::hard_link("mine", "out"),
                Entry::file("mine", 0o644, "x"),
            ],
        ),
        ("whiteout", vec![Entry::file(format!("{climbing}/.wh.file"), 0o644, "")]),
        ("whiteout-through", vec![Entry::symlink("out", &absolute), Entry::file("out/.wh.file", 0o644, "")]),
        ("opaque-through", vec![Entry::symlink("out", &absolute), Entry::file("out/.wh..wh..opq", 0o644, "")]),
        ("whiteout-dots", vec![Entry::file(".wh...", 0o644, ""), Entry::file("a/.wh...", 0o644, "")]),
        ("whiteout-dot", vec![Entry::file(".wh..", 0o644, "")]),
        ("whiteout-nothing", vec![Entry::file(".wh.", 0o644, "")]),
        ("fifo-through", vec![Entry::symlink("out", &absolute), Entry::fifo("out/new", 0o644)]),
        ("node-through", vec![Entry::symlink("out", &absolute), Entry::char_device("out/new", 0o666, (1, 3))]),
        ("xattr-through", vec![Entry::symlink("out", format!("{absolute}/file")).xattr("user.x", "y")]),
        ("proc", vec![Entry::symlink("out", "/proc/self/cwd"), Entry::file("out/new", 0o644, "x")]),
        ("empty-name", vec![Entry::file("", 0o644, "x")]),
        ("dot-file", vec![Entry::file(".", 0o644, "x")]),
        ("dotdot", vec![Entry::dir("..", 0o777)]),
        ("root-link", vec![Entry::symlink("./", &absolute), Entry::file("new", 0o644, "x")]),
    ];
    cx.busybox();
    for (name, entries) in attacks {
        try_layer(cx, name, entries);
        is_untouched(&dir);
    }
    cx.ctr("run --rm busybox true").prints("");
    // Nor anywhere in the store but in layers of their own.
    for entry in std::fs::read_dir(cx.root().join("layers")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        assert!(name.len() >= 64 && name[..64].bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
    }
});

both!(a_file_where_a_folder_was, |cx| {
    cx.busybox();
    for (name, entries) in [
        ("below-file", vec![Entry::file("a", 0o644, "x"), Entry::file("a/b", 0o644, "y")]),
        ("below-fifo", vec![Entry::fifo("a", 0o644), Entry::file("a/b", 0o644, "y")]),
        ("below-own-link", vec![Entry::symlink("a", "a"), Entry::file("a/b", 0o644, "y")]),
        ("link-to-itself", vec![Entry::hard_link("a", "a")]),
        ("link-to-nothing", vec![Entry::hard_link("a", "nosuch")]),
        ("link-to-folder", vec![Entry::dir("d/", 0o755), Entry::hard_link("a", "d")]),
    ] {
        try_layer(cx, name, entries);
    }
    // The same names in the order that undoes one another end as the last one says.
    cx.load(&Image::small(
        "order:1",
        [
            Entry::file("a", 0o644, "x"),
            Entry::dir("a/", 0o700),
            Entry::file("a/b", 0o644, "in\n"),
            Entry::dir("c/", 0o755),
            Entry::file("c", 0o600, "file\n"),
        ],
    ));
    cx.ctr("run --rm order:1 cat /a/b /c").prints("in\nfile\n");
});

both!(archives_that_are_not_whole, |cx| {
    cx.busybox();
    let whole = Layer::new([Entry::file("x", 0o644, vec![b'x'; 5000])]).tar();
    let mut wrong_sum = whole.clone();
    wrong_sum[150] ^= 1;
    let mut huge_size = whole.clone();
    huge_size[124..135].copy_from_slice(b"77777777777");
    for (name, bytes) in [
        ("cut-in-data", whole[..2000].to_vec()),
        ("cut-in-header", whole[..300].to_vec()),
        ("wrong-sum", wrong_sum),
        ("huge-size", huge_size),
        ("noise", (0..5000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()),
    ] {
        let image = Image::busybox().named(&format!("{name}:1")).packed(Packing::Plain).layer_tar(&bytes);
        let ran = cx.ctr_args(["load", "-q", "-i", image.oci_archive().to_str().unwrap()]);
        assert!(ran.code == 1 && ran.err().starts_with("ctr: "), "{name}\n{ran}");
    }
    cx.ctr("images --format '{{.Repository}}'").prints("busybox\n");
    cx.leaves_nothing();
});

/// The most memory that a process has used so far, in KiB.
fn peak(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok())
}

/// Waits for a command, and returns what it did and its own peak of memory in KiB.
pub fn watched(mut running: Running) -> (crate::support::Ran, u64) {
    let mut most = 0;
    while running.runs() {
        most = peak(running.pid()).unwrap_or(most).max(most);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    (running.wait(), most)
}

both!(gigabytes_of_zeros_in_a_few_megabytes, |cx| {
    cx.busybox();
    // Ten gigabytes, of which a disk that writes sparse files would see nothing, and one that does
    // not would be filled: the tmpfs of `disk_full` bounds it at 64 MiB here.
    if !crate::disk_full::small_disk_beside(cx) {
        return;
    }
    let size: u64 = 10 << 30;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut header = Layer::new([Entry::file("zeros", 0o644, "")]).tar();
    header.truncate(512);
    // GNU's base-256 form of the size, which has no upper bound that matters.
    header[124..136].copy_from_slice(&[&[0x80, 0, 0, 0][..], &size.to_be_bytes()].concat());
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    gzip.write_all(&header).unwrap();
    let zeros = vec![0; 1 << 20];
    // Concatenated gzip members are one stream: a megabyte is compressed once.
    let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    member.write_all(&zeros).unwrap();
    let member = member.finish().unwrap();
    let mut blob = gzip.finish().unwrap();
    for _ in 0..size >> 20 {
        blob.extend_from_slice(&member);
    }
    let image = Image::busybox().named("zeros:1").layer_blob(blob, digest(b"never reached"));
    let (ran, most) = watched(cx.spawn(&format!("load -q -i {}", image.oci_archive().display())));
    assert!(ran.code != 0 && ran.err().starts_with("ctr: "), "{ran}");
    assert!(most < 300_000, "{most} KiB of memory");
    cx.leaves_nothing();
});

both!(names_and_attributes_without_bounds, |cx| {
    cx.busybox();
    let deep = "d/".repeat(3000);
    for (name, entries) in [
        ("deep", vec![Entry::file(format!("{deep}x"), 0o644, "x")]),
        ("long", vec![Entry::file("x".repeat(5000), 0o644, "x")]),
        ("attribute", vec![Entry::file("x", 0o644, "x").xattr("user.big", vec![b'x'; 200_000])]),
        ("attributes", vec![(0..2000).fold(Entry::file("x", 0o644, "x"), |e, n| e.xattr(&format!("user.n{n}"), "v"))]),
        ("trusted", vec![Entry::dir("d/", 0o755).xattr("trusted.overlay.opaque", "y")]),
        ("redirect", vec![Entry::dir("d/", 0o755).xattr("user.overlay.redirect", "/../../..")]),
        ("metacopy", vec![Entry::file("f", 0o644, "").xattr("user.overlay.metacopy", "")]),
    ] {
        let (ran, most) = {
            let image = Image::small(&format!("bound-{name}:1"), entries);
            watched(cx.spawn(&format!("load -q -i {}", image.oci_archive().display())))
        };
        assert!(ran.code == 0 || (ran.code == 1 && ran.err().starts_with("ctr: ")), "{name}\n{ran}");
        assert!(most < 300_000, "{name}: {most} KiB of memory");
        // An image that was taken can be removed again.
        if ran.code == 0 {
            cx.ctr(&format!("rmi bound-{name}:1")).succeeds();
        }
    }
    cx.leaves_nothing();
});

both!(accounts_of_a_hostile_image, |cx| {
    // The engine reads the image's passwd and group: neither links nor size nor nonsense harm it.
    let (dir, _) = victim(cx);
    let mut lines = "x:x:1:1::/:\n".repeat(2_000_000);
    lines.push_str("late:x:5:5::/:\n");
    for (name, entry) in [
        ("link", Entry::symlink("etc/passwd", format!("{}/file", dir.display()))),
        ("proc", Entry::symlink("etc/passwd", "/proc/1/environ")),
        ("fifo", Entry::fifo("etc/passwd", 0o644)),
        ("folder", Entry::dir("etc/passwd/", 0o755)),
        ("nonsense", Entry::file("etc/passwd", 0o644, [0xff; 5000])),
        ("huge", Entry::file("etc/passwd", 0o644, lines)),
    ] {
        cx.load(&Image::small(&format!("accounts-{name}:1"), [entry]));
        let begin = std::time::Instant::now();
        let ran = cx.ctr(&format!("run --rm -u alice accounts-{name}:1 true"));
        assert!(ran.code == 125 && ran.err().starts_with("ctr: "), "{name}\n{ran}");
        assert!(begin.elapsed().as_secs() < 20, "{name}");
        let ran = cx.ctr(&format!("run --rm -u 0 accounts-{name}:1 echo runs"));
        assert!(ran.out() == "runs\n" || ran.code == 125, "{name}\n{ran}");
    }
    until("nothing is left", || cx.ctr("ps -q").succeeds().is_empty());
});
