//! Archives that tools write, and archives that enemies write, unpacked for real.

use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use ::tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::*;
use crate::sys::xattr::Object;

/// An archive in the making.
struct Archive(Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// The name and the link are written as they are, whatever they lead to.
    fn add(mut self, kind: EntryType, name: &str, link: &str, mode: u32, data: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).expect("archive");
        self
    }

    fn file(self, name: &str, data: &[u8]) -> Self {
        self.add(EntryType::Regular, name, "", 0o644, data)
    }

    fn dir(self, name: &str, mode: u32) -> Self {
        self.add(EntryType::Directory, name, "", mode, b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Symlink, name, target, 0o777, b"")
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Link, name, target, 0o644, b"")
    }

    fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).expect("archive");
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("archive")
    }

    fn unpack(self) -> (TempDir, Result<Streamed>) {
        unpack_bytes(&self.bytes())
    }

    fn good(self) -> (TempDir, Streamed) {
        let (dir, done) = self.unpack();
        (dir, done.expect("a good archive"))
    }

    /// The error, and that nothing was made beside the layer's folder.
    fn refused(self) -> String {
        let (dir, done) = self.unpack();
        let beside: Vec<_> = fs::read_dir(dir.path()).expect("dir").flatten().map(|e| e.file_name()).collect();
        assert_eq!(beside, ["layer"], "only the layer's folder is there");
        format!("{:#}", done.expect_err("a hostile archive"))
    }
}

/// A folder with the layer in `layer`, so that what gets out is seen beside it.
fn unpack_bytes(bytes: &[u8]) -> (TempDir, Result<Streamed>) {
    let dir = tempfile::tempdir().expect("tempdir");
    let layer = dir.path().join("layer");
    fs::create_dir(&layer).expect("mkdir");
    let done = stream(bytes, u64::MAX, None, &layer, Powers::now(), |_| {});
    (dir, done)
}

fn text(dir: &TempDir, path: &str) -> String {
    fs::read_to_string(dir.path().join("layer").join(path)).expect(path)
}

fn meta(dir: &TempDir, path: &str) -> fs::Metadata {
    fs::symlink_metadata(dir.path().join("layer").join(path)).expect(path)
}

fn opaque(dir: &TempDir, path: &str) -> bool {
    let object = Object::path(&dir.path().join("layer").join(path)).expect("path");
    object.get(&Powers::now().opaque()).expect("attribute").is_some()
}

fn whiteout(dir: &TempDir, path: &str) -> bool {
    let meta = meta(dir, path);
    meta.file_type().is_char_device() && meta.rdev() == 0
}

#[test]
fn modes_and_times_are_the_archives() {
    // Who unpacks is root, if only of a namespace; who tests may not be, and cannot write there.
    let closed = if nix::unistd::geteuid().is_root() { 0o500 } else { 0o700 };
    let (dir, done) = Archive::new()
        .dir("./", 0o711)
        .dir("tmp", 0o1777)
        .pax(&[("mtime", b"1700000000.123456789")])
        .add(EntryType::Regular, "tmp/su", "", 0o4755, b"x")
        .dir("d", closed)
        .file("d/inside", b"made after the folder")
        .good();
    assert_eq!(meta(&dir, "").permissions().mode() & 0o7777, 0o711);
    assert_eq!(meta(&dir, "tmp").permissions().mode() & 0o7777, 0o1777);
    assert_eq!(meta(&dir, "tmp/su").permissions().mode() & 0o7777, 0o4755);
    assert_eq!((meta(&dir, "tmp/su").mtime(), meta(&dir, "tmp/su").mtime_nsec()), (1_700_000_000, 123_456_789));
    assert_eq!(meta(&dir, "d").mtime(), 1_000_000, "what is made inside does not change it");
    assert_eq!(done.applied.size, 22);
    assert!(done.applied.implicit.is_empty());
    assert_eq!(done.blob, done.diff, "not compressed");
}

#[test]
fn left_out_folders_are_made_and_named() {
    let (dir, done) = Archive::new().file("a/b/c", b"x").dir("a", 0o700).good();
    assert_eq!(text(&dir, "a/b/c"), "x");
    assert_eq!(meta(&dir, "a").permissions().mode() & 0o7777, 0o700, "said later");
    assert_eq!(meta(&dir, "a/b").permissions().mode() & 0o7777, 0o755);
    assert_eq!(done.applied.implicit.into_iter().collect::<Vec<_>>(), [b"".to_vec(), b"a/b".to_vec()]);
}

#[test]
fn whiteouts_become_overlays() {
    let (dir, done) =
        Archive::new().file("a/.wh.gone", b"").dir("o", 0o755).file("o/.wh..wh..opq", b"").file("o/kept", b"x").good();
    assert!(whiteout(&dir, "a/gone"));
    assert!(opaque(&dir, "o") && !opaque(&dir, "a"));
    assert_eq!(text(&dir, "o/kept"), "x");
    assert!(!done.applied.opaque);
    let (_dir, done) = Archive::new().file(".wh..wh..opq", b"").good();
    assert!(done.applied.opaque, "the root hides all layers below");
}

#[test]
fn a_whiteout_is_about_the_layers_below() {
    let before = Archive::new().file(".wh.d", b"").file("d/new", b"x").good().0;
    let after = Archive::new().dir("d", 0o755).file("d/new", b"x").file(".wh.d", b"").good().0;
    let explicit = Archive::new().file(".wh.d", b"").dir("d", 0o755).file("d/new", b"x").good().0;
    for dir in [before, after, explicit] {
        assert_eq!(text(&dir, "d/new"), "x");
        assert!(opaque(&dir, "d"), "the folder of the layer below stays hidden");
    }
    let (dir, _) = Archive::new().file("f", b"x").file(".wh.f", b"").good();
    assert_eq!(text(&dir, "f"), "x");
}

#[test]
fn whiteouts_for_nothing_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        assert!(Archive::new().file(name, b"").refused().contains("whiteout"), "{name}");
    }
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../out", "a/../../out", "/../out", ".."] {
        assert!(Archive::new().file(name, b"x").refused().contains("leads out"), "{name}");
    }
    assert!(Archive::new().hard_link("l", "../layer/x").refused().contains("leads out"));
}

#[test]
fn an_absolute_name_is_below_the_root() {
    let (dir, _) = Archive::new().file("/etc/x", b"x").good();
    assert_eq!(text(&dir, "etc/x"), "x");
}

#[test]
fn symbolic_links_end_inside() {
    let outside = tempfile::tempdir().expect("tempdir");
    let target = outside.path().to_str().expect("utf-8");
    // The link's target does not exist below the layer's root, so there is nothing to write to.
    let error = Archive::new().symlink("l", target).file("l/x", b"x").refused();
    assert!(error.contains("not a folder"), "{error}");
    assert_eq!(fs::read_dir(outside.path()).expect("dir").count(), 0);
    // A file takes the link's place, and is not written through it.
    let victim = outside.path().join("victim");
    fs::write(&victim, "safe").expect("write");
    let (dir, _) = Archive::new().symlink("l", victim.to_str().expect("utf-8")).file("l", b"x").good();
    assert_eq!((text(&dir, "l").as_str(), fs::read_to_string(&victim).expect("read").as_str()), ("x", "safe"));
    // A folder too.
    let (dir, _) = Archive::new().symlink("l", target).dir("l", 0o700).file("l/x", b"x").good();
    assert!(meta(&dir, "l").is_dir());
    // Links inside are followed, as a container would.
    let (dir, _) = Archive::new().dir("usr/lib", 0o755).symlink("lib", "/usr/lib").file("lib/x", b"x").good();
    assert_eq!(text(&dir, "usr/lib/x"), "x");
    // `..` in a link ends at the root.
    let (dir, _) = Archive::new().dir("d", 0o755).symlink("up", "../../../../d").file("up/x", b"x").good();
    assert_eq!(text(&dir, "d/x"), "x");
    assert!(Archive::new().symlink("a", "b").symlink("b", "a").file("a/x", b"").unpack().1.is_err());
}

#[test]
fn hard_links_end_inside() {
    let outside = tempfile::tempdir().expect("tempdir");
    let secret = outside.path().join("secret");
    fs::write(&secret, "secret").expect("write");
    let target = outside.path().to_str().expect("utf-8");
    assert!(Archive::new().symlink("l", target).hard_link("h", "l/secret").refused().contains("link to"));
    assert!(Archive::new().hard_link("h", "/etc/passwd").refused().contains("link to"));
    assert_eq!(fs::metadata(&secret).expect("stat").nlink(), 1);
    let (dir, _) = Archive::new().file("a", b"x").hard_link("b", "a").hard_link("a", "a").hard_link("b", "/a").good();
    assert_eq!(meta(&dir, "a").nlink(), 2);
    assert_eq!(text(&dir, "b"), "x");
}

#[test]
fn things_replace_each_other() {
    let error = Archive::new().file("a", b"x").file("a/b", b"x").refused();
    assert!(error.contains("\"a\" is not a folder"), "{error}");
    let (dir, _) = Archive::new().file("a/b/c", b"x").file("a", b"now a file").file("b", b"").good();
    assert_eq!(text(&dir, "a"), "now a file");
    let (dir, _) = Archive::new().file("a", b"x").dir("a", 0o755).file("a/b", b"x").good();
    assert_eq!(text(&dir, "a/b"), "x");
    let (dir, _) = Archive::new().file("a", b"old").file("a", b"new").good();
    assert_eq!(text(&dir, "a"), "new");
    assert!(Archive::new().file("./", b"x").unpack().1.is_ok(), "old archives mark folders by a slash");
    assert!(Archive::new().symlink(".", "/etc").refused().contains("root"));
}

#[test]
fn a_folder_deeper_than_there_are_descriptors_gives_way() {
    let deep = "a/".repeat(1500) + "a";
    let (dir, _) = Archive::new().pax(&[("path", deep.as_bytes())]).dir("x", 0o755).file("a", b"now").good();
    assert_eq!(text(&dir, "a"), "now");
}

#[test]
fn attributes_for_overlayfs_are_dropped() {
    let (dir, _) = Archive::new()
        .pax(&[
            ("SCHILY.xattr.user.kept", b"a\0b"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ])
        .dir("d", 0o755)
        .good();
    let object = Object::path(&dir.path().join("layer/d")).expect("path");
    let names: Vec<CString> = object.list().expect("attributes");
    assert!(!names.iter().any(|n| n.to_bytes().windows(7).any(|w| w == b"overlay")), "{names:?}");
    // tmpfs has had user attributes since Linux 6.6 only.
    if let Some(value) = object.get(c"user.kept").ok().flatten() {
        assert_eq!(value, b"a\0b");
    }
}

#[test]
fn long_names_and_sparse_files_are_read() {
    let long = format!("d/{}/{}", "x".repeat(120), "y".repeat(120));
    let mut archive = Archive::new();
    let mut header = Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    archive.0.append_data(&mut header, &long, &b"x"[..]).expect("archive");
    // PAX sparse 1.0: two parts of one byte each in a file of 10000.
    let map = b"2\n0\n1\n9999\n1\n";
    let mut data = vec![0; 512];
    data[..map.len()].copy_from_slice(map);
    data.extend(b"ab");
    let archive = archive
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"sparse"),
            ("GNU.sparse.realsize", b"10000"),
        ])
        .file("GNUSparseFile.0/sparse", &data);
    let (dir, _) = archive.good();
    assert_eq!(text(&dir, &long), "x");
    let sparse = fs::read(dir.path().join("layer/sparse")).expect("sparse");
    assert_eq!((sparse.len(), sparse[0], sparse[1], sparse[9999]), (10_000, b'a', 0, b'b'));
}

#[test]
fn lying_sparse_maps_are_refused() {
    for (map, size) in
        [(&b"0,10,5,10"[..], &b"100"[..]), (b"0,1", b"0"), (b"0,100", b"100"), (b"18446744073709551615,2", b"9")]
    {
        let archive = Archive::new().pax(&[("GNU.sparse.size", size), ("GNU.sparse.map", map)]).file("f", b"x");
        assert!(archive.refused().contains("sparse"), "{map:?}");
    }
}

#[test]
fn digests_are_of_what_came_and_of_what_it_holds() {
    let plain = Archive::new().file("a", b"x").bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).expect("gzip");
    let gzip = gzip.finish().expect("gzip");
    let (_dir, done) = unpack_bytes(&gzip);
    let done = done.expect("unpack");
    assert_eq!((done.blob, done.diff), (Digest::of(&gzip), Digest::of(&plain)));
    assert_eq!(done.compression, Compression::Gzip);
    assert!(unpack_bytes(&gzip[..gzip.len() / 2]).1.is_err(), "truncated");
    let zstd = zstd::encode_all(&plain[..], 3).expect("zstd");
    assert_eq!(unpack_bytes(&zstd).1.expect("unpack").diff, Digest::of(&plain));
}

#[test]
fn more_than_was_promised_is_refused() {
    let bytes = Archive::new().file("a", &[7; 5000]).bytes();
    let dir = tempfile::tempdir().expect("tempdir");
    let error = stream(&bytes[..], 1000, None, dir.path(), Powers::now(), |_| {}).expect_err("too much");
    assert!(format!("{error:#}").contains("1000"));
}

#[test]
fn a_broken_source_is_the_error_that_is_told() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::other("the cable was cut"));
            }
            self.0 -= 1;
            into.fill(0);
            into[0] = 1;
            Ok(into.len())
        }
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let error = stream(Broken(2), u64::MAX, None, dir.path(), Powers::now(), |_| {}).expect_err("broken");
    assert!(format!("{error:#}").contains("cable"), "{error:#}");
}

#[test]
fn garbage_is_an_error_whatever_it_is() {
    let mut state = 1u64;
    for length in [1, 511, 512, 513, 5000] {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        assert!(unpack_bytes(&bytes).1.is_err(), "{length}");
    }
    assert!(unpack_bytes(b"").1.is_ok(), "nothing is an empty archive");
}

#[test]
fn owners_are_kept_where_ids_are_mapped() {
    // An ordinary user's run of the tests has one id; root's run checks this.
    if !nix::unistd::geteuid().is_root() || !Powers::now().owners {
        #[allow(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("skipped: needs root");
        }
        return;
    }
    let mut archive = Archive::new();
    for (name, kind, uid) in
        [("f", EntryType::Regular, 1000), ("d", EntryType::Directory, 1001), ("l", EntryType::Symlink, 1002)]
    {
        let mut header = Header::new_gnu();
        header.set_path(name).expect("path");
        header.set_link_name("target").expect("link");
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(uid);
        header.set_gid(uid + 1);
        header.set_mtime(0);
        header.set_size(0);
        header.set_cksum();
        archive.0.append(&header, &b""[..]).expect("archive");
    }
    let (dir, _) = archive.good();
    for (name, uid) in [("f", 1000), ("d", 1001), ("l", 1002)] {
        assert_eq!((meta(&dir, name).uid(), meta(&dir, name).gid()), (uid, uid + 1), "{name}");
    }
}
