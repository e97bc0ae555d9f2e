//! A real terminal, driven as a person would: tmux runs the commands, its keys are typed, its
//! screen is read.

use std::process::Command;

use super::{Sandbox, until};

#[derive(Debug)]
pub struct Terminal<'a> {
    sandbox: &'a Sandbox,
    socket: String,
}

impl<'a> Terminal<'a> {
    /// A terminal of 80 by 24 with a shell in it, `$ctr` being the engine; the prompt is `$ `.
    pub fn open(sandbox: &'a Sandbox) -> Self {
        let terminal = Self { sandbox, socket: sandbox.dir.join("tmux").to_str().unwrap().to_owned() };
        // A server of its own, which ends with its only session.
        let mut command = terminal.tmux();
        command.args(["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24"]);
        command.args(["env", "PS1=$ ", "ENV=", "sh"]).env("ctr", sandbox.ctr_words()).env("SHELL", "/bin/sh");
        command.current_dir(sandbox.cwd());
        run(&mut command);
        terminal.shows("$ ");
        terminal
    }

    fn tmux(&self) -> Command {
        let mut command = self.sandbox.host_command("tmux");
        command.args(["-S", &self.socket]);
        command
    }

    /// Types text as it is.
    #[track_caller]
    pub fn types(&self, text: &str) {
        run(self.tmux().args(["send-keys", "-l", text]));
    }

    /// Types a line and ends it.
    #[track_caller]
    pub fn line(&self, text: &str) {
        self.types(text);
        self.keys(&["Enter"]);
    }

    /// Presses keys by tmux's names: `C-c`, `Enter`.
    #[track_caller]
    pub fn keys(&self, keys: &[&str]) {
        run(self.tmux().arg("send-keys").args(keys));
    }

    /// Makes the window another size.
    #[track_caller]
    pub fn resize(&self, columns: u16, rows: u16) {
        run(self.tmux().args(["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]));
    }

    /// What is on the screen, without empty lines at its end.
    #[track_caller]
    pub fn screen(&self) -> String {
        run(self.tmux().args(["capture-pane", "-p", "-S", "-"])).trim_end().to_owned()
    }

    /// [`Self::screen`] without what has scrolled out of it.
    #[track_caller]
    pub fn visible(&self) -> String {
        run(self.tmux().args(["capture-pane", "-p"])).trim_end().to_owned()
    }

    /// Waits until this is on the screen.
    #[track_caller]
    pub fn shows(&self, text: &str) {
        let mut last = String::new();
        let text = text.trim_end();
        let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(&format!("the screen shows {text:?}"), || {
                last = self.screen();
                last.contains(text)
            });
        }));
        assert!(shown.is_ok(), "the screen does not show {text:?} but:\n{last}");
    }

    /// Waits until the last line of the screen is this.
    #[track_caller]
    pub fn ends_with(&self, text: &str) {
        let mut last = String::new();
        let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(&format!("the screen ends with {text:?}"), || {
                last = self.screen();
                last.ends_with(text.trim_end())
            });
        }));
        assert!(shown.is_ok(), "the screen does not end with {text:?} but:\n{last}");
    }

    /// The terminal's settings, as the shell in it sees them.
    #[track_caller]
    pub fn settings(&self) -> String {
        let tty = run(self.tmux().args(["display-message", "-p", "#{pane_tty}"]));
        run(self.sandbox.host_command("stty").args(["-a", "-F", tty.trim()]))
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        let _ = self.tmux().arg("kill-server").output();
    }
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}
