//! `ctr commit`.

use serde_json::{Value, json};

use crate::support::{Entry, Image, Sandbox, both, until};

fn image(cx: &Sandbox, name: &str) -> Value {
    serde_json::from_str::<Value>(&cx.ctr(&format!("image inspect {name}")).succeeds()).unwrap()[0].clone()
}

/// The configuration as it lies in the store.
fn stored(cx: &Sandbox, name: &str) -> Value {
    let id = image(cx, name)["Id"].as_str().unwrap().to_owned();
    let blob = cx.root().join("image/blobs/sha256").join(&id["sha256:".len()..]);
    serde_json::from_slice(&std::fs::read(blob).unwrap()).unwrap()
}

both!(the_tree_is_the_same, |cx| {
    cx.load(&Image::small(
        "base:1",
        [
            Entry::dir("d/", 0o755),
            Entry::file("d/one", 0o644, "one\n"),
            Entry::file("d/two", 0o644, "two\n"),
            Entry::dir("d/sub/", 0o755),
            Entry::file("d/sub/deep", 0o644, "deep\n"),
            Entry::dir("r/", 0o755),
            Entry::file("r/old", 0o644, "old\n"),
        ],
    ));
    let script = "cd /; rm d/one; rm -r d/sub; echo new > d/new; ln d/new hard; chown 7:8 d/two; chmod 2711 d; touch -d @1000000000 d/two
        rm -r r; mkdir r; echo new > r/new; mkfifo -m 640 p; ln -s /nowhere l; chmod 4755 hard; chmod 711 /
        mkdir -p deep/er; chown -R 1000:1000 deep; echo x > deep/er/f; touch '.wh.trap'";
    cx.ctr_args(["run", "--name", "c", "base:1", "sh", "-euc", script]).prints("");
    let ran = cx.ctr("commit c made:1");
    ran.is(
        0,
        "sha256:[..]\n",
        "ctr: warning: \"/.wh.trap\" is not in the image: in a layer, a name of this kind says that a file is gone\n",
    );
    assert_eq!(ran.out().trim(), image(cx, "made:1")["Id"]);
    let look = "find / -xdev -path /proc -prune -o -path /sys -prune -o -path /dev -prune -o ! -name '.wh*' -print | sort | while read -r f; do stat -c '%n %f %u:%g %h' \"$f\"; done | grep -v ' /etc'; cat /hard /d/two /r/new; stat -c %Y /d/two";
    cx.ctr("rm c").prints("c\n");
    cx.ctr_args(["create", "--name", "kept", "made:1", "sh", "-c", look]).succeeds();
    cx.ctr("diff kept").prints("");
    let seen = cx.ctr("start -a kept").succeeds();
    assert!(seen.contains("/hard 89ed 0:0 2\n") && seen.contains("/d/two 81a4 7:8 1\n"), "{seen}");
    assert!(
        seen.contains("/d 45c9 0:0") && seen.contains("/ 41c9 0:0") && seen.contains("/deep/er 41ed 1000:1000"),
        "{seen}"
    );
    assert!(!seen.contains("/d/one") && !seen.contains("/d/sub") && !seen.contains("/r/old"), "{seen}");
    assert!(seen.ends_with("new\ntwo\nnew\n1000000000"), "{seen}");
    // Once more, on top of it.
    cx.ctr("run --name again made:1 sh -c 'rm -r /r; echo second > /d/one'").prints("");
    cx.ctr("commit again made:2").succeeds();
    cx.ctr("run --rm made:2 sh -c 'cat /d/one /hard; ls /r 2>&1'").is(
        1,
        "second\nnew\nls: /r: No such file or directory\n",
        "",
    );
    // It goes through an archive as any other.
    let layers = image(cx, "made:2")["RootFS"]["Layers"].as_array().unwrap().len();
    assert_eq!(layers, 4);
});

both!(capabilities_and_attributes, |cx| {
    cx.busybox();
    // Version 2, cap_net_raw, permitted and effective: capability.h.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    cx.load(&Image::small(
        "caps:1",
        [Entry::file("ping", 0o755, "x").xattr("security.capability", capability).xattr("user.note", "n")],
    ));
    // Copied up, with what it has.
    cx.ctr("run --name c caps:1 sh -c 'chown 0:5 /home; mv /ping /pong; cp /bin/busybox /b'").prints("");
    cx.ctr("commit c caps:2").succeeds();
    let tar = cx.host("$ctr create --name d caps:2 true >/dev/null; $ctr export d").stdout;
    let has = |word: &[u8]| tar.windows(word.len()).any(|window| window == word);
    assert!(has(b"SCHILY.xattr.user.note=n\n"));
    if cx.is_root() {
        assert!(has(&[b"SCHILY.xattr.security.capability=".as_slice(), &capability, b"\n"].concat()));
    }
    assert!(!has(b"overlay."));
});

both!(its_configuration, |cx| {
    let base = Image::busybox()
        .named("base:1")
        .config("Env", json!(["PATH=/bin", "KEPT=1"]))
        .config("Cmd", json!(["old"]))
        .config("Labels", json!({"a": "b"}))
        .config("OnBuild", json!(["RUN used"]))
        .config("Healthcheck", json!({"Test": ["CMD", "true"]}));
    cx.load(&base);
    cx.ctr("run --name c -e ADDED=2 -l c=d -w /tmp --user alice base:1 sh -c 'echo x > /tmp/x'").prints("");
    cx.ctr("commit -a 'Ann <ann@x>' -m 'why not' c full:1").succeeds();
    let made = stored(cx, "full:1");
    assert_eq!(
        made["config"],
        json!({
            "Env": ["ADDED=2", "PATH=/bin", "KEPT=1"], "Cmd": ["sh", "-c", "echo x > /tmp/x"],
            "Labels": {"a": "b", "c": "d"}, "Healthcheck": {"Test": ["CMD", "true"]}, "User": "alice", "WorkingDir": "/tmp",
        })
    );
    assert_eq!(
        (&made["author"], &made["os"], &made["architecture"]),
        (&json!("Ann <ann@x>"), &json!("linux"), &json!(crate::support::architecture()))
    );
    let step = made["history"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&step["author"], &step["comment"], &step["created_by"]),
        (&json!("Ann <ann@x>"), &json!("why not"), &json!("sh -c echo x > /tmp/x"))
    );
    assert!(step["empty_layer"].is_null() && step["created"] == made["created"]);
    assert_eq!(image(cx, "full:1")["Comment"], "why not");
    // Every instruction that Docker takes.
    let changes = [
        "CMD [\"id\"]",
        "ENV A=1 B=\"x y\"",
        "EXPOSE 80 53/udp",
        "LABEL x=y",
        "ONBUILD RUN later",
        "USER 0",
        "VOLUME /v",
        "WORKDIR sub",
        "HEALTHCHECK --interval=5s CMD check",
        "STOPSIGNAL SIGINT",
        "SHELL [\"/bin/ash\", \"-c\"]",
        "ENTRYPOINT env",
    ];
    let mut args = vec!["commit".to_owned()];
    args.extend(changes.iter().flat_map(|change| ["-c".to_owned(), (*change).to_owned()]));
    args.extend(["c".to_owned(), "changed".to_owned()]);
    cx.ctr_args(&args).succeeds();
    assert_eq!(
        stored(cx, "changed:latest")["config"],
        json!({
            "Env": ["ADDED=2", "PATH=/bin", "KEPT=1", "A=1", "B=x y"], "Cmd": ["id"], "Entrypoint": ["/bin/ash", "-c", "env"],
            "Labels": {"a": "b", "c": "d", "x": "y"}, "Healthcheck": {"Test": ["CMD-SHELL", "check"], "Interval": 5_000_000_000u64},
            "User": "0", "WorkingDir": "/tmp/sub", "ExposedPorts": {"53/udp": {}, "80/tcp": {}}, "Volumes": {"/v": {}},
            "StopSignal": "SIGINT", "Shell": ["/bin/ash", "-c"], "OnBuild": ["RUN later"],
        })
    );
    cx.ctr("commit -c 'FROM x' c").refuses(1, "invalid change \"FROM x\": FROM is not a valid change command");
    cx.ctr("commit -c 'HEALTHCHECK FOO' c")
        .refuses(1, "invalid change \"HEALTHCHECK FOO\": Unknown type \"FOO\" in HEALTHCHECK (try CMD)");
    cx.ctr("commit nope").refuses(1, "No such container: nope");
    cx.ctr("commit c Upper").fails_saying(1, "must be lowercase");
    cx.ctr(&format!("commit c x@sha256:{}", "0".repeat(64))).fails_saying(1, "digest reference");
});

both!(nothing_changed_is_no_layer, |cx| {
    cx.busybox();
    cx.ctr("run --name c busybox true").prints("");
    cx.ctr("commit -c 'CMD echo same' c same:1").succeeds();
    let (before, after) = (image(cx, "busybox"), image(cx, "same:1"));
    assert_eq!(before["RootFS"], after["RootFS"]);
    assert_eq!(stored(cx, "same:1")["history"].as_array().unwrap().last().unwrap()["empty_layer"], true);
    cx.ctr("run --rm same:1").prints("same\n");
    // Without a name; the id in a file; Docker's manifest.
    let id = cx.ctr("container commit -q --iidfile id -f docker -m x c").succeeds();
    assert_eq!(std::fs::read_to_string(cx.cwd().join("id")).unwrap(), id);
    let index: Value = serde_json::from_slice(&std::fs::read(cx.root().join("image/index.json")).unwrap()).unwrap();
    let kinds: Vec<_> = index["manifests"].as_array().unwrap().iter().filter_map(|m| m["mediaType"].as_str()).collect();
    assert!(kinds.contains(&"application/vnd.docker.distribution.manifest.v2+json"), "{kinds:?}");
    cx.ctr(&format!("run --rm {} echo runs", &id["sha256:".len()..][..12])).prints("runs\n");
    cx.ctr("commit -f x c").fails_saying(125, "unrecognized image format \"x\"");
    // The image goes, the container stays, and there is nothing to add a layer to.
    cx.ctr("rmi -f busybox").succeeds_talking();
    let ran = cx.ctr("commit c late:1");
    assert!(ran.code == 0 || ran.err().contains("No such image"), "{ran}");
});

/// The state of a container's freezer; none where it has no cgroup. `id`: asked for again, it would be
/// looked at too seldom to be seen frozen.
fn frozen(cx: &Sandbox, id: &str) -> Option<bool> {
    let record = std::fs::read_to_string(cx.root().join("containers").join(id).join("process.json")).ok()?;
    let record: Value = serde_json::from_str(&record).ok()?;
    record["cgroups"].as_array()?.iter().find_map(|dir| {
        let dir = std::path::Path::new(dir.as_str()?);
        let v1 = std::fs::read_to_string(dir.join("freezer.state")).map(|text| !text.starts_with("THAWED"));
        v1.or_else(|_| std::fs::read_to_string(dir.join("cgroup.freeze")).map(|text| text.starts_with('1'))).ok()
    })
}

both!(the_container_stands_still_and_goes_on, |cx| {
    cx.busybox();
    let count = "head -c 150000000 /dev/zero > /large; i=0; while :; do i=$((i+1)); echo $i > /a; echo $i > /b; done";
    let id = cx.ctr_args(["run", "-d", "--name", "c", "busybox", "sh", "-c", count]).succeeds();
    until("it counts", || cx.ctr("exec c cat /b").code == 0);
    if frozen(cx, &id).is_some() {
        let running = cx.spawn("commit c held:1");
        until("it stands still", || frozen(cx, &id) == Some(true));
        running.wait().is(0, "sha256:[..]\n", "");
        // What was written while nothing ran is as at one moment.
        let seen = cx.ctr("run --rm held:1 sh -c 'cat /a /b'").succeeds();
        let numbers: Vec<i64> = seen.lines().map(|line| line.parse().unwrap_or(-1)).collect();
        assert!(matches!(numbers[..], [a, b] if a - b <= 1) || seen.lines().count() < 2, "{seen}");
        assert_eq!(frozen(cx, &id), Some(false));
        // Killed in the middle, whatever by, it goes on and nothing is left.
        for signal in
            [nix::sys::signal::Signal::SIGINT, nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGKILL]
        {
            let running = cx.spawn("commit c interrupted:1");
            until("it stands still", || frozen(cx, &id) == Some(true));
            running.signal(signal);
            let code = running.wait().code;
            assert_eq!(code, 128 + signal as i32);
            until("it goes on", || frozen(cx, &id) == Some(false));
            cx.ctr("exec c true").prints("");
        }
        let running = cx.spawn("commit --pause=false c running:1");
        let mut seen = false;
        running.wait().succeeds_talking();
        seen |= frozen(cx, &id) == Some(true);
        assert!(!seen);
    } else {
        // Without a cgroup nobody can be held; its files are taken as they come.
        cx.ctr("commit c held:1").succeeds_talking();
    }
    cx.ctr("images -q interrupted").prints("");
    // What was killed outright is swept by the next.
    cx.ctr("commit --pause=false c last:1").succeeds_talking();
    let temporary = |dir: &str| {
        let names = std::fs::read_dir(cx.root().join(dir)).unwrap().flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().starts_with("tmp-")).count()
    };
    assert_eq!((temporary("layers"), temporary("image/blobs/sha256")), (0, 0));
    cx.ctr("rm -f c").prints("c\n");
});
