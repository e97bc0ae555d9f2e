//! `ctr load`, `ctr import`, and what becomes of everything that a layer can hold.

use serde_json::json;

use crate::support::{Entry, Image, Layer, Packing, both, skipped};

both!(load_takes_both_kinds, |cx| {
    let image = Image::small("app:v1", [Entry::file("hello", 0o644, "hi\n")]);
    for archive in [image.oci_archive(), image.docker_archive()] {
        cx.ctr_args(["load", "-i", archive.to_str().unwrap()]).prints("Loaded image: app:v1\n");
        cx.ctr("run --rm app:v1 cat /hello").prints("hi\n");
        cx.ctr("images -q --no-trunc").prints(&format!("{}\n", image.id()));
        cx.ctr("rmi app:v1").succeeds();
        cx.ctr_reads("load -q", std::fs::read(&archive).unwrap()).succeeds();
        cx.ctr("run --rm app:v1 cat /hello").prints("hi\n");
        cx.ctr("rmi app:v1").succeeds();
    }
});

both!(load_of_something_else, |cx| {
    cx.ctr("load -i /no/such").refuses(1, "[..]/no/such[..]");
    cx.ctr("load -i /etc/passwd").refuses(1, "[..]");
    cx.ctr_reads("load", "").refuses(1, "[..]");
    cx.ctr_reads("load", Layer::new([Entry::file("x", 0o644, "x")]).tar()).refuses(1, "[..]");
    cx.ctr("images -q").prints("");
    cx.leaves_nothing();
});

both!(import_makes_an_image_of_a_tree, |cx| {
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let tar = Layer::new([
        Entry::dir("bin/", 0o755),
        Entry::file("bin/busybox", 0o755, &busybox),
        Entry::hard_link("bin/sh", "bin/busybox"),
        Entry::hard_link("bin/echo", "bin/busybox"),
    ])
    .tar();
    let id = cx
        .ctr_reads("import --change 'CMD [\"echo\", \"imported\"]' --change 'ENV A=b' -m note - mine:1", &tar)
        .succeeds();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    cx.ctr("run --rm mine:1").prints("imported\n");
    cx.ctr("run --rm mine:1 sh -c 'echo $A'").prints("b\n");
    let file = cx.make_file("tree.tar", &tar);
    cx.ctr_args(["import", file.to_str().unwrap(), "other"]).succeeds();
    cx.ctr("images --format '{{.Repository}}:{{.Tag}}' other").prints("other:latest\n");
    cx.ctr_reads("import --change 'NOSUCH x' - bad", &tar).refuses(1, "[..]NOSUCH[..]");
    cx.ctr("import /no/such x").refuses(1, "[..]/no/such[..]");
});

/// One layer with every awkward thing, and what `stat` must say of it from inside.
fn awkward() -> (Image, String) {
    let long = format!("long/{}/{}", "d".repeat(120), "f".repeat(200));
    let time = 1_234_567_890;
    let mut layer = vec![
        Entry::dir("a/", 0o755).time(time, 0),
        Entry::file("a/setuid", 0o4755, "s").time(time, 0),
        Entry::file("a/setgid", 0o2755, "s").time(time, 0),
        Entry::file("a/none", 0o000, "secret").time(time, 0),
        Entry::dir("a/sticky/", 0o1777).time(time, 0),
        Entry::dir("a/closed/", 0o000).owner(1000, 1000).time(time, 0),
        Entry::file("a/owned", 0o640, "x").owner(1000, 50).time(time, 0),
        Entry::file("a/high", 0o644, "x").owner(60000, 60001).time(time, 0),
        Entry::fifo("a/fifo", 0o622).time(time, 0),
        Entry::hard_link("a/hard", "a/owned"),
        Entry::symlink("a/soft", "owned").time(time, 0),
        Entry::symlink("a/dangling", "/no/such").time(time, 0),
        Entry::file("a/old", 0o644, "x").time(-86_400, 0),
        Entry::file("a/first", 0o644, "x").time(0, 0),
        Entry::file("a/future", 0o644, "x").time(10_000_000_000, 0),
        Entry::file("a/exact", 0o644, "x").time(time, 123_456_789),
        Entry::file("a/with space\nand newline", 0o644, "x").time(time, 0),
        Entry::file(b"a/latin1-\xe9\xff".as_slice(), 0o644, "x").time(time, 0),
        Entry::file("a/empty", 0o644, "").time(time, 0),
        Entry::file("a/sparse", 0o644, vec![0; 1 << 20]).time(time, 0),
        Entry::file("a/xattr", 0o644, "x").xattr("user.note", "value").time(time, 0),
        // Named again: the last one counts.
        Entry::file("a/twice", 0o600, "first").time(time, 0),
        Entry::file("a/twice", 0o644, "second").time(time, 0),
        Entry::file("./a/dotted", 0o644, "x").time(time, 0),
    ];
    layer.push(Entry::dir(format!("long/{}/", "d".repeat(120)), 0o755).time(time, 0));
    layer.push(Entry::file(&long, 0o644, "long").time(time, 0));
    let listing = format!(
        "/a/setuid 4755 0:0 1 {time}\n/a/setgid 2755 0:0 1 {time}\n/a/none 0 0:0 6 {time}\n/a/sticky 1777 0:0 {time}\n\
         /a/closed 0 1000:1000 {time}\n/a/owned 640 1000:50 1 {time}\n/a/high 644 60000:60001 1 {time}\n\
         /a/hard 640 1000:50 1 {time}\n/a/old 644 0:0 1 -86400\n/a/first 644 0:0 1 0\n\
         /a/future 644 0:0 1 10000000000\n/a/exact 644 0:0 1 {time}\n/a/empty 644 0:0 0 {time}\n\
         /a/sparse 644 0:0 1048576 {time}\n/a/twice 644 0:0 6 {time}\n/a/dotted 644 0:0 1 {time}\n"
    );
    (Image::busybox().named("awkward:latest").layer(&Layer(layer)), listing)
}

both!(everything_a_layer_can_hold, |cx| {
    let (image, listing) = awkward();
    cx.load(&image);
    let is_directory = |name: &&str| ["/a/sticky", "/a/closed"].contains(name);
    let names = || listing.lines().map(|line| line.split(' ').next().unwrap());
    let files: Vec<_> = names().filter(|name| !is_directory(name)).collect();
    let files = cx.ctr(&format!("run --rm awkward stat -c '%n %a %u:%g %s %Y' {}", files.join(" ")));
    let directories: Vec<_> = names().filter(is_directory).collect();
    let directories = cx.ctr(&format!("run --rm awkward stat -c '%n %a %u:%g %Y' {}", directories.join(" ")));
    let mut got: Vec<_> = files.succeeds().lines().map(str::to_owned).collect();
    got.extend(directories.succeeds().lines().map(str::to_owned));
    got.sort_unstable();
    let mut wanted: Vec<_> = listing.lines().map(str::to_owned).collect();
    wanted.sort_unstable();
    assert_eq!(got, wanted);
    cx.ctr("run --rm awkward sh -c 'stat -c %h /a/hard; [ /a/hard -ef /a/owned ] && readlink /a/soft && readlink /a/dangling; stat -c %F /a/fifo'")
        .prints("2\nowned\n/no/such\nfifo\n");
    cx.ctr("run --rm awkward sh -c 'stat -c %y /a/exact; cat /a/twice'")
        .prints("2009-02-13 23:31:30.123456789 +0000\nsecond");
    cx.ctr("run --rm awkward sh -c 'cat /long/*/*; ls /a | grep -c latin1; ls -d \"/a/with space\nand newline\"'")
        .prints("long1\n/a/with space\nand newline\n");
    // Inside, names are bytes.
    let ran = cx.ctr_args(["run", "--rm", "awkward", "sh", "-c", "cd /a; echo latin1*"]);
    assert_eq!(ran.stdout, b"latin1-\xe9\xff\n", "{ran}");
});

both!(extended_attributes_stay, |cx| {
    let (image, _) = awkward();
    cx.load(&image);
    let top = image.diff_ids().pop().unwrap().replace("sha256:", "");
    let file = cx.root().join("layers").join(top).join("a/xattr");
    if !std::path::Path::new("/usr/bin/getfattr").exists() {
        return skipped("getfattr (attr) is not installed");
    }
    let out = cx.host(&format!("$ctr unshare getfattr --absolute-names -n user.note --only-values {}", file.display()));
    assert_eq!(out.out(), "value", "{out}");
});

both!(device_nodes, |cx| {
    cx.load(&Image::small(
        "nodes:latest",
        [
            Entry::char_device("null2", 0o666, (1, 3)),
            Entry::block_device("disk", 0o600, (7, 0)),
            Entry::file("after", 0o644, "after\n"),
        ],
    ));
    if cx.is_root() {
        cx.ctr("run --rm nodes sh -c 'stat -c \"%F %t:%T %a\" /null2 /disk; cat /after'")
            .prints("character special file 1:3 666\nblock special file 7:0 600\nafter\n");
        // The node is there and the device is not allowed.
        cx.ctr("run --rm nodes sh -c 'head -c 1 /disk'").ends_failing();
    } else {
        // An ordinary user cannot make them; the rest of the layer is as it should be.
        cx.ctr("run --rm nodes sh -c 'ls /null2 /disk 2>/dev/null; cat /after'").prints("after\n");
    }
});

both!(parents_that_an_archive_omits_keep_what_they_were, |cx| {
    let image = Image::small(
        "omits:latest",
        [
            Entry::dir("srv/", 0o750).owner(1000, 50).time(1_111_111_111, 0),
            Entry::dir("srv/deep/", 0o2711).owner(7, 8).time(1_222_222_222, 0),
        ],
    );
    // The second layer names only a file far below, and one where nothing was.
    let image = image.layer(&Layer::new([
        Entry::file("srv/deep/new", 0o644, "new\n"),
        Entry::file("made/up/file", 0o644, "x"),
        Entry::file("home/alice/file", 0o644, "x").owner(1000, 1000),
    ]));
    cx.load(&image);
    cx.ctr("run --rm omits stat -c '%n %a %u:%g %Y' /srv /srv/deep")
        .prints("/srv 750 1000:50 1111111111\n/srv/deep 2711 7:8 1222222222\n");
    cx.ctr("run --rm omits stat -c '%n %a %u:%g' /made /made/up /home/alice /home")
        .prints("/made 755 0:0\n/made/up 755 0:0\n/home/alice 700 1000:1000\n/home 755 0:0\n");
    cx.ctr("run --rm omits cat /srv/deep/new").prints("new\n");
    // The same from a layer that is shared with an image in which those folders differ.
    let other = Image::small(
        "differs:latest",
        [Entry::dir("srv/", 0o700).owner(1, 1), Entry::dir("srv/deep/", 0o701).owner(2, 2)],
    );
    let other = other.layer(&Layer::new([
        Entry::file("srv/deep/new", 0o644, "new\n"),
        Entry::file("made/up/file", 0o644, "x"),
        Entry::file("home/alice/file", 0o644, "x").owner(1000, 1000),
    ]));
    cx.load(&other);
    cx.ctr("run --rm differs stat -c '%a %u:%g' /srv /srv/deep").prints("700 1:1\n701 2:2\n");
    cx.ctr("run --rm omits stat -c '%a %u:%g' /srv /srv/deep").prints("750 1000:50\n2711 7:8\n");
});

both!(omitted_parents_below_a_whiteout, |cx| {
    let image =
        Image::small("gone:latest", [Entry::dir("d/", 0o700).owner(1000, 1000), Entry::file("d/old", 0o644, "x")]);
    let image = image.layer(&Layer::new([Entry::file(".wh.d", 0o644, "")]));
    let image = image.layer(&Layer::new([Entry::file("d/new", 0o644, "new\n")]));
    cx.load(&image);
    cx.ctr("run --rm gone sh -c 'ls -A /d; stat -c \"%a %u:%g\" /d'").prints("new\n755 0:0\n");
});

both!(a_file_becomes_a_directory_and_back, |cx| {
    let image = Image::small(
        "swaps:latest",
        [Entry::file("x", 0o644, "file\n"), Entry::dir("y/", 0o755), Entry::file("y/in", 0o644, "in\n")],
    );
    let image = image.layer(&Layer::new([
        Entry::dir("x/", 0o755),
        Entry::file("x/in", 0o644, "now in a directory\n"),
        Entry::file("y", 0o644, "now a file\n"),
    ]));
    cx.load(&image);
    cx.ctr("run --rm swaps cat /x/in /y").prints("now in a directory\nnow a file\n");
});

both!(a_real_distribution, |cx| {
    let Some(image) = Image::debian() else {
        return skipped("no Debian in the cache: run sh tests/setup.sh --tests");
    };
    cx.load(&image.packed(Packing::Gzip).config("Cmd", json!(["bash"])));
    cx.ctr("run --rm debian:stable bash -c 'dpkg -s base-files | grep ^Status; ls -A /opt/app; stat -c \"%a %u:%g\" /opt/app; ls /etc/issue 2>&1; cat /etc/motd.hard /etc/motd.soft; stat -c %h /etc/motd'")
        .prints("Status: install ok installed\nnew\n700 1:1\nls: cannot access '/etc/issue': No such file or directory\nchanged\nchanged\n2\n");
    cx.ctr("run --rm debian:stable bash -c 'stat -c %a /usr/bin/su; stat -c %a /tmp; perl -e \"print qq(perl\\n)\"'")
        .prints("4755\n1777\nperl\n");
});
