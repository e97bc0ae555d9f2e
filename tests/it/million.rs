//! A layer with a million entries: unpacked or refused, in bounded memory.

use std::io::Write;

use sha2::{Digest, Sha256};

use crate::disk_full::small_disk;
use crate::hostile_layers::watched;
use crate::support::{Entry, Image, Layer, Packing, Sandbox, Who, both, check};

const ENTRIES: usize = 1_000_000;

/// What `ctr` may use for it, in KiB.
const MEMORY: u64 = 200_000;

/// An image with this layer on top of busybox. The archive is half a gigabyte and is never whole in
/// memory, packed it is a few megabytes.
fn image(name: &str, entries: impl Iterator<Item = Entry>) -> Image {
    let (mut digest, mut packed) = (Sha256::new(), zstd::Encoder::new(Vec::new(), 1).unwrap());
    let mut write = |bytes: &[u8]| {
        digest.update(bytes);
        packed.write_all(bytes).unwrap();
    };
    let mut chunk = Layer::default();
    for entry in entries {
        chunk.0.push(entry);
        if chunk.0.len() == 1000 {
            write(without_end(&chunk.tar()));
            chunk.0.clear();
        }
    }
    write(&chunk.tar());
    let blob = packed.finish().unwrap();
    let diff_id: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Image::busybox().named(name).packed(Packing::Zstd).layer_blob(blob, format!("sha256:{diff_id}"))
}

/// Of an archive: all but the two blocks that end it.
fn without_end(tar: &[u8]) -> &[u8] {
    &tar[..tar.len() - 1024]
}

/// Of everything something, a tenth of it below folders that the archive has not. Most are hard
/// links, which cost this machine the least.
fn entry(n: usize) -> Entry {
    let (folder, file) = (n / 1000, n - n % 10);
    match n % 10 {
        0 => Entry::file(format!("d{folder}/f{n}"), 0o644, ""),
        1 => Entry::symlink(format!("d{folder}/s{n}"), "/etc/passwd"),
        2 => Entry::dir(format!("d{folder}/d{n}/"), 0o755),
        3 => Entry::file(format!("d{folder}/made-up{n}/f"), 0o644, "").owner(5, 5),
        _ => Entry::hard_link(format!("d{folder}/h{n}"), format!("d{folder}/f{file}")),
    }
}

both!(is_unpacked_in_bounded_memory, |cx| {
    // In memory: a disk's journal takes a minute to make and remove so much.
    if !small_disk(cx, 4000) {
        return;
    }
    cx.busybox();
    let archive = image("entries:1", (0..ENTRIES).map(entry)).oci_archive();
    let (ran, most) = watched(cx.spawn(&format!("load -q -i {}", archive.display())));
    assert!(ran.code == 0, "{ran}");
    assert!(most < MEMORY, "load: {most} KiB of memory");
    cx.ctr("run --rm entries:1 sh -c 'find /d7 | wc -l; stat -c %h /d999/f999990'").prints("1101\n7\n");
    let (ran, most) = watched(cx.spawn("rmi entries:1"));
    ran.succeeds();
    assert!(most < MEMORY, "rmi: {most} KiB of memory");
});

/// Once: what is refused is the same for both.
#[test]
fn of_folders_alone_is_refused() {
    check(Who::Root, folders_alone);
}

fn folders_alone(cx: &Sandbox) {
    if !small_disk(cx, 4000) {
        return;
    }
    cx.busybox();
    let archive =
        image("folders:1", (0..ENTRIES).map(|n| Entry::dir(format!("{}/{n}/", n / 1000), 0o755))).oci_archive();
    let (ran, most) = watched(cx.spawn(&format!("load -q -i {}", archive.display())));
    ran.refuses(1, "[..]the layer has too many folders");
    assert!(most < MEMORY, "{most} KiB of memory");
    cx.ctr("images -q folders").prints("");
    cx.leaves_nothing();
}

both!(of_folders_left_out, |cx| {
    if !small_disk(cx, 4000) {
        return;
    }
    // More than there can be open files; a layer below has each, and this one only implies it.
    let name = |n: usize| format!("{}/{n}/", n / 1000);
    let below = Layer::new((0..50_000).map(|n| Entry::dir(name(n), 0o700)));
    let above = Layer::new((0..50_000).map(|n| Entry::file(name(n) + "f", 0o644, "")));
    let archive = Image::busybox().named("parents:1").packed(Packing::Zstd).layer(&below).layer(&above).oci_archive();
    let (ran, most) = watched(cx.spawn(&format!("load -q -i {}", archive.display())));
    assert!(ran.code == 0, "{ran}");
    assert!(most < MEMORY, "{most} KiB of memory");
    cx.ctr("run --rm parents:1 sh -c 'find /[0-9]* -type d -mindepth 1 ! -perm 700'").prints("");
});
