//! `ctr version`, `ctr info`, help, and what stands before a command.

use crate::support::both;

both!(version_says_which, |cx| {
    let out = cx.ctr("version").succeeds();
    assert!(out.contains(env!("CARGO_PKG_VERSION")), "{out}");
    let out = cx.ctr("--version").succeeds();
    assert!(out.contains(env!("CARGO_PKG_VERSION")), "{out}");
    cx.ctr("version --format '{{.Client.Version}}'").prints(concat!(env!("CARGO_PKG_VERSION"), "\n"));
});

both!(info_says_where_and_what, |cx| {
    cx.busybox();
    cx.ctr("create busybox true").succeeds();
    let out = cx.ctr("info").succeeds_talking();
    assert!(out.contains(cx.root().to_str().unwrap()), "{out}");
    cx.ctr("info -f '{{.Containers}} {{.ContainersRunning}} {{.ContainersStopped}} {{.Images}}'").prints("1 0 1 1\n");
    let json = cx.ctr("info -f '{{json .}}'").succeeds_talking();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["OSType"], "linux", "{json}");
    if value["CgroupVersion"] == "1" {
        let driver = if cx.is_root() { "cgroupfs" } else { "none" };
        assert_eq!(value["CgroupDriver"], driver, "cgroup v1 gives an ordinary user none: {json}");
    }
});
