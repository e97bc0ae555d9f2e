//! The user's side of a session: the terminal made raw and restored, its size, and the signals that
//! are sent to us.

use std::io::{stderr, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, Once, PoisonError};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::sys::{process, terminal};

/// What the terminal was like, while it is raw: also for the panic hook, since a panic runs no
/// destructor.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The mask that [`hold_signals`] found.
static HELD: Mutex<Option<SigSet>> = Mutex::new(None);

/// End a program that does nothing about them.
const ENDING: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The terminal has another size.
    Resized,
    /// To be passed on.
    Pass(i32),
}

/// Restores all that it changed when it is dropped.
#[derive(Debug)]
pub struct Console {
    signals: SignalFd,
    before: SigSet,
    raw: bool,
    /// All signals go to the container.
    proxy: bool,
}

impl Console {
    /// `raw`: keys go to the container one by one, those that raise signals too. `proxy`: signals go
    /// to the container.
    ///
    /// # Errors
    /// The terminal's settings cannot be read or set.
    pub fn open(raw: bool, proxy: bool) -> Result<Self> {
        let mut set = if proxy { passed_on() } else { SigSet::empty() };
        set.add(Signal::SIGWINCH);
        if raw && !proxy {
            set.extend(ENDING.into_iter().chain([Signal::SIGTSTP, Signal::SIGCONT]));
        }
        let held = HELD.lock().unwrap_or_else(PoisonError::into_inner).take();
        let before = match held {
            Some(before) => before,
            None => SigSet::thread_get_mask()?,
        };
        let mut mask = before;
        mask.extend(&set);
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        // What `hold_signals` held and this session leaves alone acts now as it would have.
        mask.thread_set_mask()?;
        let console = Self { signals, before, raw, proxy };
        if raw {
            make_raw()?;
        }
        Ok(console)
    }

    pub fn signals(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }

    /// The next signal that concerns the session.
    pub fn next(&self) -> Option<Told> {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            match number {
                libc::SIGWINCH => return Some(Told::Resized),
                _ if self.proxy => return Some(Told::Pass(number)),
                libc::SIGTSTP => {
                    restore();
                    // Not SIGTSTP, which is blocked here.
                    let _ = raise(Signal::SIGSTOP);
                }
                // The shell may have used the terminal in between.
                libc::SIGCONT => {
                    let _ = make_raw();
                    return Some(Told::Resized);
                }
                // The container goes on: its terminal is another one than ours.
                _ => {
                    restore();
                    process::die_of(number)
                }
            }
        }
        None
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if self.raw {
            restore();
        }
        let _ = self.before.thread_set_mask();
    }
}

/// Our output's reader is gone: ends this process as SIGPIPE does every other in a pipe. The container
/// goes on, as Docker's does.
pub fn broken_pipe() -> ! {
    restore();
    process::die_of(libc::SIGPIPE)
}

/// Holds the signals that a session may pass on, until there is one. Returns the mask as it was.
///
/// # Errors
/// None that is known.
pub fn hold_signals() -> Result<SigSet> {
    let before = passed_on().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    *HELD.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
    Ok(before)
}

/// Lets the signals through again: there will be no session.
///
/// # Errors
/// None that is known.
pub fn release_signals() -> Result<()> {
    match HELD.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(before) => Ok(before.thread_set_mask()?),
        None => Ok(()),
    }
}

/// As Docker: all that can be caught, but what concerns only us: children, broken pipes, our
/// terminal, our own mistakes.
fn passed_on() -> SigSet {
    let mut set = SigSet::all();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGPIPE,
        Signal::SIGWINCH,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGURG,
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGILL,
        Signal::SIGFPE,
        Signal::SIGTRAP,
        Signal::SIGSYS,
    ] {
        set.remove(signal);
    }
    set
}

/// Whether standard input is a terminal.
#[must_use]
pub fn is_terminal() -> bool {
    terminal::size(stdin().as_fd()).is_some()
}

/// Rows and columns of the terminal that the user looks at.
#[must_use]
pub fn size() -> Option<(u16, u16)> {
    let size = terminal::size(stdout().as_fd()).or_else(|| terminal::size(stdin().as_fd()));
    size.or_else(|| terminal::size(stderr().as_fd())).filter(|&size| size != (0, 0))
}

fn make_raw() -> Result<()> {
    static HOOK: Once = Once::new();
    let current = tcgetattr(stdin()).context("read the terminal's settings")?;
    let mut raw = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(current).clone();
    cfmakeraw(&mut raw);
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            print(info);
        }));
    });
    set(&raw).context("make the terminal raw")
}

fn restore() {
    // Not waiting for the lock: in the panic hook, its holder may be who panics.
    let before = BEFORE.try_lock().ok().and_then(|mut before| before.take());
    if let Some(before) = before {
        // The terminal may be gone.
        let _ = set(&before);
    }
}

/// From the background too: with SIGTTOU blocked, the terminal is set and we are not stopped.
fn set(settings: &Termios) -> nix::Result<()> {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTTOU);
    let mask = stop.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let done = tcsetattr(stdin(), SetArg::TCSADRAIN, settings);
    mask.thread_set_mask()?;
    done
}
