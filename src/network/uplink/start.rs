//! From a monitor to the uplink: joins the one that runs, or starts it.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::stat::fstat;
use nix::sys::time::TimeVal;

use super::policy::Registration;
use super::protocol::{self, MOST_LISTENERS, Reply, Request, Target, VERSION};
use super::run::NAME;
use crate::error::Failure;
use crate::network::Published;
use crate::network::space::Space;
use crate::store::{Lock, Store};
use crate::sys::seqpacket;

/// Where uplinks listen and log, in the storage root's `networks`.
const DIRECTORY: &str = "uplink";
const LOG: &str = "log";

/// Variables that it keeps: by them the user's systemd is found.
const KEPT_VARIABLES: [&str; 2] = ["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];

/// A log longer than this is begun anew with the next uplink.
const LONGEST_LOG: u64 = 64 * 1024;

/// Seconds that an answer may take. Nothing that is asked takes one.
const PATIENCE: i64 = 20;

/// A monitor's connection to the uplink. What was registered and published through it ends when it
/// is closed. When it hangs up, the uplink was killed: all flows are gone, and the monitor connects,
/// registers and publishes anew.
#[derive(Debug)]
pub struct Uplink {
    socket: OwnedFd,
    /// It has not answered yet.
    starting: Option<Starting>,
}

/// An uplink that gets ready while its monitor does other things.
#[derive(Debug)]
struct Starting {
    child: Child,
    /// Its socket's path, and its log's.
    door: PathBuf,
    log: PathBuf,
    /// Whoever comes next waits until it is known whether there is an uplink.
    _lock: Lock,
}

impl AsFd for Uplink {
    /// To wait for the hang-up: nothing is ever sent unasked.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A published port, as the monitor hands it on.
#[derive(Debug)]
pub struct Listener<'fd> {
    /// The host's socket: of TCP it listens, of UDP it is bound. The monitor keeps it open too.
    pub socket: BorrowedFd<'fd>,
    pub target: Target,
}

/// Joins the uplink that serves `space`, or starts it. To be called by a monitor: a process in the
/// user's own user namespace and the host's network namespace, whose executable nobody can write.
/// One that is started gets ready meanwhile: whether it can is told by the first that it is asked.
///
/// # Errors
/// No process can be made, or what is there is of another version.
pub fn connect(store: &Store, space: &Space) -> Result<Uplink> {
    let directory = store.root().join("networks").join(DIRECTORY);
    match DirBuilder::new().recursive(true).mode(0o700).create(&directory) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e).with_context(|| format!("make {directory:?}")),
        _ => {}
    }
    // Held while this comes to the door, so that it is not left in that moment.
    let lock = Lock::exclusive(&directory).with_context(|| format!("lock {directory:?}"))?;
    let name = name_of(space)?;
    match seqpacket::connect(&directory, &name) {
        Ok(socket) => {
            let mut uplink = Uplink { socket, starting: None };
            match uplink.ask(&Request::Hello { version: VERSION }, &[]) {
                // It was killed just now.
                Err(e) if is_gone(&e) => {}
                answer => return answer.map(|()| uplink),
            }
        }
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ECONNREFUSED)) => {}
        Err(e) => return Err(e).with_context(|| format!("connect to {:?}", directory.join(&name))),
    }
    start(&directory, &name, space, lock)
}

/// The socket's name: a namespace has one uplink, and while one is in it, its number is its own.
fn name_of(space: &Space) -> Result<String> {
    let number = match space {
        Space::Here => fstat(File::open("/proc/self/ns/net")?)?.st_ino,
        Space::Apart(namespace) => fstat(namespace)?.st_ino,
    };
    Ok(format!("{number}.socket"))
}

fn start(directory: &Path, name: &str, space: &Space, lock: Lock) -> Result<Uplink> {
    sweep(directory);
    let door = seqpacket::listen(directory, name).with_context(|| format!("listen in {directory:?}"))?;
    let (ours, theirs) = seqpacket::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).env_clear().current_dir("/");
    for name in KEPT_VARIABLES {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(open_log(directory)?);
    let child = command.spawn().context("start the uplink")?;
    // Its end of the socket: else this process would wait for an answer of its own.
    drop(command);
    let starting = Starting { child, door: directory.join(name), log: directory.join(LOG), _lock: lock };
    let begin = Request::Begin { version: VERSION, directory: directory.to_owned(), name: name.to_owned() };
    let namespace = match space {
        Space::Here => None,
        Space::Apart(namespace) => Some(namespace.as_fd()),
    };
    let fds: Vec<_> = [door.as_fd()].into_iter().chain(namespace).collect();
    protocol::send(&ours, &begin, &fds)?;
    Ok(Uplink { socket: ours, starting: Some(starting) })
}

/// Removes sockets at which nobody listens: of uplinks that were killed.
fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.ends_with(".socket")) else { continue };
        if seqpacket::connect(directory, name).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn open_log(directory: &Path) -> Result<File> {
    let path = directory.join(LOG);
    let is_long = fs::metadata(&path).is_ok_and(|meta| meta.len() > LONGEST_LOG);
    if is_long {
        fs::remove_file(&path)?;
    }
    let file = File::options().append(true).create(true).mode(0o600).open(&path);
    file.with_context(|| format!("open {path:?}"))
}

/// Whether nobody is at the other end any more.
fn is_gone(e: &anyhow::Error) -> bool {
    matches!(e.downcast_ref(), Some(Errno::EPIPE | Errno::ECONNRESET))
}

impl Uplink {
    /// Says which addresses the container has. A later registration replaces it.
    ///
    /// # Errors
    /// The uplink is gone, or could not start, with its own words.
    pub fn register(&mut self, registration: &Registration) -> Result<()> {
        self.ask(&Request::Register(registration.clone()), &[])
    }

    /// Relays connections to these ports from now on.
    ///
    /// # Errors
    /// The uplink is gone, or refuses one.
    pub fn publish(&mut self, listeners: &[Listener<'_>]) -> Result<()> {
        for some in listeners.chunks(MOST_LISTENERS) {
            let fds: Vec<_> = some.iter().map(|listener| listener.socket).collect();
            self.ask(&Request::Publish(some.iter().map(|listener| listener.target).collect()), &fds)?;
        }
        Ok(())
    }

    /// Relays no new connections to these ports; those that are there stay.
    ///
    /// # Errors
    /// The uplink is gone.
    pub fn unpublish(&mut self, published: &[Published]) -> Result<()> {
        for some in published.chunks(MOST_LISTENERS) {
            self.ask(&Request::Unpublish(some.to_vec()), &[])?;
        }
        Ok(())
    }

    /// Waits for the answer of one that was started.
    fn finish_start(&mut self) -> Result<()> {
        let Some(mut starting) = self.starting.take() else { return Ok(()) };
        let answer = self.answer();
        // What was started has forked and left.
        let _ = starting.child.wait();
        let Err(e) = answer else { return Ok(()) };
        let _ = fs::remove_file(&starting.door);
        Err(if is_gone(&e) {
            Failure::new("the uplink ended before it was ready")
                .hint(format!("see what it says in {:?}", starting.log))
                .into()
        } else {
            e
        })
    }

    fn ask(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.finish_start()?;
        protocol::send(&self.socket, request, fds)?;
        self.answer()
    }

    fn answer(&self) -> Result<()> {
        setsockopt(&self.socket, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
        match protocol::receive::<Reply>(&self.socket, true) {
            Ok(Some((Reply::Done, _))) => Ok(()),
            Ok(Some((Reply::Failed { message, hint }, _))) => {
                let failure = Failure::new(message);
                Err(match hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
                .into())
            }
            Ok(None) => Err(Errno::EPIPE.into()),
            Err(Errno::EAGAIN) => Err(Failure::new("the uplink does not answer")
                .hint("is it stopped? kill it (ctr-uplink), and it is started again")
                .into()),
            Err(e) => Err(e).context("ask the uplink"),
        }
    }
}
