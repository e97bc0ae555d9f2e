//! `ctr rmi`: what goes with a tag, a digest, a platform; and `run` of what several platforms' name leads to.

use crate::support::{Entry, Image, Server, both, digest};

fn variant(name: &str, text: &str) -> Image {
    Image::small(name, [Entry::file("name", 0o644, text)])
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

