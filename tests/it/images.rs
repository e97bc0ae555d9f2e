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

both!(not_what_a_container_needs, |cx| {
    cx.busybox();
    let id = cx.ctr("run -d --name box busybox sleep 1000").succeeds();
    cx.ctr("rmi busybox").refuses(1, &format!("[..]unable to[..]busybox[..]{}[..]", &id[..12]));
    cx.ctr("exec box true").prints("");
    cx.ctr("rm -f box").prints("box\n");
    cx.ctr("rmi busybox").succeeds();
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
