//! `--userns`: which ids a container has, and whose its files are.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::support::{Sandbox, both, skipped};

/// The lines of a uid_map without its spaces.
fn map_of(cx: &Sandbox, options: &str) -> Vec<String> {
    let out = cx.ctr(&format!("run --rm {options} busybox cat /proc/self/uid_map")).succeeds();
    out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Ids for root's containers, in this thread's own /etc/subuid and /etc/subgid. Whether there are any.
fn give_root_ids(cx: &Sandbox) -> bool {
    if !cx.is_root() {
        return true;
    }
    if unshare(CloneFlags::CLONE_NEWNS).is_err() {
        skipped("needs a mount namespace for an /etc/subuid of its own");
        return false;
    }
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    let ids = cx.make_file("subid", "containers:1000000000:100000\n");
    for file in ["/etc/subuid", "/etc/subgid"] {
        mount(Some(&ids), file, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    }
    true
}

/// The image's owners, seen by number.
const OWNERS: &str = "stat -c %u:%g / /bin /etc/passwd /home/alice /etc/hosts";

both!(the_caller_keeps_its_number, |cx| {
    cx.busybox();
    let (uid, gid) = (cx.account.uid, cx.account.gid);
    let shared = cx.make_dir("shared");
    let script = format!("id -u; id -g; {OWNERS}; touch /shared/made; cat /shared/made");
    let line = format!("run --rm --userns keep-id -v {}:/shared busybox sh -c '{script}'", shared.display());
    cx.ctr(&line).prints(&format!("{uid}\n{gid}\n0:0\n0:0\n0:0\n1000:1000\n0:0\n"));
    let made = fs::metadata(shared.join("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (uid, gid));
    if !cx.is_root() {
        let name = &cx.account.name;
        cx.ctr("run --rm --userns keep-id busybox sh -c 'whoami; tail -n 1 /etc/passwd | cut -d: -f1,3,6; echo $HOME'")
            .prints(&format!("{name}\n{name}:{uid}:/\n/\n"));
        // What is asked for wins over who is kept.
        cx.ctr("run --rm --userns keep-id -u 0 -v /:/host busybox id -u").prints("0\n");
    }
    // Anybody's number, and the image's own name for it.
    cx.ctr("run --rm --userns keep-id:uid=1000,gid=1000 busybox sh -c 'id -un; echo $HOME; touch ~/x; stat -c %u ~/x'")
        .prints("alice\n/home/alice\n1000\n");
    cx.ctr("run --rm --userns keep-id:uid=x busybox id").refuses(125, "[..]uid=\"x\" is not a number");
    cx.ctr("run --rm --userns foo busybox id").refuses(125, "[..]--userns: invalid USER mode");
});

both!(what_a_kept_container_is_like_to_live_in, |cx| {
    cx.busybox();
    cx.ctr("run -d --name web --userns keep-id busybox sleep 1000").succeeds();
    let uid = cx.account.uid;
    cx.ctr("exec web sh -c 'id -u; echo out > /dev/stdout; echo err > /dev/stderr'").is(
        0,
        &format!("{uid}\nout\n"),
        "err\n",
    );
    cx.ctr("exec -u 0 web sh -c 'echo x > /root/f; stat -c %u:%g /root/f'").prints("0:0\n");
    cx.ctr("exec -t web tty").prints("/dev/pts/0\r\n");
    // A second container of the same image and ids copies nothing again.
    let layers = fs::read_dir(cx.root().join("layers")).unwrap().count();
    cx.ctr("run --rm --userns keep-id --network container:web busybox id -u").prints(&format!("{uid}\n"));
    cx.ctr("run --rm --userns keep-id:uid=5 --network container:web busybox id -u")
        .refuses(125, "conflicting options[..]");
    cx.ctr("run --rm --userns= --network container:web busybox sh -c 'stat -c %u /bin'").prints("0\n");
    cx.ctr("run --rm --userns keep-id busybox true").prints("");
    assert_eq!(fs::read_dir(cx.root().join("layers")).unwrap().count(), layers);
    cx.ctr("stop -t 0 web").prints("web\n");
    cx.ctr("start web").prints("web\n");
    cx.ctr("exec -u 0 web cat /root/f").prints("x\n");
    cx.ctr("rm -f web").prints("web\n");
    cx.ctr("rmi busybox").succeeds();
    let left: Vec<_> = fs::read_dir(cx.root().join("layers")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
});

both!(ranges_of_ids_are_each_container_s_own, |cx| {
    cx.busybox();
    if cx.is_root() {
        cx.ctr("run --rm --userns auto busybox true")
            .refuses(125, "[..]user \"containers\" has no subordinate ids in /etc/subuid and /etc/subgid");
    }
    if !give_root_ids(cx) {
        return;
    }
    let first: u32 = if cx.is_root() { 1_000_000_000 } else { 1 };
    cx.ctr(&format!(
        "run --rm --userns auto busybox sh -c '{OWNERS}; touch /x; stat -c %u /x; echo out > /dev/stdout'"
    ))
    .prints("0:0\n0:0\n0:0\n1000:1000\n0:0\n0\nout\n");
    assert_eq!(map_of(cx, "--userns auto"), [format!("0 {first} 1024")]);
    cx.ctr("create --name a --userns auto:size=2000 busybox sh -c 'touch /y; stat -c %u:%g /y'").succeeds();
    cx.ctr("run -d --name b --userns auto busybox sleep 1000").succeeds();
    assert_eq!(map_of(cx, "--userns auto:size=10"), [format!("0 {} 10", first + 3024)]);
    cx.ctr("start -a a").prints("0:0\n");
    // What a container gives back is the next one's.
    cx.ctr("rm a").prints("a\n");
    assert_eq!(map_of(cx, "--userns auto:size=10"), [format!("0 {first} 10")]);
    cx.ctr("exec b sh -c 'id -u; touch /z; stat -c %u /z'").prints("0\n0\n");
    let own = first + 50;
    let lines = map_of(cx, &format!("--userns auto:size=20,uidmapping=5:{own}:1"));
    assert_eq!(lines, [format!("0 {first} 5"), format!("5 {own} 1"), format!("6 {} 14", first + 6)]);
    cx.ctr("run --rm --userns auto:size=4000000 busybox true")
        .refuses(125, "[..]there are not 4000000 free ids in a row");
    cx.ctr("rm -f b").succeeds();
});

both!(without_one_s_own_id, |cx| {
    cx.busybox();
    if cx.is_root() {
        return cx
            .ctr("run --rm --userns nomap busybox id")
            .refuses(125, "[..]nomap is for containers of ordinary users[..]");
    }
    let shared = cx.make_dir("shared");
    assert_eq!(map_of(cx, "--userns nomap"), ["0 1 65536"]);
    let line = format!("run --rm --userns nomap -v {}:/shared busybox stat -c %u /shared /bin", shared.display());
    cx.ctr(&line).prints("65534\n0\n");
    cx.ctr("run --rm --userns host busybox sh -c 'cut -c1-10 /proc/self/uid_map | head -n 1'").prints("         0\n");
});

both!(files_have_the_container_s_owners_running_and_stopped, |cx| {
    if !give_root_ids(cx) {
        return;
    }
    cx.busybox();
    let script = "touch /tmp/made; chown 7:8 /tmp/made; sleep 1000";
    cx.ctr_args(["run", "-d", "--init", "--name", "box", "--userns", "auto", "busybox", "sh", "-c", script]).succeeds();
    crate::support::until("it is made", || cx.ctr("exec box stat -c %u /tmp/made").out() == "7\n");
    cx.make_file("cwd/file", "x\n");
    let seen = "$ctr export box | tar tv --numeric-owner | grep -E ' (tmp/made|home/alice/|etc/group)$' | cut -d' ' -f2 | sort; \
                $ctr cp box:/tmp/made - | tar tv --numeric-owner | cut -d' ' -f2";
    let owners = "0/0\n1000/1000\n7/8\n7/8\n";
    cx.host(seen).prints(owners);
    cx.host("$ctr cp file box:/tmp/in").prints("");
    cx.ctr("stop -t 0 box").prints("box\n");
    cx.host(seen).prints(owners);
    cx.host("$ctr cp file box:/tmp/later").prints("");
    cx.ctr("diff box").prints("C /tmp\nA /tmp/in\nA /tmp/later\nA /tmp/made\n");
    cx.ctr("commit box made").succeeds();
    for ids in ["", "--userns auto"] {
        cx.ctr(&format!("run --rm {ids} made stat -c %u:%g /tmp/made /tmp/in /tmp/later /home/alice"))
            .prints("7:8\n0:0\n0:0\n1000:1000\n");
    }
});
