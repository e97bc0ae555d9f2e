//! `ctr save`, and that other tools take what it writes and give it back as it was.

use std::path::Path;

use serde_json::Value;

use crate::support::{Entry, Image, Packing, Sandbox, both, digest, noise};

fn app() -> Image {
    Image::small("team/app:v1", [Entry::file("hello", 0o644, "hi\n")])
}

/// A member of an archive.
fn member(cx: &Sandbox, archive: &str, name: &str) -> String {
    cx.host(&format!("tar -xOf {archive} {name}")).succeeds()
}

fn json(cx: &Sandbox, archive: &str, name: &str) -> Value {
    serde_json::from_str(&member(cx, archive, name)).unwrap()
}

both!(what_is_in_it, |cx| {
    let app = app();
    cx.load(&app);
    cx.ctr("save -o app.tar team/app:v1").prints("");
    let names = cx.host("tar -tf app.tar").succeeds();
    let documents: Vec<_> = names.lines().take(6).collect();
    assert_eq!(documents, ["oci-layout", "index.json", "manifest.json", "repositories", "blobs/", "blobs/sha256/"]);
    // Every blob once, and all of them.
    let blobs: Vec<_> = app.blobs().into_iter().map(|(digest, _)| digest).chain([digest(&app.manifest())]).collect();
    assert_eq!(names.lines().count(), 6 + blobs.len(), "{names}");
    for blob in &blobs {
        let name = blob.replace("sha256:", "blobs/sha256/");
        let sum = cx.host(&format!("tar -xOf app.tar {name} | sha256sum")).succeeds();
        assert!(sum.starts_with(&blob[7..]), "{name}: {sum}");
    }
    let index = json(cx, "app.tar", "index.json");
    let entry = &index["manifests"][0];
    assert_eq!(entry["digest"], digest(&app.manifest()));
    assert_eq!(entry["annotations"]["io.containerd.image.name"], "docker.io/team/app:v1");
    assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], "v1");
    let listed = &json(cx, "app.tar", "manifest.json")[0];
    assert_eq!(listed["Config"], app.id().replace("sha256:", "blobs/sha256/"));
    assert_eq!(listed["RepoTags"], serde_json::json!(["team/app:v1"]));
    assert_eq!(listed["Layers"].as_array().unwrap().len(), 2);
    // The same again, byte for byte, and through a pipe.
    cx.host("$ctr save team/app:v1 > again.tar && cmp app.tar again.tar").prints("");
    let mode = std::fs::metadata(cx.cwd().join("app.tar")).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
});

both!(there_and_back, |cx| {
    let app = app();
    let of = |cx: &Sandbox| cx.ctr("image inspect -f '{{.Id}} {{.Descriptor.digest}}' team/app:v1").succeeds();
    cx.load(&app);
    let was = of(cx);
    assert_eq!(was, format!("{} {}", app.id(), digest(&app.manifest())));
    for format in ["docker-archive", "oci-archive"] {
        cx.ctr(&format!("save --format {format} -o app.tar team/app:v1")).prints("");
        for packer in ["cat", "gzip", "zstd -q"] {
            cx.ctr("rmi team/app:v1").succeeds();
            let line =
                format!("{packer} < app.tar > packed && $ctr load -i packed && $ctr rmi -f team/app:v1 >/dev/null");
            cx.host(&line).prints("Loaded image: team/app:v1\n");
            cx.host(&format!("{packer} < app.tar | $ctr load")).prints("Loaded image: team/app:v1\n");
            assert_eq!(of(cx), was, "{format} {packer}");
        }
    }
    cx.ctr("run --rm team/app:v1 cat /hello").prints("hi\n");
});

both!(skopeo_reads_it_and_ctr_reads_skopeos, |cx| {
    let app = app();
    cx.load(&app);
    let manifest = digest(&app.manifest());
    cx.ctr("save -o docker.tar team/app:v1").prints("");
    cx.ctr("save --format oci-archive -o oci.tar team/app:v1").prints("");
    let skopeo = "skopeo copy -q --insecure-policy";
    // Layouts keep the manifest; the other form keeps the configuration, which is the id.
    for source in ["oci-archive:docker.tar:v1", "oci-archive:oci.tar:docker.io/team/app:v1", "oci-archive:oci.tar"] {
        let raw = cx.host(&format!("skopeo inspect --format '{{{{.Digest}}}}' {source}")).succeeds();
        assert_eq!(raw, manifest, "{source}");
        cx.host(&format!("rm -f back.tar; {skopeo} --preserve-digests {source} oci-archive:back.tar:team/app:v1"))
            .prints("");
        cx.ctr("rmi team/app:v1").succeeds();
        cx.ctr("load -i back.tar").prints("Loaded image: team/app:v1\n");
        cx.ctr("image inspect -f '{{.Descriptor.digest}}' team/app:v1").prints(&format!("{manifest}\n"));
    }
    cx.host(&format!("{skopeo} docker-archive:docker.tar:team/app:v1 docker-archive:back2.tar:team/app:v1")).prints("");
    cx.ctr("rmi team/app:v1").succeeds();
    cx.ctr("load -i back2.tar").prints("Loaded image: team/app:v1\n");
    cx.ctr("image inspect -f '{{.Id}}' team/app:v1").prints(&format!("{}\n", app.id()));
    cx.ctr("run --rm team/app:v1 cat /hello").prints("hi\n");
});

both!(podman_reads_it_and_ctr_reads_podmans, |cx| {
    if !cx.is_root() {
        // Podman as an ordinary user needs a session that a test has not.
        return;
    }
    let app = app();
    cx.load(&app);
    let podman = "podman --root $PWD/pr --runroot $PWD/prr --storage-driver vfs";
    for format in ["docker-archive", "oci-archive"] {
        cx.ctr(&format!("save --format {format} -o app.tar team/app:v1")).prints("");
        let out = cx.host(&format!("{podman} load -q -i app.tar")).succeeds_talking();
        assert_eq!(out, "Loaded image: docker.io/team/app:v1");
        let digests = cx.host(&format!("{podman} images --no-trunc --format '{{{{.Digest}}}} {{{{.ID}}}}'"));
        assert_eq!(digests.succeeds_talking(), format!("{} {}", digest(&app.manifest()), app.id()));
        cx.host(&format!("{podman} save -q --format {format} -o theirs.tar docker.io/team/app:v1")).succeeds_talking();
        cx.host("$ctr rmi team/app:v1 >/dev/null; $ctr load -i theirs.tar").prints("Loaded image: team/app:v1\n");
        cx.ctr("run --rm team/app:v1 cat /hello").prints("hi\n");
        cx.ctr("rmi team/app:v1").succeeds();
        cx.load(&app);
        cx.host(&format!("rm theirs.tar; {podman} rmi -f docker.io/team/app:v1")).succeeds_talking();
    }
});

both!(several_images_and_names, |cx| {
    let (one, two) = (app(), app().named("other:1").packed(Packing::Zstd).layer_tar(&[0; 1024]));
    cx.load(&one);
    cx.load(&two);
    cx.ctr("tag other:1 other:2").prints("");
    cx.ctr("tag other:1 busy").prints("");
    // A repository alone means all its tags.
    cx.ctr(&format!("save -o all.tar other team/app:v1 {}", &one.id()[7..19])).prints("");
    let listed = json(cx, "all.tar", "manifest.json");
    assert_eq!(listed[0]["RepoTags"], serde_json::json!(["other:1", "other:2"]));
    assert_eq!(listed[1]["RepoTags"], serde_json::json!(["team/app:v1"]));
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    cx.ctr(&format!("rmi -f {} {}", one.id(), two.id())).succeeds();
    let loaded = cx.ctr("load -i all.tar").succeeds();
    assert_eq!(loaded, "Loaded image: other:1\nLoaded image: other:2\nLoaded image: team/app:v1");
    // By id it bears no name.
    cx.ctr(&format!("save -o id.tar {}", &one.id()[7..19])).prints("");
    assert_eq!(json(cx, "id.tar", "manifest.json")[0]["RepoTags"], Value::Null);
    cx.ctr(&format!("rmi -f {}", one.id())).succeeds();
    cx.ctr("load -i id.tar").prints(&format!("Loaded image ID: {}\n", one.id()));
});

both!(what_was_made_here, |cx| {
    cx.busybox();
    cx.ctr("run --name box busybox sh -c 'echo made > /made'").prints("");
    cx.ctr("commit box made:1").succeeds();
    let id = cx.ctr("images -q --no-trunc made:1").succeeds();
    cx.ctr("save -o made.tar made:1").prints("");
    cx.ctr("rmi made:1").succeeds();
    cx.ctr("load -i made.tar").prints("Loaded image: made:1\n");
    cx.ctr("images -q --no-trunc made:1").prints(&format!("{id}\n"));
    cx.ctr("run --rm made:1 cat /made").prints("made\n");
});

both!(what_it_refuses, |cx| {
    cx.busybox();
    cx.ctr("save -o x.tar nosuch").refuses(1, "No such image: nosuch:latest");
    cx.ctr("save -o /no/such/x.tar busybox")
        .refuses(1, "failed to save image: invalid output path: stat /no/such: no such file or directory");
    cx.ctr("save -o / busybox").refuses(1, "failed to save image: cannot write to a directory");
    cx.ctr("save --format nosuch busybox")
        .refuses(125, "unknown format \"nosuch\": must be docker-archive or oci-archive");
    cx.ctr("save").refuses(1, "'ctr save' requires at least 1 argument");
    cx.ctr("save --platform linux/s390x -o x.tar busybox")
        .refuses(1, "image with reference busybox:latest was found [..]");
    let terminal = cx.host("script -qec \"$ctr save busybox\" /dev/null < /dev/null || true").succeeds_talking();
    assert!(terminal.contains("cowardly refusing to save to a terminal. Use the -o flag or redirect"), "{terminal}");
    // Its layers are not here any more, and it came from no registry.
    for (blob, _) in Image::busybox().blobs().into_iter().take(1) {
        std::fs::remove_file(cx.root().join("image/blobs/sha256").join(&blob[7..])).unwrap();
    }
    cx.ctr("save -o x.tar busybox").refuses(1, "image \"[..]\": its blob \"[..]\" is missing");
    assert!(!Path::new(&cx.cwd().join("x.tar")).exists());
});

/// Changes some bytes of a layer's blob, and none of its length; what is changed does not compress.
fn damage(store: &Path, blob: &str) {
    let path = store.join("image/blobs/sha256").join(&blob[7..]);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 9].copy_from_slice(b"something");
    std::fs::write(&path, bytes).unwrap();
}

both!(a_damaged_blob_is_not_given_on, |cx| {
    // One that is written at once, and one of many pieces.
    for (name, size) in [("small:1", 1000), ("large:1", 3_000_000)] {
        let image = Image::small(name, [Entry::file("noise", 0o644, noise(size))]);
        cx.load(&image);
        std::fs::write(cx.cwd().join("x.tar"), "before").unwrap();
        damage(&cx.root(), &image.blobs()[1].0);
        for how in ["", "--format oci-archive "] {
            let ran = cx.ctr(&format!("save {how}-o x.tar {name}"));
            let blob = &image.blobs()[1].0[7..19];
            ran.fails_saying(1, &format!("blob \"{blob}\" of the store {:?} is damaged", cx.root()));
            let fix = format!(
                "\nhint: fetch what is damaged again with: ctr --root {} system check --repair",
                cx.root().display()
            );
            assert!(ran.err().contains(&fix), "{ran}");
            cx.host("cat x.tar").prints("before");
        }
        assert_ne!(cx.host(&format!("set -o pipefail; $ctr save {name} | cat >/dev/null")).code, 0);
        cx.ctr(&format!("rmi {name}")).succeeds_talking();
    }
    // The same of a store that is everybody's.
    let image = Image::small("shared:1", [Entry::file("noise", 0o644, noise(100_000))]);
    let dir = cx.make_dir("shared");
    let ctr = format!("{} --root {1} --runroot {1}-run", crate::support::binary().display(), dir.display());
    let archive = image.oci_archive();
    cx.host(&format!(
        "{ctr} load -q -i {}; chmod -R go-w,a+rX {1}/image; chmod 755 {1}",
        archive.display(),
        dir.display()
    ))
    .succeeds();
    damage(&dir, &image.blobs()[1].0);
    cx.set("CTR_ADDITIONAL_IMAGE_STORES", &dir);
    cx.ctr("save -o y.tar shared:1").fails_saying(1, &format!("of the store {dir:?} is damaged"));
    assert!(!cx.cwd().join("y.tar").exists());
});
