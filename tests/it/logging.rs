//! What stands before a command: `--debug` and `--log-level`, `--config`.

use crate::support::{Entry, Image, Registry, Reply, Server, both, registry};

both!(what_is_done_is_shown, |cx| {
    cx.busybox();
    let ran = cx.ctr("-D run -d --name box busybox sleep 1000");
    let said = ran.err();
    assert!(ran.code == 0 && ran.out().trim().len() == 64, "{ran}");
    assert!(said.lines().all(|line| line.starts_with("ctr: debug: ")), "{said}");
    for part in [cx.root().to_str().unwrap(), " runs as process ", ": cgroup ", ": network bridge as eth0 "] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(said.contains("run newuidmap "), !cx.is_root(), "{said}");
    for flags in ["--debug", "--log-level debug", "--log-level=DEBUG", "-ldebug", "-l debug", "-Dl error"] {
        assert!(cx.ctr(&format!("{flags} ps -q")).err().contains("ctr: debug: storage in "), "{flags}");
    }
    for flags in ["--debug=false", "-l info", "-l warn", "--log-level error", "--log-level=fatal", "--config cfg"] {
        cx.ctr(&format!("{flags} run --rm busybox true")).is(0, "", "");
    }
    cx.ctr("-l nosuch ps").refuses(1, "Unable to parse logging level: nosuch");
    cx.ctr("--log-level").refuses(125, "[..]--log-level[..]");
    assert!(cx.ctr("__complete --log-level w").out().starts_with("debug\ninfo\n"), "levels are offered");
});

both!(credentials_are_kept_in_the_folder_of_config, |cx| {
    let registry = Registry::secure();
    registry.trust(cx);
    let host = &registry.host;
    let reference = registry.push(&Image::small("private/config:v1", [Entry::file("a", 0o644, "s\n")]));
    let login = format!("--config mine -D login -u ada --password-stdin {host}");
    let ran = cx.ctr_reads(&login, registry::PASSWORD);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(cx.cwd().join("mine/config.json").exists() && !cx.home().join(".docker").exists());
    cx.ctr(&format!("pull -q {reference}")).fails_saying(1, "denied");
    let pull = cx.ctr(&format!("--config=mine -D pull -q {reference}"));
    assert_eq!(pull.out(), format!("{reference}\n"), "{pull}");
    assert!(pull.err().contains("ctr: debug: GET https://") && pull.err().contains(": 200 after "), "{pull}");
    assert!(pull.err().contains(&format!("credentials for {host} are from \"mine/config.json\"")), "{pull}");
    // The flag counts more than the variable.
    cx.set("DOCKER_CONFIG", cx.dir.join("elsewhere"));
    cx.ctr(&format!("--config mine logout {host}")).succeeds();
    cx.ctr(&format!("--config mine pull -q {reference}")).fails_saying(1, "denied");
    for said in [ran.err(), pull.err()] {
        let low = said.to_lowercase();
        assert!(
            !said.contains(registry::PASSWORD) && !low.contains("basic ") && !low.contains("authorization"),
            "{said}"
        );
    }
});

both!(no_secret_is_shown, |cx| {
    let (server, storage) = (Server::start(), Server::start());
    let image = Image::small("token/debug:1", [Entry::file("a", 0o644, "1\n")]);
    let reference = server.serve_image(&image);
    storage.serve_image(&image);
    let answer = r#"{"token":"t0k3n","refresh_token":"1dent1ty"}"#;
    server.put("/token", Reply::ok("application/json", answer));
    server.demand("Bearer t0k3n", &format!(r#"Bearer realm="http://{}/token",service="tests""#, server.host));
    let login = cx.ctr_reads(&format!("-D login -u ada --password-stdin {}", server.host), "pa55word");
    assert_eq!(login.code, 0, "{login}");
    let digest = image.blobs()[0].0.clone();
    let location = format!("http://{}/v2/token/debug/blobs/{digest}?sig=s1gnature", storage.host);
    server.put(&format!("/v2/token/debug/blobs/{digest}"), Reply::redirect(307, &location));
    let pull = cx.ctr(&format!("-D pull -q {reference}"));
    assert_eq!(pull.code, 0, "{pull}");
    assert!(pull.err().contains(&format!("{digest}?...: 200 after ")), "{pull}");
    for said in [login.err(), pull.err()] {
        assert!(said.contains("/token: 200 after ") || said.contains("/token?...: 200 after "), "{said}");
        for secret in ["t0k3n", "1dent1ty", "pa55word", "s1gnature", "Bearer", "YWRh", "account="] {
            assert!(!said.contains(secret), "{secret}: {said}");
        }
    }
});
