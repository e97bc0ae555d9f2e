//! The container's init (`--init`): the first process of its pid namespace, which has the duties
//! that a program that knows nothing of them would neglect. It takes in orphans and reaps them
//! (pid_namespaces(7)), and passes signals on, which the kernel would not deliver to a first process
//! that has no handler for them.
//!
//! It is this same executable, executed by [`super::launch`] from the descriptor of a read-only
//! mount, so that nothing has to be put into the container's tree, and nobody in the container can
//! write to what `/proc/1/exe` shows.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use nix::unistd::{Pid, execv, getpid, setpgid, tcsetpgrp};

use super::report::{Fault, Step};
use crate::error::exit;
use crate::sys::process::{self, Fork};
use crate::sys::{self, clone, signals};

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
    // Blocked, a signal waits to be fetched; and the kernel throws none away that is blocked.
    signals::block_all();
    // Not clone3: the container's seccomp filter, which is loaded by now, has no such call.
    let child = match process::fork() {
        Ok(Fork::Child) => become_program(&path, &argv),
        Ok(Fork::Parent(child)) => child,
        Err(e) => {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("ctr: fork: {e}\n").as_bytes());
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
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{}\n", crate::error::render(&error)).as_bytes());
    sys::exit_now(i32::from(code))
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
