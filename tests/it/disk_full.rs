//! A full disk: a small tmpfs as the storage root.

use std::process::Command;

use crate::support::{Entry, Image, Sandbox, Server, both, random, skipped};

/// Puts a tmpfs of so many MiB where the storage root will be.
pub fn small_disk(cx: &Sandbox, megabytes: u32) -> bool {
    if !nix::unistd::geteuid().is_root() {
        skipped("needs root, for a mount");
        return false;
    }
    let root = cx.make_dir("root");
    let options = format!("size={megabytes}m,mode=700,uid={},gid={}", cx.account.uid, cx.account.gid);
    let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&root).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    true
}

/// The same for a sandbox that is in use already: its root moves to a small disk, the images with
/// it.
pub fn small_disk_beside(cx: &Sandbox) -> bool {
    let root = cx.root();
    std::fs::rename(&root, cx.dir.join("moved")).unwrap();
    if !small_disk(cx, 64) {
        return false;
    }
    let copied = Command::new("cp").arg("-a").arg(cx.dir.join("moved/.")).arg(&root).status().unwrap();
    assert!(copied.success());
    std::fs::remove_dir_all(cx.dir.join("moved")).unwrap();
    true
}

both!(during_a_pull, |cx| {
    if !small_disk(cx, 16) {
        return;
    }
    cx.busybox();
    let server = Server::start();
    let reference = server.serve_image(&Image::small("big/app:1", [Entry::file("noise", 0o644, random(30 << 20))]));
    let ran = cx.ctr(&format!("pull -q {reference}"));
    ran.fails_saying(125, "no space left on device");
    // As a part of run it is the engine that failed.
    cx.ctr(&format!("run -q --rm {reference} true")).fails_saying(125, "no space left on device");
    cx.ctr("images --format '{{.Repository}}'").prints("busybox\n");
    cx.ctr("run --rm busybox echo intact").prints("intact\n");
    cx.leaves_nothing();
});

both!(during_a_load, |cx| {
    if !small_disk(cx, 16) {
        return;
    }
    cx.busybox();
    let archive = Image::small("big:1", [Entry::file("noise", 0o644, random(30 << 20))]).oci_archive();
    cx.ctr(&format!("load -q -i {}", archive.display())).fails_saying(125, "no space left on device");
    cx.ctr("images --format '{{.Repository}}'").prints("busybox\n");
    cx.ctr("run --rm busybox echo intact").prints("intact\n");
    cx.leaves_nothing();
});

both!(while_a_container_writes, |cx| {
    if !small_disk(cx, 16) {
        return;
    }
    cx.busybox();
    cx.ctr("run -d --name box busybox sleep 1000").succeeds();
    let ran = cx.ctr("run --name full busybox sh -c 'head -c 30000000 /dev/zero > /file'");
    assert!(ran.code != 0 && ran.err().contains("No space left on device"), "{ran}");
    // Nothing can be made now, and it is said why.
    let ran = cx.ctr("run --rm busybox true");
    if ran.code != 0 {
        ran.fails_saying(125, "no space left on device");
    }
    // What runs goes on, and what is there can be removed: that is the way out.
    cx.ctr("exec box echo alive").prints("alive\n");
    cx.ctr("ps --format '{{.Names}}'").prints("box\n");
    cx.ctr("rm -f full").prints("full\n");
    cx.ctr("run --rm busybox echo again").prints("again\n");
    cx.ctr("rm -f box").prints("box\n");
    cx.leaves_nothing();
});

both!(by_a_log_that_is_read_again_later, |cx| {
    if !small_disk(cx, 16) {
        return;
    }
    cx.busybox();
    for driver in ["json-file", "local"] {
        // Something to remove, so that there is room again.
        cx.ctr("run --name ballast busybox sh -c 'head -c 4000000 /dev/zero >/f'").succeeds();
        let script = "seq 1 2000000; touch /dev/shm/full; read l; echo after; read l; exit 3";
        let words = ["run", "-i", "--name", "box", "--log-driver", driver, "busybox", "sh", "-c", script];
        let mut command = cx.command();
        command.args(words);
        let mut running = crate::support::Running::start(command, cx.cwd());
        crate::support::until("it has filled the disk", || cx.ctr("exec box test -e /dev/shm/full").code == 0);
        // Those who read it go on too, and a follower is not harmed.
        let follower = cx.spawn("logs -f -n 1 box");
        cx.ctr("rm ballast").prints("ballast\n");
        running.write("go\n");
        running.shows("after\n");
        running.write("stop\n");
        let ran = running.wait();
        assert!(ran.code == 3 && ran.out().ends_with("\n2000000\nafter\n"), "{}", ran.stdout.len());
        let said = ran.err();
        assert!(
            said.lines().count() == 1 && said.contains("output is not logged") && said.contains("No space left"),
            "{said}"
        );
        // Whole lines in their order, the mark of what is missing, and what came later.
        let log = cx.ctr("logs box");
        let lines: Vec<u32> = log.out().lines().filter_map(|line| line.parse().ok()).collect();
        assert!(
            lines.is_sorted() && lines[..10_000].iter().zip(1..).all(|(line, n)| *line == n),
            "{} lines",
            lines.len()
        );
        assert!(
            log.code == 0 && log.out().ends_with("\nafter\n") && log.err().contains("bytes of log are missing here")
        );
        assert!(follower.wait().out().ends_with("after\n"));
        cx.ctr("rm box").prints("box\n");
    }
});

both!(by_its_log, |cx| {
    if !small_disk(cx, 16) {
        return;
    }
    cx.busybox();
    // The log cannot grow; the container and those attached to it go on.
    let ran = cx.ctr("run --name box busybox sh -c 'head -c 30000000 /dev/zero | tr \"\\0\" \"\\n\" | head -c 25000000; echo end; exit 3'");
    assert!(
        ran.code == 3 && ran.stdout.ends_with(b"end\n"),
        "code {}, {} bytes, {}",
        ran.code,
        ran.stdout.len(),
        ran.err()
    );
    cx.ctr("rm -f box").prints("box\n");
    cx.ctr("run --rm busybox echo again").prints("again\n");
});
