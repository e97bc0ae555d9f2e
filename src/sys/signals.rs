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
