//! In a real terminal: `ctr run -it`, `exec -it`, `attach`, `start -ai`.

use crate::support::{Sandbox, Terminal, both, until};

/// A terminal with a container's shell in it.
fn shell<'a>(cx: &'a Sandbox, flags: &str) -> Terminal<'a> {
    cx.busybox();
    let terminal = Terminal::open(cx);
    terminal.line(&format!("$ctr run -it {flags} busybox sh; echo code=$?"));
    terminal.ends_with("/ #");
    terminal
}

both!(a_shell_to_type_into, |cx| {
    let terminal = shell(cx, "--rm");
    terminal.line("echo $((6 * 7)) $TERM; tty");
    terminal.shows("\n42 xterm");
    terminal.shows("\n/dev/pts/0");
    terminal.line("exit 3");
    terminal.shows("\ncode=3");
    drop(terminal);
    cx.leaves_nothing();
});

both!(the_terminal_is_as_before, |cx| {
    cx.busybox();
    let terminal = Terminal::open(cx);
    let before = terminal.settings();
    for (line, code) in [
        ("$ctr run --rm -it busybox true", 0),
        ("$ctr run --rm -it busybox nosuch", 127),
        ("$ctr run --rm -it --init busybox sh -c 'kill -9 $$'", 137),
        ("$ctr run --rm -it busybox stty raw -echo", 0),
    ] {
        terminal.line(&format!("clear; {line}; echo code=$?"));
        terminal.shows(&format!("code={code}"));
        terminal.ends_with("$");
        assert_eq!(terminal.settings(), before, "{line}");
    }
});

both!(restored_when_the_client_is_told_to_end, |cx| {
    let terminal = shell(cx, "--rm --name box");
    let raw = terminal.settings();
    assert!(raw.contains("-icanon") && raw.contains("-echo"), "{raw}");
    let pid = client(cx);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
    // With the number: the line that was typed has the word too.
    terminal.shows("code=143");
    let after = terminal.settings();
    assert!(after.contains(" icanon") && after.contains(" echo "), "{after}");
});

/// The process of `ctr run` itself.
fn client(cx: &Sandbox) -> i32 {
    let needle = format!("--root\0{}\0", cx.root().display());
    let mut found = None;
    until("the client is there", || {
        found = std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let words = String::from_utf8_lossy(&std::fs::read(entry.path().join("cmdline")).ok()?).into_owned();
            (words.contains(&needle) && words.contains("\0-it\0")).then_some(pid)
        });
        found.is_some()
    });
    found.unwrap()
}

both!(its_size_from_the_start_and_on_every_change, |cx| {
    cx.busybox();
    let terminal = Terminal::open(cx);
    terminal.resize(100, 30);
    // The size is right before the first instruction of the command.
    terminal.line("$ctr run --rm -it busybox stty size");
    terminal.shows("\n30 100");
    // What is typed before ctr has left is the command's.
    terminal.ends_with("$");
    terminal
        .line("$ctr run --rm -it busybox sh -c 'trap \"stty size\" WINCH; echo ready; while :; do sleep 0.02; done'");
    terminal.shows("\nready");
    terminal.resize(91, 17);
    terminal.shows("\n17 91");
    terminal.resize(120, 41);
    terminal.shows("\n41 120");
    terminal.keys(&["C-c"]);
    terminal.ends_with("$");
});

both!(control_c_goes_to_the_command, |cx| {
    let terminal = shell(cx, "--rm");
    // It says so itself: until it runs, the key is one of the line that the shell reads.
    terminal.line("sh -c 'echo asleep; exec sleep 1000'");
    terminal.shows("\nasleep");
    terminal.keys(&["C-c"]);
    terminal.ends_with("/ #");
    terminal.line("echo code $?");
    terminal.shows("\ncode 130\n/ #");
    terminal.keys(&["C-d"]);
    terminal.shows("\ncode=0");
});

both!(detached_and_attached_again, |cx| {
    let terminal = shell(cx, "--name box");
    terminal.line("x=kept");
    terminal.ends_with("/ #");
    terminal.keys(&["C-p", "C-q"]);
    terminal.shows("code=0");
    assert!(terminal.settings().contains(" icanon"));
    cx.ctr("ps --format '{{.Names}} {{.State}}'").prints("box running\n");
    terminal.line("clear; $ctr attach box; echo code=$?");
    // What is typed before the terminal is raw is thrown away.
    until("the shell answers", || {
        terminal.keys(&["Enter"]);
        terminal.screen().ends_with("/ #")
    });
    terminal.line("echo still $x");
    terminal.shows("\nstill kept");
    terminal.line("exit 9");
    terminal.shows("\ncode=9");
    cx.ctr("ps -a --format '{{.Names}} {{.State}}'").prints("box exited\n");
    terminal.line("clear; $ctr start -ai box; echo code=$?");
    terminal.ends_with("/ #");
    terminal.line("exit 8");
    terminal.shows("\ncode=8");
});

both!(other_detach_keys, |cx| {
    let terminal = shell(cx, "--name box --detach-keys ctrl-a,d");
    // Without its second half the first is the command's.
    terminal.line("echo one");
    terminal.keys(&["C-a", "x"]);
    terminal.keys(&["C-c", "C-a", "d"]);
    terminal.shows("code=0");
    cx.ctr("ps --format '{{.Names}}'").prints("box\n");
});

both!(exec_with_a_terminal, |cx| {
    cx.busybox();
    cx.ctr("run -d --name box busybox sleep 1000").succeeds();
    let terminal = Terminal::open(cx);
    terminal.line("$ctr exec -it box sh; echo code=$?");
    terminal.ends_with("/ #");
    terminal.resize(77, 20);
    until("the size arrives", || {
        terminal.line("clear; stty size");
        terminal.screen().contains("20 77")
    });
    terminal.line("tty; test -w /dev/tty && echo writable");
    terminal.shows("/dev/pts/");
    terminal.shows("writable");
    terminal.line("exit 6");
    terminal.shows("\ncode=6");
    assert!(terminal.settings().contains(" icanon"));
});

both!(a_terminal_for_another_user, |cx| {
    cx.busybox();
    let terminal = Terminal::open(cx);
    terminal.line("$ctr run --rm -it -u alice busybox sh -c 'id -un; echo opened > $(tty); stat -c %U $(tty)'");
    terminal.shows("alice\nopened\nalice\n");
});

both!(a_terminal_is_asked_for_where_none_is, |cx| {
    cx.busybox();
    cx.ctr("run --rm -it busybox true").refuses(1, "[..]input device is not a TTY[..]");
    // Without -i there is nothing to complain about.
    cx.ctr("run --rm -t busybox echo hi").prints("hi\r\n");
    cx.ctr("run -d --name box busybox sleep 1000").succeeds();
    cx.ctr("exec -it box true").refuses(1, "[..]input device is not a TTY[..]");
});

both!(it_survives_the_terminal_that_started_it, |cx| {
    let terminal = shell(cx, "--name box");
    drop(terminal);
    cx.ctr("ps --format '{{.Names}} {{.State}}'").prints("box running\n");
    cx.ctr("exec box echo alive").prints("alive\n");
});

both!(a_full_screen_program, |cx| {
    let terminal = shell(cx, "--rm");
    terminal.line("vi /tmp/file");
    terminal.shows("/tmp/file");
    terminal.types("ityped into vi");
    terminal.keys(&["Escape"]);
    // An escape with something behind it at once would be taken for a function key.
    terminal.shows("- /tmp/file");
    terminal.line(":wq");
    terminal.ends_with("/ #");
    terminal.line("clear; cat /tmp/file");
    terminal.shows("typed into vi");
    terminal.line("exit");
    terminal.shows("code=0");
});
