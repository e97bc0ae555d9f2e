//! `ctr stop`, `ctr kill`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::support::{both, skipped, until};

const TRAPS: &str = "sh -c 'trap \"echo stopped; exit 3\" TERM; trap \"echo hup\" HUP; trap \"echo usr; exit 4\" USR1; echo ready; while :; do sleep 0.02; done'";

both!(asks_first, |cx| {
    cx.busybox();
    cx.ctr(&format!("run -d --name box busybox {TRAPS}")).succeeds();
    cx.until_logged("box", "ready");
    cx.ctr("stop box").prints("box\n");
    cx.ctr("inspect -f '{{.State.Status}} {{.State.ExitCode}}' box").prints("exited 3\n");
    cx.ctr("logs box").prints("ready\nstopped\n");
    // One that does not run is fine.
    cx.ctr("stop box").prints("box\n");
});

both!(then_kills, |cx| {
    cx.busybox();
    // The first process of a container gets no signal that it has no handler for.
    cx.ctr("run -d --name box busybox sleep 1000").succeeds();
    let begin = Instant::now();
    cx.ctr("stop -t 1 box").prints("box\n");
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(8), "{took:?}");
    cx.ctr("inspect -f '{{.State.ExitCode}}' box").prints("137\n");
    cx.ctr("start box").prints("box\n");
    cx.ctr("stop --time 0 box").prints("box\n");
});

both!(with_the_containers_own_signal_and_time, |cx| {
    cx.busybox();
    cx.ctr(&format!("run -d --name box --stop-signal USR1 busybox {TRAPS}")).succeeds();
    cx.until_logged("box", "ready");
    cx.ctr("stop box").prints("box\n");
    cx.ctr("inspect -f '{{.State.ExitCode}}' box").prints("4\n");
    cx.ctr("run -d --name dd --stop-timeout 0 busybox sleep 1000").succeeds();
    let begin = Instant::now();
    cx.ctr("stop dd").prints("dd\n");
    // Less than the ten seconds that one without a time of its own has.
    assert!(begin.elapsed() < Duration::from_secs(9));
    cx.ctr("start dd").prints("dd\n");
    cx.ctr("stop -s KILL dd").prints("dd\n");
});

both!(with_init_a_sleep_ends_at_once, |cx| {
    cx.busybox();
    cx.ctr("run -d --init --name box busybox sleep 1000").succeeds();
    let begin = Instant::now();
    cx.ctr("stop box").prints("box\n");
    assert!(begin.elapsed() < Duration::from_secs(9));
    cx.ctr("inspect -f '{{.State.ExitCode}}' box").prints("143\n");
});

both!(kill_sends_any_signal, |cx| {
    cx.busybox();
    cx.ctr(&format!("run -d --name box busybox {TRAPS}")).succeeds();
    cx.until_logged("box", "ready");
    for name in ["HUP", "SIGHUP", "hup", "1"] {
        cx.ctr(&format!("kill -s {name} box")).prints("box\n");
    }
    cx.until_logged("box", "hup");
    cx.ctr("kill --signal nosuch box").refuses(1, "[..]nvalid signal: nosuch");
    cx.ctr("kill --signal 999 box").refuses(1, "[..]nvalid signal: 999");
    cx.ctr("kill box").prints("box\n");
    cx.until_status("box", "exited");
    cx.ctr("inspect -f '{{.State.ExitCode}}' box").prints("137\n");
    cx.ctr("kill box").refuses(1, "[..]ontainer [..] is not running");
});

both!(what_is_not_there, |cx| {
    for command in ["stop", "kill", "start", "rm", "wait", "logs", "attach", "rename x"] {
        let line = if command == "rename x" { "rename nosuch x".to_owned() } else { format!("{command} nosuch") };
        cx.ctr(&line).refuses(1, "[..]No such container: nosuch");
    }
    cx.ctr("exec nosuch true").refuses(1, "[..]No such container: nosuch");
    cx.ctr("rm -f nosuch").is(0, "", "ctr: No such container: nosuch\n");
});

both!(several_of_them_at_once_do_not_add_up, |cx| {
    cx.busybox();
    for n in 0..4 {
        cx.ctr(&format!("run -d --name cc{n} busybox sleep 1000")).succeeds();
    }
    let begin = Instant::now();
    // One after the other they would take 20 seconds.
    let out = cx.ctr("stop -t 5 cc0 cc1 cc2 cc3").succeeds();
    assert_eq!(out.lines().count(), 4, "{out}");
    assert!(begin.elapsed() < Duration::from_secs(19), "{:?}", begin.elapsed());
});

/// A file system whose server never answers: who looks at it waits until it is killed.
struct Hung(Option<File>, PathBuf);

impl Hung {
    fn mount(at: &Path) -> Option<Self> {
        let mut device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        mount(Some("hung"), at, Some("fuse"), MsFlags::empty(), Some(data.as_str())).ok()?;
        // But for the first request, FUSE_INIT: unanswered, it holds up the requests before the
        // device has them. `struct fuse_in_header`, `struct fuse_init_out` of linux/fuse.h.
        let mut request = [0; 8192];
        assert!(device.read(&mut request).unwrap() > 16);
        let (header, answer) = (16 + 64_u32, [7_u32, 31]);
        let mut reply = [header.to_ne_bytes(), [0; 4]].concat();
        reply.extend_from_slice(&request[8..16]);
        reply.extend(answer.iter().flat_map(|number| number.to_ne_bytes()));
        reply.resize(header as usize, 0);
        device.write_all(&reply).unwrap();
        Some(Self(Some(device), at.to_owned()))
    }

    /// Waits until somebody waits for it. What they ask is left on the device: from there on they
    /// could not be killed.
    fn until_asked(&self) {
        let device = self.0.as_ref().unwrap();
        until("somebody looks at it", || {
            let mut polls = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
            poll(&mut polls, PollTimeout::ZERO).unwrap() > 0
        });
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        // Without a server, all that waits is told so.
        self.0 = None;
        let _ = umount2(&self.1, MntFlags::MNT_DETACH);
    }
}

both!(a_start_that_hangs_can_be_ended, |cx| {
    cx.busybox();
    let source = cx.make_dir("source");
    cx.ctr(&format!("create --name box -v {}:/mnt busybox sleep 1000", source.display())).succeeds();
    let Some(hung) = Hung::mount(&source) else { return skipped("needs root and /dev/fuse") };
    let start = || {
        let starter = cx.spawn("start box");
        // A monitor whose starter dies before it has said what to do leaves.
        hung.until_asked();
        starter
    };
    for command in ["stop box", "kill box"] {
        let starter = start();
        starter.signal(Signal::SIGKILL);
        starter.wait();
        cx.ctr(command).prints("box\n");
        cx.ctr("inspect -f '{{.State.Status}}' box").prints("created\n");
    }
    // Whoever waits for it is told.
    let starter = start();
    cx.ctr("kill -s HUP box").refuses(1, "[..]is not running");
    cx.ctr("kill box").prints("box\n");
    assert_eq!(starter.wait().code, 1);
    let starter = start();
    cx.ctr("rm -f box").prints("box\n");
    assert_ne!(starter.wait().code, 0);
    drop(hung);
});

// Killed before it has recorded its process, a monitor leaves cgroups that only `alive` tells of.
both!(cgroups_of_a_start_that_was_killed_are_removed, |cx| {
    cx.busybox();
    let source = cx.make_dir("source");
    let inner = cx.make_dir("source/inner");
    // The monitor sees nothing of it: the process hangs that looks for its working directory.
    let flags = format!("-v {}:/mnt -w /mnt/inner/x", source.display());
    for command in ["rm box", "start box"] {
        let Some(hung) = Hung::mount(&inner) else { return skipped("needs root and /dev/fuse") };
        let id = cx.ctr(&format!("create --name box {flags} busybox true")).succeeds();
        let starter = cx.spawn("start box");
        let alive = cx.root().join("containers").join(&id).join("alive");
        let text = || std::fs::read_to_string(&alive).unwrap_or_default();
        hung.until_asked();
        let monitor: i32 = text().lines().next().unwrap().parse().unwrap();
        if cx.is_root() {
            until("its cgroups are made", || text().lines().skip(1).any(|line| Path::new(line).exists()));
        }
        let cgroups: Vec<_> = text().lines().skip(1).map(PathBuf::from).collect();
        starter.signal(Signal::SIGKILL);
        starter.wait();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(monitor), Signal::SIGKILL).unwrap();
        until("the monitor is gone", || !Path::new("/proc").join(monitor.to_string()).exists());
        assert!(!cx.is_root() || cgroups.iter().any(|dir| dir.exists()), "{cgroups:?}");
        drop(hung);
        // The process that it had begun to make ends after it, and has its lock until then.
        until("nothing of it lives", || {
            let file = std::fs::File::open(&alive).unwrap();
            nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockSharedNonblock).is_ok()
        });
        if command == "rm box" {
            cx.ctr(command).prints("box\n");
            assert!(!cgroups.iter().any(|dir| dir.exists()), "{cgroups:?}");
        }
    }
    // The next start makes them anew, and its end removes them.
    cx.ctr("start -a box").prints("");
});
