//! `ctr image diff`, `tree`, `mount`, `unmount`, `scp`.

use std::os::unix::fs::PermissionsExt;

use crate::support::{Entry, Image, Layer, Sandbox, both};

fn base() -> Image {
    Image::small("app:1", [Entry::file("kept", 0o644, "1"), Entry::file("gone", 0o644, "1"), Entry::dir("d/", 0o755)])
}

fn next() -> Image {
    base().named("app:2").layer(&Layer::new([
        Entry::file("kept", 0o600, "1"),
        Entry::file(".wh.gone", 0o644, ""),
        Entry::file("d/new", 0o644, "new"),
        // The same once more is no change.
        Entry::file("etc/group2", 0o644, "x"),
    ]))
}

both!(what_differs, |cx| {
    cx.load(&base());
    cx.load(&next());
    let forth = "C /d\nA /d/new\nC /etc\nA /etc/group2\nD /gone\nC /kept\n";
    cx.ctr("image diff app:2").prints(forth);
    cx.ctr("image diff app:2 app:1").prints(forth);
    cx.ctr("image diff app:1 app:2").prints("C /d\nD /d/new\nC /etc\nD /etc/group2\nA /gone\nC /kept\n");
    cx.ctr("image diff app:1 app:1").prints("");
    cx.ctr("image diff --format json app:2").prints(
        "{\"changed\":[\"/d\",\"/etc\",\"/kept\"],\"added\":[\"/d/new\",\"/etc/group2\"],\"deleted\":[\"/gone\"]}\n",
    );
    cx.ctr("image diff nosuch").refuses(1, "No such image: nosuch:latest");
    cx.ctr("image diff --format x app:1").refuses(125, "only json is a format here, not \"x\"");
    cx.leaves_nothing();
});

both!(which_layers_are_shared, |cx| {
    cx.busybox();
    cx.load(&base());
    cx.load(&next());
    let (image, diffs) = (next(), next().diff_ids());
    cx.ctr("image tree app:2").prints(&format!(
        "Image ID: {}\nTags:     [app:2]\nSize:     [..]MB\nImage Layers\n\
         ├── ID: {} Size: [..]MB Top Layer of: [busybox:latest] Also in: [app:1]\n\
         ├── ID: {} Size:      2B Top Layer of: [app:1]\n└── ID: {} Size:      5B Top Layer of: [app:2]\n",
        &image.id()[7..19],
        &diffs[0][7..19],
        &diffs[1][7..19],
        &diffs[2][7..19]
    ));
    let above = cx.ctr("image tree --whatrequires busybox").succeeds();
    let lines: Vec<_> = above.lines().skip(4).collect();
    assert!(lines[0].starts_with("└── ID:") && lines[0].ends_with("[busybox:latest]"), "{above}");
    assert!(lines[1].starts_with("    └── ID:") && lines[1].ends_with("[app:1]"), "{above}");
    assert!(lines[2].starts_with("        └── ID:") && lines[2].ends_with("[app:2]"), "{above}");
});

both!(mounted_to_look_at, |cx| {
    cx.load(&next());
    if cx.is_root() {
        let place = cx.ctr("image mount app:2").succeeds();
        assert_eq!(std::fs::read_to_string(format!("{place}/d/new")).unwrap(), "new");
        assert!(!std::path::Path::new(&format!("{place}/gone")).exists());
        cx.host(&format!("touch {place}/x 2>/dev/null || echo refused")).prints("refused\n");
        cx.ctr("image mount app:2").prints(&format!("{place}\n"));
        cx.ctr("image mount").prints(&format!("docker.io/library/app:2  {place}\n"));
        cx.ctr("image unmount app:2").prints(&format!("{}\n", &next().id()[7..]));
        assert!(!std::path::Path::new(&place).exists());
        cx.ctr("image unmount app:2").refuses(1, "image \"app:2\" is not mounted");
        cx.ctr("image mount").prints("");
        cx.ctr("image mount -a").succeeds();
        cx.ctr("image umount -a").prints(&format!("{}\n", &next().id()[7..]));
    } else {
        cx.ctr("image mount app:2").refuses(125, "cannot run command \"ctr image mount\" as an ordinary user");
        cx.host("$ctr unshare sh -euc 'at=$($ctr image mount app:2); cat $at/d/new; $ctr image unmount app:2 >/dev/null; ls -A $at 2>/dev/null || echo gone'")
            .prints("newgone\n");
        // It ends with the namespace.
        cx.host("$ctr unshare sh -c '$ctr image mount app:2' >/dev/null").prints("");
    }
    cx.ctr("rmi app:2").succeeds();
});

both!(what_is_mounted_stays, |cx| {
    cx.load(&next());
    let id = next().id()[7..].to_owned();
    if !cx.is_root() {
        // Mounted in another mount namespace than the one that removes.
        let script = "mkfifo go end; $ctr unshare sh -euc '$ctr image mount app:2 >at; echo >go; cat end >/dev/null; \
                      ls -A $(cat at) 2>/dev/null || echo gone' & cat go >/dev/null; $ctr image prune -af; \
                      $ctr rmi app:2 || $ctr rmi -f app:2 | head -1; echo >end; wait";
        let ran = cx.host(script);
        assert_eq!(ran.out(), "Total reclaimed space: 0B\nUntagged: app:2\ngone\n", "{ran}");
        let place = format!("is mounted at \"{}/mounts/{id}\" in the mount namespace of process ", cx.root().display());
        assert!(ran.err().contains(&place), "{ran}");
        cx.ctr("images -q").prints("");
        return;
    }
    let place = cx.ctr("image mount app:2").succeeds();
    let reads = || std::fs::read_to_string(format!("{place}/d/new")).unwrap_or_default();
    for name in ["app:2", &id, &id[..12]] {
        cx.ctr(&format!("rmi {name}")).refuses(
            1,
            &format!("conflict: unable to delete {} (must be forced) - image is mounted at {place:?}", &id[..12]),
        );
    }
    cx.ctr("image prune -af").prints("Total reclaimed space: 0B\n");
    cx.ctr("tag app:2 other:1").prints("");
    cx.ctr("rmi app:2").prints("Untagged: app:2\n");
    assert_eq!(reads(), "new");
    let out = cx.ctr("rmi -f other:1").succeeds();
    assert!(out.starts_with("Untagged: other:1\nDeleted: sha256:"), "{out}");
    assert!(!std::path::Path::new(&place).exists());
    // One that lost its image all the same, however it came to that.
    let index = cx.root().join("image/index.json");
    for name in [&id[..12], &format!("sha256:{id}"), "-a", "-fa"] {
        cx.load(&next());
        cx.ctr("image mount app:2").prints(&format!("{place}\n"));
        std::fs::write(&index, r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
        // What is seen there stays; compressed, nothing needs it.
        cx.ctr("image prune -af").succeeds();
        assert_eq!(reads(), "new");
        cx.ctr("image mount").prints(&format!("sha256:{id}  {place}\n"));
        cx.ctr(&format!("image unmount {name}")).prints(&format!("{id}\n"));
        assert_eq!(std::fs::read_dir(cx.root().join("layers")).unwrap().count(), 0);
    }
    cx.ctr(&format!("image unmount {id}")).refuses(1, "No such image: [..]");
    // A mount of layers that are gone is no mount of those that came after them.
    cx.load(&next());
    cx.ctr("image mount app:2").succeeds();
    cx.host(&format!("rm -r {}/*", cx.root().join("layers").display())).prints("");
    std::fs::write(&index, r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    cx.load(&next());
    assert_eq!(reads(), "");
    cx.ctr("image mount app:2").prints(&format!("{place}\n"));
    assert_eq!(reads(), "new");
    cx.ctr("image unmount app:2").succeeds();
});

/// A machine that `ssh` leads to: the same one, with storage roots of its own.
fn other_machine(cx: &Sandbox) {
    let bin = cx.make_dir("bin");
    let ssh = "#!/bin/sh\nprintf '%s\\n' \"$@\" >>\"$HOME/ssh.log\"\ntest \"$1 $2\" = '-T --' || exit 9\nPATH=$HOME/../remote:$PATH exec sh -c \"$4\"\n";
    let ctr = format!(
        "#!/bin/sh\nexec {} --root {1}/there --runroot {1}/there-run \"$@\"\n",
        crate::support::binary().display(),
        cx.dir.display()
    );
    cx.make_dir("remote");
    for (name, text) in [("bin/ssh", ssh), ("remote/ctr", &ctr)] {
        let path = cx.make_file(name, text);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    cx.set("PATH", format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", bin.display()));
}

both!(from_machine_to_machine, |cx| {
    other_machine(cx);
    cx.load(&next());
    cx.ctr("image scp app:2 host::").prints("Loaded image: app:2\n");
    assert_eq!(std::fs::read_to_string(cx.home().join("ssh.log")).unwrap(), "-T\n--\nhost\nctr load\n");
    cx.ctr("rmi app:2").succeeds();
    cx.ctr("image scp me@host::app:2").prints("Loaded image: app:2\n");
    cx.ctr("run --rm app:2 cat /d/new").prints("new");
    cx.ctr("image scp -q one::app:2 two::").prints("");
    cx.ctr("rmi app:2").succeeds();
    // What is no image there stays a word to the shell there.
    cx.ctr("image scp \"host::x'; touch stolen; '\"")
        .fails_saying(125, "the command on \"host\" failed with exit code 1");
    assert!(!cx.cwd().join("stolen").exists());
    cx.ctr("image scp -- -oProxyCommand=x::app").refuses(125, "\"-oProxyCommand=x\" is not [USER@]HOST");
    cx.ctr("image scp app:2").refuses(125, "no other machine is named: [..]");
    cx.ctr("image scp nosuch host::").refuses(1, "No such image: nosuch:latest");
    cx.ctr("images -q").prints("");
});
