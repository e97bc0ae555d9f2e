//! The images that the tests run.

use std::path::PathBuf;
use std::sync::OnceLock;

use serde_json::json;

use super::archive::Image;
use super::tar::{Entry, Layer};

/// The applets that the tests call by name; busybox has more.
const APPLETS: &str = "[ arping ash awk basename cat chgrp chmod chown clear cmp cp cut date dd df dirname dmesg du echo env expr \
    false find free getopt grep gunzip gzip head hexdump hostname httpd id ifconfig ip kill ln ls lsof md5sum \
    mkdir mkfifo mknod mktemp more mount mv nc netstat nproc nslookup nsenter pgrep ping pidof printf ps pwd \
    readlink realpath renice reset rm rmdir sed seq setsid sh sha256sum sleep sort stat stty su sync tail tar tee \
    test timeout touch tr traceroute true tty umount uname uniq unshare usleep vi wc wget which whoami xargs yes";

impl Image {
    /// Debian's static busybox, with a few accounts and the usual directories.
    pub fn busybox() -> Self {
        static IMAGE: OnceLock<Image> = OnceLock::new();
        IMAGE.get_or_init(|| Self::new("busybox:latest").layer(&busybox_layer()).config("Cmd", json!(["sh"]))).clone()
    }

    /// Busybox and a few files more: a small image of its own, with busybox's layer below.
    pub fn small(name: &str, entries: impl IntoIterator<Item = Entry>) -> Self {
        Self::busybox().named(name).layer(&Layer::new(entries))
    }

    /// A web server on port 80 that says what it is called, and at `/cgi-bin/who` who asks.
    pub fn web() -> Self {
        let who = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n%s\\n' \"$REMOTE_ADDR\"\n";
        let hostname = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n%s\\n' \"$(hostname)\"\n";
        let files = [
            Entry::dir("www/", 0o755),
            Entry::dir("www/cgi-bin/", 0o755),
            Entry::file("www/index.html", 0o644, "works\n"),
            Entry::file("www/megabyte", 0o644, vec![b'x'; 1_000_000]),
            Entry::file("www/cgi-bin/who", 0o755, who),
            Entry::file("www/cgi-bin/hostname", 0o755, hostname),
        ];
        Self::small("web:latest", files)
            .config("Cmd", json!(["httpd", "-f", "-p", "80", "-h", "/www"]))
            .config("ExposedPorts", json!({"80/tcp": {}}))
    }

    /// A Debian made by mmdebstrap (`tests/setup.sh --tests` does it) and three layers on top of
    /// it: one that adds, one that takes away, one that changes what there was.
    pub fn debian() -> Option<Self> {
        let base = std::fs::read(cache().join("debian.tar")).ok()?;
        let adds = Layer::new([
            Entry::dir("opt/", 0o755),
            Entry::dir("opt/app/", 0o750).owner(33, 33),
            Entry::file("opt/app/run", 0o755, "#!/bin/sh\necho app\n").owner(33, 33),
            Entry::file("etc/motd", 0o644, "welcome\n"),
        ]);
        let removes = Layer::new([
            Entry::file("etc/.wh.issue", 0o644, ""),
            Entry::dir("opt/", 0o755),
            Entry::dir("opt/app/", 0o755).owner(33, 33),
            Entry::file("opt/app/.wh..wh..opq", 0o644, ""),
            Entry::file("opt/app/new", 0o644, "new\n"),
        ]);
        let changes = Layer::new([
            Entry::dir("opt/app/", 0o700).owner(1, 1),
            Entry::file("etc/motd", 0o600, "changed\n"),
            Entry::hard_link("etc/motd.hard", "etc/motd"),
            Entry::symlink("etc/motd.soft", "motd"),
        ]);
        let image = Self::new("debian:stable").layer_tar(&base).layer(&adds).layer(&removes).layer(&changes);
        Some(image.config("Cmd", json!(["bash"])))
    }
}

/// What takes long to make and is kept: `tests/setup.sh --tests` fills it.
pub fn cache() -> PathBuf {
    std::env::var_os("CTR_TEST_CACHE").unwrap_or_else(|| "/var/cache/ctr-test".into()).into()
}

/// Debian's static busybox.
pub fn busybox() -> Vec<u8> {
    std::fs::read("/bin/busybox").expect("busybox-static is not installed: run sh tests/setup.sh --tests")
}

fn busybox_layer() -> Layer {
    let directories = [("bin/", 0o755), ("etc/", 0o755), ("root/", 0o700), ("tmp/", 0o1777), ("home/", 0o755)];
    let mut entries: Vec<_> = directories.into_iter().map(|(path, mode)| Entry::dir(path, mode)).collect();
    entries.push(Entry::dir("home/alice/", 0o700).owner(1000, 1000));
    entries.push(Entry::file("bin/busybox", 0o755, busybox()));
    entries.extend(APPLETS.split_whitespace().map(|name| Entry::hard_link(format!("bin/{name}"), "bin/busybox")));
    let passwd = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\n\
        nobody:x:65534:65534:nobody:/:/bin/false\n";
    entries.push(Entry::file("etc/passwd", 0o644, passwd));
    let group = "root:x:0:\naudio:x:29:alice\nalice:x:1000:\nstaff:x:50:alice\nnobody:x:65534:\n";
    entries.push(Entry::file("etc/group", 0o644, group));
    Layer(entries)
}
