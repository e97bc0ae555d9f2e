//! Signals: as a program that is about to be executed should find them, waited for, and noted.

use std::sync::atomic::{AtomicI32, Ordering};

/// Every signal does what it does by default, and none is blocked. (exec(2) resets handlers by
/// itself, but keeps what is ignored and what is blocked; Rust ignores SIGPIPE.)
pub fn reset() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is no handler of ours. SIGKILL, SIGSTOP and the C library's own two are refused, rightly.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero set is the empty one on Linux, and it lives through the call.
    unsafe {
        let empty: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut());
    }
}

/// Blocks every signal that can be.
pub fn block_all() {
    // SAFETY: both sets live through the calls.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// Waits for a signal, of those that are blocked, and takes it: sigwaitinfo(2).
#[must_use]
pub fn next() -> i32 {
    loop {
        // SAFETY: the set lives through the call, and where the rest would go may be null.
        let signal = unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigwaitinfo(&raw const all, std::ptr::null_mut())
        };
        if signal > 0 {
            return signal;
        }
    }
}

/// The signal that was caught, 0 before.
static CAUGHT: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: libc::c_int) {
    CAUGHT.store(signal, Ordering::Relaxed);
}

/// From here on, what people and scripts end a program with is only noted ([`caught`]), so that the
/// program can put away what it made first. What is ignored stays so (nohup(1)).
pub fn catch() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: an all-zero sigaction is valid; both live through the calls; the handler does
        // nothing but store a number.
        unsafe {
            let mut old: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), &raw mut old);
            if old.sa_sigaction == libc::SIG_IGN {
                continue;
            }
            let mut new: libc::sigaction = std::mem::zeroed();
            new.sa_sigaction = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
            libc::sigaction(signal, &raw const new, std::ptr::null_mut());
        }
    }
}

/// The signal that came since [`catch`].
#[must_use]
pub fn caught() -> Option<i32> {
    Some(CAUGHT.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
}

/// Sends a signal by its number, a real-time one too: kill(2).
pub fn send(pid: nix::unistd::Pid, signal: i32) -> std::io::Result<()> {
    // SAFETY: takes numbers.
    let done = unsafe { libc::kill(pid.as_raw(), signal) };
    if done < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
