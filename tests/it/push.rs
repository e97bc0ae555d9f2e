//! `ctr push`: to real registries, and to one that is difficult.

use crate::support::{
    Entry, Image, Layer, Packing, Registry, Sandbox, Server, Uploads, Whims, both, digest, noise, slay,
};

/// Gives an image of the store a name in a registry: it is made here, of the image and nothing else.
fn loaded(cx: &Sandbox, image: &Image) -> String {
    cx.load(image);
    image.name.clone()
}

/// The digest that the registry answers with, asked by skopeo.
fn digest_of(reference: &str, how: &str) -> String {
    let output = std::process::Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}"])
        .args(how.split_whitespace())
        .arg(format!("docker://{reference}"))
        .output()
        .expect("skopeo: run sh tests/setup.sh --tests");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Two layers with something of their own in them.
fn image(host: &str, name: &str, packing: Packing) -> Image {
    let layer = Layer::new([Entry::file("who", 0o644, name), Entry::file("noise", 0o644, noise(200_000))]);
    Image::busybox().named(&format!("{host}/{name}")).packed(packing).layer(&layer)
}

both!(what_was_pulled_keeps_its_digest, |cx| {
    let registry = Registry::plain();
    let who = if cx.is_root() { "root" } else { "user" };
    let image = Image::small(&format!("push/{who}/same:1"), [Entry::file("a", 0o644, "1")]);
    let reference = registry.push(&image);
    cx.ctr(&format!("pull -q {reference}")).succeeds();
    let short: Vec<String> = image.diff_ids().iter().map(|diff| diff["sha256:".len()..][..12].to_owned()).collect();
    let (bottom, top) = (&short[0], &short[1]);
    let size = image.manifest().len();
    let ran = cx.ctr(&format!("push {reference}"));
    let is = digest(&image.manifest());
    let lines: Vec<String> = ran.succeeds().lines().map(str::to_owned).collect();
    assert_eq!(lines[0], format!("The push refers to repository [{}/push/{who}/same]", registry.host));
    assert_eq!(lines[1..3], [format!("{top}: Preparing"), format!("{bottom}: Preparing")]);
    for layer in [bottom, top] {
        assert!(lines[3..5].contains(&format!("{layer}: Layer already exists")), "{ran}");
    }
    assert_eq!(lines[5..], [format!("1: digest: {is} size: {size}")]);
    assert_eq!(digest_of(&reference, ""), is);
    cx.ctr(&format!("push -q {reference}")).prints(&format!("{reference}\n"));
});

both!(plain_layers_that_were_pulled_stay_plain, |cx| {
    let (from, to) = (Server::start(), Uploads::start(Whims::default()));
    let plain = Image::busybox().named("plain/app:1").packed(Packing::Plain);
    let image = plain.layer(&Layer::new([Entry::file("noise", 0o644, noise(100_000))]));
    let reference = from.serve_image(&image);
    cx.ctr(&format!("pull -q {reference}")).succeeds();
    let name = format!("{}/plain/app:1", to.host);
    cx.ctr(&format!("tag {reference} {name}")).prints("");
    // Wherever the first name went.
    cx.ctr(&format!("rmi {reference}")).succeeds();
    let pushed = |options: &str| {
        cx.ctr(&format!("push -q {options} {name}")).succeeds();
        to.manifest("plain/app:1").1
    };
    assert!(pushed("") == image.manifest());
    assert!(pushed("--platform linux") == image.manifest());
    for options in ["--compression-format gzip", "--compression-level 1", "--force-compression"] {
        assert!(pushed(options) != image.manifest(), "{options}");
    }
    assert!(pushed("") == image.manifest());
    cx.ctr(&format!("pull -q {name}")).succeeds();
    cx.ctr("system check").prints("");
    // What was loaded is compressed, alone and in a list.
    let local = image.clone().named("local:1").layer(&Layer::new([Entry::file("who", 0o644, "local")]));
    cx.load(&local);
    let (alone, list) = (format!("{}/plain/alone:1", to.host), format!("{}/plain/list:1", to.host));
    cx.ctr(&format!("tag local:1 {alone}")).prints("");
    cx.ctr(&format!("push -q {alone}")).succeeds();
    let one = to.manifest("plain/alone:1").1;
    assert_ne!(one, local.manifest());
    cx.ctr(&format!("manifest create {list} local:1 {name}")).succeeds();
    let said = cx.ctr(&format!("manifest push -q {list}")).succeeds_talking();
    let (_, whole) = to.manifest("plain/list:1");
    assert_eq!(said, digest(&whole));
    let whole: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(whole["manifests"][0]["digest"], digest(&one));
    assert_eq!(whole["manifests"][0]["size"], one.len());
    assert_eq!(whole["manifests"][0]["platform"]["os"], "linux");
    assert_eq!(whole["manifests"][1]["digest"], digest(&image.manifest()));
    assert!(to.manifest(&format!("plain/list:{}", digest(&one))).1 == one);
    assert!(to.manifest(&format!("plain/list:{}", digest(&image.manifest()))).1 == image.manifest());
});

/// Two images whose upper layer is the same in another compression, pulled one after the other; the second
/// one's registry has no layers any more.
fn alike(cx: &Sandbox, first: Packing, second: Packing) -> (String, String) {
    let server = Server::start();
    let layer = Layer::new([Entry::file("noise", 0o644, noise(100_000)), Entry::file("same", 0o644, "same")]);
    let image = |name: &str, packing| Image::busybox().named(name).packed(packing).layer(&layer);
    let (one, two) = (image("alike/one:1", first), image("alike/two:1", second).config("User", "1000".into()));
    let names = (server.serve_image(&one), server.serve_image(&two));
    cx.ctr(&format!("pull -q {}", names.0)).succeeds();
    cx.ctr(&format!("pull -q {}", names.1)).succeeds();
    server.change(&format!("/v2/alike/two/blobs/{}", two.blobs()[1].0), |reply| reply.status = 404);
    names
}

both!(another_archive_of_a_layer_does, |cx| {
    for (first, second) in
        [(Packing::Zstd, Packing::Gzip), (Packing::Plain, Packing::Gzip), (Packing::Gzip, Packing::Plain)]
    {
        let to = Uploads::start(Whims::default());
        let (one, two) = alike(cx, first, second);
        let id = cx.ctr(&format!("images -q --no-trunc {two}")).succeeds();
        let pushed = format!("{}/alike/two:1", to.host);
        cx.ctr(&format!("tag {two} {pushed}")).prints("");
        // What the layer came from stays, for as long as it is the only one.
        cx.ctr(&format!("rmi {one}")).succeeds();
        let ran = cx.ctr(&format!("push -q {pushed}"));
        assert_eq!((ran.code, ran.err().lines().count()), (0, 1), "{ran}");
        let why = format!("ctr: warning: {pushed}: its digest there is {}", digest(&to.manifest("alike/two:1").1));
        assert!(ran.err().starts_with(&why) && ran.err().contains("is missing: fetch it from"), "{ran}");
        let ran = cx.ctr(&format!("save -o two.tar {two}"));
        assert_eq!((ran.code, ran.err().lines().count()), (0, 1), "{ran}");
        assert!(ran.err().starts_with("ctr: warning: the digest is not the one that was pulled"), "{ran}");
        cx.ctr(&format!("rmi -f {}", id.trim())).succeeds();
        let left = std::fs::read_dir(cx.root().join("image/blobs/sha256")).unwrap().count();
        assert_eq!(left, 0, "blobs left");
        cx.ctr("load -q -i two.tar").succeeds();
        cx.ctr(&format!("images -q --no-trunc {two}")).prints(&format!("{id}\n"));
        cx.ctr(&format!("run --rm {two} cat /same")).prints("same");
        cx.ctr(&format!("rmi -f {}", id.trim())).succeeds();
        cx.ctr(&format!("pull -q {pushed}")).succeeds();
        cx.ctr(&format!("images -q --no-trunc {pushed}")).prints(&format!("{id}\n"));
        cx.ctr(&format!("rmi -f {}", id.trim())).succeeds();
    }
});

both!(what_was_made_here_is_pulled_by_others, |cx| {
    let registry = Registry::plain();
    let who = if cx.is_root() { "root" } else { "user" };
    let reference = format!("{}/push/{who}/made:1", registry.host);
    cx.busybox();
    cx.ctr_args(["run", "--name", "c", "busybox", "sh", "-c", "echo made > /made; head -c 300000 /dev/zero > /zeros"])
        .prints("");
    cx.ctr(&format!("commit -q c {reference}")).succeeds();
    let ran = cx.ctr(&format!("push {reference}"));
    let out = ran.succeeds();
    let said = out.lines().last().unwrap().split(' ').nth(2).unwrap().to_owned();
    assert_eq!(digest_of(&reference, ""), said);
    cx.ctr("images --digests --format '{{.Repository}} {{.Digest}}'")
        .prints(&format!("{}/push/{who}/made {said}\nbusybox <none>\n", registry.host));
    // The compressed layer is remembered: nothing is sent again.
    let again = cx.ctr(&format!("push {reference}")).succeeds();
    assert!(!again.contains(": Pushed") && again.ends_with(out.lines().last().unwrap()), "{again}");
    // Another engine, by way of another tool, and back.
    let script = format!(
        "skopeo copy -q --insecure-policy --src-tls-verify=false docker://{reference} oci-archive:back.tar:x:1
         skopeo copy -q --insecure-policy --dest-tls-verify=false --preserve-digests oci-archive:back.tar \
         docker://{}/push/{who}/back:1",
        registry.host
    );
    cx.host(&script).succeeds_talking();
    assert_eq!(digest_of(&reference.replace("made", "back"), ""), said);
    let back = reference.replace("made", "back");
    cx.ctr(&format!("run -q --rm {back} cat /made")).prints("made\n");
});

both!(podman_pulls_it, |cx| {
    let registry = Registry::plain();
    let who = if cx.is_root() { "root" } else { "user" };
    let reference = loaded(cx, &image(&registry.host, &format!("push/{who}/podman:1"), Packing::Plain));
    cx.ctr(&format!("push -q {reference}")).succeeds();
    if !cx.is_root() {
        return;
    }
    let ran = cx.host(&format!(
        "podman --root $PWD/podman --runroot $PWD/podman-run --storage-driver vfs pull -q --tls-verify=false {reference}
         podman --root $PWD/podman --runroot $PWD/podman-run --storage-driver vfs image inspect --format '{{{{.Digest}}}}' \
         {reference}"
    ));
    let out = ran.succeeds_talking();
    assert_eq!(out.lines().last().unwrap(), digest_of(&reference, ""), "{ran}");
});

both!(several_tags_at_once, |cx| {
    let registry = Registry::plain();
    let who = if cx.is_root() { "root" } else { "user" };
    let host = &registry.host;
    for tag in ["a", "b"] {
        loaded(cx, &image(host, &format!("push/{who}/tags:{tag}"), Packing::Gzip));
    }
    let out = cx.ctr(&format!("push --all-tags {host}/push/{who}/tags")).succeeds();
    let ends: Vec<&str> = out.lines().filter(|line| line.contains(": digest: ")).map(|line| &line[..2]).collect();
    assert_eq!(ends, ["a:", "b:"]);
    cx.ctr(&format!("push -a {host}/push/{who}/tags:a")).refuses(1, "tag can't be used with --all-tags/-a");
    cx.ctr(&format!("push {host}/push/{who}/tags")).is(
        1,
        &format!("Using default tag: latest\nThe push refers to repository [{host}/push/{who}/tags]\n"),
        &format!("ctr: tag does not exist: {host}/push/{who}/tags:latest\nhint: list what is there with: ctr images\n"),
    );
    cx.ctr(&format!("push -q {host}/push/{who}/none:1"))
        .refuses(1, &format!("An image does not exist locally with the tag: {host}/push/{who}/none"));
    cx.ctr(&format!("push -q {host}/push/{who}/tags@{}", digest(b"x"))).refuses(1, "cannot push a digest reference");
    cx.ctr(&format!("push -q --platform linux/s390x {host}/push/{who}/tags:a")).refuses(1, "[..]linux/s390x[..]");
    cx.ctr(&format!("push -q --compression-level 99 {host}/push/{who}/tags:a"))
        .refuses(1, "invalid compression level 99: it is from 1 to 9");
});

both!(layers_are_compressed_as_wanted, |cx| {
    let server = Uploads::start(Whims::default());
    let name = "pack/app:1";
    let reference = loaded(cx, &image(&server.host, name, Packing::Gzip));
    let layers = |server: &Uploads| -> Vec<(String, Vec<u8>)> {
        let (_, bytes) = server.manifest(name);
        let manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let layers = manifest["layers"].as_array().unwrap().iter();
        let layers = layers.map(|layer| {
            let blob = server.blob(layer["digest"].as_str().unwrap());
            assert_eq!(layer["size"], blob.len());
            (layer["mediaType"].as_str().unwrap().rsplit('+').next().unwrap().to_owned(), blob)
        });
        layers.collect()
    };
    cx.ctr(&format!("push -q {reference}")).succeeds();
    for (kind, blob) in layers(&server) {
        assert!(kind == "gzip" && blob.starts_with(&[0x1f, 0x8b]), "{kind}");
    }
    let before = server.manifest(name);
    cx.ctr(&format!("push -q --compression-format zstd --compression-level 9 {reference}")).succeeds();
    for (kind, blob) in layers(&server) {
        assert!(kind == "zstd" && blob.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]), "{kind}");
    }
    // Those that are compressed already stay as they are, when that is what is wanted.
    cx.ctr(&format!("push -q --compression-format zstd --force-compression=false {reference}")).succeeds();
    assert_eq!(server.manifest(name), before);
    cx.ctr(&format!("push -q --force-compression --compression-level 1 {reference}")).succeeds();
    assert!(layers(&server).iter().all(|(kind, _)| kind == "gzip") && server.manifest(name) != before);
    cx.ctr(&format!("run --rm {reference} cat /who")).prints(name);
});

both!(goes_on_where_the_connection_broke, |cx| {
    let server = Uploads::start(Whims::default());
    for (packing, name) in [(Packing::Gzip, "broken/gzip:1"), (Packing::Plain, "broken/plain:1")] {
        let layer = Layer::new([Entry::file("noise", 0o644, noise(3_000_000))]);
        let reference = loaded(cx, &Image::new(&format!("{}/{name}", server.host)).packed(packing).layer(&layer));
        server.change(Whims { breaks: Some((1_000_000, 2)), ..Whims::default() });
        server.forget();
        cx.ctr(&format!("push -q {reference}")).prints(&format!("{reference}\n"));
        let asked = server.asked();
        let starts = asked.iter().filter(|line| line.starts_with("POST")).count();
        // The layer's and the configuration's: the layer's was begun once.
        assert_eq!(starts, 2, "{asked:#?}");
        let patches = asked.iter().filter(|line| line.starts_with("PATCH")).count();
        assert_eq!(patches, 4, "{asked:#?}");
        if packing == Packing::Gzip {
            assert!(
                asked.iter().any(|line| line.starts_with("PATCH") && line.split(' ').count() == 3),
                "no part was named: {asked:#?}"
            );
        }
        // The same layer twice has the same name, or the registry would not have taken it.
        cx.ctr(&format!("rmi -f {reference}")).succeeds();
        cx.ctr(&format!("pull -q {reference}")).succeeds();
    }
});

both!(waits_for_one_that_is_started_anew, |cx| {
    let server = Uploads::start(Whims::default());
    for (packing, name) in [(Packing::Gzip, "outage/gzip:1"), (Packing::Plain, "outage/plain:1")] {
        let layer = Layer::new([Entry::file("noise", 0o644, noise(3_000_000))]);
        let reference = loaded(cx, &Image::new(&format!("{}/{name}", server.host)).packed(packing).layer(&layer));
        let outage = Some(std::time::Duration::from_millis(1200));
        server.change(Whims { breaks: Some((1_000_000, 1)), outage, ..Whims::default() });
        server.forget();
        cx.ctr(&format!("push -q {reference}")).prints(&format!("{reference}\n"));
        // The layer's upload and the configuration's: it went on where it was.
        let asked = server.asked();
        assert_eq!(asked.iter().filter(|line| line.starts_with("POST")).count(), 2, "{asked:#?}");
        assert_eq!(asked.iter().filter(|line| line.starts_with("PATCH")).count(), 3, "{asked:#?}");
        cx.ctr(&format!("rmi -f {reference}")).succeeds();
        cx.ctr(&format!("pull -q {reference}")).succeeds();
    }
});

both!(one_that_breaks_for_ever_fails, |cx| {
    let server = Uploads::start(Whims { breaks: Some((0, 1000)), ..Whims::default() });
    let reference = loaded(cx, &image(&server.host, "broken/always:1", Packing::Gzip));
    cx.ctr(&format!("push -q {reference}")).fails_saying(1, "the connection broke 5 times");
    cx.leaves_nothing();
});

both!(registries_with_limits, |cx| {
    let layer = Layer::new([Entry::file("noise", 0o644, noise(9_000_000))]);
    for (name, whims) in [
        ("limits/pieces", Whims { most: Some(8 << 20), ..Whims::default() }),
        ("limits/whole", Whims { only_put: true, ..Whims::default() }),
        ("limits/busy", Whims { busy: Some((429, "1".to_owned(), 2)), ..Whims::default() }),
        ("limits/date", Whims { busy: Some((503, "Sun, 06 Nov 1994 08:49:37 GMT".to_owned(), 3)), ..Whims::default() }),
    ] {
        let server = Uploads::start(whims);
        let image = Image::new(&format!("{}/{name}:1", server.host)).packed(Packing::Plain).layer(&layer);
        let reference = loaded(cx, &image);
        cx.ctr(&format!("push -q {reference}")).prints(&format!("{reference}\n"));
        let (_, manifest) = server.manifest(&format!("{name}:1"));
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        server.blob(manifest["layers"][0]["digest"].as_str().unwrap());
    }
    let server = Uploads::start(Whims { busy: Some((429, "7200".to_owned(), 9)), ..Whims::default() });
    let reference = loaded(cx, &image(&server.host, "limits/long:1", Packing::Gzip));
    cx.ctr(&format!("push -q {reference}")).fails_saying(1, "wants no question for 7200 s");
});

both!(taken_over_from_another_repository, |cx| {
    let server = Uploads::start(Whims::default());
    let base = loaded(cx, &image(&server.host, "mount/base:1", Packing::Gzip));
    cx.ctr(&format!("push -q {base}")).succeeds();
    // The same layers under another name, and one of its own above them.
    let again =
        loaded(cx, &image(&server.host, "mount/base:1", Packing::Gzip).named(&format!("{}/mount/app:1", server.host)));
    server.forget();
    let out = cx.ctr(&format!("push {again}")).succeeds();
    assert_eq!(out.matches(": Mounted from mount/base").count(), 2, "{out}");
    let patches = server.asked().iter().filter(|line| line.starts_with("PATCH")).count();
    assert_eq!(patches, 1, "the configuration alone: {:#?}", server.asked());
    // Where nothing is given, it is sent.
    server.change(Whims { mounts_nothing: true, ..Whims::default() });
    let third =
        loaded(cx, &image(&server.host, "mount/base:1", Packing::Gzip).named(&format!("{}/mount/own:1", server.host)));
    let out = cx.ctr(&format!("push {third}")).succeeds();
    assert_eq!(out.matches(": Pushed").count(), 2, "{out}");
});

both!(who_may_not_is_told, |cx| {
    let registry = Registry::secure();
    registry.trust(cx);
    let reference = loaded(cx, &image(&registry.host, "private/push:1", Packing::Gzip));
    let ran = cx.ctr(&format!("push -q {reference}"));
    ran.fails_saying(1, "push access denied for");
    assert!(ran.err().contains(&format!("ctr login {}", registry.host)), "{ran}");
    registry.log_in(cx);
    cx.ctr(&format!("push -q {reference}")).prints(&format!("{reference}\n"));
});

both!(a_token_is_asked_for_pushing, |cx| {
    let server = Uploads::start(Whims::default());
    let challenge = format!(r#"Bearer realm="http://{}/token",service="tests""#, server.host);
    server.change(Whims { demand: Some(("Bearer t0k3n".into(), challenge.clone())), ..Whims::default() });
    let reference = loaded(cx, &image(&server.host, "token/app:1", Packing::Gzip));
    cx.ctr(&format!("push -q {reference}")).prints(&format!("{reference}\n"));
    assert_eq!(server.asked().iter().filter(|line| *line == "GET /token").count(), 1, "{:#?}", server.asked());
    // A token that is never taken ends it.
    server.change(Whims { demand: Some(("Bearer other".into(), challenge)), ..Whims::default() });
    server.forget();
    cx.ctr(&format!("push -q {reference}")).fails_saying(1, "push access denied");
    assert!(server.asked().len() < 30, "{:#?}", server.asked());
});

both!(a_registry_that_stores_something_else, |cx| {
    let server = Uploads::start(Whims { lies: true, ..Whims::default() });
    let reference = loaded(cx, &image(&server.host, "lies/app:1", Packing::Gzip));
    cx.ctr(&format!("push -q {reference}")).fails_saying(1, "the registry stored sha256:");
});

both!(what_is_damaged_is_not_sent, |cx| {
    let server = Uploads::start(Whims::default());
    for (packing, name) in [(Packing::Gzip, "damaged/gzip:1"), (Packing::Plain, "damaged/plain:1")] {
        let image = image(&server.host, name, packing);
        let reference = loaded(cx, &image);
        let path = |digest: &str| cx.root().join("image/blobs/sha256").join(&digest[7..]);
        let blob = path(&image.blobs()[1].0);
        let good = std::fs::read(&blob).unwrap();
        let mut bad = good.clone();
        // Among the file's bytes, which a tar has no sum of.
        bad[100_000..100_009].copy_from_slice(b"something");
        std::fs::write(&blob, &bad).unwrap();
        let ran = cx.ctr(&format!("push -q {reference}"));
        ran.fails_saying(1, "is damaged: its ");
        assert!(ran.err().contains("system check --repair"), "{ran}");
        std::fs::write(&blob, &good).unwrap();
        // A document that is another one, and good as such.
        for (what, document) in [(image.id(), image.configuration()), (digest(&image.manifest()), image.manifest())] {
            let spaced = [document.as_slice(), b" "].concat();
            std::fs::write(path(&what), spaced).unwrap();
            cx.ctr(&format!("push -q {reference}")).fails_saying(1, "is damaged: its bytes have the digest sha256:");
            std::fs::write(path(&what), document).unwrap();
        }
        assert!(!server.asked().iter().any(|line| line.starts_with("PUT") && line.contains("manifests")));
        cx.ctr(&format!("push -q {reference}")).succeeds();
        server.forget();
    }
});

both!(killed_in_its_middle, |cx| {
    let registry = Registry::plain();
    let who = if cx.is_root() { "root" } else { "user" };
    let layer = Layer::new([Entry::file("noise", 0o644, noise(30_000_000))]);
    let name = format!("{}/push/{who}/killed:1", registry.host);
    let reference = loaded(cx, &Image::new(&name).packed(Packing::Plain).layer(&layer));
    for _ in 0..3 {
        let push = cx.spawn(&format!("push {reference}"));
        push.shows("Preparing");
        std::thread::sleep(std::time::Duration::from_millis(100));
        slay(push.pid());
        drop(push);
    }
    cx.ctr(&format!("push -q {reference}")).prints(&format!("{reference}\n"));
    cx.ctr("system check").succeeds_talking();
    assert!(digest_of(&reference, "").starts_with("sha256:"));
    cx.leaves_nothing();
});
