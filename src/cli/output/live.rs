//! Text that is redrawn in place: `ps --watch`, `stats`.

use std::io::{IsTerminal, stdout};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cli::output;
use crate::sys::terminal;

/// Shows what `make` gives, each `interval` anew. Where it is no terminal that is written to, one text
/// stands behind the other. It ends with ctrl-c, or with the reader. `cut`: lines that the terminal has
/// no room for lose their ends, or else they are broken.
///
/// # Errors
/// As `make`.
pub fn repeat(interval: Duration, cut: bool, mut make: impl FnMut() -> Result<String>) -> Result<()> {
    let mut is_first = true;
    loop {
        let begin = Instant::now();
        let text = make()?;
        if stdout().is_terminal() {
            // Asked each time: the window may have another size by now.
            let size = if cut { screen(terminal::size(stdout().as_fd())) } else { (usize::MAX, usize::MAX) };
            let clear = if is_first { "\x1b[2J" } else { "" };
            output::print(&(clear.to_owned() + &frame(&text, size)));
        } else {
            output::print(&text);
        }
        is_first = false;
        thread::sleep(interval.saturating_sub(begin.elapsed()));
    }
}

/// Rows and columns of a terminal. A size of 0 is one that nobody set.
fn screen(size: Option<(u16, u16)>) -> (usize, usize) {
    match size {
        Some((rows, columns)) if rows > 0 && columns > 0 => (rows.into(), columns.into()),
        _ => (24, 80),
    }
}

/// The text from the screen's upper left corner on, over what stands there: each line cut to the
/// terminal's columns, and as many lines as it has rows but one, where the cursor stays.
fn frame(text: &str, (rows, columns): (usize, usize)) -> String {
    let mut out = String::from("\x1b[H");
    for line in text.lines().take((rows - 1).max(1)) {
        // Cleared first: behind a full line there is nothing to clear.
        out.push_str("\x1b[2K");
        out.extend(line.chars().filter(|c| !c.is_control()).take(columns));
        out.push('\n');
    }
    out + "\x1b[J"
}

#[cfg(test)]
mod tests {
    use super::{frame, screen};

    #[test]
    fn what_does_not_fit_is_cut() {
        let frame = |text, size| frame(text, screen(size));
        assert_eq!(frame("abc\nde\n", Some((24, 2))), "\x1b[H\x1b[2Kab\n\x1b[2Kde\n\x1b[J");
        assert_eq!(frame("abc\nde\nf\n", Some((3, 1))), "\x1b[H\x1b[2Ka\n\x1b[2Kd\n\x1b[J");
        assert_eq!(frame("abc\n", Some((1, 1))), "\x1b[H\x1b[2Ka\n\x1b[J");
        assert_eq!(frame("abc\n", Some((0, 0))), "\x1b[H\x1b[2Kabc\n\x1b[J");
        assert_eq!(frame("a\x1b[31mb\n", None), "\x1b[H\x1b[2Ka[31mb\n\x1b[J");
        let all = (usize::MAX, usize::MAX);
        assert_eq!(super::frame("abc\nde\n", all), "\x1b[H\x1b[2Kabc\n\x1b[2Kde\n\x1b[J");
    }
}
