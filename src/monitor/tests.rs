//! The relay with real processes and real clients; only the container around them is missing.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Pid, pipe2};

use super::client::{PATIENCE, Role};
use super::exec::Further;
use super::log::{Log, Names};
use super::protocol::{self, Message, PACKET, Stream, VERSION};
use super::relay::{Ends, Relay, Stop};
use super::{LONGEST_FAILURE, SOCKET, Streams, failed, to_error};
use crate::container::config::{Config, ContainerConfig, HostConfig, LogConfig, RootFs};
use crate::error::{self, Failure};
use crate::store::{Id, Store};
use crate::sys::{pidfd, seqpacket};

const ALL: Streams = Streams { stdin: true, stdout: true, stderr: true };

/// A script under a relay, which runs in a thread of its own.
struct Bed {
    home: tempfile::TempDir,
    id: Id,
    relay: JoinHandle<u8>,
}

/// What a client was told.
#[derive(Debug, Default)]
struct Heard {
    output: Vec<u8>,
    error: Vec<u8>,
    notices: Vec<String>,
    code: Option<u8>,
}

fn config(id: &Id, driver: &str) -> ContainerConfig {
    let log_config = LogConfig { r#type: driver.to_owned(), ..LogConfig::default() };
    ContainerConfig {
        id: id.clone(),
        created: jiff::Timestamp::UNIX_EPOCH,
        root: RootFs::Directory { path: "/".to_owned() },
        config: Config::default(),
        host_config: HostConfig { log_config, ..HostConfig::default() },
        endpoints: Vec::new(),
        secrets: Vec::new(),
    }
}

impl Bed {
    fn run(script: &str, foreground: Option<OwnedFd>) -> Self {
        Self::run_with("json-file", script, foreground, None)
    }

    /// `pipe`: where standard output goes for the client in the foreground.
    fn run_with(driver: &str, script: &str, foreground: Option<OwnedFd>, pipe: Option<OwnedFd>) -> Self {
        let home = tempfile::tempdir().expect("temporary directory");
        let id = Id::random().expect("id");
        let store = Store::at(home.path().to_owned(), home.path().join("run"));
        std::fs::create_dir_all(store.container(&id)).expect("directory");
        let log = Log::open(&store, &config(&id, driver), &Names { name: "box", image_id: "" }).expect("log");
        let listener = seqpacket::listen(home.path(), SOCKET).expect("listen");
        #[allow(clippy::zombie_processes, reason = "the relay waits for it")]
        let mut child = Command::new("sh")
            .args(["-c", script])
            .current_dir(home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sh");
        let process = pidfd::open(Pid::from_raw(child.id().cast_signed())).expect("pidfd");
        let ends = Ends::Pipes {
            input: child.stdin.take().map(OwnedFd::from),
            output: child.stdout.take().expect("piped").into(),
            error: child.stderr.take().expect("piped").into(),
        };
        let relay = thread::spawn(move || {
            let stop = Stop { signal: libc::SIGTERM, patience: None };
            let further = Further {
                join: Box::new(|_, _| anyhow::bail!("no further process here")),
                note: Box::new(|_, _| {}),
                network: Box::new(|_| anyhow::bail!("no network here")),
            };
            let mut relay = Relay::new(process, ends, log, (true, stop), Some(listener), further).expect("relay");
            if let Some(socket) = foreground {
                relay.join(socket, Role::Foreground(ALL), pipe);
            }
            let code = relay.run().expect("run");
            relay.drain();
            relay.farewell(code).expect("farewell");
            code
        });
        Self { home, id, relay }
    }

    fn attach(&self, streams: Streams) -> OwnedFd {
        let socket = seqpacket::connect(self.home.path(), SOCKET).expect("connect");
        Message::Attach { version: VERSION, streams }.send(socket.as_fd()).expect("send");
        socket
    }

    fn log(&self) -> String {
        let store = Store::at(self.home.path().to_owned(), self.home.path().join("run"));
        let (path, _) = super::log::path(&store, &self.id, &LogConfig::default()).expect("a file");
        std::fs::read_to_string(path).expect("log")
    }
}

/// Reads all that comes, and gives credit for it.
fn listen(socket: &OwnedFd) -> Heard {
    listen_until(socket, |heard| heard.code.is_some())
}

fn listen_until(socket: &OwnedFd, enough: impl Fn(&Heard) -> bool) -> Heard {
    let mut heard = Heard::default();
    let mut buffer = vec![0; PACKET];
    while !enough(&heard) {
        let more = protocol::receive(socket.as_fd(), &mut buffer, |message, _| match message {
            Message::Bytes { stream, bytes } => {
                if stream == Stream::Error { &mut heard.error } else { &mut heard.output }.extend_from_slice(bytes);
                let count = u32::try_from(bytes.len()).expect("small");
                // At the end nobody listens any more.
                let _ = Message::Taken { stream, count }.send(socket.as_fd());
            }
            Message::Notice(text) => heard.notices.push(text.to_owned()),
            Message::Exit { code } => heard.code = Some(code),
            _ => {}
        });
        if more.expect("receive").is_none() {
            break;
        }
    }
    heard
}

#[test]
fn all_bytes_arrive_apart_and_with_the_exit_code() {
    let (ours, theirs) = seqpacket::pair().expect("socket pair");
    let bed = Bed::run("head -c 20000000 /dev/zero; echo oops >&2; exit 7", Some(theirs));
    let heard = listen(&ours);
    assert_eq!((heard.output.len(), heard.error.as_slice(), heard.code), (20_000_000, &b"oops\n"[..], Some(7)));
    assert!(heard.output.iter().all(|&b| b == 0) && heard.notices.is_empty());
    assert!(bed.log().contains(r#"{"log":"oops\n","stream":"stderr","time":""#));
}

#[test]
fn input_goes_in_and_its_end_too() {
    let (ours, theirs) = seqpacket::pair().expect("socket pair");
    let _bed = Bed::run("sort", Some(theirs));
    for line in ["b\n", "a\n"] {
        Message::Bytes { stream: Stream::Input, bytes: line.as_bytes() }.send(ours.as_fd()).expect("send");
    }
    Message::InputEnd.send(ours.as_fd()).expect("send");
    let heard = listen(&ours);
    assert_eq!((heard.output.as_slice(), heard.code), (&b"a\nb\n"[..], Some(0)));
}

#[test]
fn the_first_client_leaving_ends_the_input() {
    let (ours, theirs) = seqpacket::pair().expect("socket pair");
    let bed = Bed::run("cat >/dev/null; exit 3", Some(theirs));
    drop(ours);
    assert_eq!(bed.relay.join().expect("relay"), 3);
}

#[test]
fn a_signal_s_end_is_told_as_shells_do() {
    let (ours, theirs) = seqpacket::pair().expect("socket pair");
    let _bed = Bed::run("echo up; exec sleep 1000", Some(theirs));
    let mut buffer = vec![0; PACKET];
    protocol::receive(ours.as_fd(), &mut buffer, |_, _| ()).expect("receive").expect("up");
    Message::Signal { number: libc::SIGRTMIN() + 2 }.send(ours.as_fd()).expect("send");
    assert_eq!(listen(&ours).code.map(i32::from), Some(128 + libc::SIGRTMIN() + 2));
}

#[test]
fn a_guest_that_stands_still_holds_nobody_up_for_long() {
    let bed = Bed::run("read line; head -c 5000000 /dev/zero; echo end >&2", None);
    let still = bed.attach(ALL);
    let reader = bed.attach(Streams { stdin: true, ..ALL });
    // Both are joined before the first byte: who knocked first is heard first, and the script waits.
    Message::Bytes { stream: Stream::Input, bytes: b"go\n" }.send(reader.as_fd()).expect("send");
    let heard = listen(&reader);
    assert_eq!((heard.output.len(), heard.code), (5_000_000, Some(0)));
    let late = listen(&still);
    assert!(late.output.len() < 1_000_000 && late.code == Some(0), "{}", late.output.len());
}

#[test]
fn who_started_it_may_stand_still_and_loses_nothing() {
    let (ours, theirs) = seqpacket::pair().expect("socket pair");
    let bed = Bed::run("head -c 5000000 /dev/zero", Some(theirs));
    thread::sleep(PATIENCE + Duration::from_millis(500));
    assert!(!bed.relay.is_finished());
    assert_eq!(listen(&ours).output.len(), 5_000_000);
}

#[test]
fn a_guest_that_wakes_up_is_told_what_it_missed() {
    let bed = Bed::run("read l; head -c 3000000 /dev/zero; : >passed; read l; echo more; read l", None);
    let still = bed.attach(ALL);
    let typing = bed.attach(Streams { stdin: true, ..Streams::default() });
    let type_line = || Message::Bytes { stream: Stream::Input, bytes: b"\n" }.send(typing.as_fd()).expect("send");
    type_line();
    // Done with it, but for what a pipe holds.
    while !bed.home.path().join("passed").exists() {
        thread::sleep(Duration::from_millis(10));
    }
    // It has caught up when it is told what it missed; only then the rest is written.
    let mut heard = listen_until(&still, |heard| !heard.notices.is_empty());
    type_line();
    type_line();
    let rest = listen(&still);
    assert_eq!((rest.output.as_slice(), rest.notices.len(), rest.code), (&b"more\n"[..], 0, Some(0)));
    let notice = heard.notices.pop().expect("a notice");
    assert!(heard.output.len() < 1_000_000 && notice.contains("bytes of output were left out"), "{notice}");
}

/// A pipe as a client in the foreground gives it.
fn pipe() -> (std::fs::File, OwnedFd) {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).expect("pipe");
    fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("fcntl");
    (read.into(), write)
}

#[test]
fn the_pipe_gets_every_byte_and_so_do_the_log_and_guests() {
    for driver in ["json-file", "local", "none"] {
        let (ours, theirs) = seqpacket::pair().expect("socket pair");
        let (mut output, write) = pipe();
        let bed = Bed::run_with(driver, "read l; seq 1 200000; echo oops >&2; exit 7", Some(theirs), Some(write));
        let guest = bed.attach(Streams { stdin: true, ..ALL });
        Message::Bytes { stream: Stream::Input, bytes: b"go\n" }.send(guest.as_fd()).expect("send");
        let guest = thread::spawn(move || listen(&guest));
        let mut text = String::new();
        output.read_to_string(&mut text).expect("read");
        let expected: String = (1..=200_000).map(|n| n.to_string() + "\n").collect();
        assert!(text == expected, "{driver}: {} bytes", text.len());
        let heard = listen(&ours);
        assert_eq!((heard.output.as_slice(), heard.error.as_slice(), heard.code), (&b""[..], &b"oops\n"[..], Some(7)));
        assert!(guest.join().expect("guest").output == expected.as_bytes(), "{driver}");
        if driver == "json-file" {
            let logged = bed.log().lines().filter(|line| line.contains("\"stdout\"")).count();
            assert_eq!(logged, 200_000);
        }
    }
}

#[test]
fn what_the_pipe_has_no_room_for_comes_after_the_end() {
    for driver in ["json-file", "none"] {
        let (ours, theirs) = seqpacket::pair().expect("socket pair");
        let (mut output, write) = pipe();
        // Two pipes' worth, less a little.
        let bed = Bed::run_with(driver, "head -c 120000 /dev/zero; : >done", Some(theirs), Some(write));
        while !bed.home.path().join("done").exists() {
            thread::sleep(Duration::from_millis(10));
        }
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).expect("read");
        assert_eq!((bytes.len(), listen(&ours).code), (120_000, Some(0)), "{driver}");
    }
}

#[test]
fn a_pipe_that_nobody_reads_any_more_does_the_container_no_harm() {
    for driver in ["json-file", "none"] {
        let (ours, theirs) = seqpacket::pair().expect("socket pair");
        let (output, write) = pipe();
        let _bed = Bed::run_with(driver, "yes | head -c 3000000; exit 4", Some(theirs), Some(write));
        drop(output);
        assert_eq!(listen(&ours).code, Some(4), "{driver}");
    }
}

#[test]
fn a_failure_survives_the_way_to_the_client() {
    let e = Err::<(), _>(Failure::new("exec: \"x\": not found").hint("install it").exit(127)).context("start");
    let e = e.expect_err("an error was made");
    let same = to_error(&failed(&e));
    assert_eq!(error::render(&same), error::render(&e));
    assert_eq!(error::exit_code(&same), Some(127));
}

#[test]
fn a_long_failure_is_cut_and_still_fits() {
    let e = anyhow::anyhow!("{}", "€\u{1}".repeat(LONGEST_FAILURE));
    let text = failed(&e);
    assert!(text.len() <= LONGEST_FAILURE, "{}", text.len());
    assert!(error::message(&to_error(&text)).starts_with('€'));
}
