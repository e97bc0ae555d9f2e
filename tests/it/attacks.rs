//! From inside a container, by its root: what must not be reached.

use crate::support::{Entry, Image, Sandbox, binary, both, digest};

/// A container `c` to attack from, and the digest of the engine's file.
fn armed(cx: &Sandbox, flags: &str) -> String {
    cx.busybox();
    cx.ctr(&format!("run -d --name box {flags} busybox sleep 1000")).succeeds();
    digest(&std::fs::read(binary()).unwrap())
}

#[track_caller]
fn binary_is(before: &str) {
    assert_eq!(digest(&std::fs::read(binary()).unwrap()), before, "the engine's own file was changed");
}

fn monitor(cx: &Sandbox) -> i32 {
    let pid = cx.ctr("inspect -f '{{.State.Pid}}' box").succeeds();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

// CVE-2019-5736, first form: the container's command is `/proc/self/exe` itself.
both!(overwriting_the_engine_by_being_its_command, |cx| {
    let before = digest(&std::fs::read(binary()).unwrap());
    // A loop that wants to write whatever process 1 executes, from the moment that it can be seen.
    let attack = "#!/bin/sh\ni=0; while [ $i -lt 3000 ]; do i=$((i+1)); (echo '#!/bin/sh' > /proc/1/exe) 2>/dev/null && echo WRITTEN; done\n";
    cx.load(&Image::small(
        "attack:1",
        [
            Entry::file("attack", 0o755, attack),
            Entry::symlink("self", "/proc/self/exe"),
            Entry::file("interpreted", 0o755, "#!/proc/self/exe\n"),
        ],
    ));
    for command in ["/proc/self/exe version", "/self version", "/interpreted", "/proc/1/exe"] {
        let ran = cx.ctr(&format!("run --rm attack:1 {command}"));
        assert!(!ran.out().contains("WRITTEN"), "{ran}");
        binary_is(&before);
    }
    // `--init` makes the engine's own program process 1 for the whole life of the container.
    for flags in ["", "--init", "--init --privileged", "--pid host"] {
        let ran = cx.ctr(&format!("run --rm {flags} attack:1 /attack"));
        // Writing the executable of another process of the container, busybox, is its own affair.
        assert!(flags.is_empty() || !ran.out().contains("WRITTEN"), "{flags}\n{ran}");
        binary_is(&before);
    }
});

// CVE-2019-5736, second form: a process of the container lies in wait for `exec`.
both!(overwriting_the_engine_as_it_enters, |cx| {
    let before = armed(cx, "");
    cx.load(&Image::small("attack:1", []));
    let lurk = "while :; do for p in /proc/[0-9]*; do case $p in /proc/1|/proc/$$) continue;; esac; \
        exec 9<$p/exe || continue; (echo x > /proc/self/fd/9) 2>/dev/null && echo hit >> /hits; exec 9<&-; done; done 2>/dev/null";
    cx.ctr_args(["exec", "-d", "box", "sh", "-c", lurk]).prints("");
    for line in ["true", "/proc/self/exe", "sh -c true", "sh -c 'exec /proc/self/exe version'"] {
        for _ in 0..15 {
            cx.ctr(&format!("exec box {line}"));
        }
    }
    cx.ctr_args(["exec", "box", "sh", "-c", "printf '#!/proc/self/exe\\n' > /script; chmod 755 /script"]).prints("");
    for _ in 0..15 {
        cx.ctr("exec box /script");
    }
    binary_is(&before);
});

// CVE-2024-21626: a working directory or a descriptor that leads to the host.
both!(a_working_directory_outside, |cx| {
    armed(cx, "");
    for n in 0..25 {
        for directory in
            [format!("/proc/self/fd/{n}"), format!("/proc/1/fd/{n}"), format!("/proc/self/fd/{n}/../../..")]
        {
            let ran = cx.ctr(&format!("run --rm -w {directory} busybox sh -c 'ls -a . ./.. ./../.. ./../../..'"));
            assert!(!ran.out().contains("ctr-test") && !ran.out().contains("vmlinuz"), "{directory}\n{ran}");
            let ran =
                cx.ctr(&format!("exec -w {directory} box sh -c 'cat ../../../../../../etc/hostname; ls -a ../../..'"));
            assert!(!ran.out().contains("ctr-test") && !ran.out().contains("vmlinuz"), "{directory}\n{ran}");
        }
        if n > 8 && cx.is_root() {
            break;
        }
    }
    // The same through links of the image's own.
    let links = (3..20).map(|n| Entry::symlink(format!("fd{n}"), format!("/proc/self/fd/{n}")));
    cx.load(&Image::small("links:1", links));
    for n in 3..20 {
        let ran = cx.ctr(&format!("run --rm -w /fd{n} links:1 sh -c 'ls -a . .. ../..'"));
        assert!(!ran.out().contains("ctr-test") && !ran.out().contains("vmlinuz"), "{n}\n{ran}");
    }
});

both!(no_descriptor_leaks_in, |cx| {
    cx.busybox();
    let listing = "sh -c 'ls /proc/self/fd; ls /proc/1/fd; true'";
    // 3 is the directory that ls reads.
    cx.ctr(&format!("run --rm busybox {listing}")).prints("0\n1\n2\n3\n0\n1\n2\n");
    // Nor one that ctr itself was started with.
    cx.host("exec 7</etc/passwd 8</; $ctr run --rm busybox ls /proc/self/fd").prints("0\n1\n2\n3\n");
    cx.ctr("run -d --init --name box busybox sleep 1000").succeeds();
    cx.host("exec 7</etc/passwd 8</; $ctr exec box ls /proc/self/fd").prints("0\n1\n2\n3\n");
    let out = cx.ctr("exec box sh -c 'ls -l /proc/1/fd'").succeeds();
    for line in out.lines().filter(|line| line.contains("->")) {
        let target = line.rsplit("-> ").next().unwrap();
        assert!(["pipe:", "/dev/null", "anon_inode:", "socket:"].iter().any(|good| target.starts_with(good)), "{out}");
    }
});

both!(the_kernels_switches, |cx| {
    armed(cx, "");
    for (path, text) in [
        ("/proc/sys/kernel/core_pattern", "|/x"),
        ("/proc/sys/kernel/panic", "1"),
        ("/proc/sys/vm/overcommit_memory", "1"),
        ("/proc/sys/fs/suid_dumpable", "1"),
        ("/proc/sys/kernel/modprobe", "/x"),
        ("/proc/sysrq-trigger", "h"),
        ("/proc/irq/0/smp_affinity", "1"),
        ("/proc/bus/x", "1"),
        ("/sys/kernel/uevent_helper", "/x"),
        ("/sys/power/state", "mem"),
        ("/proc/kcore", "x"),
    ] {
        let before = std::fs::read(path).ok().filter(|_| path.starts_with("/proc/sys/"));
        let ran = cx.ctr(&format!("exec box sh -c 'echo \"{text}\" > {path} && echo WRITTEN'"));
        // Masked files are /dev/null: writing there does nothing.
        assert!(!ran.out().contains("WRITTEN") || path == "/proc/kcore", "{path}\n{ran}");
        assert_eq!(std::fs::read(path).ok().filter(|_| path.starts_with("/proc/sys/")), before, "{path}");
    }
    // Nor by taking the cover off.
    for line in [
        "umount /proc/sys",
        "mount -o remount,rw /proc/sys",
        "mount -t proc proc /mnt",
        "umount /proc/kcore",
        "mount --bind /proc /tmp",
    ] {
        cx.ctr(&format!("exec box {line}")).ends_failing();
    }
    cx.ctr("exec box sh -c 'mkdir /p; unshare -m mount -t proc proc /p'").ends_failing();
});

// The race of CVE-2019-19921 and CVE-2025-31133: links where masked paths are covered.
both!(racing_the_masked_paths, |cx| {
    let links = [
        Entry::symlink("proc", "/elsewhere"),
        Entry::dir("elsewhere/", 0o755),
        Entry::dir("elsewhere/sys/", 0o755),
        Entry::file("elsewhere/sysrq-trigger", 0o666, "not the kernel's"),
    ];
    cx.load(&Image::small("links:1", links));
    let ran = cx.ctr("run --rm links:1 sh -c 'cat /proc/kcore; echo h > /proc/sys/kernel/panic; cat /proc/self/comm'");
    // Either it does not start, or /proc is the kernel's, masked.
    assert!(ran.code == 125 || ran.err().contains("panic: Read-only"), "{ran}");
    // A directory shared by two containers, in which one swaps a link while the other starts with
    // a path below it: what is mounted there must stay below the root.
    let shared = cx.make_dir("shared");
    let outside = cx.make_dir("outside");
    cx.busybox();
    let swap =
        "while :; do rm -rf /s/a; mkdir /s/a; rm -rf /s/a; ln -s /../../../../../../../.. /s/a; done 2>/dev/null";
    cx.ctr_args([
        "run",
        "-d",
        "--name",
        "swaps",
        "-v",
        &format!("{}:/s", shared.display()),
        "busybox",
        "sh",
        "-c",
        swap,
    ])
    .succeeds();
    for _ in 0..25 {
        let line = format!("run --rm -v {}:/s --tmpfs /s/a/{} busybox true", shared.display(), outside.display());
        cx.ctr(&line);
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(outside.to_str().unwrap()), "{mounts}");
    cx.ctr("rm -f swaps").prints("swaps\n");
});

both!(reaching_the_monitor, |cx| {
    armed(cx, "--pid host");
    let monitor = monitor(cx);
    for line in [
        format!("nsenter -t {monitor} -m true"),
        format!("nsenter -t {monitor} -n true"),
        format!("ls /proc/{monitor}/root/"),
        format!("ls /proc/{monitor}/cwd/"),
        format!("cat /proc/{monitor}/environ"),
        format!("cat /proc/{monitor}/mem"),
        format!("sh -c 'cat /proc/{monitor}/fd/*'"),
        format!("sh -c 'echo x > /proc/{monitor}/exe'"),
    ] {
        let ran = cx.ctr(&format!("exec box {line}"));
        assert!(ran.code != 0 && ran.stdout.is_empty(), "{ran}");
    }
});

both!(another_containers_files, |cx| {
    armed(cx, "");
    cx.ctr("run -d --name other -e SECRET=1 busybox sh -c 'echo treasure > /treasure; sleep 1000'").succeeds();
    let other = cx.ctr("inspect -f '{{.State.Pid}}' other").succeeds();
    // Not its processes, not its files, not the store.
    cx.ctr("exec box sh -c 'ls /proc | grep -c ^[0-9]'").succeeds();
    for path in [format!("/proc/{other}"), cx.root().display().to_string(), cx.run_root().display().to_string()] {
        cx.ctr(&format!("exec box ls {path}")).ends_failing();
    }
    // Even where it sees the host's processes, it may not look into them.
    cx.ctr("run -d --name spy --pid host busybox sleep 1000").succeeds();
    for line in [
        format!("cat /proc/{other}/root/treasure"),
        format!("cat /proc/{other}/environ"),
        format!("nsenter -t {other} -m cat /treasure"),
    ] {
        let ran = cx.ctr(&format!("exec spy {line}"));
        // As root both are root of the same user namespace: only the namespaces keep them apart,
        // and the spy was given the host's processes.
        assert!(cx.is_root() && line.starts_with("cat") || ran.code != 0 && ran.stdout.is_empty(), "{ran}");
    }
});

both!(the_hosts_devices_and_memory, |cx| {
    armed(cx, "");
    for line in [
        "sh -c 'mknod /m c 1 1 && head -c 1 /m'",
        "sh -c 'mknod /d b 254 0 && head -c 1 /d'",
        "sh -c 'mknod /k c 1 11 && head -c 1 /k'",
        "mount -t tmpfs x /mnt",
        "mount -t cgroup2 x /tmp",
        "chroot /proc/1/root/../../.. ls /work",
        "dmesg -n 8",
        "sh -c 'date -s 2000-01-01 >/dev/null 2>&1; date +%Y | grep 2000'",
        "hostname changed",
        "renice -n -5 1",
        "sh -c 'ulimit -Hn 99999999'",
    ] {
        let ran = cx.ctr(&format!("exec box {line}"));
        assert!(ran.code != 0 && ran.stdout.is_empty(), "{ran}");
    }
});

both!(paths_of_the_host_in_what_it_sees, |cx| {
    armed(cx, "");
    // Anything that is mounted may be named there but the container's own directories on the host.
    let out = cx
        .ctr("exec box sh -c 'cat /proc/self/cmdline /proc/1/environ /proc/1/cmdline | tr \"\\0\" \"\\n\"'")
        .succeeds();
    assert!(!out.contains("ctr-test"), "{out}");
    let cgroup = cx.ctr("exec box cat /proc/self/cgroup").succeeds();
    for line in cgroup.lines() {
        let path = line.splitn(3, ':').nth(2).unwrap();
        assert!(path == "/" || !cx.is_root(), "its cgroup namespace shows the host's path: {cgroup}");
    }
});

// A root container's root is the machine's: what it is given of the host's must be read-only.
both!(the_hosts_null_device, |cx| {
    armed(cx, "");
    let attack =
        "for f in /proc/self/fd/0 /proc/interrupts /proc/timer_list /proc/keys; do chmod 667 $f; chown 1:1 $f; done; :";
    let look = || {
        let meta = std::fs::metadata("/dev/null").unwrap();
        (std::os::unix::fs::PermissionsExt::mode(&meta.permissions()), std::os::unix::fs::MetadataExt::uid(&meta))
    };
    let before = look();
    cx.ctr_args(["run", "--rm", "busybox", "sh", "-c", attack]);
    cx.ctr_args(["exec", "box", "sh", "-c", attack]);
    cx.ctr_args(["exec", "-d", "box", "sh", "-c", "chmod 667 /proc/self/fd/1; chmod 667 /proc/self/fd/2; : > /done"]);
    cx.ctr("exec box sh -c 'until [ -e /done ]; do :; done'").succeeds();
    assert_eq!(look(), before);
    // It is one still.
    cx.ctr("exec box sh -c 'cat; echo x > /proc/interrupts && cat /proc/interrupts'").prints("");
});
