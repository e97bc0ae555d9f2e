//! Containers and archives that want `cp` to read or write outside of the container.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{Entry, Image, Layer, Sandbox, both, until};

/// A folder of the host's that nothing may read from or write to, and a way to it from a container.
fn victim(cx: &Sandbox) -> (PathBuf, String) {
    let dir = cx.make_dir("victim");
    cx.make_file("victim/secret", "SECRET\n");
    let climbing = format!("{}{}", "../".repeat(20), dir.display().to_string().trim_start_matches('/'));
    (dir, climbing)
}

#[track_caller]
fn is_untouched(dir: &Path) {
    let names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["secret"], "something was made or removed outside");
    assert_eq!(std::fs::read(dir.join("secret")).unwrap(), b"SECRET\n", "a file outside was changed");
}

both!(links_that_lead_out, |cx| {
    let (dir, climbing) = victim(cx);
    let outside = dir.display().to_string();
    cx.load(&Image::small(
        "evil:1",
        [
            Entry::symlink("abs", outside.clone()),
            Entry::symlink("rel", climbing.clone()),
            Entry::symlink("file", format!("{outside}/secret")),
            Entry::symlink("proc-root", "/proc/1/root"),
            Entry::symlink("proc-self", "/proc/self/root"),
            Entry::symlink("loop", "loop"),
            Entry::dir("d/", 0o755),
            Entry::symlink("d/abs", outside.clone()),
            Entry::symlink("d/file", format!("{outside}/secret")),
        ],
    ));
    cx.ctr("create --name off evil:1 true").succeeds();
    cx.ctr("run -d --name on evil:1 sleep 1000").succeeds();
    cx.make_file("cwd/f", "payload\n");
    for name in ["on", "off"] {
        for link in ["abs", "rel", "proc-root", "proc-self"] {
            let way = format!("{link}{}", if link.starts_with("proc") { outside.as_str() } else { "" });
            for flag in ["", "-L "] {
                let ran = cx.ctr(&format!("cp {flag}{name}:/{way}/secret stolen"));
                assert!(ran.code == 1 && !cx.cwd().join("stolen").exists(), "{ran}");
            }
            let ran = cx.ctr(&format!("cp f {name}:/{way}/planted"));
            assert!(ran.code == 1, "{ran}");
            is_untouched(&dir);
        }
        let ran = cx.ctr(&format!("cp -L {name}:/file stolen"));
        assert!(ran.code == 1 && !cx.cwd().join("stolen").exists(), "{ran}");
        assert_eq!(cx.ctr(&format!("cp -L {name}:/loop stolen")).code, 1);
        assert_eq!(cx.ctr(&format!("cp f {name}:/loop")).code, 1);
        // Over a link: what it leads to in the container, where that has no such folder.
        assert_eq!(cx.ctr(&format!("cp f {name}:/file")).code, 1);
        assert_eq!(cx.ctr(&format!("cp f {name}:/abs")).code, 1);
        is_untouched(&dir);
        // Folders with links in them come as they are, and a second copy goes not through them.
        for _ in 0..2 {
            cx.ctr(&format!("cp {name}:/d copy-{name}")).prints("");
        }
        assert_eq!(std::fs::read_link(cx.cwd().join(format!("copy-{name}/abs"))).unwrap(), dir);
        let tree = cx.make_dir("cwd/tree");
        std::fs::create_dir_all(tree.join("abs")).unwrap();
        std::fs::write(tree.join("abs/planted"), "x").unwrap();
        cx.ctr(&format!("cp tree/. {name}:/d"))
            .fails_saying(1, "cannot overwrite non-directory \"/d/abs\" with directory \"/d\"");
        is_untouched(&dir);
    }
});

both!(archives_that_lead_out, |cx| {
    let (dir, climbing) = victim(cx);
    let outside = dir.display().to_string();
    cx.busybox();
    cx.ctr("create --name off busybox true").succeeds();
    cx.ctr("run -d --name on busybox sleep 1000").succeeds();
    let cases: Vec<(&str, Vec<Entry>)> = vec![
        ("climbs", vec![Entry::file(format!("{climbing}/planted"), 0o644, "x")]),
        ("absolute", vec![Entry::file(format!("{outside}/planted"), 0o644, "x")]),
        ("behind a link", vec![Entry::symlink("l", outside.clone()), Entry::file("l/planted", 0o644, "x")]),
        ("behind a climbing link", vec![Entry::symlink("l", climbing.clone()), Entry::file("l/planted", 0o644, "x")]),
        (
            "a folder behind a link",
            vec![Entry::symlink("l", "/etc"), Entry::dir("l/", 0o777), Entry::file("l/planted", 0o644, "x")],
        ),
        ("hard link out", vec![Entry::hard_link("h", format!("{climbing}/secret"))]),
        ("hard link by a link", vec![Entry::symlink("l", outside.clone()), Entry::hard_link("h", "l/secret")]),
        ("hard link to absolute", vec![Entry::hard_link("h", format!("{outside}/secret"))]),
        (
            "overlay's marks",
            vec![
                Entry::dir("o/", 0o755)
                    .xattr("trusted.overlay.redirect", outside.clone())
                    .xattr("user.overlay.redirect", outside.clone()),
            ],
        ),
    ];
    for (what, entries) in cases {
        for name in ["on", "off"] {
            let ran = cx.ctr_reads(&format!("cp - {name}:/tmp"), Layer::new(entries.clone()).tar());
            assert!(matches!(ran.code, 0 | 1), "{what}\n{ran}");
            is_untouched(&dir);
            if what.contains("link") {
                assert_eq!(ran.code, 1, "{what}\n{ran}");
            }
        }
        cx.ctr("exec on sh -c 'cat /tmp/h 2>/dev/null; rm -rf /tmp/*'").prints("");
    }
    cx.ctr("exec on ls /etc/planted").ends_failing();
    // A name that begins at the root means the destination, as everywhere.
    cx.ctr_reads("cp - on:/tmp", Layer::new([Entry::file("/abs/f", 0o644, "in\n")]).tar()).prints("");
    cx.ctr("exec on cat /tmp/abs/f").prints("in\n");
    // Cut off in the middle: an error, and what came is there.
    let whole = Layer::new([Entry::file("one", 0o644, "1"), Entry::file("two", 0o644, "2".repeat(5000))]).tar();
    cx.ctr_reads("cp - on:/tmp", &whole[..3000]).fails_saying(1, "ends too early");
});

// A process of the container puts links in the place of folders and files again and again.
both!(links_that_are_swapped_in, |cx| {
    let (dir, _) = victim(cx);
    let outside = dir.display().to_string();
    cx.busybox();
    // The swap is one rename each way; both names exist at all times.
    let swap = format!(
        "mkdir -p /w/real /w/inner{outside}; echo fine > /w/real/secret; echo fine > /w/real/f; ln -s {outside} /w/link; ln -s {outside}/secret /w/filelink; mkdir -p /w/dst; cp /w/real/f /w/realfile
         while :; do mv /w/real /w/x; mv /w/link /w/real; mv -T /w/real /w/link 2>/dev/null || mv /w/real /w/link; mv /w/x /w/real
         ln -sfn {outside} /w/dst/sub; rm -f /w/dst/sub; mkdir /w/dst/sub; rm -rf /w/dst/sub
         ln -sf {outside}/secret /w/dst/file; rm -f /w/dst/file; echo x > /w/dst/file; done"
    );
    cx.ctr_args(["run", "-d", "--name", "on", "busybox", "sh", "-c", &swap]).succeeds();
    until("it swaps", || cx.ctr("exec on test -d /w/dst").code == 0);
    let tree = cx.make_dir("cwd/tree");
    std::fs::create_dir(tree.join("sub")).unwrap();
    std::fs::write(tree.join("sub/planted"), "x").unwrap();
    std::fs::write(tree.join("file"), "payload").unwrap();
    let end = Instant::now() + Duration::from_secs(4);
    let mut rounds = 0;
    // On a machine that is busy a round can take as long as all of them should.
    while Instant::now() < end || rounds < 4 {
        rounds += 1;
        let _ = cx.ctr("cp tree/. on:/w/dst");
        let _ = cx.ctr("cp tree/file on:/w/real/planted");
        is_untouched(&dir);
        let _ = std::fs::remove_dir_all(cx.cwd().join("out"));
        for line in ["cp on:/w out", "cp on:/w/real/secret out-file", "cp -L on:/w/real out-dir"] {
            let _ = cx.ctr(line);
        }
        let found =
            cx.host("cat $(find out out-file out-dir -type f 2>/dev/null) /dev/null | grep -c SECRET || :").succeeds();
        assert_eq!(found, "0", "the host's file was copied out");
        let _ = cx.host("rm -rf out out-file out-dir");
    }
});

both!(as_deep_as_a_container_can_nest, |cx| {
    cx.busybox();
    let script = "cd /tmp; n=0; while [ $n -lt 1500 ]; do mkdir dddddddddd; cd -P dddddddddd || exit 1; n=$((n+1)); done; echo bottom > f";
    cx.ctr_args(["run", "--name", "c", "busybox", "sh", "-c", script]).succeeds_talking();
    let found = cx.host("$ctr export c | tar t | grep -c 'dddddddddd/f$'").succeeds();
    assert_eq!(found, "1");
    cx.ctr("cp c:/tmp out").prints("");
    assert_eq!(cx.ctr("diff c").succeeds().lines().count(), 1502);
    cx.host("rm -r out").prints("");
});
