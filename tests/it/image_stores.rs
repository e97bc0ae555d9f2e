//! Additional stores, damage, and what takes how much space.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::{Entry, Image, Layer, Packing, Registry, Sandbox, Server, Uploads, Whims, both, digest};

fn app() -> Image {
    Image::small("app:1", [Entry::file("hello", 0o644, "hi\n")])
}

/// A store beside the sandbox's own, with this image, for all users.
fn shared(cx: &Sandbox, image: &Image) -> PathBuf {
    let dir = cx.make_dir("shared");
    let load = format!("load -q -i {}", image.oci_archive().display());
    let ctr = format!("{} --root {1} --runroot {1}-run", crate::support::binary().display(), dir.display());
    cx.host(&format!("{ctr} {load}; chmod -R go-w,a+rX {0}/image; chmod 755 {0}", dir.display())).succeeds();
    cx.set("CTR_ADDITIONAL_IMAGE_STORES", &dir);
    dir
}

both!(an_additional_store, |cx| {
    let dir = shared(cx, &app());
    let short = &app().id()[7..19];
    cx.ctr("images").prints(&format!(
        "REPOSITORY   TAG       IMAGE ID       CREATED       SIZE      R/O\napp          1         {short}   [..] ago   [..]MB    true\n"
    ));
    cx.ctr("image exists app:1").prints("");
    cx.ctr("history -q app:1").prints(&format!("{short}\n<missing>\n"));
    cx.ctr("rmi app:1").refuses(1, &format!("image \"app:1\" is in the read-only store {dir:?} and cannot be removed"));
    cx.ctr("save -o app.tar app:1").prints("");
    cx.ctr("run --name box app:1 sh -c 'cat /hello; echo more > /more'").prints("hi\n");
    cx.ctr("ps -a --format '{{.Image}}'").prints("app:1\n");
    cx.ctr("commit box mine").succeeds();
    cx.ctr("run --rm mine cat /more").prints("more\n");
    cx.ctr("rm box").prints("box\n");
    cx.ctr("rmi mine").succeeds();
    cx.ctr("image prune -af").succeeds();
    cx.ctr("images --format '{{.Repository}} {{.ReadOnly}}'").prints("app true\n");
    cx.ctr("run --rm app:1 cat /hello").prints("hi\n");
});

both!(what_an_additional_store_has_to_be, |cx| {
    let dir = shared(cx, &app());
    // Somebody else could have written it.
    fs::set_permissions(dir.join("image"), fs::Permissions::from_mode(0o777)).unwrap();
    let warning = format!(
        "ctr: warning: the image store {dir:?} is not used: others can write to {:?} (mode 777)\n",
        dir.join("image")
    );
    cx.ctr("images -q").is(0, "", &warning);
    fs::set_permissions(dir.join("image"), fs::Permissions::from_mode(0o755)).unwrap();
    // Its configuration is another one.
    let config = dir.join("image/blobs/sha256").join(&app().id()[7..]);
    let good = fs::read(&config).unwrap();
    fs::write(&config, String::from_utf8(good.clone()).unwrap().replace("PATH", "PATG")).unwrap();
    cx.ctr("run --rm --pull never app:1 true").fails_saying(125, "it is damaged: its document");
    fs::write(&config, good).unwrap();
    cx.ctr("run --rm app:1 cat /hello").prints("hi\n");
});

both!(names_for_what_an_additional_store_has, |cx| {
    shared(cx, &app());
    let to = Uploads::start(Whims::default());
    cx.ctr("tag app:1 mine:1").prints("");
    cx.ctr("images --format '{{.Repository}} {{.ReadOnly}}'").prints("app false\nmine false\n");
    cx.ctr("tag nosuch:1 mine:1").refuses(1, "No such image: nosuch:1");
    cx.ctr("system check").prints("");
    cx.ctr("rmi app:1 mine:1").succeeds();
    cx.ctr(&format!("tag {} mine:2", &app().id()[7..19])).prints("");
    cx.ctr("run --rm mine:2 cat /hello").prints("hi\n");
    // A push as well.
    let theirs = app().named(&format!("{}/team/app:1", to.host));
    let load = format!("load -q -i {}", theirs.oci_archive().display());
    let dir = cx.dir.join("shared");
    let ctr = format!("{} --root {1} --runroot {1}-run", crate::support::binary().display(), dir.display());
    cx.host(&format!("{ctr} {load}; chmod -R go-w,a+rX {}/image", dir.display())).succeeds();
    let ran = cx.ctr(&format!("push -q -a {}/team/app", to.host));
    ran.fails_saying(1, "An image does not exist locally with the tag");
    assert!(ran.err().contains(&format!("{} is in the read-only store {dir:?}", theirs.name)), "{ran}");
    cx.ctr(&format!("push -q {}", theirs.name)).prints(&format!("{}\n", theirs.name));
    assert!(to.manifest("team/app:1").1 == theirs.manifest());
    cx.ctr(&format!("push -q {}/team/none:1", to.host)).fails_saying(1, "An image does not exist locally with the tag");
});

both!(an_additional_store_with_another_archive_of_a_layer, |cx| {
    let dir = cx.make_dir("shared");
    let server = Server::start();
    let layer = Layer::new([Entry::file("same", 0o644, "same")]);
    let image = |name: &str, packing| Image::busybox().named(name).packed(packing).layer(&layer);
    let one = server.serve_image(&image("alike/one:1", Packing::Gzip));
    let two = server.serve_image(&image("alike/two:1", Packing::Plain).config("User", "1000".into()));
    let ctr = format!("{} --root {1} --runroot {1}-run", crate::support::binary().display(), dir.display());
    cx.host(&format!(
        "{ctr} pull -q {one}; {ctr} pull -q {two}; chmod -R go-w,a+rX {0}/image; chmod 755 {0}",
        dir.display()
    ))
    .succeeds();
    cx.set("CTR_ADDITIONAL_IMAGE_STORES", &dir);
    cx.ctr(&format!("run --rm --pull never {two} cat /same")).prints("same");
    cx.ctr(&format!("tag {two} mine:1")).prints("");
    cx.ctr("run --rm mine:1 cat /same").prints("same");
    cx.ctr("save -o mine.tar mine:1").prints("");
});

/// What it is, and how it is done.
type Damage<'a> = (&'a str, Box<dyn Fn() + 'a>);

both!(damage_stops_nothing_else, |cx| {
    let blobs = |cx: &Sandbox| cx.root().join("image/blobs/sha256");
    let image = app();
    let (config, manifest) = (image.id(), digest(&image.manifest()));
    let layer = image.diff_ids()[1].clone();
    let kinds: Vec<Damage<'_>> = vec![
        ("no configuration", Box::new(|| fs::remove_file(blobs(cx).join(&config[7..])).unwrap())),
        ("another configuration", Box::new(|| fs::write(blobs(cx).join(&config[7..]), "{").unwrap())),
        ("no manifest", Box::new(|| fs::remove_file(blobs(cx).join(&manifest[7..])).unwrap())),
        ("another manifest", Box::new(|| fs::write(blobs(cx).join(&manifest[7..]), "[]").unwrap())),
        (
            "no layer",
            Box::new(|| {
                fs::rename(cx.root().join("layers").join(&layer[7..]), cx.dir.join("layer")).unwrap();
                fs::remove_dir_all(cx.dir.join("layer")).unwrap();
            }),
        ),
        (
            "another layer record",
            Box::new(|| fs::write(cx.root().join("layers").join(format!("{}.json", &layer[7..])), "{").unwrap()),
        ),
    ];
    for (what, damage) in kinds {
        cx.busybox();
        cx.load(&image);
        cx.load(&Image::small("other:1", [Entry::file("x", 0o644, "x")]));
        cx.ctr("create --name box app:1 true").succeeds();
        damage();
        let all = cx.ctr("images --format '{{.Repository}}'");
        assert_eq!(all.succeeds().lines().count(), 3, "{what}: {all}");
        cx.ctr("ps -a --format '{{.Names}} {{.Image}}'").prints("box app:1\n");
        cx.ctr("run --rm busybox echo works").prints("works\n");
        cx.ctr("images --filter label=x -q").prints("");
        let code = cx.ctr("system check -q").code;
        assert_eq!(code, 1, "{what}");
        assert_eq!(cx.ctr("system df").code, 0, "{what}");
        cx.ctr("rm box").prints("box\n");
        assert!(cx.ctr("rmi other:1").succeeds_talking().starts_with("Untagged: other:1\n"), "{what}");
        assert!(cx.ctr("rmi app:1").succeeds_talking().starts_with("Untagged: app:1\n"), "{what}");
        cx.ctr("images --format '{{.Repository}}'").prints("busybox\n");
        cx.ctr("run --rm busybox echo still").prints("still\n");
        cx.ctr("rmi busybox").succeeds_talking();
        // Nothing of it is left, now that it can be told what is needed.
        let left = |dir: PathBuf| fs::read_dir(dir).unwrap().count();
        assert_eq!((left(cx.root().join("layers")), left(blobs(cx))), (0, 0), "{what}");
    }
});

both!(only_what_is_bad_is_fetched_again, |cx| {
    let image = Image::small("repair/app:v1", [Entry::file("hello", 0o644, "hi\n")]);
    let name = Registry::plain().push(&image);
    cx.ctr(&format!("pull -q {name}")).succeeds();
    cx.ctr("system check").prints("");
    let blobs = cx.root().join("image/blobs/sha256");
    let kept = blobs.join(&image.blobs()[0].0[7..]);
    let before = fs::metadata(&kept).unwrap();
    let short = &image.id()[7..19];
    for (what, digest) in [("manifest", digest(&image.manifest())), ("configuration", image.id())] {
        fs::write(blobs.join(&digest[7..]), "{").unwrap();
        let finding = format!("image {name} ({short}): its {what} is damaged: its bytes have the digest sha256:[..]\n");
        cx.ctr("system check --repair").prints(&format!("{finding}  repaired: fetch it again\n"));
        cx.ctr("system check").prints("");
    }
    // A layer with its blob, and a blob alone.
    let (blob, layer) = (&image.blobs()[1].0, image.diff_ids()[1].clone());
    fs::write(blobs.join(&blob[7..]), "damaged").unwrap();
    let finding =
        format!("image {name} ({short}): its layer's blob {} is damaged: its bytes have [..]\n", &blob[7..19]);
    cx.ctr("system check --repair").prints(&format!("{finding}  repaired: fetch it again\n"));
    fs::remove_file(blobs.join(&blob[7..])).unwrap();
    fs::remove_file(cx.root().join("layers").join(format!("{}.json", &layer[7..]))).unwrap();
    cx.ctr("system check --repair")
        .prints(&format!("layer {}: its record is missing\n  repaired: fetch and unpack it again\n", &layer[7..19]));
    cx.ctr("system check").prints("");
    cx.ctr(&format!("run --rm {name} cat /hello")).prints("hi\n");
    // What was good was not touched.
    let after = fs::metadata(&kept).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&before), std::os::unix::fs::MetadataExt::ino(&after));
});

both!(compressed_layers_can_go, |cx| {
    let image = Image::small("prune/app:v1", [Entry::file("hello", 0o644, "hi\n")]);
    let name = Registry::plain().push(&image);
    cx.ctr(&format!("pull -q {name}")).succeeds();
    cx.load(&Image::small("only:1", [Entry::file("here", 0o644, "x")]));
    let line = |kind: &str| {
        let row = "{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Reclaimable}}{{println}}";
        let all = cx.ctr(&format!("system df -v --format '{{{{range .ImageData}}}}{row}{{{{end}}}}'")).succeeds();
        all.lines().find(|line| line.starts_with(kind)).unwrap_or_default().to_owned()
    };
    // Three layers; a loaded image has two of them.
    assert!(line("Compressed Layers").starts_with("Compressed Layers|3|2|"), "{}", line("Compressed"));
    let blobs: Vec<_> = image.blobs().into_iter().take(2).map(|(digest, _)| digest).collect();
    cx.ctr("image prune --blobs -f").prints(&format!("Deleted Blobs:\n{}\n\nTotal reclaimed space: [..]B\n", blobs[1]));
    cx.ctr("image prune --blobs -f").prints("Total reclaimed space: 0B\n");
    cx.ctr("image prune --blobs -a -f").refuses(125, "--blobs is about all images: [..]");
    assert_eq!(line("Compressed Layers"), "Compressed Layers|2|2|0B (0%)");
    cx.ctr("system check").prints("");
    cx.ctr(&format!("run --rm {name} cat /hello")).prints("hi\n");
    // Whoever needs them fetches them.
    cx.ctr(&format!("save -o app.tar {name}")).prints("");
    let listed = cx.host("tar -tf app.tar").succeeds();
    assert!(blobs.iter().all(|blob| listed.contains(&blob[7..])), "{listed}");
    // What nothing refers to is said, and goes.
    fs::write(cx.root().join("image/blobs/sha256").join("1".repeat(64)), "garbage").unwrap();
    assert_eq!(line("Unreferenced"), "Unreferenced|1|0|7B (100%)");
    cx.ctr("image prune -f").prints("Total reclaimed space: 7B\n");
    assert_eq!(line("Unreferenced"), "Unreferenced|0|0|0B");
});
