//! `ctr rmi`: what goes with a tag, a digest, a platform; and `run` of what several platforms' name leads to.

use serde_json::{Value, json};

use crate::support::{Entry, Image, Layer, Packing, Reply, Server, architecture, both, digest};

fn variant(name: &str, text: &str) -> Image {
    Image::small(name, [Entry::file("name", 0o644, text)])
}

/// Puts an index into the repository `multi/app`; its images are there already.
fn serve_list(server: &Server, tag: &str, members: &[(&str, &Image)]) -> String {
    let kind = "application/vnd.oci.image.index.v1+json";
    let entry = |(architecture, image): &(&str, &Image)| -> Value {
        server.serve_image(image);
        let manifest = image.manifest();
        json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest(&manifest), "size": manifest.len(),
            "platform": {"architecture": architecture, "os": "linux"},
        })
    };
    let entries: Vec<Value> = members.iter().map(entry).collect();
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).to_string().into_bytes();
    for reference in [tag, &digest(&index)] {
        server.put(&format!("/v2/multi/app/manifests/{reference}"), Reply::ok(kind, index.clone()));
    }
    format!("{}/multi/app:{tag}", server.host)
}

both!(a_digest_goes_without_its_tag, |cx| {
    let server = Server::start();
    let image = variant("team/app:1", "x");
    let name = server.serve_image(&image);
    let by_digest = format!("{}/team/app@{}", server.host, digest(&image.manifest()));
    cx.ctr(&format!("pull -q {name}")).succeeds();
    cx.ctr(&format!("rmi {by_digest}")).prints(&format!("Untagged: {by_digest}\n"));
    cx.ctr(&format!("rmi {by_digest}")).refuses(1, &format!("No such image: {by_digest}"));
    cx.ctr("images --digests --format '{{.Tag}} {{.Digest}}'").prints("1 <none>\n");
    cx.ctr(&format!("run --rm {name} cat /name")).prints("x");
    // Pulled by both.
    for wanted in [&name, &by_digest] {
        cx.ctr(&format!("pull -q {wanted}")).succeeds();
    }
    cx.ctr(&format!("rmi {by_digest}")).prints(&format!("Untagged: {by_digest}\n"));
    cx.ctr("images --digests --format '{{.Tag}} {{.Digest}}'").prints("1 <none>\n");
    // It stays for as long as its repository has a tag of the image, and goes with the last one.
    for wanted in [&name, &by_digest] {
        cx.ctr(&format!("pull -q {wanted}")).succeeds();
    }
    let second = format!("{}/team/app:2", server.host);
    cx.ctr(&format!("tag {name} {second}")).prints("");
    cx.ctr(&format!("rmi {name}")).prints(&format!("Untagged: {name}\n"));
    let out = cx.ctr(&format!("rmi {second}")).succeeds();
    assert!(out.starts_with(&format!("Untagged: {second}\nUntagged: {by_digest}\nDeleted: {}\n", image.id())), "{out}");
    cx.ctr("images -qa").prints("");
});

both!(a_platform_goes_from_all_names, |cx| {
    let server = Server::start();
    let (own, other) = (variant("multi/app:own", "own"), variant("multi/app:other", "other"));
    let name = serve_list(&server, "1", &[(architecture(), &own), ("s390x", &other)]);
    cx.ctr(&format!("pull -q --all-platforms {name}")).succeeds();
    cx.ctr(&format!("tag {name} second:1")).prints("");
    cx.ctr(&format!("rmi --platform linux/s390x {name}"))
        .refuses(1, "Content will be removed from all images referencing this variant. Use --force to force delete.");
    let out = cx.ctr(&format!("rmi -f --platform linux/s390x {name}")).succeeds();
    assert_eq!(out.lines().next(), Some(&*format!("Deleted: {}", other.id())), "{out}");
    cx.ctr("images --no-trunc --format '{{.ID}}'").prints(&format!("{0}\n{0}\n", own.id()));
    let out = cx.ctr(&format!("rmi -f --platform linux/{} second:1", architecture())).succeeds();
    let all = format!("Untagged: {name}\nUntagged: second:1\nDeleted: {}\n", own.id());
    assert!(out.starts_with(&all), "{out}");
    cx.ctr("images -qa").prints("");
    assert_eq!(std::fs::read_dir(cx.root().join("layers")).unwrap().count(), 0);
});

both!(a_platform_that_is_here_runs, |cx| {
    let server = Server::start();
    let (own, other) = (variant("multi/app:own", "own"), variant("multi/app:other", "other"));
    let name = serve_list(&server, "1", &[(architecture(), &own), ("s390x", &other)]);
    cx.ctr(&format!("pull -q --all-platforms {name}")).succeeds();
    let asked = server.asked().len();
    cx.ctr(&format!("run --rm --platform linux/s390x {name} cat /name")).prints("other");
    cx.ctr(&format!("run --rm --pull never --platform linux/s390x {name} cat /name")).prints("other");
    cx.ctr(&format!("create --platform linux/s390x --name box {name} true")).succeeds();
    cx.ctr("inspect -f '{{.Image}}' box").prints(&format!("{}\n", other.id()));
    cx.ctr("rm box").succeeds();
    cx.ctr(&format!("run --rm {name} cat /name")).prints("own");
    assert_eq!(server.asked().len(), asked, "{:?}", server.asked());
    assert_eq!(cx.ctr(&format!("images -q {name}")).succeeds().lines().count(), 2);
    cx.ctr(&format!("run --rm --pull never --platform linux/riscv64 {name} true")).refuses(
        125,
        &format!("image with reference {name} was found but does not match the specified platform: [..]"),
    );
});

// A configuration that two manifests lead to: its layers are packed in two ways.
both!(an_image_with_a_name_is_not_dangling, |cx| {
    let server = Server::start();
    let packed = |packing| {
        let layer = Layer::new([Entry::file("name", 0o644, "other")]);
        Image::busybox().named("multi/app:other").packed(packing).layer(&layer)
    };
    let (one, two) = (packed(Packing::Plain), packed(Packing::Gzip));
    assert_eq!((one.id(), one.manifest() == two.manifest()), (two.id(), false));
    let own = variant("multi/app:own", "own");
    let first = serve_list(&server, "1", &[(architecture(), &own), ("s390x", &one)]);
    let second = serve_list(&server, "2", &[(architecture(), &own), ("s390x", &two)]);
    cx.ctr(&format!("pull -q --all-platforms {first}")).succeeds();
    // The name moves on, and both are dangling.
    cx.load(&variant("third:1", "third"));
    cx.ctr(&format!("tag third:1 {first}")).prints("");
    assert_eq!(cx.ctr("images -q -f dangling=true").succeeds().lines().count(), 2);
    cx.ctr(&format!("pull -q --all-platforms {second}")).succeeds();
    cx.ctr("images -q -f dangling=true").prints("");
    // An index that says so all the same.
    let path = cx.root().join("image/index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let all = index["manifests"].as_array_mut().unwrap();
    let mut nameless = all.last().unwrap().clone();
    nameless["annotations"].as_object_mut().unwrap().remove("org.opencontainers.image.ref.name").unwrap();
    all.push(nameless);
    std::fs::write(&path, index.to_string()).unwrap();
    cx.ctr("images -q -f dangling=true").prints("");
    cx.ctr(&format!("run --rm --platform linux/s390x {second} cat /name")).prints("other");
});
