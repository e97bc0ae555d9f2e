//! The monitor from its first instruction to its last.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Gid, Pid, Uid, fchown, getpid, pipe2};

use crate::container::config::{ContainerConfig, Ids};
use crate::container::state::{ALIVE, PROCESS, Phase, Process, State};
use crate::container::{heal, network, remove, restart, signal, spec, start};
use crate::events;
use crate::monitor::client::Role;
use crate::monitor::exec::Further as Joining;
use crate::monitor::join;
use crate::monitor::log::{Log, Names};
use crate::monitor::network::{Connected, Sandbox};
use crate::monitor::protocol::{self, Message};
use crate::monitor::relay::{Ends, Relay, Stop};
use crate::monitor::{SOCKET, failed};
use crate::network::record::Network;
use crate::runtime::cgroup::{Cgroup, Pending, Placement};
use crate::runtime::seccomp::{self, Profile};
use crate::runtime::{self, Further, Launch, Stdio};
use crate::store::record::{self, Durability};
use crate::store::{Id, Lock, Store};
use crate::sys::{descriptors, pidfd, seqpacket};

/// What a monitor is called with as its first argument, and is seen as by ps.
pub const NAME: &str = "ctr-monitor";

/// The variable with the numbers of the descriptors that it is started with: its first client's
/// socket, the lock that says that it lives, and those that are for the container's process, each
/// behind the number that it is to have there and a colon.
pub const FDS: &str = "CTR_MONITOR_FDS";

/// Bytes that the pipe of a container's standard output holds.
const PIPE: i32 = 256 * 1024;

/// The container's state in its directory.
const STATE: &str = "state.json";

/// The monitor's main function. `arguments`: [`NAME`], the container's id, both roots.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let Ok((socket, alive, descriptors)) = inherited() else { return ExitCode::FAILURE };
    let monitor = match Monitor::prepare(arguments) {
        Ok(monitor) => monitor,
        Err(e) => {
            let _ = Message::Failed(&failed(&e)).send(socket.as_fd());
            return ExitCode::FAILURE;
        }
    };
    match monitor.watch(socket, alive, descriptors) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Descriptors for the container's process, by the numbers that it finds them under.
type Descriptors = Vec<(i32, OwnedFd)>;

fn inherited() -> Result<(OwnedFd, OwnedFd, Descriptors)> {
    let numbers = env::var(FDS)?;
    let mut numbers = numbers.split(',');
    let mut next =
        || -> Result<OwnedFd> { Ok(descriptors::inherited(numbers.next().context("wrong descriptors")?.parse()?)?) };
    let (socket, alive) = (next()?, next()?);
    let further = numbers.map(|pair| {
        let (number, fd) = pair.split_once(':').context("wrong descriptors")?;
        Ok((number.parse()?, descriptors::inherited(fd.parse()?)?))
    });
    Ok((socket, alive, further.collect::<Result<_>>()?))
}

struct Monitor {
    store: Store,
    id: Id,
}

/// The container's cgroups, removed when this is dropped.
struct Cgroups(Vec<String>);

impl Drop for Cgroups {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            // What cannot be removed is empty, and is removed by the next start of this container.
            let _ = Cgroup::from_paths(&self.0).remove();
        }
    }
}

/// A container that runs.
struct Running {
    relay: Relay,
    cgroups: Cgroups,
    /// Where it stood before.
    before: Phase,
    started: Timestamp,
    pid: Pid,
    /// The program that connects it, which ends with it.
    pasta: Option<Connected>,
}

impl Monitor {
    fn prepare(arguments: Vec<OsString>) -> Result<Self> {
        // The container's processes must not look into this one: prctl(2), PR_SET_DUMPABLE.
        nix::sys::prctl::set_dumpable(false)?;
        nix::sys::prctl::set_name(c"ctr-monitor")?;
        // A published port is one, and a thousand may be.
        descriptors::raise_limit();
        let [_, id, root, run] = <[OsString; 4]>::try_from(arguments).ok().context("wrong arguments")?;
        let id = id.to_str().context("wrong id")?.parse()?;
        Ok(Self { store: Store::at(PathBuf::from(root), PathBuf::from(run)), id })
    }

    /// The whole life.
    fn watch(&self, socket: OwnedFd, alive: OwnedFd, descriptors: Descriptors) -> Result<()> {
        let begin = protocol::receive(socket.as_fd(), &mut [0; 64], |message, fds| match message {
            Message::Begin { streams, size } => Some((streams, size, fds.into_iter().next())),
            _ => None,
        });
        let Ok(Some(Some((streams, size, pipe)))) = begin else { bail!("nobody says what to do") };
        let mut running = match self.launch(size, &alive, descriptors) {
            Ok(running) => running,
            Err(e) => {
                // The starter does so too, if it is still there.
                heal::remove_traces(&self.store, &self.id);
                let _ = Message::Failed(&failed(&e)).send(socket.as_fd());
                return Err(e);
            }
        };
        let input: Vec<_> = running.relay.input().filter(|_| streams.is_some_and(|s| s.stdin)).into_iter().collect();
        let started = Message::Started { pid: running.pid.as_raw() };
        if started.send_with(socket.as_fd(), &input, true).is_err() {
            // Who wanted it was killed, and nobody knows of it.
            return self.undo(running);
        }
        match streams {
            Some(streams) => running.relay.join(socket, Role::Foreground(streams), pipe),
            None => drop(socket),
        }
        let code = running.relay.run()?;
        let mut relay = self.finish(running, code);
        // A client that stands still keeps this process, and nobody else waiting.
        drop(alive);
        relay.farewell(code)
    }

    /// From the configuration to a process that runs, recorded as running.
    fn launch(&self, (rows, columns): (u16, u16), alive: &OwnedFd, descriptors: Descriptors) -> Result<Running> {
        let config = start::config(&self.store, &self.id)?;
        let pending = Pending::begin(&Placement {
            id: self.id.to_string(),
            parent: Some(config.host_config.cgroup_parent.clone()).filter(|parent| !parent.is_empty()),
        })?;
        // Until there is a record of the process, this is what tells where its cgroups are.
        let _ = nix::unistd::write(alive, pending.places().as_bytes());
        let state = self.state()?;
        let log = Log::open(&self.store, &config, &Names { name: &state.name, image_id: &state.image_id })?;
        let run = self.store.container_run(&self.id);
        // What a monitor that was killed left there would be in the way.
        let _ = fs::remove_file(run.join(SOCKET));
        let listener = seqpacket::listen(&run, SOCKET).with_context(|| format!("listen in {run:?}"))?;
        let wish = network::wish(&self.store, &config)?;
        let mut sandbox = Sandbox::prepare(&self.store, &config, &wish, &self.state()?.name)?;
        let names = sandbox.as_ref().map(Sandbox::names).unwrap_or_default();
        let blueprint = spec::build(&self.store, &config, &names)?;
        let process = blueprint.spec.process().as_ref().context("no process")?;
        let filter = filter(&self.store, &config, process)?;
        let linux = blueprint.spec.linux().as_ref();
        let cgroup = pending.finish(linux.and_then(|linux| linux.resources().as_ref()))?;
        let cgroups = Cgroups(cgroup.as_ref().map(Cgroup::paths).unwrap_or_default());
        let (stdio, ends) = streams(&config, (rows, columns))?;
        let prepared = runtime::prepare(Launch {
            spec: blueprint.spec,
            root: blueprint.root,
            user: blueprint.user,
            groups: blueprint.groups,
            directories: blueprint.directories,
            secrets: blueprint.secrets,
            stdio,
            init: blueprint.init,
            cgroup,
            seccomp: filter,
            further: Further { descriptors, ..blueprint.further },
        })?;
        if !config.host_config.extras.pid_file.is_empty() {
            let path = &config.host_config.extras.pid_file;
            fs::write(path, prepared.pid().to_string()).with_context(|| format!("write the pidfile {path:?}"))?;
        }
        // It builds its root meanwhile.
        if let Some(sandbox) = &mut sandbox {
            sandbox.wire(prepared.pid())?;
        }
        let pasta = Connected::by_pasta(&self.store, &config, &wish, prepared.pid())?;
        let process = prepared.start()?;
        let pid = process.pid;
        let ends = match (ends, process.terminal) {
            (Some(ends), _) => ends,
            (None, Some(master)) => Ends::Terminal { master, reads: config.config.open_stdin },
            (None, None) => bail!("the runtime gave no terminal"),
        };
        let stop = stop(&config);
        let further = self.further(pid);
        let stdin_once = config.config.stdin_once;
        let mut relay = Relay::new(process.pidfd, ends, log, (stdin_once, stop), Some(listener), further)?;
        let started = Timestamp::now();
        let before = self.record_start(pid, &cgroups, started, |state| match (&sandbox, &pasta) {
            (Some(sandbox), _) => sandbox.describe(&config, state),
            (None, Some(pasta)) => pasta.describe(&config, state),
            (None, None) => state.networks = wish.names(),
        })?;
        relay.serve_network(sandbox);
        if config.host_config.extras.timeout > 0 {
            relay.limit(Duration::from_secs(config.host_config.extras.timeout));
        }
        Ok(Running { relay, cgroups, before, started, pid, pasta })
    }

    /// How further processes are made. All that they need is read anew, in the child that makes them.
    fn further(&self, init: Pid) -> Joining {
        let (store, id) = (self.store.clone(), self.id.clone());
        let note = move |action: &str, more: &[(&str, &str)]| events::of_container(&store, &id, action, more);
        let (store, id) = (self.store.clone(), self.id.clone());
        Joining {
            join: Box::new(move |request, descriptors| join::join(&store, &id, init, request, descriptors)),
            note: Box::new(note),
        }
    }

    /// Under the lock of the one who starts it. Returns the phase that the container was in.
    fn record_start(
        &self,
        pid: Pid,
        cgroups: &Cgroups,
        started: Timestamp,
        describe: impl FnOnce(&mut State),
    ) -> Result<Phase> {
        let process = Process {
            pid: pid.as_raw(),
            start_time: pidfd::start_time(pid).unwrap_or_default(),
            monitor: getpid().as_raw(),
            run: self.store.run().to_owned(),
            cgroups: cgroups.0.clone(),
        };
        record::write(&self.store.container(&self.id).join(PROCESS), &process, Durability::Unsynced)?;
        let mut state = self.state()?;
        let before = std::mem::replace(&mut state.phase, Phase::Running { started, paused: false });
        describe(&mut state);
        self.write_state(&state)?;
        events::container(&self.store, &self.id, &state, "start", &[]);
        Ok(before)
    }

    fn state(&self) -> Result<State> {
        record::read(&self.store.container(&self.id).join(STATE))?.context("no state.json")
    }

    fn write_state(&self, state: &State) -> Result<()> {
        record::write(&self.store.container(&self.id).join(STATE), state, Durability::Unsynced)
    }

    /// The container's process has ended: the log first, then the record, then the word to clients.
    /// Nothing stops this on its way; what fails is left to `heal`.
    fn finish(&self, running: Running, code: u8) -> Relay {
        let Running { mut relay, cgroups, started, pasta, .. } = running;
        let cgroup = Cgroup::from_paths(&cgroups.0);
        let oom_killed = cgroup.oom_killed();
        // Without a pid namespace of its own, processes outlive the first one.
        let _ = cgroup.kill();
        let networks = relay.leave_network();
        drop(pasta);
        relay.drain();
        // Not there any more: removed by force, with nothing left to record.
        let Ok(_lock) = Lock::exclusive(&self.store.container(&self.id)) else { return relay };
        let ended = Phase::Exited { started, finished: Timestamp::now(), code, oom_killed };
        let tell = |state: &State| self.tell_end(state, (code, started, oom_killed), &networks);
        let _ = self.settle(cgroups, ended, tell);
        relay
    }

    /// The one who started it was killed before it was told that the container runs.
    fn undo(&self, running: Running) -> Result<()> {
        let Running { mut relay, cgroups, before, started, .. } = running;
        relay.kill();
        let code = relay.run()?;
        let networks = relay.leave_network();
        let _lock = Lock::exclusive(&self.store.container(&self.id))?;
        self.settle(cgroups, before, |state| self.tell_end(state, (code, started, false), &networks))
    }

    /// Records the end, in Docker's order.
    fn tell_end(&self, state: &State, (code, started, oom): (u8, Timestamp, bool), networks: &[Network]) {
        if oom {
            events::container(&self.store, &self.id, state, "oom", &[]);
        }
        events::died(&self.store, &self.id, state, code, started);
        for network in networks {
            events::network(&self.store, network, "disconnect", Some(&self.id));
        }
    }

    /// Leaves the container in `phase`, or removes it if that is its way. Under its lock. `tell`: once
    /// whoever looks sees that it ended.
    fn settle(&self, cgroups: Cgroups, phase: Phase, tell: impl FnOnce(&State)) -> Result<()> {
        drop(cgroups);
        let mut state = self.state()?;
        heal::remove_run(&self.store, &self.id);
        let directory = self.store.container(&self.id);
        // Before the state is written: where the disk is full, this makes room.
        let _ = fs::remove_file(directory.join(PROCESS));
        let config: Result<Option<ContainerConfig>> = record::read(&directory.join("config.json"));
        let removes = config.is_ok_and(|c| c.is_some_and(|c| c.host_config.auto_remove));
        if removes && !restart::is_under_way(&self.store, &self.id) {
            let removed = remove::discard(&self.store, &self.id, &state.name);
            if !directory.exists() {
                tell(&state);
                events::container(&self.store, &self.id, &state, "destroy", &[]);
                return removed;
            }
        }
        state.phase = phase;
        state.ports.clear();
        self.write_state(&state)?;
        tell(&state);
        // Last: until here the container counts as alive, and who looks waits for what is recorded.
        fs::remove_file(directory.join(ALIVE))?;
        Ok(())
    }
}

/// The container's side of its standard streams, and ours. The runtime makes a terminal itself.
fn streams(config: &ContainerConfig, (rows, columns): (u16, u16)) -> Result<(Stdio, Option<Ends>)> {
    if config.config.tty {
        return Ok((Stdio::Terminal { rows, columns }, None));
    }
    let (stdin, input) = if config.config.open_stdin {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        (read, Some(write))
    } else {
        (File::open("/dev/null").context("open \"/dev/null\"")?.into(), None)
    };
    let (output, stdout) = pipe2(OFlag::O_CLOEXEC)?;
    let (error, stderr) = pipe2(OFlag::O_CLOEXEC)?;
    if let Some(ids) = &config.host_config.ids {
        give([&stdin, &stdout, &stderr], ids)?;
    }
    // So that a burst costs fewer changes between processes. Refused past a user's share: pipe(7).
    let _ = fcntl(&output, FcntlArg::F_SETPIPE_SZ(PIPE));
    Ok((Stdio::Pipes { stdin, stdout, stderr }, Some(Ends::Pipes { input, output, error })))
}

/// Gives pipes to the container's root, who else could not pass them on to its users: to a namespace
/// of other ids, ours are nobody's.
pub(super) fn give(pipes: [&OwnedFd; 3], ids: &Ids) -> Result<()> {
    const PIPEFS_MAGIC: i64 = 0x5049_5045;
    let (uid, gid) = ids.root();
    for pipe in pipes {
        // Anything else is the host's, and would stay changed.
        if fstatfs(pipe)?.filesystem_type() == FsType(PIPEFS_MAGIC) {
            fchown(pipe, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).context("give the container its pipes")?;
        }
    }
    Ok(())
}

/// The system call filter that the container asked for.
pub(super) fn filter(
    store: &Store,
    config: &ContainerConfig,
    process: &oci_spec::runtime::Process,
) -> Result<Option<Vec<u8>>> {
    let asked = config.host_config.security_opt.iter().find_map(|option| {
        let (name, value) = option.split_once(['=', ':'])?;
        (name == "seccomp").then_some(value)
    });
    let profile = match asked {
        Some(profile) => Profile::parse(profile)?,
        None if config.host_config.privileged => Profile::Unconfined,
        None => Profile::Default,
    };
    let bounding = process.capabilities().as_ref().and_then(|sets| sets.bounding().clone()).unwrap_or_default();
    seccomp::program(Some(&store.seccomp_cache()), &profile, &bounding)
}

/// What `ctr stop` would do.
fn stop(config: &ContainerConfig) -> Stop {
    let signal = config.config.stop_signal.as_deref().and_then(|s| signal::parse(s).ok()).unwrap_or(libc::SIGTERM);
    let seconds = config.config.stop_timeout.unwrap_or(10);
    Stop { signal, patience: u64::try_from(seconds).ok().map(Duration::from_secs) }
}
