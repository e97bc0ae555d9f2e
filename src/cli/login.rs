//! `ctr login`.

use std::io::{IsTerminal, Read, stdin};
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

use crate::cli::{Globals, Run, output};
use crate::config::Credentials;
use crate::config::credentials::{Kept, Place};
use crate::error::{self, Failure};
use crate::registry::account;
use crate::sys::{process, signals};

/// Authenticate to a registry
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr login -u ada registry.example.com
  pass registry | ctr login -u ada --password-stdin registry.example.com

Credentials go to ~/.docker/config.json, or to the credential helper that it names (credsStore,
credHelpers); to the file in REGISTRY_AUTH_FILE or after --authfile where one is given.")]
pub struct Login {
    /// File for the credentials, instead of ~/.docker/config.json
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Password or Personal Access Token (PAT)
    #[arg(short, long, value_name = "STRING")]
    password: Option<String>,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Username
    #[arg(short, long, value_name = "STRING")]
    username: Option<String>,
    /// Host and perhaps port [default: Docker Hub]
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

/// Answers that are read: none is longer.
const MAX_SECRET: usize = 64 << 10;

impl Run for Login {
    fn run(self, _: &Globals) -> Result<u8> {
        let domain = domain(self.server.as_deref());
        let place = Place::choose(self.authfile.clone())?;
        if self.password_stdin {
            if self.password.is_some() {
                return Err(
                    Failure::new("conflicting options: cannot specify both --password and --password-stdin").into()
                );
            }
            if self.username.as_deref().unwrap_or_default().is_empty() {
                return Err(Failure::new("the --password-stdin option requires --username to be set").into());
            }
        }
        if self.password.is_some() {
            output::say("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        }
        let known = place.find(&domain).unwrap_or_else(|e| {
            error::warn(&format!("credentials that are kept already cannot be read: {}", error::message(&e)));
            None
        });
        if self.username.is_none()
            && self.password.is_none()
            && let Some(known) = &known
            && with_known(&domain, known)
        {
            output::print("Login Succeeded\n");
            return Ok(0);
        }
        let before = match &known {
            Some(Credentials::Password { user, .. }) => user.as_str(),
            _ => "",
        };
        let (user, password) = self.ask(&domain, before)?;
        let credentials = Credentials::Password { user: user.clone(), password };
        let credentials = account::log_in(&domain, &credentials)?;
        match place.keep(&domain, &user, &credentials)? {
            Kept::InFile(path) => output::say(&format!(
                "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this \
                 warning. See\nhttps://docs.docker.com/go/credential-store/\n",
                path.display()
            )),
            Kept::ByHelper => {}
        }
        output::print("Login Succeeded\n");
        Ok(0)
    }
}

/// What is kept already mostly does.
fn with_known(domain: &str, known: &Credentials) -> bool {
    let user = match known {
        Credentials::Password { user, .. } => format!(" [Username: {user}]"),
        Credentials::IdentityToken(_) => String::new(),
    };
    output::print(&format!("Authenticating with existing credentials...{user}\n"));
    output::say("Info: To login with a different account, run 'ctr logout' followed by 'ctr login'");
    match account::log_in(domain, known) {
        Ok(_) => true,
        Err(failure) => {
            output::say(&format!("Login did not succeed, error: {}", error::message(&failure)));
            false
        }
    }
}

impl Login {
    /// Who it is: from flags, standard input, or the person at the terminal.
    fn ask(&self, domain: &str, before: &str) -> Result<(String, String)> {
        let piped = || -> Result<String> {
            let mut text = String::new();
            stdin()
                .lock()
                .take(MAX_SECRET as u64)
                .read_to_string(&mut text)
                .context("read the password from standard input")?;
            // Its end of line is none of it.
            Ok(text.trim_end_matches(['\n', '\r']).to_owned())
        };
        let terminal = || -> Result<()> {
            if stdin().is_terminal() {
                return Ok(());
            }
            Err(Failure::new("Cannot perform an interactive login from a non TTY device")
                .hint("give --username and --password-stdin")
                .into())
        };
        let user = if let Some(user) = &self.username {
            user.clone()
        } else {
            terminal()?;
            if domain == "docker.io" {
                output::print("Login with your Docker ID to push and pull images from Docker Hub.\n");
            }
            let typed =
                prompt(&if before.is_empty() { "Username: ".to_owned() } else { format!("Username ({before}): ") })?;
            if typed.trim().is_empty() { before.to_owned() } else { typed.trim().to_owned() }
        };
        if user.is_empty() {
            return Err(Failure::new("username is empty").into());
        }
        let password = match &self.password {
            Some(password) => password.clone(),
            None if self.password_stdin => piped()?,
            None => {
                terminal()?;
                hidden("Password: ")?
            }
        };
        if password.is_empty() {
            return Err(Failure::new("password is empty").into());
        }
        Ok((user, password))
    }
}

/// A line from the terminal; nothing where a signal came first.
fn prompt(text: &str) -> Result<String> {
    output::print(text);
    let mut line = Vec::new();
    let mut byte = [0];
    // Not by Rust's reader, which goes on after a signal.
    while line.len() < MAX_SECRET {
        match nix::unistd::read(stdin().as_fd(), &mut byte) {
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) => line.push(byte[0]),
            Err(Errno::EINTR) if signals::caught().is_none() => {}
            Err(Errno::EINTR) => break,
            Err(e) => return Err(e).context("read from the terminal"),
        }
    }
    let line = String::from_utf8(line).map_err(|_| Failure::new("what was typed is not text"))?;
    Ok(line.trim_end_matches('\r').to_owned())
}

/// Without showing what is typed: termios(3).
fn hidden(text: &str) -> Result<String> {
    let input = stdin();
    let before = tcgetattr(input.as_fd()).context("ask the terminal")?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    // Restored by a ctrl-c, too: what is typed behind it is to be seen again.
    signals::catch();
    tcsetattr(input.as_fd(), SetArg::TCSAFLUSH, &silent).context("silence the terminal")?;
    let typed = prompt(text);
    let restored = tcsetattr(input.as_fd(), SetArg::TCSAFLUSH, &before);
    output::print("\n");
    if let Some(signal) = signals::caught() {
        process::die_of(signal);
    }
    restored.context("restore the terminal")?;
    typed
}

/// A registry's host as the files have it, from what people write: addresses of it mean the same.
pub fn domain(server: Option<&str>) -> String {
    let text = server.unwrap_or("docker.io").trim();
    let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let host = text.split('/').next().unwrap_or(text);
    match host {
        "" | "index.docker.io" | "registry-1.docker.io" | "hub.docker.com" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::domain;

    #[test]
    fn addresses_are_taken_for_hosts() {
        for (text, host) in [
            (None, "docker.io"),
            (Some("https://index.docker.io/v1/"), "docker.io"),
            (Some("localhost:5000"), "localhost:5000"),
            (Some("http://reg.lan:5000/v2/"), "reg.lan:5000"),
            (Some("quay.io/team"), "quay.io"),
        ] {
            assert_eq!(domain(text), host, "{text:?}");
        }
    }
}
