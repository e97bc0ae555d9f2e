//! `ctr system reset`.

use crate::support::both;

both!(nothing_is_left, |cx| {
    cx.busybox();
    cx.ctr_reads("secret create key -", "x").succeeds();
    cx.ctr("network create front").succeeds();
    cx.ctr("run -d --name web --network front --secret key busybox sleep 1000").succeeds();
    cx.ctr("run --name done busybox sh -c 'mkdir /a; chmod 0 /a; chown -R alice /home'").prints("");
    cx.ctr("system reset").refuses(1, "these containers are running: web");
    cx.ctr("stop -t 0 web").succeeds();
    let question = "WARNING! This will remove:\n  - all containers\n  - all images\n  - all networks\n  - all secrets\n  - \
                    all events\n\nAre you sure you want to continue? [y/N] ";
    cx.ctr_reads("system reset", "n\n").prints(question);
    cx.ctr("start web").prints("web\n");
    // What is not ctr's stays.
    let own = cx.root().join("own");
    std::fs::write(&own, "").unwrap();
    cx.ctr("system reset --force").prints("");
    let left: Vec<_> = std::fs::read_dir(cx.root()).unwrap().flatten().map(|entry| entry.path()).collect();
    assert_eq!(left, std::slice::from_ref(&own));
    assert!(!cx.run_root().exists());
    if cx.is_root() {
        assert_eq!(cx.host("ip -o link | grep -c -e ctr0 -e br- || true").out(), "0\n");
        let tables = std::process::Command::new("nft").args(["list", "tables"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&tables.stdout), "");
    }
    std::fs::remove_file(own).unwrap();
    cx.leaves_nothing();
    cx.ctr_reads("system reset", "y\n").prints(question);
    assert!(!cx.root().exists());
    // And it begins anew.
    cx.busybox();
    cx.ctr("run --rm busybox true").prints("");
});

// It ends what is mounted before it removes what is seen there.
both!(images_that_are_mounted, |cx| {
    cx.busybox();
    if !cx.is_root() {
        cx.host("$ctr unshare sh -euc '$ctr image mount busybox >at; $ctr system reset -f; ls $(cat at) 2>/dev/null || echo gone'")
            .prints("gone\n");
        return;
    }
    let place = cx.ctr("image mount busybox").succeeds();
    assert!(std::path::Path::new(&place).join("bin").exists());
    cx.ctr("system reset -f").succeeds();
    assert!(!cx.root().join("mounts").exists(), "{place}");
});
