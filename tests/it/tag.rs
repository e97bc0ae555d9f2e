//! `ctr tag`.

use crate::support::{Entry, Image, Server, both};

both!(one_more_name, |cx| {
    cx.busybox();
    let id = Image::busybox().id();
    cx.ctr("tag busybox team/app:v1").prints("");
    cx.ctr(&format!("image tag {} localhost:5000/x", &id[7..19])).prints("");
    cx.ctr("images --format '{{.Repository}}:{{.Tag}} {{.ID}}'")
        .prints(&format!("busybox:latest {0}\nlocalhost:5000/x:latest {0}\nteam/app:v1 {0}\n", &id[7..19]));
    // Once more changes nothing.
    cx.ctr("tag busybox busybox").prints("");
    cx.ctr("run --rm team/app:v1 echo here").prints("here\n");
    cx.ctr("rmi busybox").prints("Untagged: busybox:latest\n");
    cx.ctr("run --rm localhost:5000/x echo still").prints("still\n");
    cx.ctr("events --since 1h --until 0s --filter event=tag --format '{{.Actor.Attributes.name}}'")
        .prints("team/app:v1\nlocalhost:5000/x:latest\nbusybox:latest\n");
});

both!(an_id_with_two_names, |cx| {
    cx.busybox();
    let id = Image::busybox().id();
    cx.ctr("tag busybox busybox:2").prints("");
    cx.ctr(&format!("rmi {id}")).refuses(
        1,
        &format!(
            "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
            &id[7..19]
        ),
    );
    cx.ctr("rmi busybox:2").prints("Untagged: busybox:2\n");
    assert!(cx.ctr(&format!("rmi {id}")).succeeds().starts_with("Untagged: busybox:latest\nDeleted: "));
});

both!(a_name_that_was_another_images, |cx| {
    cx.busybox();
    let app = Image::small("app:1", [Entry::file("v", 0o644, "1")]);
    cx.load(&app);
    cx.ctr("tag busybox app:1").prints("");
    let lines = cx.ctr("images --format '{{.Repository}}:{{.Tag}} {{.ID}}'").succeeds();
    let (busybox, app) = (&Image::busybox().id()[7..19], &app.id()[7..19]);
    for line in [format!("<none>:<none> {app}"), format!("app:1 {busybox}"), format!("busybox:latest {busybox}")] {
        assert!(lines.lines().any(|l| l == line), "{line}: {lines}");
    }
});

// Nobody knows whether the other registry has an image by that digest.
both!(a_digest_stays_in_its_repository, |cx| {
    let server = Server::start();
    let image = Image::small("team/app:1", [Entry::file("v", 0o644, "1")]);
    let reference = server.serve_image(&image);
    cx.ctr(&format!("pull -q {reference}")).succeeds();
    let repository = reference.strip_suffix(":1").unwrap();
    for name in [&format!("{repository}:2"), "other.example/app:1", "app:1"] {
        cx.ctr(&format!("tag {reference} {name}")).prints("");
    }
    let digests = cx.ctr(&format!("image inspect -f '{{{{json .RepoDigests}}}}' {reference}")).succeeds();
    assert!(digests.starts_with(&format!("[\"{repository}@sha256:")) && !digests.contains(','), "{digests}");
    let shown = cx.ctr("images --digests --format '{{.Repository}}:{{.Tag}} {{.Digest}}'").succeeds();
    let without: Vec<&str> = shown.lines().filter(|line| line.ends_with(" <none>")).collect();
    assert_eq!(without, ["app:1 <none>", "other.example/app:1 <none>"], "{shown}");
});

both!(no_name_at_all, |cx| {
    cx.busybox();
    cx.ctr("tag nosuch x").refuses(1, "No such image: nosuch:latest");
    cx.ctr("tag busybox Upper").refuses(
        1,
        "Error parsing reference: \"Upper\" is not a valid repository/tag: invalid reference format: repository name \
         (library/Upper) must be lowercase",
    );
    for words in ["a:b:c d", "busybox a:b:c"] {
        cx.ctr(&format!("tag {words}")).is(
            1,
            "",
            "ctr: Error parsing reference: \"a:b:c\" is not a valid repository/tag: invalid reference format\n",
        );
    }
    cx.ctr(&format!("tag {} again", &Image::busybox().id()[7..])).prints("");
    cx.ctr("rmi again").succeeds();
    let digest = format!("x@{}", Image::busybox().id());
    cx.ctr(&format!("tag busybox {digest}")).refuses(1, "refusing to create a tag with a digest reference");
    cx.ctr("tag busybox").refuses(1, "'ctr tag' requires 2 arguments");
    cx.ctr("images --format '{{.Repository}}'").prints("busybox\n");
});
