//! What `registries.conf` and the environment say of registries: mirrors, other places, what is blocked,
//! names without a registry, proxies; and certificates of ours.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::support::{Entry, Image, Registry, Reply, Sandbox, Server, both, digest};

/// Writes the user's own file; root of a test has one, too.
fn write(cx: &Sandbox, text: &str) {
    for dir in ["home/.config", "home/.config/containers"] {
        cx.make_dir(dir);
    }
    cx.make_file("home/.config/containers/registries.conf", text);
}

fn image(name: &str) -> Image {
    Image::small(name, [Entry::file("who", 0o644, name)])
}

both!(mirrors_are_asked_first, |cx| {
    let (mirror, origin) = (Server::start(), Server::start());
    origin.serve_image(&image("team/app:1"));
    let name = format!("{}/team/app:1", origin.host);
    write(
        cx,
        &format!(
            "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}/cache\"\n",
            origin.host, mirror.host
        ),
    );
    // The mirror has it not: that is said, and the registry asked.
    let ran = cx.ctr(&format!("pull -q {name}"));
    ran.is(
        0,
        &format!("{name}\n"),
        &format!(
            "ctr: warning: mirror \"{}\" is passed over: manifest for {}/cache/team/app:1 not found: manifest unknown\n",
            mirror.host, mirror.host
        ),
    );
    // It has it now, and everything comes from there; the image keeps the name that was asked for.
    let other = image("cache/team/other:1");
    mirror.serve_image(&other);
    let name = format!("{}/team/other:1", origin.host);
    let before = origin.asked().len();
    cx.ctr(&format!("pull -q {name}")).prints(&format!("{name}\n"));
    assert_eq!(origin.asked().len(), before, "{:#?}", origin.asked());
    cx.ctr(&format!("run --rm {name} cat /who")).prints("cache/team/other:1");
    // Only for digests.
    write(
        cx,
        &format!(
            "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}/cache\"\n\
             pull-from-mirror = \"digest-only\"\n",
            origin.host, mirror.host
        ),
    );
    cx.ctr(&format!("pull -q {name}")).fails_saying(1, "not found");
    let by_digest = format!("{}/team/other@{}", origin.host, digest(&other.manifest()));
    cx.ctr(&format!("pull -q {by_digest}")).prints(&format!("{by_digest}\n"));
});

both!(names_lead_elsewhere_or_nowhere, |cx| {
    let server = Server::start();
    server.serve_image(&image("inside/app:1"));
    let port = server.host.rsplit_once(':').unwrap().1;
    write(
        cx,
        &format!(
            "[[registry]]\nprefix = \"*.example.test\"\nlocation = \"127.0.0.1:{port}/inside\"\n\
             [[registry]]\nlocation = \"bad.test\"\nblocked = true\n"
        ),
    );
    cx.ctr("pull -q a.example.test/app:1").prints("a.example.test/app:1\n");
    cx.ctr("run --rm a.example.test/app:1 cat /who").prints("inside/app:1");
    let file = cx.home().join(".config/containers/registries.conf");
    cx.ctr("pull -q bad.test/x").is(
        1,
        "",
        &format!("ctr: registry \"bad.test\" is blocked\nhint: \"{}\" has blocked = true for it\n", file.display()),
    );
    write(cx, "\n\n[[registry]]\nlocation = \"https://a.test\"\n");
    cx.ctr("pull -q a.test/x").refuses(
        1,
        &format!("\"{}\", line 3: location \"https://a.test\": a host and a path, without https://", file.display()),
    );
    write(cx, "[[registry]\n");
    cx.ctr("pull -q a.test/x").fails_saying(1, &format!("\"{}\", line 1: ", file.display()));
});

both!(names_without_a_registry, |cx| {
    let (one, two) = (Server::start(), Server::start());
    two.serve_image(&image("tools/only-two:1"));
    one.serve_image(&image("real/place:1"));
    write(
        cx,
        &format!(
            "unqualified-search-registries = [\"{}\", \"{}\"]\n[aliases]\n\"short\" = \"{}/real/place\"\n",
            one.host, two.host, one.host
        ),
    );
    cx.ctr("pull -q short:1").prints(&format!("{}/real/place:1\n", one.host));
    // It is found again by the name that it was asked for with.
    cx.ctr("run --rm --pull never short:1 cat /who").prints("real/place:1");
    cx.ctr("tag short:1 other:1").prints("");
    cx.ctr("save -o short.tar short:1").prints("");
    cx.ctr("run --rm --pull never other:1 cat /who").prints("real/place:1");
    let ran = cx.ctr("pull -q tools/only-two:1");
    ran.is(
        0,
        &format!("{}/tools/only-two:1\n", two.host),
        &format!(
            "ctr: warning: {0}/tools/only-two:1: manifest for {0}/tools/only-two:1 not found: manifest unknown\n",
            one.host
        ),
    );
    cx.ctr("run --rm tools/only-two:1 cat /who").prints("tools/only-two:1");
    cx.ctr("pull -q no/where:1").fails_saying(1, "not found");
    // A drop-in takes the alias back.
    cx.make_dir("home/.config/containers/registries.conf.d");
    cx.make_file("home/.config/containers/registries.conf.d/10.conf", "[aliases]\n\"short\" = \"\"\n");
    cx.ctr("pull -q short:1").fails_saying(1, "not found");
});

both!(every_tag, |cx| {
    let registry = Registry::plain();
    let who = if cx.is_root() { "root" } else { "user" };
    for tag in ["a", "b"] {
        registry.push(&Image::small(&format!("pull/{who}/every:{tag}"), [Entry::file("tag", 0o644, tag)]));
    }
    let name = format!("{}/pull/{who}/every", registry.host);
    let out = cx.ctr(&format!("pull -a {name}")).succeeds();
    assert_eq!(out.matches("Digest: ").count(), 2, "{out}");
    assert!(out.ends_with(&format!("Status: Downloaded newer image for {name}\n{name}")), "{out}");
    cx.ctr(&format!("images {name} --format '{{{{.Tag}}}}'")).prints("[..]\n[..]\n");
    cx.ctr(&format!("pull -q --all-tags {name}")).prints(&format!("{name}\n"));
    cx.ctr(&format!("pull -a {name}:a")).refuses(1, "tag can't be used with --all-tags/-a");
    cx.ctr(&format!("pull -a {name}/none")).fails_saying(1, "tags of");
});

/// A proxy that lets CONNECT through, and remembers to where.
fn proxy(to: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let (to, seen) = (to.clone(), Arc::clone(&seen));
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).unwrap_or(0) == 1 {
                    head.push(byte[0]);
                }
                let text = String::from_utf8_lossy(&head).into_owned();
                seen.lock().unwrap().push(text.lines().next().unwrap_or_default().to_owned());
                let Ok(mut server) = TcpStream::connect(&to) else { return };
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                let (mut a, mut b) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut a, &mut b));
                let _ = std::io::copy(&mut server, &mut client);
            });
        }
    });
    (host, asked)
}

both!(by_way_of_a_proxy, |cx| {
    let server = Server::start();
    server.serve_image(&image("far/app:1"));
    let (address, asked) = proxy(server.host.clone());
    // Nobody knows this host but the proxy.
    write(cx, "[[registry]]\nlocation = \"far.test\"\ninsecure = true\n");
    cx.ctr("pull -q far.test/far/app:1").fails_saying(1, "cannot be reached");
    for (plain, tls) in [("HTTP_PROXY", "HTTPS_PROXY"), ("http_proxy", "https_proxy")] {
        asked.lock().unwrap().clear();
        cx.set(plain, format!("http://{address}"));
        cx.set(tls, &address);
        cx.ctr("pull -q far.test/far/app:1").prints("far.test/far/app:1\n");
        let asked = asked.lock().unwrap().clone();
        assert!(asked.iter().any(|line| line.starts_with("CONNECT far.test:80 ")), "{asked:#?}");
        // TLS is tried first, by way of its own proxy.
        assert!(asked.iter().any(|line| line.starts_with("CONNECT far.test:443 ")), "{asked:#?}");
        cx.set(plain, "");
        cx.set(tls, "");
    }
    cx.set("ALL_PROXY", &address);
    for no in ["far.test", ".test", "*"] {
        asked.lock().unwrap().clear();
        cx.set("NO_PROXY", no);
        cx.ctr("pull -q far.test/far/app:1").fails_saying(1, "cannot be reached");
        assert!(asked.lock().unwrap().is_empty(), "{no}");
    }
});

both!(redirects_take_no_password_along, |cx| {
    let (registry, storage) = (Server::start(), Server::start());
    let image = image("moved/app:1");
    let reference = registry.serve_image(&image);
    crate::support::log_in(cx, &registry.host, "ada", "secret");
    registry.demand("Basic YWRhOnNlY3JldA==", "Basic realm=\"x\"");
    // The storage wants a password too, and gets none.
    storage.demand("Basic YWRhOnNlY3JldA==", "Basic realm=\"x\"");
    registry.change_layers(&image, |reply| {
        *reply = Reply {
            status: 307,
            headers: vec![("Location".into(), format!("http://{}/v2/blob?sig=1", storage.host))],
            ..Reply::ok("", "")
        };
    });
    let ran = cx.ctr(&format!("pull -q {reference}"));
    ran.fails_saying(
        1,
        &format!("\"http://{}/v2/blob\", where registry \"{}\" redirects to, refuses", storage.host, registry.host),
    );
    assert!(!ran.err().contains("sig=1"), "{ran}");
    // In a circle.
    registry.change_layers(&image, |reply| {
        reply.headers = vec![("Location".into(), "/v2/circle".into())];
    });
    registry.put(
        "/v2/circle",
        Reply { status: 302, headers: vec![("Location".into(), "/v2/circle".into())], ..Reply::ok("", "") },
    );
    cx.ctr(&format!("pull -q {reference}")).fails_saying(1, "redirects more than 10 times, in a circle it seems");
});

both!(a_certificate_of_ours, |cx| {
    let registry = Registry::mutual();
    let who = if cx.is_root() { "root" } else { "user" };
    let reference = format!("{}/mutual/{who}:1", registry.host);
    cx.load(&image("mutual").named(&reference));
    let folder = registry.trust(cx);
    let ran = cx.ctr(&format!("push -q {reference}"));
    ran.fails_saying(1, "Certificate");
    assert!(ran.err().contains(&format!("certs.d/{}/client.cert", registry.host)), "{ran}");
    registry.introduce(&folder);
    cx.ctr(&format!("push -q {reference}")).prints(&format!("{reference}\n"));
    cx.ctr(&format!("rmi -f {reference}")).succeeds();
    cx.ctr(&format!("pull -q {reference}")).prints(&format!("{reference}\n"));
    std::fs::remove_file(folder.join("client.key")).unwrap();
    cx.ctr(&format!("pull -q {reference}")).fails_saying(1, "client.key");
});
