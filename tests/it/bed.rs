//! The bed itself: what the other tests stand on does what it says.

use std::process::Command;

use crate::support::{Entry, Image, Layer, Ran, Registry, Terminal, Who, check, digest, words};

fn ran(code: i32, stdout: &str, stderr: &str) -> Ran {
    Ran { command: "x".into(), dir: "/".into(), stdout: stdout.into(), stderr: stderr.into(), code }
}

#[test]
fn patterns_cover_whole_streams() {
    ran(0, "a 12 b\nc\n", "").prints("a [..] b\nc\n");
    for (wrong, pattern) in [("a\nb\n", "a\n"), ("xa\n", "a\n"), ("a\n", "[..]b\n"), ("a\n\n", "a\n"), ("", "a")] {
        assert!(
            std::panic::catch_unwind(|| ran(0, wrong, "").prints(pattern)).is_err(),
            "{wrong:?} passed for {pattern:?}"
        );
    }
    ran(125, "", "ctr: it is \"x\"\nhint: do y\n").refuses(125, "it is [..]");
    for (code, out, err) in
        [(1, "", "ctr: no\n"), (125, "out\n", "ctr: no\n"), (125, "", "no\n"), (125, "", "ctr: no\nmore\n")]
    {
        assert!(std::panic::catch_unwind(|| ran(code, out, err).refuses(125, "no")).is_err(), "{code} {out:?} {err:?}");
    }
}

#[test]
fn lines_become_words() {
    assert_eq!(words("run  -e 'A=b c' \"x'y\" ''"), ["run", "-e", "A=b c", "x'y", ""]);
}

#[test]
fn gnu_tar_reads_the_layers() {
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(200));
    let layer = Layer::new([
        Entry::dir("d/", 0o1777),
        Entry::file("d/f", 0o4755, "content").owner(1000, 3_000_000).time(-5, 0),
        Entry::file(&long, 0o644, "x").xattr("user.a", "b"),
        Entry::symlink("s", "x".repeat(150)),
        Entry::char_device("null", 0o666, (1, 3)),
    ]);
    let file = crate::support::publish("self-test", &layer.tar());
    let words = ["--numeric-owner", "--full-time", "--xattrs", "-tvvf"];
    let done = Command::new("tar").args(words).arg(file).env("TZ", "UTC").output().unwrap();
    let out = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    for line in [
        "drwxrwxrwt ",
        "-rwsr-xr-x  1000/3000000 ",
        " 7 1969-12-31 23:59:55 d/f",
        &long,
        "  x: 1 user.a",
        "1,3 ",
        " s -> xxx",
    ] {
        assert!(out.contains(line), "{line:?} is not in\n{out}");
    }
}

#[test]
fn a_registry_takes_and_gives() {
    let image = Image::small("bed/app:v1", [Entry::file("x", 0o644, "x")]);
    for registry in [Registry::plain(), Registry::secure()] {
        let reference = registry.push(&image);
        let mut command = Command::new("skopeo");
        command.args(["inspect", "--raw", "--tls-verify=false"]);
        if registry.authority.is_some() {
            let refused = command.arg(format!("docker://{reference}")).output().unwrap();
            assert!(!refused.status.success(), "no password was asked for");
            command.arg("--creds").arg(format!(
                "{}:{}",
                crate::support::registry::USER,
                crate::support::registry::PASSWORD
            ));
        } else {
            command.arg(format!("docker://{reference}"));
        }
        let done = command.output().unwrap();
        assert_eq!(digest(&done.stdout), digest(&image.manifest()), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

#[test]
fn a_terminal_shows_what_is_typed() {
    check(Who::User, |cx| {
        let terminal = Terminal::open(cx);
        terminal.line("id -un; stty size");
        terminal.shows(&format!("{}\n24 80\n$", cx.account.name));
        drop(terminal);
    });
}

#[test]
fn what_is_left_is_seen() {
    check(Who::User, |cx| {
        let mut child = cx.host_command("sleep").arg("1000").spawn().unwrap();
        crate::support::until("the process is seen", || cx.leftovers().iter().any(|line| line.contains("sleep 1000")));
        child.kill().unwrap();
        child.wait().unwrap();
        cx.make_file("tmp/file", "");
        assert!(cx.leftovers().iter().any(|line| line.ends_with("tmp/file")));
        std::fs::remove_file(cx.dir.join("tmp/file")).unwrap();
        assert_eq!(cx.leftovers(), Vec::<String>::new());
    });
}
