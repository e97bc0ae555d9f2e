//! From the command that starts a container to its monitor: both sides of the fork.

use std::convert::Infallible;
use std::ffi::CString;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::SigSet;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, execveat, getpid, setsid};

use crate::container::attach;
use crate::container::config::ContainerConfig;
use crate::container::state::{ALIVE, PROCESS, Process};
use crate::error::Failure;
use crate::monitor::protocol::{self, Message, PACKET};
use crate::monitor::run::{FDS, NAME};
use crate::monitor::{Connection, Streams, failed, to_error};
use crate::network::member;
use crate::store::{Id, Store, record};
use crate::sys::process::{Fork, exit_now, fork};
use crate::sys::{descriptors, reexec, seqpacket};
use crate::userns::{self, Plan};

/// Variables that a monitor keeps: by them the user's systemd is found.
const KEPT_VARIABLES: &[&str] = &["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "PATH"];

/// Starts a monitor for the container, whose lock the caller holds, and waits until its process
/// runs or could not be run. `streams`: join this client before the first byte of output;
/// `size`: the terminal's rows and columns; `descriptors`: what the container's process gets, by the
/// numbers that it finds them under.
///
/// When this returns, the monitor has recorded the container as running; the caller writes nothing.
/// With `streams`, the signals that [`attach::session`] passes on are blocked from then on: call it
/// next. When the caller is killed before, the container ends too, since nobody knows of it.
///
/// # Errors
/// What kept the process from running, as the monitor or the runtime said it, with its exit code.
/// Nothing of the attempt is left then, and `state.json` is as it was.
pub fn start(
    store: &Store,
    config: &ContainerConfig,
    streams: Option<Streams>,
    size: Option<(u16, u16)>,
    descriptors: Vec<(i32, OwnedFd)>,
) -> Result<Connection> {
    let id = &config.id;
    let alive = claim(store, id)?;
    let (ours, theirs) = seqpacket::pair()?;
    let (plan, entering) = userns::plan_to_stay(store)?;
    let link = if matches!(plan, Plan::Make { .. }) { Some(UnixStream::pair()?) } else { None };
    let (link, their_link) = link.unzip();
    // Between the report and the session's start, a signal waits for the session.
    let signals = streams.map(|_| attach::hold_signals()).transpose()?;
    let monitor = match fork().context("fork")? {
        Fork::Child => {
            drop((ours, link));
            let Err(e) = become_monitor(store, id, &alive, &theirs, (&plan, their_link, entering), &descriptors);
            // Without a parent nobody is left to tell.
            let _ = Message::Failed(&failed(&e)).send(theirs.as_fd());
            exit_now(1)
        }
        Fork::Parent(child) => child,
    };
    drop((theirs, their_link, alive, entering, descriptors));
    if let Some(mut link) = link {
        // The other side reports a failure, with its cause.
        let _ = plan.map(monitor, &mut link);
    }
    let size = size.unwrap_or_default();
    let joined = streams.is_some_and(|streams| streams.stdout) && !config.config.tty;
    let (output, pipe) = if joined { attach::output_pipe() } else { None }.unzip();
    let pipe: Vec<_> = pipe.iter().map(AsFd::as_fd).collect();
    let outcome = match (Message::Begin { streams, size }).send_with(ours.as_fd(), &pipe, true) {
        // The monitor has left; its last word waits to be read.
        Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => report(&ours, signals.as_ref()),
        Err(e) => Err(e.into()),
    };
    match outcome {
        Ok((pid, input)) => {
            if log::log_enabled!(log::Level::Debug) {
                tell(store, config, pid);
            }
            Ok(Connection { socket: ours, pid: Some(pid), output, input })
        }
        Err(e) => {
            let _ = waitpid(monitor, None);
            attach::release_signals()?;
            crate::container::heal::remove_traces(store, id);
            Err(e)
        }
    }
}

/// What a container that was started was given.
fn tell(store: &Store, config: &ContainerConfig, pid: Pid) {
    let id = config.id.short();
    log::debug!("container {id} runs as process {pid}");
    if let Ok(Some(process)) = record::read::<Process>(&store.container(&config.id).join(PROCESS)) {
        let cgroups = if process.cgroups.is_empty() { "none".to_owned() } else { process.cgroups.join(", ") };
        log::debug!("container {id}: cgroup {cgroups}");
    }
    let members = member::of_container(store, &config.id).unwrap_or_default();
    for (network, member) in &members {
        let addresses: Vec<String> = member.addresses().map(|address| address.to_string()).collect();
        log::debug!("container {id}: network {} as {} {}", network.name, member.interface, addresses.join(" "));
    }
    if members.is_empty() {
        log::debug!("container {id}: network mode {:?}", config.host_config.network_mode);
    }
}

/// Takes the lock that says that the container's monitor lives. The lock belongs to the open file,
/// so the monitor has it from the fork on, without a moment in between.
fn claim(store: &Store, id: &Id) -> Result<File> {
    let run = store.container_run(id);
    match std::fs::DirBuilder::new().mode(0o700).create(&run) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e).with_context(|| format!("make {run:?}")),
        _ => {}
    }
    let path = store.container(id).join(ALIVE);
    let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.with_context(|| format!("open {path:?}"))?;
    // Who asks whether it is alive holds the lock shared for an instant. Nobody else can be about to
    // take it: the caller holds the container's own lock.
    while file.try_lock().is_err() {
        if file.try_lock_shared().is_err() {
            return Err(Failure::new(format!("container {id} is running already")).into());
        }
        file.unlock()?;
        std::thread::sleep(Duration::from_millis(1));
    }
    // The number of one that was killed.
    file.set_len(0)?;
    Ok(file)
}

/// Waits for the monitor's first word, and the container's standard input that may come with it. Signals are let through while it waits, and only then.
fn report(socket: &OwnedFd, signals: Option<&SigSet>) -> Result<(Pid, Option<OwnedFd>)> {
    let mut polls = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    loop {
        match ppoll(&mut polls, None, signals.copied()) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e).context("poll"),
        }
    }
    let mut buffer = vec![0; PACKET];
    let word = protocol::receive(socket.as_fd(), &mut buffer, |message, fds| match message {
        Message::Started { pid } => Ok((Pid::from_raw(pid), fds.into_iter().next())),
        Message::Failed(failed) => Err(to_error(failed)),
        other => Err(anyhow::anyhow!("the monitor's first word was {other:?}")),
    })?;
    word.unwrap_or_else(|| Err(Failure::new("the monitor was killed before the container ran").into()))
}

/// The child, from fork to exec. It must not print, and returns only an error.
fn become_monitor(
    store: &Store,
    id: &Id,
    alive: &File,
    socket: &OwnedFd,
    (plan, mut link, entering): (&Plan, Option<UnixStream>, Option<File>),
    further: &[(i32, OwnedFd)],
) -> Result<Infallible> {
    SigSet::empty().thread_set_mask()?;
    // The terminal's end and its ^C are no concern of the monitor's.
    setsid().context("setsid")?;
    plan.go_in(link.as_mut())?;
    // Whoever gives up a start that hangs has to know whom to kill, and whoever starts the next
    // container, whose namespaces to join. Where the disk is full, nobody can.
    let _ = nix::unistd::write(alive, format!("{}\n", getpid()).as_bytes());
    drop(entering);
    unshare(CloneFlags::CLONE_NEWNS).context("make the monitor's mount namespace")?;
    // What is mounted on the host later appears here, and nothing of here appears there.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)
        .context("separate the monitor's mounts")?;
    let program = reexec::read_only_self().context("make a read-only mount of ctr")?;
    std::env::set_current_dir("/")?;
    let null = File::options().read(true).write(true).open("/dev/null").context("open \"/dev/null\"")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    descriptors::close_on_exec()?;
    descriptors::keep_on_exec(alive)?;
    descriptors::keep_on_exec(socket)?;
    let mut numbers = format!("{FDS}={},{}", socket.as_raw_fd(), alive.as_raw_fd());
    for (number, fd) in further {
        descriptors::keep_on_exec(fd)?;
        // Writing to a string cannot fail.
        let _ = write!(numbers, ",{number}:{}", fd.as_raw_fd());
    }
    let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::from);
    let arguments = [
        text(NAME.as_bytes())?,
        text(id.as_str().as_bytes())?,
        text(store.root().as_os_str().as_bytes())?,
        text(store.run().as_os_str().as_bytes())?,
    ];
    let mut environment = vec![text(numbers.as_bytes())?];
    for name in KEPT_VARIABLES {
        if let Some(value) = std::env::var_os(name) {
            environment.push(text(&[name.as_bytes(), b"=", value.as_bytes()].concat())?);
        }
    }
    execveat(&program, c"", &arguments, &environment, AtFlags::AT_EMPTY_PATH).context("execute the monitor")
}
