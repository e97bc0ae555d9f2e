//! The keys that whoever starts a container holds (keyrings(7)) are not the container's.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::support::{Entry, Image, base, both, skipped};

/// A static program: `key with COMMAND…` runs a command with a key in a new session keyring and the
/// key's number in `$KEY`; `key read NUMBER` and `key search` print what the key holds.
fn key() -> PathBuf {
    static KEY: OnceLock<PathBuf> = OnceLock::new();
    KEY.get_or_init(|| {
        let dir = base().join("key");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("key.c"), SOURCE).unwrap();
        let words = ["-static", "-O1", "-Wall", "-o", "key", "key.c"];
        let done = Command::new("cc").args(words).current_dir(&dir).output().expect("cc: run sh tests/setup.sh");
        assert!(done.status.success(), "cc: {}", String::from_utf8_lossy(&done.stderr));
        dir.join("key")
    })
    .clone()
}

/// Numbers as linux/keyctl.h has them; keyctl(2), add_key(2).
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
enum { JOIN_SESSION_KEYRING = 1, SEARCH = 10, READ = 11, SESSION = -3 };
static int fail(const char *what) { perror(what); return 1; }
int main(int argc, char **argv) {
    char text[64] = "";
    long key;
    if (argc > 2 && !strcmp(argv[1], "with")) {
        if (syscall(SYS_keyctl, JOIN_SESSION_KEYRING, NULL) < 0) return fail("join");
        key = syscall(SYS_add_key, "user", "ctr-test", "treasure", 8L, SESSION);
        if (key < 0) return fail("add");
        sprintf(text, "%ld", key);
        setenv("KEY", text, 1);
        execvp(argv[2], argv + 2);
        return fail(argv[2]);
    }
    key = argc > 2 ? atol(argv[2]) : syscall(SYS_keyctl, SEARCH, SESSION, "user", "ctr-test", 0);
    if (key < 0) return fail("search");
    if (syscall(SYS_keyctl, READ, key, text, sizeof text - 1) < 0) return fail("read");
    puts(text);
    return 0;
}
"#;

both!(the_callers_keys, |cx| {
    let key = key();
    let program = std::fs::read(&key).unwrap();
    cx.load(&Image::small("keys:1", [Entry::file("key", 0o755, program)]));
    let with = |script: &str| cx.host(&format!("exec {} with sh -euc '{script}'", key.display()));
    let works = with(&format!("{0} read $KEY; {0} search", key.display()));
    if works.err().contains("Function not implemented") {
        return skipped("the kernel has no keys");
    }
    works.prints("treasure\ntreasure\n");
    // The filter forbids the calls; without it the keys are not there.
    for flags in ["", "--security-opt seccomp=unconfined", "--privileged", "--privileged --init"] {
        for look in ["read $KEY", "search"] {
            let ran = with(&format!("$ctr run --rm {flags} keys:1 /key {look}"));
            assert!(ran.code == 1 && ran.stdout.is_empty(), "{ran}");
        }
    }
    // Nor by way of the monitor, which serves `exec` to whoever asks.
    let ran = with(
        "$ctr run -d --name box --privileged keys:1 sleep 1000 >&2; $ctr exec --privileged box /key read $KEY || \
         $ctr exec box /key search",
    );
    assert!(ran.code == 1 && ran.stdout.is_empty(), "{ran}");
});
