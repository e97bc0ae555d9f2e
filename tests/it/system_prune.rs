//! `ctr system prune` and `ctr image prune`.

use crate::support::{Entry, Image, Layer, both};

both!(asks_removes_and_says_what, |cx| {
    cx.busybox();
    let gone = cx.ctr("run --name gone busybox sh -c 'head -c 5000 /dev/zero > /file'");
    gone.prints("");
    let gone = cx.ctr("inspect -f '{{.Id}}' gone").succeeds();
    cx.ctr("run -d --name web --network bridge busybox sleep 1000").succeeds();
    cx.ctr("network create front").succeeds();
    // An image that lost its name.
    let old = Image::small("app:1", [Entry::file("old", 0o644, vec![b'x'; 3000])]);
    cx.load(&old);
    cx.load(&Image::small("app:1", [Entry::file("new", 0o644, "")]));
    let question = "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one \
                    container\n  - all dangling images\n  - unused build cache\n\nAre you sure you want to continue? [y/N] ";
    for answer in ["n\n", "", "no\n"] {
        cx.ctr_reads("system prune", answer).prints(question);
    }
    assert_eq!(cx.ctr("ps -aq").succeeds().lines().count(), 2);
    let asked = cx.ctr_reads("system prune", "y\n");
    asked.prints(&format!(
        "{question}Deleted Containers:\n{gone}\n\nDeleted Networks:\nfront\n\nDeleted Images:\ndeleted: {}\ndeleted: \
         sha256:[..]\n\nTotal reclaimed space: [..]kB\n",
        old.id()
    ));
    cx.ctr("system prune -f").prints("Total reclaimed space: 0B\n");
    cx.ctr("images --format '{{.Repository}}'").succeeds();
    let all = cx.ctr("system prune -a -f");
    let out = all.out();
    assert!(out.starts_with("Deleted Images:\nuntagged: app:1\ndeleted: sha256:"), "{all}");
    assert!(!out.contains("busybox"), "the running container's image: {all}");
    cx.ctr("images --format '{{.Repository}}'").prints("busybox\n");
    cx.ctr("events --until 0s -f event=prune --format '{{.Type}} {{.Actor.Attributes.reclaimed}}'").prints(
        "container 5000\nnetwork 0\nimage [..]\ncontainer 0\nnetwork 0\nimage 0\ncontainer 0\nnetwork 0\nimage [..]\n",
    );
});

both!(filters_and_what_is_refused, |cx| {
    cx.busybox();
    cx.ctr("create --name kept --label keep=1 busybox true").succeeds();
    cx.ctr("create --name other busybox true").succeeds();
    cx.ctr("network create --label keep=1 kept").succeeds();
    cx.ctr("network create other").succeeds();
    cx.ctr("system prune -f --filter until=1h").prints("Total reclaimed space: 0B\n");
    cx.ctr_reads("system prune -a --filter label!=keep --filter until=1h", "n\n").prints(
        "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n  - \
         all images without at least one container associated to them\n  - all build cache\n\n  Items to be pruned will be \
         filtered with:\n  - label!=keep\n  - until=1h\n\nAre you sure you want to continue? [y/N] ",
    );
    cx.ctr("system prune -f --filter label!=keep").succeeds();
    cx.ctr("ps -a --format '{{.Names}}'").prints("kept\n");
    cx.ctr("network ls --filter type=custom --format '{{.Name}}'").prints("kept\n");
    cx.ctr("system prune --volumes --filter until=1h")
        .refuses(1, "ERROR: The \"until\" filter is not supported with \"--volumes\"");
    cx.ctr("system prune -f --filter foo=1").refuses(1, "invalid filter 'foo'");
    cx.ctr("system prune -f --volumes --filter label=nosuch").is(
        0,
        "Total reclaimed space: 0B\n",
        "ctr: warning: there are no volumes yet\n",
    );
});

both!(images_alone, |cx| {
    cx.busybox();
    let labelled = Image::small("app:1", [Entry::file("x", 0o644, "")]);
    cx.load(&labelled);
    cx.ctr("create --name box busybox true").succeeds();
    cx.ctr_reads("image prune", "n\n")
        .prints("WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] ");
    cx.ctr_reads("image prune -a", "n\n").prints(
        "WARNING! This will remove all images without at least one container associated to them.\nAre you sure you want to \
         continue? [y/N] ",
    );
    cx.ctr("image prune -f").prints("Total reclaimed space: 0B\n");
    cx.ctr("image prune -af --filter label=nosuch").prints("Total reclaimed space: 0B\n");
    cx.ctr("image prune -af").prints(&format!(
        "Deleted Images:\nuntagged: app:1\ndeleted: {}\ndeleted: sha256:[..]\n\nTotal reclaimed space: [..]B\n",
        labelled.id()
    ));
    cx.ctr("rm box").succeeds();
    cx.ctr("image prune -f --filter dangling=false").succeeds();
    cx.ctr("images -q").prints("");
    assert_eq!(std::fs::read_dir(cx.root().join("layers")).unwrap().count(), 0);
});

both!(what_went_is_what_it_says, |cx| {
    let image = Image::small("app:1", [Entry::file("x", 0o644, vec![b'x'; 3000])]);
    cx.busybox();
    cx.load(&image);
    cx.load(&image.clone().named("app:2").layer(&Layer::new([Entry::file("y", 0o644, vec![b'y'; 2000])])));
    let size = || -> u64 {
        let list = "find $CTR_STORE/image/blobs $CTR_STORE/layers -type f ! -name '*.json' -printf '%i %s\\n' 2>/dev/null | sort -u";
        let list = cx.host(&list.replace("$CTR_STORE", &cx.root().display().to_string())).succeeds();
        list.lines().map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    let before = size();
    for command in ["rmi app:1", "image prune -af --filter label!=x"] {
        cx.ctr(command).succeeds();
    }
    assert_eq!((before > 1_000_000, size()), (true, 0));
    // What `rmi` took was a name with its document and a configuration; the rest is said.
    let said = cx.ctr("events --until 0s -f event=prune --format '{{.Actor.Attributes.reclaimed}}'").succeeds();
    let documents = (image.manifest().len() + image.configuration().len()) as u64;
    assert_eq!(said.trim().parse::<u64>().unwrap(), before - documents);
});
