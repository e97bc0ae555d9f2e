//! Signals as a program that is about to be executed should find them.

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

/// Sends a signal by its number, a real-time one too: kill(2).
pub fn send(pid: nix::unistd::Pid, signal: i32) -> std::io::Result<()> {
    // SAFETY: takes numbers.
    let done = unsafe { libc::kill(pid.as_raw(), signal) };
    if done < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
