//! Killed at random moments: afterwards every command works, nothing is half there.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Entry, Image, Sandbox, Server, both, until};

/// Random numbers that are printed with a failure and can be given again: `CTR_TEST_SEED`.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new() -> Self {
        let given = std::env::var("CTR_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
        let seed = given.unwrap_or_else(|| u64::from(now) | 1);
        eprintln!("CTR_TEST_SEED={seed}");
        Self(seed)
    }

    pub fn below(&mut self, bound: u128) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u64::try_from(u128::from(self.0) % bound.max(1)).unwrap()
    }
}

/// Runs a command `times` times and kills it at a random moment of the time that it takes, `setup`
/// before and `look` after each.
pub fn kill_at_random(cx: &Sandbox, times: u32, line: &str, setup: impl Fn(), look: impl Fn(u32)) {
    let mut dice = Dice::new();
    setup();
    let begin = Instant::now();
    cx.ctr(line).succeeds_talking();
    let takes = begin.elapsed();
    look(0);
    for n in 1..=times {
        setup();
        let running = cx.spawn(line);
        // Up to a little more than it takes, so that the last steps are hit too.
        let moment = Duration::from_micros(dice.below(takes.as_micros() * 11 / 10));
        let end = Instant::now() + moment;
        while Instant::now() < end {
            std::thread::sleep(end.saturating_duration_since(Instant::now()).min(Duration::from_millis(1)));
        }
        let _ = kill(Pid::from_raw(running.pid()), Signal::SIGKILL);
        running.wait();
        look(n);
    }
}

/// `ps -a` and `images` say the same as the disk, and every command works.
#[track_caller]
fn is_consistent(cx: &Sandbox) {
    // What is removed at this moment may be gone between one look and the other.
    until("ps -a and the disk agree", || listed(cx) == on_disk(cx));
    let images = cx.ctr("images -q --no-trunc").succeeds();
    for id in images.lines() {
        cx.ctr(&format!("inspect --type image -f '{{{{.Id}}}}' {id}")).prints(&format!("{id}\n"));
    }
    cx.ctr("run --rm busybox echo works").prints("works\n");
}

fn listed(cx: &Sandbox) -> Vec<String> {
    let mut ids: Vec<_> = cx.ctr("ps -aq --no-trunc").succeeds().lines().map(str::to_owned).collect();
    ids.sort_unstable();
    ids
}

fn on_disk(cx: &Sandbox) -> Vec<String> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(cx.root().join("containers")).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap();
        // One that a live process is at work on is nobody's container, before or after.
        let maker = name.strip_prefix("tmp-").and_then(|rest| rest.split('-').next());
        if maker.is_none_or(|pid| !std::path::Path::new("/proc").join(pid).exists()) {
            ids.push(name);
        }
    }
    ids.sort_unstable();
    ids
}

/// No temporary file is left once a command has swept. What a monitor removes at this moment, as that
/// of a container with `--rm` whose client was killed, is one until it is gone.
#[track_caller]
fn is_swept(cx: &Sandbox) {
    for dir in ["containers", "layers", "image", "image/blobs/sha256", "names", "image/tmp"] {
        until(&format!("nothing temporary is left in {dir}"), || {
            let entries = std::fs::read_dir(cx.root().join(dir)).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().into_string().unwrap()).all(|name| !name.starts_with("tmp-"))
        });
    }
}

/// Every directory below `layers/` belongs to an image that is there.
#[track_caller]
fn has_no_stray_layers(cx: &Sandbox, images: &[&Image]) {
    let known: Vec<_> = images.iter().flat_map(|image| image.diff_ids()).map(|id| id.replace("sha256:", "")).collect();
    for entry in std::fs::read_dir(cx.root().join("layers")).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap();
        assert!(
            known.contains(&name) || name.ends_with("-parents") || known.iter().any(|id| name == format!("{id}.json")),
            "a layer of nobody: {name}"
        );
    }
}

fn several_files(name: &str, count: usize) -> Image {
    Image::small(name, (0..count).map(|n| Entry::file(format!("file{n}"), 0o644, format!("content {n}\n").repeat(50))))
}

both!(pull_fifty_times, |cx| {
    cx.busybox();
    let server = Server::start();
    let image = several_files("crash/pull:1", 300);
    let reference = server.serve_image(&image);
    kill_at_random(
        cx,
        50,
        &format!("pull -q {reference}"),
        || {
            cx.ctr(&format!("rmi {reference}"));
        },
        |_| {
            // Half a pull is no image; a whole one is a whole image.
            if !cx.ctr(&format!("images -q {reference}")).succeeds().is_empty() {
                cx.ctr(&format!("run --rm {reference} sh -c 'cat /file* | md5sum | cut -c1-32'")).succeeds();
                cx.ctr(&format!("run --rm {reference} tail -n 1 /file299")).prints("content 299\n");
            }
            is_consistent(cx);
        },
    );
    cx.ctr(&format!("pull -q {reference}")).succeeds();
    cx.ctr(&format!("run --rm {reference} tail -n 1 /file299")).prints("content 299\n");
    is_swept(cx);
    has_no_stray_layers(cx, &[&image, &Image::busybox()]);
});

both!(load_fifty_times, |cx| {
    cx.busybox();
    let image = several_files("crash-load:1", 300);
    let archive = image.oci_archive();
    kill_at_random(
        cx,
        50,
        &format!("load -q -i {}", archive.display()),
        || {
            cx.ctr("rmi crash-load:1");
        },
        |_| {
            if !cx.ctr("images -q crash-load:1").succeeds().is_empty() {
                cx.ctr("run --rm crash-load:1 tail -n 1 /file299").prints("content 299\n");
            }
            is_consistent(cx);
        },
    );
    cx.ctr(&format!("load -q -i {}", archive.display())).succeeds();
    cx.ctr("run --rm crash-load:1 tail -n 1 /file299").prints("content 299\n");
    is_swept(cx);
    has_no_stray_layers(cx, &[&image, &Image::busybox()]);
});

both!(run_fifty_times, |cx| {
    cx.busybox();
    kill_at_random(
        cx,
        50,
        "run --name it busybox sh -c 'echo x > /file'",
        || {
            until("the name is free", || cx.ctr("rm -f it").code == 0 && !cx.root().join("names/it").exists());
        },
        |_| {
            is_consistent(cx);
            // The client is dead; its container may run to its end, no longer.
            until("it ends by itself", || cx.ctr("ps -q").succeeds().is_empty());
        },
    );
    cx.ctr("rm -f it");
    cx.ctr("run --rm --name it busybox true").prints("");
    is_swept(cx);
    cx.leaves_nothing();
});

both!(run_with_rm_fifty_times, |cx| {
    cx.busybox();
    kill_at_random(cx, 50, "run --rm busybox true", || (), |_| is_consistent(cx));
    // Whoever was told to remove itself does so, or the next command does.
    until("all are gone", || cx.ctr("ps -aq").succeeds().is_empty());
    is_swept(cx);
    cx.leaves_nothing();
});

both!(rm_fifty_times, |cx| {
    cx.busybox();
    kill_at_random(
        cx,
        50,
        "rm -f it",
        || {
            cx.ctr("rm -f it");
            cx.ctr("run -d --name it busybox sh -c 'mkdir -p /a/b/c; touch /a/b/c/1 /a/b/c/2; sleep 1000'").succeeds();
        },
        |_| {
            is_consistent(cx);
            // It is there and can be removed, or it is gone.
            let ran = cx.ctr("inspect -f '{{.State.Status}}' it");
            assert!(["", "running", "exited", "removing", "created"].contains(&ran.out().trim()), "{ran}");
        },
    );
    cx.ctr("rm -f it");
    cx.leaves_nothing();
});

both!(the_monitor_killed, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sh -c 'sleep 1000 & sleep 1000'").succeeds();
    let pid: i32 = cx.ctr("inspect -f '{{.State.Pid}}' box").succeeds().parse().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let monitor: i32 = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    let words = std::fs::read_to_string(format!("/proc/{monitor}/cmdline")).unwrap();
    assert!(words.starts_with("ctr-monitor"), "{words}");
    let client = cx.spawn("attach --no-stdin box");
    kill(Pid::from_raw(monitor), Signal::SIGKILL).unwrap();
    until("its processes are gone", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    cx.ctr("ps -a --format '{{.Names}} {{.Status}}'").prints("box Exited (137) [..] ago\n");
    assert_ne!(client.wait().code, 0);
    cx.ctr("exec box true").refuses(1, "[..]not running[..]");
    cx.ctr("start box").prints("box\n");
    cx.ctr("ps --format '{{.Names}} {{.State}}'").prints("box running\n");
    cx.ctr("exec box echo again").prints("again\n");
    cx.ctr("rm -f box").prints("box\n");
    cx.leaves_nothing();
});

both!(the_first_process_killed_from_outside, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sleep 1000").succeeds();
    let pid: i32 = cx.ctr("inspect -f '{{.State.Pid}}' box").succeeds().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    cx.ctr("wait box").prints("137\n");
    cx.ctr("start box").prints("box\n");
});

both!(records_that_a_crash_left_damaged, |cx| {
    cx.busybox();
    cx.ctr("create --name good busybox true").succeeds();
    let id = cx.ctr("create --name bad busybox true").succeeds();
    // An empty file is what a file system without ordering makes of a rename before a power loss.
    std::fs::write(cx.root().join("containers").join(&id).join("state.json"), "").unwrap();
    let ran = cx.ctr("ps -a --format '{{.Names}}'");
    assert!(ran.code == 0 && ran.out().lines().any(|line| line == "good"), "{ran}");
    cx.ctr("start -a good").prints("");
    let ran = cx.ctr("rm -f bad");
    assert!(ran.code == 0 || ran.err().contains("bad"), "{ran}");
    let ran = cx.ctr(&format!("rm -f {id}"));
    assert!(!cx.root().join("containers").join(&id).exists(), "a damaged container cannot be removed\n{ran}");
});
