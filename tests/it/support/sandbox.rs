//! A test's own world: storage and run roots, home, working directory, an environment with nothing
//! in it, and an account.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::who::{Account, base};
use super::{Image, Ran, Running, Who, leftovers};

#[derive(Debug)]
pub struct Sandbox {
    pub who: Who,
    pub account: Account,
    /// Everything of this sandbox lies below it; the account owns it.
    pub dir: PathBuf,
    /// Variables beside the few that every command gets.
    env: RefCell<Vec<(OsString, OsString)>>,
    /// Container ids that commands have printed: what to ask the cgroups for.
    ids: RefCell<BTreeSet<String>>,
    finished: std::cell::Cell<bool>,
    /// Those of the host that were there before.
    interfaces: RefCell<BTreeSet<OsString>>,
}

impl Sandbox {
    pub fn new(who: Who, account: &Account) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        sweep();
        let dir = base().join(COUNT.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir_all(&dir).unwrap();
        chown(&dir, Some(account.uid), Some(account.gid)).unwrap();
        let sandbox = Self {
            who,
            account: account.clone(),
            dir,
            env: RefCell::default(),
            ids: RefCell::default(),
            finished: false.into(),
            interfaces: super::netns::interfaces().into(),
        };
        for name in ["home", "cwd", "tmp", "xdg"] {
            sandbox.make_dir(name);
        }
        fs::set_permissions(sandbox.dir.join("xdg"), fs::Permissions::from_mode(0o700)).unwrap();
        sandbox
    }

    pub fn is_root(&self) -> bool {
        self.who == Who::Root
    }

    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    pub fn run_root(&self) -> PathBuf {
        self.dir.join("run")
    }

    pub fn cwd(&self) -> PathBuf {
        self.dir.join("cwd")
    }

    pub fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    /// A variable for every command from here on.
    pub fn set(&self, name: &str, value: impl AsRef<OsStr>) {
        self.env.borrow_mut().push((name.into(), value.as_ref().into()));
    }

    /// What the test has made of interfaces up to here is its own.
    pub fn owns_interfaces(&self) {
        *self.interfaces.borrow_mut() = super::netns::interfaces();
    }

    /// `ctr` and these words; single and double quotes hold words together.
    #[track_caller]
    pub fn ctr(&self, line: &str) -> Ran {
        self.spawn(line).wait_noting(self)
    }

    /// The same for words that cannot be written on a line.
    #[track_caller]
    pub fn ctr_args<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        let mut command = self.command();
        command.args(args);
        Running::start(command, self.cwd()).wait_noting(self)
    }

    /// `ctr` with something to read.
    #[track_caller]
    pub fn ctr_reads(&self, line: &str, input: impl AsRef<[u8]>) -> Ran {
        let mut running = self.spawn(line);
        running.write_what_it_takes(input.as_ref());
        running.wait_noting(self)
    }

    /// `ctr` in the background.
    #[track_caller]
    pub fn spawn(&self, line: &str) -> Running {
        let mut command = self.command();
        command.args(words(line));
        Running::start(command, self.cwd())
    }

    /// The command `ctr`, with the roots of this sandbox.
    pub fn command(&self) -> Command {
        let mut command = self.host_command(binary());
        command.arg("--root").arg(self.root()).arg("--runroot").arg(self.run_root());
        command
    }

    /// The words that a shell needs to run `ctr` in this sandbox.
    pub fn ctr_words(&self) -> String {
        format!("{} --root {} --runroot {}", binary().display(), self.root().display(), self.run_root().display())
    }

    /// Any program, run by this sandbox's account in this sandbox's environment.
    pub fn host_command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.home())
            .env("USER", &self.account.name)
            .env("TMPDIR", self.dir.join("tmp"))
            .env("XDG_RUNTIME_DIR", self.dir.join("xdg"))
            .env("LANG", "C.UTF-8")
            .env("TERM", "xterm-256color")
            .envs(self.env.borrow().iter().map(|(name, value)| (name, value)));
        if self.account.other {
            // Drops the supplementary groups as well.
            command.uid(self.account.uid).gid(self.account.gid);
        }
        command
    }

    /// Runs a shell line on the host, by this sandbox's account, `$ctr` being the engine.
    #[track_caller]
    pub fn host(&self, script: &str) -> Ran {
        let mut command = self.host_command("sh");
        command.arg("-euc").arg(script).env("ctr", self.ctr_words());
        Running::start(command, self.cwd()).wait()
    }

    /// Puts the busybox image into the store, as `busybox`.
    #[track_caller]
    pub fn busybox(&self) {
        self.load(&Image::busybox());
    }

    /// Loads an image under its names.
    #[track_caller]
    pub fn load(&self, image: &Image) {
        self.ctr_args(["load", "-q", "-i", image.oci_archive().to_str().unwrap()]).succeeds_talking();
    }

    /// Makes a directory of the account's own below the sandbox.
    pub fn make_dir(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::create_dir_all(&path).unwrap();
        chown(&path, Some(self.account.uid), Some(self.account.gid)).unwrap();
        path
    }

    /// Makes a file of the account's own below the sandbox.
    pub fn make_file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.join(name);
        fs::write(&path, content).unwrap();
        chown(&path, Some(self.account.uid), Some(self.account.gid)).unwrap();
        path
    }

    /// Waits until the container's state, as `inspect` has it, is `status`.
    #[track_caller]
    pub fn until_status(&self, container: &str, status: &str) {
        super::until(&format!("{container} is {status}"), || {
            self.ctr_args(["inspect", "-f", "{{.State.Status}}", container]).out().trim() == status
        });
    }

    /// Waits until the container's log contains `text`.
    #[track_caller]
    pub fn until_logged(&self, container: &str, text: &str) {
        super::until(&format!("{container} logs {text:?}"), || {
            let ran = self.ctr_args(["logs", container]);
            ran.out().contains(text) || ran.err().contains(text)
        });
    }

    /// What is left of this sandbox beside the images: processes, mounts, interfaces, cgroups,
    /// containers, temporary files. Empty when all is well.
    pub fn leftovers(&self) -> Vec<String> {
        leftovers::of(self, &self.ids.borrow(), &self.interfaces.borrow())
    }

    /// Waits a moment for the last processes and interfaces to go, then allows nothing to be left. The
    /// kernel removes the interfaces of a namespace one after the other, behind those of other tests.
    #[track_caller]
    pub fn leaves_nothing(&self) {
        let end = std::time::Instant::now() + super::PATIENCE;
        loop {
            let left = self.leftovers();
            if left.is_empty() {
                return;
            }
            assert!(std::time::Instant::now() < end, "left behind:\n{}", left.join("\n"));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// The end of a test that passed: removes its containers the way a person would, and looks for
    /// what is left.
    #[track_caller]
    pub fn finish(&self) {
        let all = self.ctr("ps -aq --no-trunc").succeeds();
        if !all.is_empty() {
            let ids = all.lines().map(str::to_owned);
            self.ctr_args(["rm".to_owned(), "-f".to_owned()].into_iter().chain(ids)).succeeds();
        }
        if self.root().join("networks").exists() {
            let networks = self.ctr("network ls -q --no-trunc --filter type=custom").succeeds();
            for id in networks.lines() {
                self.ctr_args(["network", "rm", id]).succeeds();
            }
        }
        self.leaves_nothing();
        self.finished.set(true);
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if !self.finished.get() {
            leftovers::kill_processes(&self.dir);
        }
        leftovers::unmount(&self.dir);
        // An ordinary user cannot remove what containers wrote as other ids; the sweep of a later
        // run by root does.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Running {
    /// Waits for its end; ids that it printed are looked for among the cgroups later.
    #[track_caller]
    fn wait_noting(self, sandbox: &Sandbox) -> Ran {
        let ran = self.wait();
        let out = ran.out();
        let is_id = |line: &&str| line.len() == 64 && line.bytes().all(|b| b.is_ascii_hexdigit());
        sandbox.ids.borrow_mut().extend(out.lines().filter(is_id).map(str::to_owned));
        ran
    }
}

/// The engine under test: `CTR_BIN`, or the one that cargo built beside these tests. A copy at a
/// place that every user can reach, as a person would install it.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let built = std::env::var_os("CTR_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_ctr").into());
        let dir = base().join("bin");
        fs::create_dir_all(&dir).unwrap();
        let copy = dir.join("ctr");
        copy_program(Path::new(&built), &copy);
        copy
    })
}

/// Copies a program, which everybody may run. By a process of its own: a child that another test forks
/// meanwhile would have this one's descriptors for an instant, and what somebody has open for writing
/// cannot be run (ETXTBSY).
#[track_caller]
pub fn copy_program(from: &Path, to: &Path) {
    let done = Command::new("cp").args([from, to]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Removes, once, what earlier runs of these tests left that were killed.
fn sweep() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let mine = base();
        fs::create_dir_all(&mine).unwrap();
        for entry in fs::read_dir(mine.parent().unwrap()).unwrap().flatten() {
            let dead = !Path::new("/proc").join(entry.file_name()).exists();
            if dead && entry.path() != mine {
                leftovers::kill_processes(&entry.path());
                leftovers::unmount(&entry.path());
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    });
}

/// Splits a line into words; single and double quotes hold them together, nothing is special
/// inside.
pub fn words(line: &str) -> Vec<String> {
    let (mut all, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(q), _) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, _) if c.is_whitespace() => all.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    assert!(quote.is_none(), "a quote is not closed: {line}");
    all.extend(word);
    all
}
