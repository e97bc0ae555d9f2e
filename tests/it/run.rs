//! `ctr run`: what it prints, how it ends, what it leaves.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Entry, Image, Layer, Registry, both, copy_program, until};

both!(prints_and_ends_as_the_command_does, |cx| {
    cx.busybox();
    cx.ctr("run --rm busybox echo hello world").prints("hello world\n");
    cx.ctr("run --rm busybox sh -c 'echo out; echo err >&2; exit 7'").is(7, "out\n", "err\n");
    // The first process of a container cannot end itself by a signal, one below init can.
    cx.ctr("run --rm busybox true").prints("");
    cx.ctr("run --rm busybox false").is(1, "", "");
    cx.leaves_nothing();
});

both!(flags_after_the_image_are_the_commands, |cx| {
    cx.busybox();
    cx.ctr("run --rm busybox echo --rm -it --name x").prints("--rm -it --name x\n");
    cx.ctr("run --rm -- busybox echo -n x").prints("x");
});

both!(exit_codes_of_commands_that_cannot_run, |cx| {
    cx.busybox();
    cx.ctr("run --rm busybox nosuch").refuses(127, r#"[..]"nosuch"[..]executable file not found in $PATH[..]"#);
    cx.ctr("run --rm busybox /no/such").refuses(127, r#"[..]"/no/such"[..]no such file or directory[..]"#);
    cx.ctr("run --rm busybox /etc/passwd").refuses(126, r#"[..]"/etc/passwd"[..]permission denied[..]"#);
    cx.ctr("run --rm busybox /etc").refuses(126, r#"[..]"/etc"[..]"#);
    cx.ctr("run --rm --pull never nosuchimage true").refuses(125, "[..]nosuchimage[..]");
    cx.leaves_nothing();
});

both!(a_failed_start_keeps_the_container_without_rm, |cx| {
    cx.busybox();
    cx.ctr("run --name bad busybox nosuch").refuses(127, r#"[..]"nosuch"[..]"#);
    cx.ctr("ps -a --format '{{.Names}} {{.Status}}'").prints("bad Created\n");
});

both!(the_environment, |cx| {
    cx.busybox();
    cx.set("FROM_HOST", "host value");
    let file = cx.make_file("env", "# a comment\nIN_FILE=a b\nFROM_HOST\nUNSET_ON_HOST\n\n");
    let line =
        format!("run --rm -h box -e A=1 -e FROM_HOST -e UNSET_ON_HOST --env-file {} busybox env", file.display());
    let out = cx.ctr(&line).succeeds();
    let mut lines: Vec<_> = out.lines().collect();
    lines.sort_unstable();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(lines, ["A=1", "FROM_HOST=host value", "HOME=/root", "HOSTNAME=box", "IN_FILE=a b", path]);
    let out = cx.ctr("run --rm -e A=1 -e A=2 -e PATH=/bin busybox env").succeeds();
    assert_eq!(out.matches("A=").count(), 1, "{out}");
    assert!(out.contains("A=2") && out.contains("PATH=/bin\n"), "{out}");
});

both!(the_user_and_its_groups, |cx| {
    cx.busybox();
    let id = "uid=1000(alice) gid=1000(alice) groups=29(audio),50(staff),1000(alice)";
    let sorted = |cx: &crate::support::Sandbox, line: &str| {
        let out = cx.ctr(line).succeeds();
        let (head, groups) = out.split_once("groups=").unwrap_or((&out, ""));
        let mut groups: Vec<_> = groups.split(',').collect();
        groups.sort_unstable_by_key(|group| group.split('(').next().unwrap().parse::<u32>().unwrap_or(0));
        format!("{head}groups={}", groups.join(","))
    };
    assert_eq!(sorted(cx, "run --rm -u alice busybox id"), id);
    assert_eq!(sorted(cx, "run --rm -u 1000 busybox id"), id);
    assert_eq!(sorted(cx, "run --rm -u alice:staff busybox id"), "uid=1000(alice) gid=50(staff) groups=50(staff)");
    assert_eq!(sorted(cx, "run --rm -u 1234:5 busybox id"), "uid=1234 gid=5 groups=5");
    let added = sorted(cx, "run --rm --group-add staff --group-add 777 busybox id");
    assert!(added.ends_with("50(staff),777"), "{added}");
    cx.ctr("run --rm -u alice busybox sh -c 'echo $HOME'").prints("/home/alice\n");
    cx.ctr("run --rm -u nosuch busybox id").refuses(125, "[..]nosuch[..]no matching entries in passwd file[..]");
    cx.ctr("run --rm busybox sh -c 'grep -E \"^(Uid|CapInh|CapAmb)\" /proc/self/status'")
        .prints("Uid:\t0\t0\t0\t0\nCapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n");
});

both!(the_working_directory, |cx| {
    cx.busybox();
    cx.ctr("run --rm -w /made/for/it busybox pwd").prints("/made/for/it\n");
    cx.ctr("run --rm -w relative busybox pwd").refuses(125, "[..]relative[..]absolute[..]");
    cx.ctr("run --rm -w /etc/passwd busybox pwd").refuses(126, "[..]/etc/passwd[..]");
    cx.load(&Image::busybox().named("inside:latest").config("WorkingDir", json!("/home/alice")));
    cx.ctr("run --rm inside pwd").prints("/home/alice\n");
});

both!(standard_input, |cx| {
    cx.busybox();
    cx.ctr_reads("run --rm -i busybox cat", "one\ntwo\n").prints("one\ntwo\n");
    cx.ctr_reads("run --rm busybox cat", "not for it\n").prints("");
    let big: String = (0..200_000).map(|n| format!("{n}\n")).collect();
    let sum = cx.ctr_reads("run --rm -i busybox md5sum", &big).succeeds();
    let mine = cx.ctr_reads("run --rm -i busybox cat", &big);
    assert!(mine.out() == big, "1.3 MB came back changed");
    assert_eq!(sum.len(), 35, "{sum}");
    // The command ends before its input does: what is left is nobody's.
    let mut running = cx.spawn("run --rm -i busybox true");
    until("it ends while its input is open", || !running.runs());
    running.wait().prints("");
});

both!(binary_output_is_untouched, |cx| {
    cx.busybox();
    let ran = cx.ctr(r"run --rm busybox printf '\000\377\r\n\033[31m'");
    assert_eq!(ran.stdout, b"\0\xff\r\n\x1b[31m", "{ran}");
    let ran = cx.ctr("run --rm busybox sh -c 'head -c 3000000 /dev/zero'");
    assert_eq!((ran.code, ran.stdout.len()), (0, 3_000_000));
});

both!(signals_are_passed_on_without_a_terminal, |cx| {
    cx.busybox();
    let running = cx
        .spawn("run --rm busybox sh -c 'trap \"echo got it; exit 5\" TERM; echo ready; while :; do sleep 0.05; done'");
    running.shows("ready");
    running.signal(Signal::SIGTERM);
    running.wait().is(5, "ready\ngot it\n", "");
    let running = cx.spawn(
        "run --rm --init busybox sh -c 'trap \"echo got it; exit 6\" HUP; echo ready; while :; do sleep 0.05; done'",
    );
    running.shows("ready");
    running.signal(Signal::SIGHUP);
    running.wait().is(6, "ready\ngot it\n", "");
    cx.leaves_nothing();
});

both!(names, |cx| {
    cx.busybox();
    cx.ctr("run --name one busybox true").prints("");
    cx.ctr("run --name one busybox true").refuses(125, r#"[..]name "/one" is already in use by container "[..]"[..]"#);
    for bad in ["", "-a", "a/b", "a b", "ä"] {
        let ran = cx.ctr_args(["run", "--name", bad, "busybox", "true"]);
        if bad.is_empty() {
            // Docker takes an empty name for none.
            continue;
        }
        ran.refuses(125, "[..]nvalid[..]name[..]");
    }
    cx.ctr("rm one").prints("one\n");
    cx.ctr("run --rm --name one busybox true").prints("");
});

both!(a_name_is_made_up, |cx| {
    cx.busybox();
    cx.ctr("run busybox true").prints("");
    let name = cx.ctr("ps -a --format '{{.Names}}'").succeeds();
    let (left, right) = name.split_once('_').unwrap_or_else(|| panic!("not like Docker's: {name:?}"));
    assert!(!left.is_empty() && !right.is_empty());
});

both!(hostname_and_hosts, |cx| {
    cx.busybox();
    let line = "run --rm -h box --domainname example.org --add-host db:10.1.2.3 busybox sh -c 'hostname; cat /etc/hostname; cat /etc/hosts'";
    let out = cx.ctr(line).succeeds();
    assert!(out.starts_with("box\nbox\n"), "{out}");
    assert!(out.contains("127.0.0.1\tlocalhost") && out.contains("10.1.2.3\tdb"), "{out}");
    let id = cx.ctr("run -d busybox hostname").succeeds();
    cx.until_status(&id, "exited");
    cx.ctr_args(["logs", &id]).prints(&format!("{}\n", &id[..12]));
    cx.ctr(
        "run --rm --dns 192.0.2.7 --dns-search example.org --dns-option ndots:3 busybox grep -v '#' /etc/resolv.conf",
    )
    .prints("nameserver 127.0.0.11\nsearch example.org\noptions ndots:3\n");
});

both!(bind_mounts, |cx| {
    cx.busybox();
    cx.make_dir("data");
    cx.make_file("data/file", "from the host\n");
    let data = cx.dir.join("data");
    let data = data.display();
    cx.ctr(&format!("run --rm -v {data}:/data busybox cat /data/file")).prints("from the host\n");
    cx.ctr(&format!("run --rm -v {data}:/data busybox sh -c 'echo new > /data/new'")).prints("");
    cx.host(&format!("cat {data}/new; stat -c %U {data}/new")).prints(&format!("new\n{}\n", cx.account.name));
    cx.ctr(&format!("run --rm -v {data}:/data:ro busybox sh -c 'echo x > /data/ro'")).is(
        1,
        "",
        "sh: can't create /data/ro: Read-only file system\n",
    );
    cx.ctr(&format!("run --rm -v {data}/file:/etc/one busybox cat /etc/one")).prints("from the host\n");
    cx.ctr(&format!("run --rm --mount type=bind,src={data},dst=/m,readonly busybox cat /m/file"))
        .prints("from the host\n");
    cx.ctr(&format!("run --rm --mount type=bind,source={data}/absent,target=/m busybox true"))
        .refuses(125, "[..]bind source path does not exist: [..]/absent[..]");
    cx.ctr(&format!("run --rm -v {data}:relative busybox true")).refuses(125, "[..]relative[..]absolute[..]");
    cx.ctr(&format!("run --rm -v {data}:/ busybox true")).refuses(125, "[..]'/'[..]");
    cx.ctr(&format!("run --rm -v {data}:/a:nosuch busybox true")).refuses(125, "[..]nosuch[..]");
});

both!(nothing_of_the_mounts_is_seen_outside, |cx| {
    cx.busybox();
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let id = cx.ctr("run -d busybox sleep 1000").succeeds();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mine = cx.dir.to_str().unwrap();
    let seen: Vec<_> = mounts.lines().filter(|line| line.contains(mine)).collect();
    assert!(seen.is_empty(), "before: {before}; seen on the host: {seen:?}");
    cx.ctr_args(["rm", "-f", &id]).prints(&format!("{id}\n"));
});

both!(a_read_only_root_has_read_only_files_of_ctr_s, |cx| {
    cx.busybox();
    let write = "for f in hosts hostname resolv.conf; do (echo >> /etc/$f) 2>/dev/null && echo $f; done; :";
    cx.ctr_args(["run", "--rm", "--read-only", "busybox", "sh", "-c", write]).prints("");
    cx.ctr_args(["run", "--rm", "busybox", "sh", "-c", write]).prints("hosts\nhostname\nresolv.conf\n");
});

// The usual question of a program whether it is in a container.
both!(docker_s_mark_is_in_containers_of_images, |cx| {
    let own = |name| Image::small(name, [Entry::file(".dockerenv", 0o600, "own\n")]);
    let led = Image::small("led:1", [Entry::symlink(".dockerenv", "../../../../../../../etc/there")]);
    let gone = own("gone:1").layer(&Layer::new([Entry::file(".wh..dockerenv", 0o644, "")]));
    cx.busybox();
    for image in [&own("own:1"), &led, &gone] {
        cx.load(image);
    }
    let look = "stat -c '%F %a %u:%g %s' /.dockerenv";
    for (flags, image) in [("", "busybox"), ("", "gone:1"), ("--read-only", "busybox"), ("--user 5", "busybox")] {
        cx.host(&format!("umask 077; $ctr run --rm {flags} {image} {look}")).prints("regular empty file 755 0:0 0\n");
    }
    cx.ctr(&format!("run --rm own:1 {look}")).prints("regular file 600 0:0 4\n");
    cx.ctr("run --rm led:1 readlink /.dockerenv").prints("../../../../../../../etc/there\n");
    assert!(!std::path::Path::new("/etc/there").exists());

    // It is no change of the container's, until it makes it one.
    cx.ctr("run --name c busybox true").succeeds();
    cx.ctr("diff c").prints("");
    cx.ctr("commit -q c again:1").succeeds();
    cx.host(
        "$ctr save again:1 | tar x; for f in blobs/sha256/*; do tar tf $f 2>/dev/null; done | grep -c dockerenv || :",
    )
    .prints("0\n");
    cx.host("$ctr export c | tar tv --numeric-owner | grep -c 'rwxr-xr-x 0/0  *0 .* .dockerenv$'").prints("1\n");
    cx.ctr("run --name d busybox sh -c 'echo mine > /.dockerenv'").succeeds();
    cx.ctr("diff d").prints("A /.dockerenv\n");
    cx.ctr("commit -q d mine:1").succeeds();
    cx.ctr("run --rm mine:1 cat /.dockerenv").prints("mine\n");

    // A folder of the user's own is as it was.
    cx.host("mkdir tree; $ctr export c | tar x -C tree --exclude=.dockerenv --exclude='dev/*'").succeeds();
    cx.ctr("run --rm --rootfs tree test -e /.dockerenv").ends_failing();
    cx.host("ls -A tree | grep -c docker || :").prints("0\n");
});

both!(tmpfs_shm_and_read_only_root, |cx| {
    cx.busybox();
    cx.ctr("run --rm --tmpfs /t:size=1m,mode=700 busybox sh -c 'df -k /t | tail -1 | tr -s \" \" | cut -d\" \" -f1,2; stat -c %a /t'")
        .prints("tmpfs 1024\n700\n");
    cx.ctr("run --rm --mount type=tmpfs,dst=/t,tmpfs-size=2m busybox sh -c 'df -k /t | tail -1 | tr -s \" \" | cut -d\" \" -f2'")
        .prints("2048\n");
    cx.ctr("run --rm busybox sh -c 'df -k /dev/shm | tail -1 | tr -s \" \" | cut -d\" \" -f2'").prints("65536\n");
    cx.ctr("run --rm --shm-size 1m busybox sh -c 'df -k /dev/shm | tail -1 | tr -s \" \" | cut -d\" \" -f2'")
        .prints("1024\n");
    cx.ctr("run --rm --read-only busybox touch /x").is(1, "", "touch: /x: Read-only file system\n");
    cx.ctr("run --rm --read-only --tmpfs /tmp busybox sh -c 'echo works > /tmp/x; cat /tmp/x; echo > /dev/shm/y'")
        .prints("works\n");
});

both!(devices, |cx| {
    cx.busybox();
    let out = cx.ctr("run --rm busybox ls /dev").succeeds();
    let names: Vec<_> = out.lines().collect();
    assert_eq!(
        names,
        [
            "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
            "urandom", "zero"
        ]
    );
    cx.ctr("run --rm busybox sh -c 'echo x > /dev/null; head -c 4 /dev/zero | wc -c; echo x > /dev/full'").is(
        1,
        "4\n",
        "sh: write error: No space left on device\n",
    );
    cx.ctr("run --rm busybox sh -c 'for f in fd stdin ptmx; do readlink /dev/$f; done'")
        .prints("/proc/self/fd\n/proc/self/fd/0\npts/ptmx\n");
});

both!(in_the_background, |cx| {
    cx.busybox();
    let id = cx.ctr("run -d --name bg busybox sh -c 'echo started; sleep 1000'").succeeds();
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    cx.until_logged("bg", "started");
    cx.ctr("ps --format '{{.ID}} {{.Names}}'").prints(&format!("{} bg\n", &id[..12]));
    cx.ctr("rm -f bg").prints("bg\n");
    let id = cx.ctr("run -d --rm busybox true").succeeds();
    until("it removes itself", || cx.ctr("ps -aq").succeeds().is_empty());
    assert!(!cx.root().join("containers").join(&id).exists());
    cx.leaves_nothing();
});

both!(capabilities, |cx| {
    cx.busybox();
    let line = |flags: &str| {
        format!("run --rm {flags} busybox sh -c 'grep -E \"^Cap(Prm|Eff|Bnd)\" /proc/self/status | cut -f2'")
    };
    let three = |set: &str| format!("{set}\n{set}\n{set}\n");
    cx.ctr(&line("")).prints(&three("00000000a80425fb"));
    cx.ctr(&line("--cap-drop ALL")).prints(&three("0000000000000000"));
    cx.ctr(&line("--cap-drop ALL --cap-add NET_ADMIN --cap-add CAP_CHOWN")).prints(&three("0000000000001001"));
    cx.ctr(&line("--cap-drop net_raw")).prints(&three("00000000a80405fb"));
    cx.ctr(&line("-u alice")).prints("0000000000000000\n0000000000000000\n00000000a80425fb\n");
    cx.ctr("run --rm --cap-add nosuch busybox true").refuses(125, "invalid CapAdd: unknown capability: \"CAP_NOSUCH\"");
    let all = cx.ctr(&line("--privileged")).succeeds();
    assert!(all.starts_with("000001"), "{all}");
});

both!(seccomp_and_no_new_privileges, |cx| {
    cx.busybox();
    let line = |flags: &str| {
        format!("run --rm {flags} busybox sh -c 'grep -E \"^(NoNewPrivs|Seccomp):\" /proc/self/status | cut -f2'")
    };
    cx.ctr(&line("")).prints("0\n2\n");
    cx.ctr(&line("--security-opt no-new-privileges")).prints("1\n2\n");
    cx.ctr(&line("--security-opt seccomp=unconfined")).prints("0\n0\n");
    cx.ctr("run --rm busybox unshare -U true").is(1, "", "unshare: unshare(0x10000000): Operation not permitted\n");
    let deny =
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#;
    let file = cx.make_file("deny.json", deny);
    cx.ctr(&format!("run --rm --security-opt seccomp={} busybox mkdir /x", file.display())).is(
        1,
        "",
        "mkdir: can't create directory '/x': Operation not permitted\n",
    );
    cx.ctr("run --rm --security-opt seccomp=/no/such busybox true").refuses(125, "[..]/no/such[..]");
    cx.ctr("run --rm --security-opt nosuch=1 busybox true").refuses(125, "[..]nosuch[..]");
});

both!(masked_and_read_only_paths, |cx| {
    cx.busybox();
    // Not every kernel has all of them.
    cx.ctr("run --rm busybox sh -c 'cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null; ls -A /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | grep -v -e : -e ^$'")
        .is(1, "", "");
    for path in ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity"] {
        let ran = cx.ctr(&format!("run --rm busybox sh -c 'echo 1 > {path}'"));
        assert!(ran.code == 1 && ran.err().starts_with(&format!("sh: can't create {path}: ")), "{ran}");
    }
    cx.ctr("run --rm busybox touch /sys/x").ends_failing();
});

both!(resource_limits_of_the_process, |cx| {
    cx.busybox();
    cx.ctr("run --rm --ulimit nofile=100:200 --ulimit core=0 busybox sh -c 'ulimit -n; ulimit -Hn; ulimit -c'")
        .prints("100\n200\n0\n");
    cx.ctr("run --rm --ulimit nosuch=1 busybox true").refuses(125, "[..]nosuch[..]");
    cx.ctr("run --rm --ulimit nofile=200:100 busybox true").refuses(125, "[..]nofile[..]");
});

both!(oom_score, |cx| {
    cx.busybox();
    cx.ctr("run --rm --oom-score-adj 500 busybox cat /proc/self/oom_score_adj").prints("500\n");
    let ran = cx.ctr("run --rm --oom-score-adj -500 busybox cat /proc/self/oom_score_adj");
    if cx.is_root() && crate::support::has_capability(24) {
        ran.prints("-500\n");
    } else {
        ran.refuses(125, "cannot set the OOM score adjustment to -500: lower than [..] needs CAP_SYS_RESOURCE[..]");
        assert!(ran.err().contains("\nhint: "), "{ran}");
        cx.ctr("ps -aq").prints("");
    }
});

both!(sysctls, |cx| {
    cx.busybox();
    cx.ctr("run --rm --sysctl net.ipv4.ip_forward=1 --sysctl kernel.msgmax=4096 busybox cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax")
        .prints("1\n4096\n");
    cx.ctr("run --rm --sysctl kernel.panic=1 busybox true").refuses(125, "[..]kernel.panic[..]");
    cx.ctr("run --rm --network host --sysctl net.ipv4.ip_forward=1 busybox true")
        .refuses(125, "[..]net.ipv4.ip_forward[..]");
});

both!(networks, |cx| {
    cx.busybox();
    for (network, interfaces) in [("", "eth0\nlo\n"), ("--network none", "lo\n")] {
        cx.ctr(&format!("run --rm {network} busybox ls /sys/class/net")).prints(interfaces);
        cx.ctr(&format!("run --rm {network} busybox sh -c 'ping -c 1 127.0.0.1 | grep -c ttl'")).prints("1\n");
    }
    // The kernel removes those of containers that have ended a moment later.
    let names = || -> Vec<_> { crate::support::netns::interfaces().into_iter().collect() };
    until("the containers' are gone", || !names().iter().any(|name| name.to_str().unwrap().starts_with("veth")));
    let names: String = names().iter().map(|name| format!("{}\n", name.display())).collect();
    let line = "run --rm --net host busybox sh -c 'tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d \" \" | sort'";
    cx.ctr(line).prints(&names);
});

both!(namespaces_are_its_own, |cx| {
    cx.busybox();
    let out = cx
        .ctr("run --rm busybox sh -c 'for n in cgroup ipc mnt net pid uts user; do readlink /proc/self/ns/$n; done'")
        .succeeds();
    for (inside, name) in out.lines().zip(["cgroup", "ipc", "mnt", "net", "pid", "uts", "user"]) {
        let host = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        let same = host.to_str() == Some(inside);
        assert_eq!(same, name == "user" && cx.is_root(), "{name}: {inside}");
    }
    let out = cx.ctr("run --rm --pid host busybox sh -c 'ps | wc -l'").succeeds();
    assert!(out.trim().parse::<u32>().unwrap() > 3, "{out}");
    cx.ctr("run --rm --uts host busybox hostname").prints(&cx.host("hostname").out());
});

both!(cid_file, |cx| {
    cx.busybox();
    let file = cx.cwd().join("cid");
    cx.ctr("run --cidfile cid --name it busybox true").prints("");
    let id = std::fs::read_to_string(&file).unwrap();
    cx.ctr("inspect -f '{{.Id}}' it").prints(&format!("{id}\n"));
    cx.ctr("run --rm --cidfile cid busybox true").refuses(125, "[..]container ID file found[..]cid[..]");
    // As in a script whose variable is empty: none is wanted.
    cx.ctr_args(["run", "--rm", "--cidfile", "", "busybox", "echo", "fine"]).prints("fine\n");
});

both!(entry_points, |cx| {
    let image = Image::busybox().named("entry:latest");
    cx.load(&image.config("Entrypoint", json!(["echo", "entry"])).config("Cmd", json!(["default"])));
    cx.busybox();
    cx.ctr("run --rm entry").prints("entry default\n");
    cx.ctr("run --rm entry given words").prints("entry given words\n");
    cx.ctr("run --rm --entrypoint echo entry").prints("\n");
    cx.ctr("run --rm --entrypoint printf entry %s x").prints("x");
    cx.load(&Image::busybox().named("nothing:latest").config("Cmd", json!(null)));
    cx.ctr("run --rm nothing").refuses(125, "[..]no command specified[..]");
});

both!(rootfs_without_an_image, |cx| {
    let tree = cx.make_dir("tree");
    cx.make_dir("tree/bin");
    copy_program(std::path::Path::new("/bin/busybox"), &tree.join("bin/sh"));
    cx.ctr(&format!("run --rm --rootfs {} /bin/sh -c 'echo from a tree; echo kept > /file'", tree.display()))
        .prints("from a tree\n");
    cx.host(&format!("cat {}/file", tree.display())).prints("kept\n");
    cx.ctr("run --rm --rootfs /no/such/tree /bin/sh").refuses(125, "[..]/no/such/tree[..]");
});

both!(the_image_is_pulled_when_it_is_missing, |cx| {
    let reference = Registry::plain().push(&Image::small("pulled/by-run:v1", [Entry::file("hello", 0o644, "hi\n")]));
    let ran = cx.ctr(&format!("run --rm {reference} cat /hello"));
    assert!(ran.code == 0 && ran.out() == "hi\n" && !ran.err().is_empty(), "{ran}");
    cx.ctr(&format!("run --rm {reference} cat /hello")).prints("hi\n");
    cx.ctr(&format!("run --rm -q --pull always {reference} cat /hello")).prints("hi\n");
    cx.ctr("run --rm --pull sometimes busybox true").refuses(125, "[..]sometimes[..]");
});

both!(layers_are_below_and_not_written, |cx| {
    cx.busybox();
    cx.ctr("run --rm busybox sh -c 'echo gone > /etc/passwd; rm /bin/ls; mkdir /new'").prints("");
    cx.ctr("run --rm busybox sh -c 'head -1 /etc/passwd; ls -d /bin /new'").is(
        1,
        "root:x:0:0:root:/root:/bin/sh\n/bin\n",
        "ls: /new: No such file or directory\n",
    );
    cx.ctr("run --name keeps busybox sh -c 'echo mine > /mine'").prints("");
    cx.ctr("start -a keeps").prints("");
    cx.ctr("run --rm busybox ls /mine").is(1, "", "ls: /mine: No such file or directory\n");
});

// The engine was seen elsewhere to give the host's /dev/null away to the container's user.
both!(the_hosts_dev_null_stays_the_hosts, |cx| {
    use std::os::unix::fs::MetadataExt;
    cx.busybox();
    let of = || std::fs::metadata("/dev/null").map(|m| (m.uid(), m.gid(), m.mode())).unwrap();
    let before = of();
    cx.host("$ctr run --rm -u alice busybox id -u </dev/null >/dev/null 2>/dev/null; $ctr run --rm -i -u alice busybox true </dev/null").prints("");
    assert_eq!(of(), before);
});

// crun 1.27 makes device nodes in the host's target of such a link.
both!(links_where_the_root_should_have_directories, |cx| {
    let victim = cx.make_dir("victim");
    let target = format!("../../../../../../../../../..{}", victim.display());
    for name in ["dev", "proc", "sys"] {
        let image = Image::small(&format!("link-{name}:latest"), [Entry::symlink(name, &target)]);
        cx.load(&image);
        let ran = cx.ctr(&format!("run --rm link-{name} true"));
        assert!(ran.code == 0 || ran.code == 125, "{ran}");
        assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0, "{name}: something was made outside");
    }
});

both!(file_capabilities_work, |cx| {
    // vfs_cap_data of revision 2: magic with the effective bit, CAP_NET_RAW permitted.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let busybox = std::fs::read("/bin/busybox").unwrap();
    cx.load(&Image::small(
        "powers:latest",
        [Entry::file("bin/with-capability", 0o755, &busybox).xattr("security.capability", capability)],
    ));
    let line = "run --rm -u alice powers sh -c 'exec -a grep /bin/with-capability CapEff /proc/self/status'";
    cx.ctr(line).prints("CapEff:\t0000000000002000\n");
});

both!(labels_and_stop_signal_are_recorded, |cx| {
    cx.busybox();
    cx.ctr("create --name lab --label a=1 -l b --stop-signal INT --stop-timeout 3 busybox true").succeeds();
    cx.ctr("inspect -f '{{json .Config.Labels}} {{.Config.StopSignal}} {{.Config.StopTimeout}}' lab")
        .prints("{\"a\":\"1\",\"b\":\"\"} INT 3\n");
});

both!(output_that_nobody_reads_any_more, |cx| {
    cx.busybox();
    // The client is ended by the closed pipe; its container goes on, as Docker's does.
    cx.host("timeout 20 $ctr run --rm --name endless busybox yes | head -n 1").succeeds_talking();
    cx.ctr("rm -f endless").prints("endless\n");
    cx.leaves_nothing();
});

both!(a_layer_that_takes_away_and_changes, |cx| {
    let image = Image::small(
        "lower:latest",
        [
            Entry::dir("d/", 0o755),
            Entry::file("d/kept", 0o644, "kept\n"),
            Entry::file("d/gone", 0o644, "gone\n"),
            Entry::dir("o/", 0o755),
            Entry::file("o/below", 0o644, "below\n"),
        ],
    );
    let image = image.named("stack:latest").layer(&Layer::new([
        Entry::file("d/.wh.gone", 0o644, ""),
        Entry::dir("o/", 0o711),
        Entry::file("o/.wh..wh..opq", 0o644, ""),
        Entry::file("o/above", 0o644, "above\n"),
    ]));
    cx.load(&image);
    cx.ctr("run --rm stack sh -c 'ls -A /d /o; stat -c %a /o'").prints("/d:\nkept\n\n/o:\nabove\n711\n");
    cx.ctr("run --rm stack sh -c 'rm -r /d; mkdir /d; ls -A /d; mv /o /p; ls /p'").prints("above\n");
});
