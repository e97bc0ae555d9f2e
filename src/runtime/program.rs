//! From "in the container" to the exec: the same for the first process and for each `exec`.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, SFlag, stat, umask};
use nix::unistd::{AccessFlags, Uid, access, chdir, execve, execveat, fchown};

use super::plan::Program;
use super::report::{At, Fault, Link, Message, Step};
use super::terminal::Pair;
use super::user::{self, Account};
use super::{Stdio, credentials, null, pid1, rooted, terminal};
use crate::sys::{descriptors, signals};

/// Where descriptors lie while the program is looked for, above those that it gets. There are no
/// others then.
#[derive(Debug, Clone, Copy)]
struct Places {
    link: i32,
    init: i32,
}

impl Places {
    fn of(program: &Program) -> Self {
        let last = program.descriptors.iter().map(|(number, _)| *number).max().unwrap_or(2).max(2);
        Self { link: last + 1, init: last + 2 }
    }
}

/// What the caller has opened for the program.
#[derive(Debug)]
pub struct Prepared {
    pub root: OwnedFd,
    pub terminal: Option<Pair>,
    /// This executable, for `--init`.
    pub init: Option<OwnedFd>,
}

/// Becomes the program. The caller is root of the container, in its namespaces and with its root
/// as `/`; from here on no path is opened but the container's own.
pub fn execute(program: &Program, prepared: Prepared, link: &Link) -> Result<Infallible, Fault> {
    let account = user::look_up(prepared.root.as_fd(), &program.identity, &program.groups, !program.has_home)?;
    let link = lay_out_descriptors(program, &account, prepared, link)?;
    // The caller's socket is closed now.
    let Err(fault) = execute_as(program, &account, &link);
    link.fail(fault)
}

/// Until the next change of credentials.
pub fn die_with_parent() -> Result<(), Fault> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).at(Step::ParentDied, "")
}

fn execute_as(program: &Program, account: &Account, link: &Link) -> Result<Infallible, Fault> {
    signals::reset();
    if program.init {
        // The kernel throws a signal away that the first process has no handler for, unless it is
        // blocked: so one that comes before our init has begun to listen is not lost.
        signals::block_all();
    }
    descriptors::restore_limit().at(Step::ResourceLimit, "nofile")?;
    credentials::limit(&program.limits)?;
    umask(Mode::from_bits_truncate(program.umask));
    let entered = chdir(&program.cwd);
    credentials::become_account(account, program.capabilities.bounding, !program.groups.is_empty())?;
    if entered == Err(Errno::EACCES) {
        // Root may be kept out where the user is let in: a FUSE mount, NFS.
        chdir(&program.cwd)
    } else {
        entered
    }
    .at_path(Step::WorkingDirectory, &program.cwd)?;
    check_directory(&program.cwd)?;
    let path = find(&program.argv[0], &program.search)?;
    let mut env = program.env.clone();
    if !program.has_home {
        env.retain(|v| !v.as_bytes().starts_with(b"HOME="));
        env.extend(CString::new(format!("HOME={}", account.home)));
    }
    credentials::confine(&program.capabilities, program.no_new_privileges, program.seccomp.as_deref(), || {
        // A change of credentials clears it, so it comes after all of those: prctl(2). And had the
        // parent died before, nobody would tell: but then the socket has no other end.
        die_with_parent()?;
        link.send(&Message::Executing).at(Step::ParentDied, "")
    })?;
    if program.init {
        // By descriptor: no file of ours has to be put into the container's tree.
        let argv: Vec<CString> =
            [CString::from(c"ctr-init"), path].into_iter().chain(program.argv.iter().cloned()).collect();
        return execveat(descriptors::by_number(Places::of(program).init), c"", &argv, &env, AtFlags::AT_EMPTY_PATH)
            .at(Step::Execute, pid1::NAME);
    }
    execve(&path, &program.argv, &env).at(Step::Execute, program.argv[0].to_string_lossy())
}

/// Hands the standard streams over and closes all else, long before the exec: the working
/// directory and the program are looked for with nothing of the host's left to find in
/// /proc/self/fd (CVE-2024-21626).
fn lay_out_descriptors(program: &Program, account: &Account, prepared: Prepared, link: &Link) -> Result<Link, Fault> {
    let failed = |what: &'static str| move |e: std::io::Error| Err::<(), _>(e).at(Step::Stdio, what);
    let places = Places::of(program);
    // Out of the way of the numbers to be given.
    let above =
        |fd: BorrowedFd, what: &'static str| descriptors::duplicate_above(fd, places.init + 1).at(Step::Stdio, what);
    let names = ["standard input", "standard output", "standard error"];
    let link = above(link.as_fd(), "the socket")?;
    let init = prepared.init.as_ref().map(|fd| above(fd.as_fd(), "ctr-init")).transpose()?;
    let streams = match (&program.stdio, &prepared.terminal) {
        (_, Some(Pair { slave, master: _ })) => {
            terminal::give(slave.as_fd(), account.uid)?;
            let slave = above(slave.as_fd(), "the terminal")?;
            crate::sys::terminal::control(slave.as_fd()).at(Step::Terminal, "control")?;
            [slave.try_clone(), slave.try_clone(), Ok(slave)].map(|fd| fd.at(Step::Stdio, "the terminal"))
        }
        (Stdio::Pipes { stdin, stdout, stderr }, None) => {
            for fd in [stdin, stdout, stderr] {
                give_pipe(fd.as_fd(), account.uid)?;
            }
            let mut names = names.iter();
            [stdin, stdout, stderr].map(|fd| {
                let null = null::own(prepared.root.as_fd(), fd.as_fd());
                above(null.as_ref().unwrap_or(fd).as_fd(), names.next().unwrap_or(&""))
            })
        }
        (Stdio::Terminal { .. }, None) => return Err(Fault::new(Step::Terminal, Errno::ENOTTY, "none was made")),
    };
    let further: Vec<(i32, OwnedFd)> = program
        .descriptors
        .iter()
        .map(|(number, fd)| Ok((*number, above(fd.as_fd(), "a descriptor")?)))
        .collect::<Result<_, Fault>>()?;
    for (number, (fd, name)) in streams.into_iter().zip(names).enumerate() {
        descriptors::place(fd?.as_fd(), i32::try_from(number).unwrap_or(-1), false).or_else(failed(name))?;
    }
    for (number, fd) in &further {
        descriptors::place(fd.as_fd(), *number, false).or_else(failed("a descriptor"))?;
    }
    descriptors::place(link.as_fd(), places.link, true).or_else(failed("the socket"))?;
    if let Some(init) = &init {
        descriptors::place(init.as_fd(), places.init, true).or_else(failed("ctr-init"))?;
    }
    let own = [places.link].into_iter().chain(init.is_some().then_some(places.init));
    let kept: Vec<_> = own.chain(further.iter().map(|(number, _)| *number)).map(descriptors::by_number).collect();
    descriptors::close_all_but(&kept).at(Step::Stdio, "no other descriptor")?;
    // Their numbers are closed or somebody else's now.
    std::mem::forget((link, init, prepared, further));
    Ok(Link::from(descriptors::inherited(places.link).at(Step::Stdio, "the socket")?))
}

/// Gives a pipe to the user, so that `/proc/self/fd/1` and with it /dev/stdout can be opened anew.
/// Nothing else is touched: a file, a terminal or /dev/null is the host's, and would stay changed.
fn give_pipe(fd: BorrowedFd, uid: u32) -> Result<(), Fault> {
    const PIPEFS_MAGIC: i64 = 0x5049_5045;
    let kind = nix::sys::statfs::fstatfs(fd).at(Step::Stdio, "a stream")?.filesystem_type();
    if uid == 0 || kind != nix::sys::statfs::FsType(PIPEFS_MAGIC) {
        return Ok(());
    }
    match fchown(fd, Some(Uid::from_raw(uid)), None) {
        // A pipe of a user that this namespace has no id for, as with --userns: it works as a pipe.
        Err(Errno::EPERM | Errno::EINVAL) => Ok(()),
        done => done.at(Step::Stdio, "a pipe"),
    }
}

/// A working directory that a magic link of /proc led out of the root has no path from there:
/// getcwd(2) puts `(unreachable)` before it.
fn check_directory(cwd: &Path) -> Result<(), Fault> {
    match nix::unistd::getcwd() {
        Ok(path) if path.is_absolute() => Ok(()),
        Ok(_) | Err(Errno::ENOENT) => {
            Err(Fault::new(Step::OutsideRoot, Errno::UnknownErrno, cwd.display().to_string()))
        }
        Err(e) => Err(e).at_path(Step::WorkingDirectory, cwd),
    }
}

/// The program's path: a name without a slash is searched for, as execvp(3) does. What is wrong
/// with it is said before the exec, since the container may not have begun then.
fn find(name: &CString, search: &str) -> Result<CString, Fault> {
    let text = name.to_string_lossy();
    if name.as_bytes().contains(&b'/') {
        usable(Path::new(OsStr::from_bytes(name.as_bytes()))).at(Step::FindProgram, &text)?;
        return Ok(name.clone());
    }
    let mut denied = None;
    for folder in search.split(':') {
        let folder = if folder.is_empty() { "." } else { folder };
        let path: PathBuf = [OsStr::new(folder), OsStr::from_bytes(name.as_bytes())].iter().collect();
        match usable(&path) {
            Ok(()) => {
                return CString::new(path.into_os_string().into_encoded_bytes())
                    .map_err(|_| Fault::new(Step::NotInPath, Errno::ENOENT, text));
            }
            Err(Errno::EACCES) => denied = Some(Errno::EACCES),
            Err(_) => {}
        }
    }
    match denied {
        Some(errno) => Err(Fault::new(Step::FindProgram, errno, text)),
        None => Err(Fault::new(Step::NotInPath, Errno::ENOENT, text)),
    }
}

fn usable(path: &Path) -> nix::Result<()> {
    access(path, AccessFlags::X_OK)?;
    if rooted::file_type(&stat(path)?) == SFlag::S_IFDIR { Err(Errno::EISDIR) } else { Ok(()) }
}
