//! `ctr pull`: from real registries, and from one that breaks off.

use std::time::Duration;

use crate::support::{Entry, Image, Layer, Packing, Registry, Reply, Server, both, digest, log_in, noise, registry};

both!(from_a_plain_registry_on_loopback, |cx| {
    let image = Image::small("team/app:v1", [Entry::file("hello", 0o644, "hi\n")]);
    let reference = Registry::plain().push(&image);
    let ran = cx.ctr(&format!("pull {reference}"));
    assert!(ran.code == 0 && ran.out().contains(&reference), "{ran}");
    cx.ctr(&format!("pull -q {reference}")).prints(&format!("{reference}\n"));
    cx.ctr("images --no-trunc --format '{{.Repository}} {{.Tag}} {{.ID}}'").prints(&format!(
        "{}/team/app v1 {}\n",
        Registry::plain().host,
        image.id()
    ));
    cx.ctr(&format!("run --rm {reference} cat /hello")).prints("hi\n");
});

both!(with_tls_and_a_password, |cx| {
    let registry = Registry::secure();
    let reference = registry.push(&Image::small("private/app:v1", [Entry::file("secret", 0o644, "s\n")]));
    // On loopback no certificate is asked for, as with Docker; the password is.
    cx.ctr(&format!("pull -q {reference}")).refuses(1, "[..]denied[..]");
    registry.trust(cx);
    cx.ctr(&format!("pull -q {reference}")).refuses(1, "[..]");
    log_in(cx, &registry.host, registry::USER, "wrong");
    let ran = cx.ctr(&format!("pull -q {reference}"));
    ran.refuses(1, "[..]");
    assert!(ran.err().contains("were refused"), "{ran}");
    registry.log_in(cx);
    cx.ctr(&format!("pull -q {reference}")).prints(&format!("{reference}\n"));
    cx.ctr(&format!("run --rm --network none {reference} cat /secret")).prints("s\n");
});

both!(by_digest, |cx| {
    let image = Image::small("team/by-digest:v1", [Entry::file("hello", 0o644, "digest\n")]);
    Registry::plain().push(&image);
    let digest = digest(&image.manifest());
    let reference = format!("{}/team/by-digest@{digest}", Registry::plain().host);
    cx.ctr(&format!("pull -q {reference}")).succeeds();
    cx.ctr(&format!("run --rm {reference} cat /hello")).prints("digest\n");
    let wrong = reference.replace(&digest[digest.len() - 8..], "00000000");
    cx.ctr(&format!("pull -q {wrong}")).refuses(1, "[..]");
});

both!(what_is_not_there, |cx| {
    let host = &Registry::plain().host;
    cx.ctr(&format!("pull -q {host}/no/such:image")).refuses(1, "[..]no/such[..]");
    // Nobody listens there.
    cx.ctr("pull -q 127.0.0.1:1/x").refuses(1, "[..]127.0.0.1:1[..]refused[..]");
    cx.ctr("images -q").prints("");
    cx.leaves_nothing();
});

both!(every_packing, |cx| {
    let server = Server::start();
    for (packing, name) in [(Packing::Plain, "plain"), (Packing::Gzip, "gzip"), (Packing::Zstd, "zstd")] {
        let layer = Layer::new([Entry::file("how", 0o644, name)]);
        let image = Image::busybox().named(&format!("packed/{name}:1")).packed(packing).layer(&layer);
        let reference = server.serve_image(&image);
        cx.ctr(&format!("pull -q {reference}")).succeeds();
        cx.ctr(&format!("run --rm {reference} cat /how")).prints(name);
    }
});

both!(a_list_of_platforms, |cx| {
    let server = Server::start();
    let image = Image::small("multi/app:1", [Entry::file("hello", 0o644, "mine\n")]);
    server.serve_image(&image);
    let manifest = image.manifest();
    let describe = |architecture: &str, digest: &str, size: usize| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{size},"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#
        )
    };
    let other = digest(b"other");
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{},{}]}}"#,
        describe("riscv64", &other, 5),
        describe(crate::support::architecture(), &digest(&manifest), manifest.len())
    );
    server.put("/v2/multi/app/manifests/1", Reply::ok("application/vnd.oci.image.index.v1+json", index));
    let reference = format!("{}/multi/app:1", server.host);
    cx.ctr(&format!("run -q --rm {reference} cat /hello")).prints("mine\n");
    cx.ctr(&format!("pull -q --platform linux/s390x {reference}")).refuses(1, "[..]linux/s390x[..]");
});

both!(layers_that_are_there_are_not_fetched_again, |cx| {
    let server = Server::start();
    cx.ctr(&format!("pull -q {}", server.serve_image(&Image::small("shared/one:1", [Entry::file("a", 0o644, "1")]))))
        .succeeds();
    let before = server.asked().len();
    let second = Image::small("shared/two:1", [Entry::file("a", 0o644, "2")]);
    cx.ctr(&format!("pull -q {}", server.serve_image(&second))).succeeds();
    let base = digest(&Image::busybox().blobs()[0].1);
    let asked = server.asked().split_off(before);
    assert!(!asked.iter().any(|line| line.starts_with("GET") && line.contains(&base)), "{asked:#?}");
});

both!(goes_on_where_the_connection_broke, |cx| {
    let server = Server::start();
    let image = Image::small("broken/app:1", [Entry::file("noise", 0o644, noise(3_000_000))]);
    let reference = server.serve_image(&image);
    server.change_layers(&image, |reply| reply.broken = Some((reply.body.len() / 2, 1)));
    cx.ctr(&format!("pull -q {reference}")).succeeds_talking();
    let asked = server.asked();
    assert!(asked.iter().any(|line| line.contains("bytes=")), "no range was asked for: {asked:#?}");
    let sum = cx.ctr(&format!("run --rm {reference} wc -c /noise")).succeeds();
    assert_eq!(sum, "3000000 /noise");
});

both!(one_that_breaks_for_ever_fails, |cx| {
    let server = Server::start();
    let image = Image::small("broken/for-ever:1", [Entry::file("noise", 0o644, noise(300_000))]);
    let reference = server.serve_image(&image);
    server.change_layers(&image, |reply| {
        let at = reply.body.len() / 2;
        reply.body.truncate(at);
        reply.broken = Some((0, u32::MAX));
    });
    cx.ctr(&format!("pull -q {reference}")).fails_saying(1, "ctr: ");
    cx.ctr("images -q").prints("");
    cx.leaves_nothing();
});

both!(lies_are_found_out, |cx| {
    let server = Server::start();
    // A blob that is not what its digest says.
    let image = Image::small("lies/blob:1", [Entry::file("x", 0o644, "true\n")]);
    let reference = server.serve_image(&image);
    server.change_layers(&image, |reply| {
        let last = reply.body.len() - 1;
        reply.body[last] ^= 1;
    });
    cx.ctr(&format!("pull -q {reference}")).fails_saying(1, "ctr: ");
    // A layer that does not unpack to what the configuration says.
    let tar = Layer::new([Entry::file("x", 0o644, "x")]).tar();
    let image =
        Image::busybox().named("lies/diff-id:1").packed(Packing::Plain).layer_blob(tar, digest(b"something else"));
    cx.ctr(&format!("pull -q {}", server.serve_image(&image))).fails_saying(1, "digest");
    // A gzip stream that stops in its middle, its digest being right.
    let mut layer = Image::small("lies/x:1", [Entry::file("x", 0o644, noise(100_000))]).blobs()[1].1.clone();
    layer.truncate(50_000);
    let image = Image::busybox().named("lies/truncated:1").layer_blob(layer, digest(b"x"));
    cx.ctr(&format!("pull -q {}", server.serve_image(&image))).fails_saying(1, "ctr: ");
    // What says gzip and is not.
    let image = Image::busybox().named("lies/not-gzip:1").layer_blob(noise(5000), digest(b"x"));
    cx.ctr(&format!("pull -q {}", server.serve_image(&image))).fails_saying(1, "ctr: ");
    cx.ctr("images -q").prints("");
    cx.leaves_nothing();
});

both!(a_manifest_without_bounds_is_refused, |cx| {
    let server = Server::start();
    let reply = Reply { endless: Some(100 << 20), ..Reply::ok("application/vnd.oci.image.manifest.v1+json", "") };
    server.put("/v2/huge/manifest/manifests/1", reply);
    let ran = cx.host(&format!("$ctr pull -q {}/huge/manifest:1", server.host));
    ran.fails_saying(1, "manifest");
    for body in ["", "{", "[]", "null", r#"{"schemaVersion":1}"#, r#"{"schemaVersion":2,"layers":7}"#] {
        server.put("/v2/bad/manifest/manifests/1", Reply::ok("application/vnd.oci.image.manifest.v1+json", body));
        cx.ctr(&format!("pull -q {}/bad/manifest:1", server.host)).fails_saying(1, "ctr: ");
    }
});

both!(the_same_image_twice_at_once, |cx| {
    let server = Server::start();
    let image = Image::small("twice/app:1", [Entry::file("noise", 0o644, noise(1_000_000))]);
    let reference = server.serve_image(&image);
    server.change_layers(&image, |reply| reply.slow = Some(Duration::from_millis(500)));
    let pulls: Vec<_> = (0..4).map(|_| cx.spawn(&format!("pull -q {reference}"))).collect();
    for pull in pulls {
        pull.wait().succeeds_talking();
    }
    cx.ctr(&format!("run --rm {reference} wc -c /noise")).prints("1000000 /noise\n");
    cx.leaves_nothing();
});

both!(a_token_is_fetched_where_the_registry_wants_one, |cx| {
    let server = Server::start();
    let image = Image::small("token/app:1", [Entry::file("hello", 0o644, "token\n")]);
    let reference = server.serve_image(&image);
    server.put("/token", Reply::ok("application/json", r#"{"token":"t0k3n","expires_in":300}"#));
    let challenge =
        format!(r#"Bearer realm="http://{}/token",service="tests",scope="repository:token/app:pull""#, server.host);
    server.demand("Bearer t0k3n", &challenge);
    cx.ctr(&format!("run -q --rm {reference} cat /hello")).prints("token\n");
    assert!(server.asked().iter().any(|line| line.contains("/token")), "{:#?}", server.asked());
});
