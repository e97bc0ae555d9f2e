//! The container's init (`--init`): the first process of its pid namespace, which has the duties
//! that a program that knows nothing of them would neglect. It takes in orphans and reaps them
//! (pid_namespaces(7)), and passes signals on, which the kernel would not deliver to a first process
//! that has no handler for them.
//!
//! It is this same executable, executed by [`super::launch`] from the descriptor of a read-only
//! mount, so that nothing has to be put into the container's tree, and nobody in the container can
//! write to what `/proc/1/exe` shows.

use std::ffi::{CString, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use nix::unistd::{Pid, execv, getpid, setpgid, tcsetpgrp};

use super::report::{Fault, Step};
use crate::error::exit;
use crate::sys::process::{Fork, exit_now, fork};
use crate::sys::{clone, signals};

/// `argv[0]` of this process; `main` dispatches on it.
pub const NAME: &str = "ctr-init";

/// `command_line`: [`NAME`], the program's path, and its arguments from `argv[0]` on.
#[must_use]
pub fn run(command_line: Vec<OsString>) -> ExitCode {
    let mut words = command_line.into_iter().skip(1).filter_map(|a| CString::new(a.into_vec()).ok());
    let Some(path) = words.next() else { return ExitCode::from(exit::ENGINE) };
    let argv: Vec<CString> = words.collect();
    // Of execveat(2) by descriptor the kernel makes a name that says nothing.
    let _ = nix::sys::prctl::set_name(c"ctr-init");
    // Blocked, a signal waits to be fetched. They are blocked already: see `program`.
    signals::block_all();
    let child = match fork() {
        Ok(Fork::Parent(child)) => child,
        Ok(Fork::Child) => become_program(&path, &argv),
        Err(e) => {
            tell(&anyhow::Error::new(e).context("make the command's process"));
            return ExitCode::from(exit::ENGINE);
        }
    };
    loop {
        match signals::next() {
            libc::SIGCHLD => {
                if let Some(code) = reap(child) {
                    return ExitCode::from(code);
                }
            }
            // The child has ended meanwhile: its SIGCHLD comes next.
            signal => drop(signals::send(child, signal)),
        }
    }
}

/// The program has a process group of its own, in the foreground where there is a terminal: so
/// what is typed there reaches it and its children and not the init.
fn become_program(path: &CString, argv: &[CString]) -> ! {
    let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
    // SIGTTOU, which this raises from the background, is blocked still. ENOTTY: there is none.
    let _ = tcsetpgrp(std::io::stdin(), getpid());
    signals::reset();
    let Err(errno) = execv(path, argv);
    let name = argv.first().map(|a| a.to_string_lossy().into_owned()).unwrap_or_default();
    let error = anyhow::Error::new(Fault::new(Step::Execute, errno, name).failure());
    let code = crate::error::exit_code(&error).unwrap_or(exit::NOT_EXECUTABLE);
    tell(&error);
    exit_now(i32::from(code))
}

/// There is no parent to report to any more, but there is the container's standard error.
fn tell(error: &anyhow::Error) {
    let _ = writeln!(std::io::stderr(), "{}", crate::error::render(error));
}

/// Reaps all that have ended; the exit code of `child`, if it is one of them.
fn reap(child: Pid) -> Option<u8> {
    let mut found = None;
    while let Some((ended, code)) = clone::reap_any() {
        if ended == child {
            found = Some(code);
        }
    }
    found
}
