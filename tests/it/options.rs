//! Options of `run`, `create` and `exec` that Podman has and Docker has not, and those of Docker's that
//! no other test is about.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::{Sandbox, both, copy_program, until};

/// A directory with the files of a root.
fn tree(cx: &Sandbox) -> std::path::PathBuf {
    let tree = cx.make_dir("tree");
    let bin = cx.make_dir("tree/bin");
    cx.make_dir("tree/etc");
    copy_program(std::path::Path::new("/bin/busybox"), &bin.join("busybox"));
    for name in ["sh", "touch", "ls", "cat"] {
        std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
    }
    tree
}

both!(time_zones, |cx| {
    cx.busybox();
    cx.ctr("run --rm --tz Asia/Tokyo busybox date +%Z").prints("JST\n");
    cx.ctr("run --rm --read-only --tz Asia/Kolkata busybox date +%z").prints("+0530\n");
    let here = cx.host("TZ= date +%z; date +%z").succeeds().lines().last().unwrap().to_owned();
    cx.ctr("run --rm --tz local busybox date +%z").prints(&format!("{here}\n"));
    cx.ctr("run --rm --tz Nowhere/Else busybox true").refuses(125, "[..]unknown time zone Nowhere/Else");
    cx.ctr("run --rm --tz ../../../etc/passwd busybox true").refuses(125, "[..]unknown time zone ../[..]");
});

both!(the_umask_is_exec_s_too, |cx| {
    cx.busybox();
    cx.ctr("run -d --name c --umask 0077 busybox sh -c 'touch /made; exec sleep 1000'").succeeds();
    until("it made its file", || cx.ctr("exec c ls /made").code == 0);
    cx.ctr("exec c sh -c 'stat -c %a /made; umask'").prints("600\n0077\n");
    cx.ctr("run --rm busybox sh -c umask").prints("0022\n");
    cx.ctr("run --rm --umask 888 busybox true")
        .refuses(125, "invalid argument \"888\" for \"--umask\" flag: invalid umask[..]");
    cx.ctr("rm -f c").succeeds();
});

both!(a_time_that_is_over, |cx| {
    cx.busybox();
    let began = Instant::now();
    cx.ctr("run --name c --timeout 1 busybox sh -c 'trap \"\" TERM; sleep 1000'").is(255, "", "");
    assert!(began.elapsed() >= Duration::from_secs(1) && began.elapsed() < Duration::from_secs(20));
    cx.ctr("inspect -f '{{.State.Status}} {{.State.ExitCode}}' c").prints("exited 255\n");
    cx.ctr("run --rm --timeout 1000 busybox sh -c 'exit 3'").is(3, "", "");
});

both!(variables_that_are_taken_away_or_changed, |cx| {
    use crate::support::Image;
    use serde_json::json;
    cx.load(&Image::busybox().named("env:latest").config("Env", json!(["PATH=/bin", "KEPT=1", "GONE=2"])));
    let sorted = |line: &str| {
        let out = cx.ctr(line).succeeds();
        let mut lines: Vec<_> = out.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(
        sorted("run --rm -h h --unsetenv GONE --unsetenv HOSTNAME env env"),
        ["HOME=/root", "KEPT=1", "PATH=/bin"]
    );
    assert_eq!(sorted("run --rm --unsetenv-all -e GONE=3 env /bin/env"), ["GONE=3", "HOME=/root"]);
    assert_eq!(
        sorted("run --rm -h h --env-merge 'PATH=/x:${PATH}' --unsetenv KEPT --unsetenv GONE env env"),
        ["HOME=/root", "HOSTNAME=h", "PATH=/x:/bin"]
    );
    cx.set("ONLY_HERE", "yes");
    assert!(sorted("run --rm --env-host env env").contains(&"ONLY_HERE=yes".to_owned()));
    // Without a value here, a name takes the variable away; also from what every container has.
    cx.ctr("run -d --name c env sleep 1000").succeeds();
    assert_eq!(sorted("exec -e HOSTNAME -e KEPT=2 -e GONE c env"), ["HOME=/root", "KEPT=2", "PATH=/bin"]);
    cx.ctr("rm -f c").succeeds();
});

both!(descriptors_are_passed_on, |cx| {
    cx.busybox();
    cx.ctr("run -d --name c busybox sleep 1000").succeeds();
    let out = cx.dir.join("cwd/out");
    for (flags, words) in [("run --rm", "busybox"), ("run --rm --init", "busybox"), ("exec", "c")] {
        cx.host(&format!(
            "$ctr {flags} --preserve-fds 2 {words} sh -c 'cat <&3; echo written >&4; ls /proc/self/fd | wc -l' 3<<X 4>out\nread\nX"
        ))
        // Three streams, both, and ls's own.
        .prints("read\n6\n");
        assert_eq!(fs::read_to_string(&out).unwrap(), "written\n");
        cx.host(&format!("$ctr {flags} --preserve-fd 7 {words} sh -c 'cat <&7' 7<<X\nseven\nX")).prints("seven\n");
    }
    cx.ctr("run --rm --preserve-fd 900 busybox true").refuses(125, "[..]file descriptor 900 is not available[..]");
    cx.ctr("run --rm --preserve-fds 101 busybox true").refuses(125, "[..]there can be 100 at most[..]");
    cx.ctr("rm -f c").succeeds();
});

both!(the_first_process_s_number_in_a_file, |cx| {
    cx.busybox();
    let file = cx.cwd().join("pid");
    cx.ctr("create --name c --pidfile pid busybox sleep 1000").succeeds();
    assert!(!file.exists());
    cx.ctr("start c").succeeds();
    let pid = cx.ctr("inspect -f '{{.State.Pid}}' c").succeeds();
    assert_eq!(fs::read_to_string(&file).unwrap(), pid);
    cx.ctr("rm -f c").succeeds();
    cx.ctr("run --rm --pidfile /no/such/dir/pid busybox true")
        .refuses(125, "[..]write the pidfile \"/no/such/dir/pid\"[..]");
});

both!(accounts_are_added, |cx| {
    cx.busybox();
    let entry = "--passwd-entry '$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/none' --group-entry 'g:x:$GID:$USERLIST'";
    cx.ctr(&format!("run --rm -u 1234:77 -w /w {entry} busybox sh -c 'tail -n 1 /etc/passwd; tail -n 1 /etc/group'"))
        .prints("1234:*:1234:77:container user:/w:/bin/none\ng:x:77:1234\n");
    // One who is there is not added, and nothing is written to what is mounted.
    cx.ctr(&format!("run --rm -u 1000 {entry} busybox sh -c 'grep -c :1000: /etc/passwd'")).prints("1\n");
    let own = cx.make_file("passwd", "root:x:0:0::/:\n");
    cx.ctr(&format!("run --rm -u 1234 {entry} -v {}:/etc/passwd busybox cat /etc/passwd", own.display()))
        .prints("root:x:0:0::/:\n");
    let name = &cx.account.name;
    if !cx.is_root() {
        cx.ctr(&format!("run --rm --hostuser {name} busybox sh -c 'tail -n 1 /etc/passwd | cut -d: -f1,3'"))
            .prints(&format!("{name}:{}\n", cx.account.uid));
    }
    cx.ctr("run --rm --hostuser nosuchuser busybox true").refuses(125, "[..]the host has no user \"nosuchuser\"");
});

both!(a_directory_below_an_overlay, |cx| {
    let tree = tree(cx);
    cx.ctr(&format!("run --name c --rootfs {}:O /bin/sh -c 'touch /bin/new; ls /bin/new'", tree.display()))
        .prints("/bin/new\n");
    let names: Vec<_> = fs::read_dir(&tree).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!((names.len(), tree.join("bin/new").exists()), (2, false), "{names:?}");
    // What was written is the container's, and is there when it starts again.
    cx.ctr("start -a c").prints("/bin/new\n");
    cx.ctr("rm c").succeeds();
    cx.ctr(&format!("run --rm --rootfs {}:foo /bin/sh", tree.display())).refuses(125, "[..]--rootfs[..]");
});

both!(hosts_and_host_names_as_the_image_has_them, |cx| {
    cx.busybox();
    cx.ctr("run --rm --no-hosts --no-hostname busybox ls /etc").prints("group\npasswd\nresolv.conf\n");
    cx.ctr("run --rm --no-hosts --add-host a:1.2.3.4 busybox true").refuses(125, "--no-hosts and --add-host[..]");
    cx.make_file("cwd/base", "192.0.2.1 base");
    let out =
        cx.ctr("run --rm --network none -h h --hosts-file base --add-host a:1.2.3.4 busybox cat /etc/hosts").succeeds();
    assert_eq!(out, "127.0.0.1\tlocalhost\n::1\tlocalhost\n192.0.2.1 base\n1.2.3.4\ta\n127.0.0.1\th");
});

both!(paths_are_hidden_and_shown, |cx| {
    cx.busybox();
    cx.ctr("run --rm --security-opt mask=/home/alice:/bin/awk busybox sh -c 'ls /home/alice; wc -c < /bin/awk'")
        .prints("0\n");
    let mounts =
        |options: &str| cx.ctr(&format!("run --rm {options} busybox sh -c 'grep -c /proc/ /proc/mounts'")).out();
    let usual: u32 = mounts("").trim().parse().unwrap();
    let shown: u32 = mounts("--security-opt unmask=/proc/*").trim().parse().unwrap_or(0);
    assert!(usual > 5 && shown == 0, "{usual} {shown}");
    cx.ctr("run --rm --security-opt proc-opts=hidepid=2 busybox grep -c '^proc /proc .*hidepid=' /proc/mounts")
        .prints("1\n");
    cx.ctr("run --rm --security-opt no-new-privileges --security-opt no-new-privileges=false busybox grep NoNewPrivs /proc/self/status")
        .prints("NoNewPrivs:\t0\n");
    cx.ctr("run --rm --security-opt mask=relative busybox true").refuses(125, "[..]paths begin with a slash");
});

both!(a_device_under_another_name, |cx| {
    cx.busybox();
    cx.ctr(
        "run --rm --device /dev/zero:/dev/mine busybox sh -c 'head -c 3 /dev/mine | wc -c; stat -c %t:%T /dev/mine'",
    )
    .prints("3\n1:5\n");
    let empty = cx.make_dir("empty");
    for path in ["/etc/passwd", empty.to_str().unwrap()] {
        cx.ctr(&format!("run --rm --device {path} busybox true")).refuses(
            125,
            &format!("error gathering device information while adding custom device \"{path}\": not a device node"),
        );
    }
    cx.ctr("run --rm --device vendor.com/class=gpu busybox true").refuses(125, "CDI device injection failed[..]");
});

both!(namespaces_of_another_container, |cx| {
    cx.busybox();
    cx.ctr("run -d --name donor --ipc shareable busybox sleep 1234").succeeds();
    cx.ctr("run --rm --pid container:donor busybox sh -c 'tr \"\\0\" \" \" < /proc/1/cmdline'").prints("sleep 1234 ");
    cx.ctr("run --rm --ipc container:donor busybox sh -c 'echo shared > /dev/shm/x'").prints("");
    cx.ctr("exec donor cat /dev/shm/x").prints("shared\n");
    cx.ctr("run --rm --pid container:donor --ipc container:donor --network container:donor busybox cat /dev/shm/x")
        .prints("shared\n");
    // A link in the donor's /dev leads nobody to another place.
    cx.ctr("exec --privileged donor sh -c 'umount /dev/shm && rm -r /dev/shm && ln -s /etc /dev/shm'").succeeds();
    cx.ctr("run --rm --ipc container:donor busybox true").refuses(125, "[..]/dev/shm[..]");
    cx.ctr("run -d --name other busybox sleep 1000").succeeds();
    cx.ctr("run --rm --ipc container:other busybox true").refuses(125, "[..]non-shareable IPC");
    cx.ctr("run --rm --ipc container:none busybox true").refuses(125, "No such container: none");
    cx.ctr("rm -f donor other").succeeds();
    cx.ctr("create --name late --pid container:late2 busybox true").refuses(1, "No such container: late2");
});

both!(the_newest_container, |cx| {
    cx.busybox();
    cx.ctr("run -d --name old busybox sleep 1000").succeeds();
    cx.ctr("run -d --name new -p 127.0.0.1::80 busybox sleep 1000").succeeds();
    cx.ctr("exec --latest hostname").succeeds();
    cx.ctr("exec -l sh -c 'echo $0 $1' a -l").prints("a -l\n");
    cx.ctr("inspect -lf '{{.Name}}'").prints("/new\n");
    let port = cx.ctr("port -l 80").succeeds();
    assert!(port.starts_with("127.0.0.1:"), "{port}");
    cx.ctr("logs --latest").prints("");
    cx.ctr("kill -l old").refuses(125, "no names can be given together with --latest");
    let id = cx.ctr("ps -lq --no-trunc").succeeds();
    cx.ctr("kill -l").prints(&format!("{id}\n"));
    until("it is over", || cx.ctr("inspect -f '{{.State.Status}}' new").out() == "exited\n");
    cx.ctr("start -l").prints(&format!("{id}\n"));
    cx.ctr("run -d --name new --replace busybox sleep 1000").succeeds();
    cx.ctr("rm -f --latest").succeeds();
    cx.ctr("ps --format '{{.Names}}'").prints("old\n");
    cx.ctr("rm -f old").succeeds();
    cx.ctr("kill -l").is(125, "", "ctr: there is no container\n");
});

both!(what_can_mean_nothing_here_is_said_by_name, |cx| {
    cx.busybox();
    cx.ctr("run --rm --runtime runc --isolation default --kernel-memory 0 busybox echo runs").prints("runs\n");
    for (flag, message) in [
        ("--gpus all", "could not select device driver \"\" with capabilities: [[gpu]][..]"),
        ("--runtime kata", "--runtime: unknown or invalid runtime name[..]"),
        ("--storage-opt size=1g", "--storage-opt: [..]"),
        ("--use-api-socket", "--use-api-socket: there is no daemon[..]"),
        ("--kernel-memory 4m", "--kernel-memory: [..]"),
    ] {
        cx.ctr(&format!("run --rm {flag} busybox true")).refuses(125, message);
    }
});

both!(what_is_noted_of_a_container, |cx| {
    cx.busybox();
    cx.make_file("cwd/labels", "one=1\n# none\n\ntwo\n");
    cx.ctr("create --name box --annotation a.b=c --label-file labels --label one=x -P -t -w /there --cgroupns host busybox a")
        .succeeds();
    cx.ctr("inspect -f '{{json .HostConfig.Annotations}} {{json .Config.Labels}} {{.HostConfig.PublishAllPorts}}' box")
        .prints("{\"a.b\":\"c\"} {\"one\":\"x\",\"two\":\"\"} true\n");
    cx.ctr("inspect -f '{{.Config.Tty}} {{.Config.WorkingDir}} {{.HostConfig.CgroupnsMode}}' box")
        .prints("true /there host\n");
    cx.ctr("create --label-file nosuch busybox").refuses(125, "open nosuch: no such file or directory");
    cx.ctr("create --cgroupns nosuch busybox").refuses(125, "--cgroupns: invalid CGROUP mode");
    let paths =
        |mode: &str| cx.ctr(&format!("run --rm --cgroupns {mode} busybox cut -d: -f3 /proc/self/cgroup")).succeeds();
    if cx.is_root() {
        assert!(paths("private").lines().all(|path| path == "/"));
        assert!(paths("host").lines().any(|path| path != "/"));
    }
    let addresses = cx.ctr("run --rm --link-local-ip 169.254.3.4 busybox ip -4 addr show eth0").succeeds();
    assert!(addresses.contains("inet 169.254.3.4/16 "), "{addresses}");
});
