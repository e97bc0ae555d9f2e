//! What a child tells its parent until it executes, and the sentence that a failure becomes.
//!
//! A child has no terminal, no log and soon no file system of the host's: it reports the step, the
//! errno and the object, and the parent, who knows the machine, finds the words.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::Pid;

use crate::error::{Failure, exit};
use crate::sys::seqpacket;

macro_rules! steps {
    ($($name:ident),* $(,)?) => {
        /// What the child was doing. It crosses the socket as its number; [`Fault::failure`] has the words.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Step { $($name),* }

        impl Step {
            const ALL: &[Step] = &[$(Step::$name),*];
        }
    };
}

steps! {
    JoinNamespaces,
    JoinNamespace,
    MakeNamespaces,
    EnterCgroup,
    MakeCgroupNamespace,
    BecomeRoot,
    NewSession,
    DetachPropagation,
    OpenLayer,
    MapOwners,
    MountOverlay,
    OpenRoot,
    BindSource,
    MountPoint,
    MountFilesystem,
    MountCgroup,
    MountAttributes,
    Device,
    Mask,
    ReadOnlyPath,
    ReadOnlyRoot,
    Pivot,
    Hostname,
    Domainname,
    Loopback,
    Sysctl,
    TimeOffsets,
    Init,
    Apparmor,
    Terminal,
    Stdio,
    ReadAccounts,
    WriteAccounts,
    NoSuchUser,
    NoSuchGroup,
    IdOutOfRange,
    Groups,
    Group,
    User,
    ResourceLimit,
    MakeDirectory,
    Secret,
    WorkingDirectory,
    OutsideRoot,
    Capabilities,
    NoNewPrivileges,
    Seccomp,
    ParentDied,
    NotInPath,
    FindProgram,
    Execute,
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub step: Step,
    /// `UnknownErrno` (0) where the object says all.
    pub errno: Errno,
    /// A path, a name, an option: what the step was about.
    pub object: String,
}

impl Fault {
    pub fn new(step: Step, errno: Errno, object: impl Into<String>) -> Self {
        Self { step, errno, object: object.into() }
    }
}

/// Turns the error of a system call into a [`Fault`].
pub trait At<T> {
    fn at(self, step: Step, object: impl fmt::Display) -> Result<T, Fault>;

    fn at_path(self, step: Step, path: &Path) -> Result<T, Fault>
    where
        Self: Sized,
    {
        self.at(step, path.display())
    }
}

impl<T> At<T> for nix::Result<T> {
    fn at(self, step: Step, object: impl fmt::Display) -> Result<T, Fault> {
        self.map_err(|errno| Fault::new(step, errno, object.to_string()))
    }
}

impl<T> At<T> for io::Result<T> {
    fn at(self, step: Step, object: impl fmt::Display) -> Result<T, Fault> {
        self.map_err(|e| Fault::new(step, e.raw_os_error().map_or(Errno::EIO, Errno::from_raw), object.to_string()))
    }
}

/// One packet between parent and child.
#[derive(Debug)]
pub enum Message {
    /// Parent to child: in its cgroup, its ids mapped.
    Placed,
    /// Parent to child: the network is made, go on to the end.
    Go,
    /// The joining child made the one that stays.
    Cloned {
        pid: Pid,
        pidfd: OwnedFd,
    },
    /// The child cannot reach the source of bind mount n of the plan; it wants it opened.
    WantSource(u32),
    /// Parent to child: here it is.
    Source(OwnedFd),
    /// Parent to child: nor can the parent.
    NoSource(Errno),
    /// The master of the terminal that the child made.
    Terminal(OwnedFd),
    /// All is done but the exec, whose success is seen by the socket's end.
    Executing,
    Failed(Fault),
}

/// One end of the socket between a parent and its child.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    /// `Go` came while something else was waited for.
    may_go: Cell<bool>,
}

/// The longest packet; a longer object is cut.
const PACKET: usize = 4096 + 16;

impl Link {
    pub fn pair() -> nix::Result<(Self, Self)> {
        let (a, b) = seqpacket::pair()?;
        Ok((a.into(), b.into()))
    }

    /// Lets no [`Link::receive`] wait longer; whole seconds.
    pub fn limit_waiting(&self, patience: Duration) -> nix::Result<()> {
        let seconds = TimeVal::seconds(patience.as_secs().cast_signed());
        setsockopt(&self.socket, sockopt::ReceiveTimeout, &seconds)
    }

    pub fn send(&self, message: &Message) -> nix::Result<()> {
        let (kind, body, fd): (u8, Vec<u8>, Option<BorrowedFd>) = match message {
            Message::Placed => (0, Vec::new(), None),
            Message::Go => (1, Vec::new(), None),
            Message::Cloned { pid, pidfd } => (2, pid.as_raw().to_ne_bytes().into(), Some(pidfd.as_fd())),
            Message::WantSource(n) => (3, n.to_ne_bytes().into(), None),
            Message::Source(fd) => (4, Vec::new(), Some(fd.as_fd())),
            Message::NoSource(errno) => (5, (*errno as i32).to_ne_bytes().into(), None),
            Message::Terminal(fd) => (6, Vec::new(), Some(fd.as_fd())),
            Message::Executing => (7, Vec::new(), None),
            Message::Failed(fault) => {
                let mut body = vec![fault.step as u8];
                body.extend((fault.errno as i32).to_ne_bytes());
                body.extend(fault.object.bytes().take(4096));
                (8, body, None)
            }
        };
        seqpacket::send(self.socket.as_fd(), &[&[kind], &body], fd.as_slice(), true)
    }

    /// The next packet; `None`: the other end is closed.
    ///
    /// # Errors
    /// `EBADMSG` for what no peer of ours sends, `EAGAIN` after [`Link::limit_waiting`].
    pub fn receive(&self) -> nix::Result<Option<Message>> {
        let mut buffer = [0; PACKET];
        let (length, fds) = seqpacket::receive(self.socket.as_fd(), &mut buffer, true)?;
        let [kind, body @ ..] = &buffer[..length] else { return Ok(None) };
        let number = || body.first_chunk().map(|b| i32::from_ne_bytes(*b)).ok_or(Errno::EBADMSG);
        let fd = || fds.into_iter().next().ok_or(Errno::EBADMSG);
        Ok(Some(match kind {
            0 => Message::Placed,
            1 => Message::Go,
            2 => Message::Cloned { pid: Pid::from_raw(number()?), pidfd: fd()? },
            3 => Message::WantSource(number()?.unsigned_abs()),
            4 => Message::Source(fd()?),
            5 => Message::NoSource(Errno::from_raw(number()?)),
            6 => Message::Terminal(fd()?),
            7 => Message::Executing,
            8 => {
                let [step, errno @ ..] = body else { return Err(Errno::EBADMSG) };
                let (errno, object) = errno.split_first_chunk().ok_or(Errno::EBADMSG)?;
                Message::Failed(Fault {
                    step: *Step::ALL.get(usize::from(*step)).ok_or(Errno::EBADMSG)?,
                    errno: Errno::from_raw(i32::from_ne_bytes(*errno)),
                    object: String::from_utf8_lossy(object).into_owned(),
                })
            }
            _ => return Err(Errno::EBADMSG),
        }))
    }
}

/// The child's waiting.
impl Link {
    /// For `Placed`.
    pub fn wait_until_placed(&self) -> Result<(), Fault> {
        match self.answer()? {
            Message::Placed => Ok(()),
            _ => Err(Fault::new(Step::ParentDied, Errno::EPROTO, "")),
        }
    }

    /// For `Go`.
    pub fn wait_until_go(&self) -> Result<(), Fault> {
        while !self.may_go.get() {
            match self.receive().at(Step::ParentDied, "")? {
                Some(Message::Go) => self.may_go.set(true),
                _ => return Err(Fault::new(Step::ParentDied, Errno::ECONNRESET, "")),
            }
        }
        Ok(())
    }

    /// For what is no `Go`: the parent may send that at any time.
    pub fn answer(&self) -> Result<Message, Fault> {
        loop {
            match self.receive().at(Step::ParentDied, "")? {
                Some(Message::Go) => self.may_go.set(true),
                Some(message) => return Ok(message),
                None => return Err(Fault::new(Step::ParentDied, Errno::ECONNRESET, "")),
            }
        }
    }

    /// Reports a failure and ends. Without a parent there is nobody to tell.
    pub fn fail(&self, fault: Fault) -> ! {
        let _ = self.send(&Message::Failed(fault));
        crate::sys::process::exit_now(1)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<OwnedFd> for Link {
    fn from(fd: OwnedFd) -> Self {
        Self { socket: fd, may_go: Cell::new(false) }
    }
}

impl Fault {
    /// The sentence, its exit code, and the way out where one is known. To be made in the parent.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let failure = Failure::new(self.sentence()).exit(self.exit_code());
        match self.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    fn sentence(&self) -> String {
        let o = &self.object;
        let why = cause(self.errno);
        match self.step {
            Step::JoinNamespaces => format!("join the container's namespaces: {why}"),
            Step::JoinNamespace => format!("join namespace {o:?}: {why}"),
            Step::MakeNamespaces => format!("create namespaces: {why}"),
            Step::EnterCgroup => format!("enter the container's cgroup: {why}"),
            Step::MakeCgroupNamespace => format!("create a cgroup namespace: {why}"),
            Step::BecomeRoot => format!("become root of the user namespace: {why}"),
            Step::NewSession => format!("start a session: {why}"),
            Step::DetachPropagation => format!("cut the mounts off from the host's: {why}"),
            Step::OpenLayer => format!("open layer {o:?}: {why}"),
            Step::MapOwners => format!("map the owners of the files in {o:?} to the container's ids: {why}"),
            Step::MountOverlay => format!("mount the overlay at {o:?}: {why}"),
            Step::OpenRoot => format!("open the container's root {o:?}: {why}"),
            Step::BindSource => format!("bind source {o:?}: {why}"),
            Step::MountPoint => format!("make mount point {o:?}: {why}"),
            Step::MountFilesystem => format!("mount {o}: {why}"),
            Step::MountCgroup => format!("mount cgroup hierarchy {o:?}: {why}"),
            Step::MountAttributes => format!("set the options of mount {o:?}: {why}"),
            Step::Device => format!("make device {o:?}: {why}"),
            Step::Mask => format!("mask {o:?}: {why}"),
            Step::ReadOnlyPath => format!("make {o:?} read-only: {why}"),
            Step::ReadOnlyRoot => format!("make the root read-only: {why}"),
            Step::Pivot => format!("change the root: {why}"),
            Step::Loopback => format!("bring the loopback interface up: {why}"),
            Step::Hostname => format!("set hostname {o:?}: {why}"),
            Step::Domainname => format!("set domain name {o:?}: {why}"),
            Step::Sysctl => format!("set sysctl {o:?}: {why}"),
            Step::TimeOffsets => format!("set the offsets of the time namespace: {why}"),
            Step::Init => format!("open ctr's own executable for --init: {why}"),
            Step::Apparmor => format!("set AppArmor profile {o:?}: {why}"),
            Step::Terminal => format!("make the terminal ({o}): {why}"),
            Step::Stdio => format!("hand over {o}: {why}"),
            Step::ReadAccounts => format!("read {o:?}: {why}"),
            Step::WriteAccounts => format!("add accounts to {o:?}: {why}"),
            Step::NoSuchUser => format!("unable to find user {o}: no matching entries in passwd file"),
            Step::NoSuchGroup => format!("unable to find group {o}: no matching entries in group file"),
            Step::IdOutOfRange => format!("uids and gids must be in range 0-2147483647: {o:?}"),
            Step::Groups => format!("set supplementary groups {o}: {why}"),
            Step::Group => format!("set group {o}: {why}"),
            Step::User => format!("set user {o}: {why}"),
            Step::ResourceLimit => format!("set resource limit {o}: {why}"),
            Step::MakeDirectory => format!("create directory {o:?}: {why}"),
            Step::Secret => format!("create secret {o:?}: {why}"),
            Step::WorkingDirectory => format!("chdir to cwd ({o:?}): {why}"),
            Step::OutsideRoot => format!("working directory {o:?} is outside of the container"),
            Step::Capabilities => format!("set capabilities: {why}"),
            Step::NoNewPrivileges => format!("set no_new_privs: {why}"),
            Step::Seccomp => format!("load the seccomp filter: {why}"),
            Step::ParentDied => "the container's monitor died".into(),
            Step::NotInPath => format!("exec: {o:?}: executable file not found in $PATH"),
            Step::FindProgram if self.errno == Errno::ENOENT => format!("exec: {o:?}: stat {o}: {why}"),
            Step::FindProgram | Step::Execute => format!("exec: {o:?}: {why}"),
        }
    }

    fn exit_code(&self) -> u8 {
        match self.step {
            Step::NotInPath => exit::NOT_FOUND,
            Step::FindProgram | Step::Execute if matches!(self.errno, Errno::ENOENT | Errno::ENOTDIR) => {
                exit::NOT_FOUND
            }
            Step::FindProgram | Step::Execute | Step::WorkingDirectory | Step::OutsideRoot | Step::MakeDirectory => {
                exit::NOT_EXECUTABLE
            }
            _ => exit::ENGINE,
        }
    }

    fn hint(&self) -> Option<String> {
        let fixed = match (self.step, self.errno) {
            (Step::MakeNamespaces, Errno::EPERM | Errno::EACCES) => return Some(forbidden_namespaces()),
            (Step::MakeNamespaces, Errno::ENOSPC | Errno::EUSERS) => {
                "a limit below /proc/sys/user (max_user_namespaces and its neighbours) is reached or 0, or namespaces \
                 are nested too deep: raise it with sysctl"
            }
            (Step::MakeNamespaces, Errno::EINVAL) => "this kernel lacks one of the namespaces that were asked for",
            (Step::MakeNamespaces, Errno::EBUSY) => "its cgroup hands processes on to cgroups below it",
            (Step::MapOwners, Errno::EINVAL) => {
                "its file system has no idmapped mounts (ext4, xfs, btrfs and tmpfs have, on Linux 6.3 and newer): put \
                 the storage root on another one, or leave --userns away"
            }
            (Step::MountOverlay, Errno::EPERM | Errno::EINVAL) => {
                "an overlay in a user namespace needs Linux 5.11 or newer, and a storage root whose file system keeps \
                 extended attributes and is not itself an overlay"
            }
            (Step::MountOverlay, Errno::ENODEV) => "the kernel has no overlay file system: modprobe overlay",
            (Step::MountFilesystem, Errno::EPERM) => {
                "the kernel mounts this in a user namespace only where the host's own is wholly visible: inside \
                 another container, that one needs unmasked system paths"
            }
            (Step::MountFilesystem, Errno::EINVAL) => "it refuses one of the mount's options",
            (Step::BindSource, Errno::EINVAL) => {
                "below it other mounts lie, which a user namespace may not uncover: bind it recursively"
            }
            (Step::Group | Step::User | Step::Groups, Errno::EINVAL) => {
                "the container's user namespace has no such id: give it more ids in /etc/subuid and /etc/subgid"
            }
            (Step::Groups, Errno::EPERM) => {
                "without subordinate ids in /etc/subuid and /etc/subgid a user cannot change groups"
            }
            (Step::Seccomp, Errno::EACCES) => "it needs CAP_SYS_ADMIN, or --security-opt no-new-privileges",
            (Step::Sysctl, Errno::ENOENT) => "this kernel has no such setting",
            (Step::Sysctl, Errno::EROFS | Errno::EACCES | Errno::EPERM) => {
                "the kernel lets only root of the host change it, or /proc/sys is read-only here"
            }
            (Step::Apparmor, Errno::ENOENT) => "no such profile is loaded, or AppArmor is off",
            (Step::Execute, Errno::ENOENT) => "the file is there: the interpreter that its first line names is not",
            (Step::Execute, Errno::ENOEXEC) => {
                "it was built for another architecture, or is a script without #! in its first line"
            }
            (Step::Init, _) | (Step::Execute, Errno::EACCES) if self.object == super::pid1::NAME => {
                "the container's user must be allowed to execute ctr's own file: chmod a+rx"
            }
            _ => return None,
        };
        Some(fixed.into())
    }
}

/// Linux's words for an errno, as C and Go print them: lower case there, and so here.
fn cause(errno: Errno) -> String {
    match errno {
        // A file that is a directory is told as what it is.
        Errno::EISDIR => "is a directory".into(),
        Errno::ENOEXEC => "exec format error".into(),
        errno => {
            let words = errno.desc();
            let mut letters = words.chars();
            letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
        }
    }
}

/// Which of the settings that distributions forbid user namespaces with is on.
fn forbidden_namespaces() -> String {
    let is = |name: &str, value: &str| {
        std::fs::read_to_string(Path::new("/proc/sys").join(name)).is_ok_and(|v| v.trim() == value)
    };
    if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        "AppArmor forbids it (Ubuntu 23.10 and newer): sudo sysctl -w \
         kernel.apparmor_restrict_unprivileged_userns=0, or install a profile for ctr with the `userns` rule"
            .into()
    } else if is("kernel/unprivileged_userns_clone", "0") {
        "sudo sysctl -w kernel.unprivileged_userns_clone=1".into()
    } else {
        "a seccomp filter or a security module forbids namespaces here: inside Docker, run that container with \
         --privileged"
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_crosses_the_socket_whole() {
        let (parent, child) = Link::pair().expect("socketpair");
        let fault = Fault::new(Step::NotInPath, Errno::ENOENT, "fo\u{f6}");
        child.send(&Message::Failed(fault.clone())).expect("send");
        drop(child);
        assert!(matches!(parent.receive(), Ok(Some(Message::Failed(f))) if f == fault));
        assert!(matches!(parent.receive(), Ok(None)));
    }

    #[test]
    fn the_words_and_codes_are_dockers() {
        let told = |step, errno, object: &str| {
            let error = anyhow::Error::new(Fault::new(step, errno, object).failure());
            (crate::error::message(&error), crate::error::exit_code(&error))
        };
        let nothing = Errno::UnknownErrno;
        assert_eq!(
            told(Step::NotInPath, Errno::ENOENT, "foo"),
            ("exec: \"foo\": executable file not found in $PATH".into(), Some(127))
        );
        assert_eq!(
            told(Step::FindProgram, Errno::ENOENT, "/foo"),
            ("exec: \"/foo\": stat /foo: no such file or directory".into(), Some(127))
        );
        assert_eq!(told(Step::FindProgram, Errno::EISDIR, "/"), ("exec: \"/\": is a directory".into(), Some(126)));
        assert_eq!(
            told(Step::FindProgram, Errno::EACCES, "/etc/passwd"),
            ("exec: \"/etc/passwd\": permission denied".into(), Some(126))
        );
        assert_eq!(
            told(Step::NoSuchUser, nothing, "eve"),
            ("unable to find user eve: no matching entries in passwd file".into(), Some(125))
        );
    }
}
