//! Processes by descriptor: no number that could have become another process's: pidfd_open(2).

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

/// A descriptor of the process that has this number now.
///
/// # Errors
/// `ESRCH`: there is none.
pub fn open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0u32) })?;
    // SAFETY: pidfd_open(2) has just made this descriptor, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).map_err(io::Error::other)?) })
}

/// Sends a signal by its number, real-time ones too; 0 asks whether it could be sent.
///
/// # Errors
/// `ESRCH`: the process has ended and was reaped.
pub fn signal(process: BorrowedFd<'_>, number: i32) -> nix::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null `info` is what kill(2) would send.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), number, info, 0u32) };
    Errno::result(done).map(drop)
}

/// Waits for a child to end. Returns its exit code as shells do: 128 and the signal's number where a
/// signal ended it.
///
/// # Errors
/// `ECHILD`: it is no child of this process, or was waited for already.
pub fn reap(process: BorrowedFd<'_>) -> nix::Result<u8> {
    let number = libc::id_t::try_from(process.as_raw_fd()).map_err(|_| Errno::EBADF)?;
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    loop {
        // SAFETY: the structure lives here and may hold anything.
        let done = unsafe { libc::waitid(libc::P_PIDFD, number, info.as_mut_ptr(), libc::WEXITED) };
        match Errno::result(done) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    // SAFETY: zeroed is a valid value, and waitid(2) has filled it for a child.
    let (status, ended_itself) = unsafe {
        let info = info.assume_init();
        (info.si_status(), info.si_code == libc::CLD_EXITED)
    };
    let code = if ended_itself { status & 0xff } else { (128 + status) & 0xff };
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// When the process was started, in clock ticks since boot: with it, a number of old is told from
/// the same number given anew. `None`: no such process.
#[must_use]
pub fn start_time(pid: Pid) -> Option<u64> {
    stat(pid, 22)?.parse().ok()
}

/// What it does: one letter of proc_pid_stat(5), field 3. `None`: no such process.
#[must_use]
pub fn state(pid: Pid) -> Option<char> {
    stat(pid, 3)?.chars().next()
}

/// The number of its parent. `None`: no such process.
#[must_use]
pub fn parent(pid: Pid) -> Option<i32> {
    stat(pid, 4)?.parse().ok()
}

/// A field of proc_pid_stat(5), numbered as there, from the third on.
fn stat(pid: Pid, field: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the program's name in parentheses, may hold anything.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(field.checked_sub(3)?).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::getpid;
    use std::os::fd::AsFd;

    #[test]
    fn this_process_is_found() {
        let me = open(getpid()).expect("pidfd");
        assert_eq!(signal(me.as_fd(), 0), Ok(()));
        assert!(start_time(getpid()).is_some_and(|t| t > 0));
        assert_eq!(parent(getpid()), Some(nix::unistd::getppid().as_raw()));
        assert_eq!(start_time(Pid::from_raw(i32::MAX)), None);
    }
}
