//! A command while it runs.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{PATIENCE, Ran, until};

#[derive(Debug)]
pub struct Running {
    child: Child,
    command: String,
    dir: PathBuf,
    stdin: Option<ChildStdin>,
    stdout: Stream,
    stderr: Stream,
    ended: bool,
}

/// What a stream has brought so far; the channel is closed at its end.
#[derive(Debug)]
struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    end: Receiver<()>,
    reader: Option<JoinHandle<()>>,
}

impl Stream {
    fn new(mut from: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (open, end) = channel();
        let into = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let _open = open;
            let mut buffer = vec![0; 65536];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                into.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Self { bytes, end, reader: Some(reader) }
    }

    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
}

impl Running {
    /// Starts it with pipes for all three streams.
    #[track_caller]
    pub fn start(mut command: Command, dir: PathBuf) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let text = words.map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ");
        command.current_dir(&dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {text}: {e}"));
        Self {
            stdin: child.stdin.take(),
            stdout: Stream::new(child.stdout.take().unwrap()),
            stderr: Stream::new(child.stderr.take().unwrap()),
            child,
            command: text,
            dir,
            ended: false,
        }
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Writes to its standard input.
    #[track_caller]
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().expect("standard input is closed already");
        stdin.write_all(bytes.as_ref()).and_then(|()| stdin.flush()).unwrap();
    }

    /// Writes what it takes, and does not mind that it may have ended.
    pub fn write_what_it_takes(&mut self, bytes: &[u8]) {
        let _ = self.stdin.as_mut().map(|stdin| stdin.write_all(bytes));
    }

    /// Waits until its standard output contains `text`.
    #[track_caller]
    pub fn shows(&self, text: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let so_far = self.stdout.so_far();
            if String::from_utf8_lossy(&so_far).contains(text) {
                return;
            }
            // Its end may come between a look at the output and a look at the end.
            let over = Instant::now() > end || self.stdout.reader.as_ref().is_some_and(JoinHandle::is_finished);
            let in_vain = over && !String::from_utf8_lossy(&self.stdout.so_far()).contains(text);
            assert!(!in_vain, "waited in vain for {text:?}\n{}", self.as_ran(-1));
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// Whether its standard output contains `text` by now.
    pub fn has_shown(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.stdout.so_far()).contains(text)
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Whether it runs still.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end and the end of both its streams: a command whose streams are held open by
    /// something it left running never ends in `$(…)`.
    #[track_caller]
    pub fn wait(mut self) -> Ran {
        self.stdin = None;
        let end = Instant::now() + PATIENCE;
        let still_open = |stream: &Stream| {
            let left = end.saturating_duration_since(Instant::now());
            stream.end.recv_timeout(left) == Err(RecvTimeoutError::Timeout)
        };
        if still_open(&self.stdout) || still_open(&self.stderr) {
            let state = if self.runs() { "it did not end" } else { "it ended, but something holds its output open" };
            let ran = self.as_ran(-1);
            self.end();
            panic!("{state} within {PATIENCE:?}\n{ran}");
        }
        let child = &mut self.child;
        until("the command closed its output but did not end", || !matches!(child.try_wait(), Ok(None)));
        let status = self.child.wait().unwrap();
        self.ended = true;
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        for stream in [&mut self.stdout, &mut self.stderr] {
            if let Some(reader) = stream.reader.take() {
                reader.join().unwrap();
            }
        }
        self.as_ran(code)
    }

    fn as_ran(&self, code: i32) -> Ran {
        Ran {
            command: self.command.clone(),
            dir: self.dir.clone(),
            stdout: self.stdout.so_far(),
            stderr: self.stderr.so_far(),
            code,
        }
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.ended = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.end();
        }
    }
}

/// A word as it can be pasted into a shell.
fn quote(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
