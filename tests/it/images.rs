//! `ctr images`, `ctr rmi`.

use crate::support::{Entry, Image, both};

both!(the_table, |cx| {
    cx.ctr("images").prints("REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n");
    cx.busybox();
    let short = &Image::busybox().id()[7..19];
    cx.ctr("images").prints(&format!(
        "REPOSITORY   TAG       IMAGE ID[..]CREATED[..]SIZE\nbusybox      latest    {short}   [..] ago   [..]MB\n"
    ));
    cx.ctr("images -q").prints(&format!("{short}\n"));
    cx.ctr("images -q --no-trunc").prints(&format!("{}\n", Image::busybox().id()));
    cx.ctr("images --digests --format '{{.Repository}} {{.Digest}}'").prints("busybox [..]\n");
});

both!(which_ones, |cx| {
    cx.busybox();
    cx.load(&Image::small("team/app:v1", [Entry::file("v", 0o644, "1")]));
    cx.load(&Image::small("team/app:v2", [Entry::file("v", 0o644, "2")]));
    let line = |rest: &str| {
        let out = cx.ctr(&format!("images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' {rest}")).succeeds();
        let mut lines: Vec<_> = out.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines.join(" ")
    };
    assert_eq!(line(""), "busybox:latest team/app:v1 team/app:v2");
    assert_eq!(line("team/app"), "team/app:v1 team/app:v2");
    assert_eq!(line("team/app:v2"), "team/app:v2");
    assert_eq!(line("'team/*'"), "team/app:v1 team/app:v2");
    assert_eq!(line("nosuch"), "");
    assert_eq!(line("-f 'reference=busy*'"), "busybox:latest");
});

both!(a_tag_that_moves_on, |cx| {
    let (first, second) =
        (Image::small("app:1", [Entry::file("v", 0o644, "1")]), Image::small("app:1", [Entry::file("v", 0o644, "2")]));
    cx.load(&first);
    cx.load(&second);
    cx.ctr("run --rm app:1 cat /v").prints("2");
    cx.ctr(&format!("run --rm {} cat /v", &first.id()[7..19])).prints("1");
    cx.ctr(&format!("run --rm {} cat /v", first.id())).prints("1");
    let out = cx.ctr("images --format '{{.Repository}}:{{.Tag}}'").succeeds();
    let mut lines: Vec<_> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["<none>:<none>", "app:1"]);
    cx.ctr(&format!("rmi {}", &first.id()[7..19])).succeeds();
    cx.ctr("run --rm app:1 cat /v").prints("2");
});

both!(removed_with_its_layers, |cx| {
    cx.busybox();
    cx.load(&Image::small("app:1", [Entry::file("v", 0o644, "1")]));
    let out = cx.ctr("rmi app:1").succeeds();
    assert!(out.starts_with("Untagged: app:1\n") && out.contains("Deleted: sha256:"), "{out}");
    cx.ctr("run --rm busybox true").prints("");
    cx.ctr("rmi busybox").succeeds();
    cx.ctr("images -q").prints("");
    let layers = std::fs::read_dir(cx.root().join("layers")).unwrap().count();
    let blobs = std::fs::read_dir(cx.root().join("image/blobs/sha256")).map_or(0, Iterator::count);
    assert_eq!((layers, blobs), (0, 0), "layers and blobs left");
    cx.ctr("rmi busybox").refuses(1, "[..]o such image: busybox[..]");
});

// The words and codes are Docker's: scripts look for them.
both!(not_what_a_running_container_needs, |cx| {
    cx.busybox();
    let image = &Image::busybox().id()[7..19];
    let id = cx.ctr("run -d --name box busybox sleep 1000").succeeds();
    let by_name = format!(
        "conflict: unable to remove repository reference \"busybox\" (must force) - container {} is using its referenced \
         image {image}",
        &id[..12]
    );
    let by_id = format!(
        "conflict: unable to delete {image} (cannot be forced) - image is being used by running container {}",
        &id[..12]
    );
    cx.ctr("rmi busybox").refuses(1, &by_name);
    cx.ctr(&format!("rmi {image}")).refuses(1, &by_id);
    cx.ctr(&format!("rmi -f {image}")).refuses(1, &by_id);
    cx.ctr("images --format '{{.Repository}}:{{.Tag}}'").prints("busybox:latest\n");
    // By force the name goes, and the image stays for as long as it runs.
    cx.ctr("rmi -f busybox").prints("Untagged: busybox:latest\n");
    cx.ctr("images --format '{{.Repository}}:{{.Tag}} {{.ID}}'").prints(&format!("<none>:<none> {image}\n"));
    cx.ctr("exec box cat /etc/hostname").prints(&format!("{}\n", &id[..12]));
    cx.ctr("run --rm --pull never busybox true").fails_saying(125, "busybox");
    cx.ctr("rm -f box").prints("box\n");
    let out = cx.ctr(&format!("rmi {image}")).succeeds();
    assert!(out.starts_with(&format!("Deleted: {}", Image::busybox().id())), "{out}");
});

both!(not_what_a_stopped_container_needs, |cx| {
    cx.busybox();
    let image = &Image::busybox().id()[7..19];
    cx.ctr("run --name box busybox sh -c 'echo here'").prints("here\n");
    let id = cx.ctr("inspect -f '{{.Id}}' box").succeeds();
    let by_name = format!(
        "conflict: unable to remove repository reference \"busybox\" (must force) - container {} is using its referenced \
         image {image}",
        &id[..12]
    );
    let by_id = format!(
        "conflict: unable to delete {image} (must be forced) - image is being used by stopped container {}",
        &id[..12]
    );
    cx.ctr("rmi busybox").refuses(1, &by_name);
    cx.ctr(&format!("rmi {image}")).refuses(1, &by_id);
    // One name of two is nobody's but the person's.
    cx.load(&Image::busybox().named("second:1"));
    cx.ctr("rmi second:1").prints("Untagged: second:1\n");
    let out = cx.ctr(&format!("rmi -f {image}")).succeeds();
    assert!(out.starts_with(&format!("Untagged: busybox:latest\nDeleted: {}", Image::busybox().id())), "{out}");
    cx.ctr("images -q").prints("");
    // Its layers are the container's still.
    cx.ctr("start -a box").prints("here\n");
    cx.ctr("rm box").prints("box\n");
});

both!(layers_lie_exactly_as_an_image_layout, |cx| {
    cx.busybox();
    // Another tool reads it: the promise of DESIGN about `image/`.
    let layout = cx.root().join("image");
    let ran =
        cx.host(&format!("skopeo inspect --raw oci:{}:docker.io/library/busybox:latest | sha256sum", layout.display()));
    let out = ran.succeeds();
    assert!(!out.is_empty(), "{out}");
});
