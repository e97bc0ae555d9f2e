//! `ctr image scp`: an image from one machine to another, through ssh(1) and the `ctr` there.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::cli::{Globals, Run, output};
use crate::error::{Failure, exit};
use crate::image::archive::load::load;
use crate::image::archive::save::{Format, gather};
use crate::image::blobs;
use crate::userns;

/// Copy an image to or from another machine over ssh
#[derive(Debug, clap::Parser)]
#[command(after_help = "ssh is run as it is set up (~/.ssh/config), and there: ctr save or ctr load.

Examples:
  ctr image scp web:1 host::                 from here to host
  ctr image scp me@host::web:1               from host to here
  ctr image scp one::web:1 two::             from one to the other, through here")]
pub struct Scp {
    /// Suppress the output
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "[[USER@]HOST::]IMAGE")]
    source: String,
    #[arg(value_name = "[USER@]HOST::")]
    target: Option<String>,
}

impl Run for Scp {
    fn run(self, globals: &Globals) -> Result<u8> {
        let (from, image) = match self.source.split_once("::") {
            Some((host, image)) => (Some(Host::check(host)?), image),
            None => (None, self.source.as_str()),
        };
        let to = match self.target.as_deref().map(|target| target.split_once("::")) {
            None => None,
            Some(Some((host, ""))) => Some(Host::check(host)?),
            Some(_) => return Err(usage("the target is another machine: write HOST::")),
        };
        if image.is_empty() {
            return Err(usage("no image is named: write HOST::IMAGE"));
        }
        let saving = format!("ctr save -- {}", quoted(image));
        let loading = if self.quiet { "ctr load -q >/dev/null" } else { "ctr load" };
        match (from, to) {
            (None, None) => Err(usage("no other machine is named: write HOST::IMAGE, or IMAGE HOST::")),
            (None, Some(to)) => {
                let store = globals.store()?;
                blobs::prepare(&store)?;
                let archive = gather(&store, &[image.to_owned()], None, Format::Docker)?;
                let mut there = to.run(loading, Stdio::piped(), Stdio::inherit())?;
                let input = there.stdin.take().map(OwnedFd::from).context("no pipe to ssh")?;
                let written = archive.write(&store, File::from(input));
                // Where the other side failed, writing did because of it.
                to.ended(there)?;
                written.map(|()| 0)
            }
            (Some(from), None) => {
                // Before this process is in the user's own namespace: ssh is the user's.
                let mut there = from.run(&saving, Stdio::null(), Stdio::piped())?;
                let archive = there.stdout.take().map(OwnedFd::from).context("no pipe from ssh")?;
                let store = globals.store()?;
                userns::enter(&store)?;
                let loaded = load(&store, File::from(archive), None);
                from.ended(there)?;
                for loaded in loaded.map_err(crate::image::disk_full)?.iter().filter(|_| !self.quiet) {
                    let names = loaded.names.iter().map(|name| format!("Loaded image: {}\n", name.familiar()));
                    let text: String = names.collect();
                    output::print(&if text.is_empty() { format!("Loaded image ID: {}\n", loaded.id) } else { text });
                }
                Ok(0)
            }
            (Some(from), Some(to)) => {
                let mut one = from.run(&saving, Stdio::null(), Stdio::piped())?;
                let pipe = one.stdout.take().context("no pipe from ssh")?;
                let two = to.run(loading, Stdio::from(pipe), Stdio::inherit())?;
                let done = to.ended(two);
                from.ended(one)?;
                done.map(|()| 0)
            }
        }
    }
}

fn usage(why: &str) -> anyhow::Error {
    Failure::new(why).hint("see 'ctr image scp --help'").exit(exit::ENGINE).into()
}

/// A machine, as ssh is told of it.
struct Host(String);

impl Host {
    /// ssh takes what begins with a dash for a flag, and some of its flags run programs.
    fn check(text: &str) -> Result<Self> {
        let is_usual = |c: char| c.is_ascii_alphanumeric() || ".-_@:[]%".contains(c);
        if text.is_empty() || text.starts_with('-') || !text.chars().all(is_usual) || text.contains("@-") {
            return Err(usage(&format!("{text:?} is not [USER@]HOST")));
        }
        Ok(Self(text.to_owned()))
    }

    fn run(&self, line: &str, stdin: Stdio, stdout: Stdio) -> Result<Child> {
        log::debug!("run ssh -T -- {} {line}", self.0);
        let mut command = Command::new("ssh");
        command.args(["-T", "--", &self.0, line]).stdin(stdin).stdout(stdout);
        command.spawn().map_err(|e| {
            let failure = Failure::new("run \"ssh\"").source(e).exit(exit::ENGINE);
            failure.hint("install ssh (openssh-client)").into()
        })
    }

    fn ended(&self, mut child: Child) -> Result<()> {
        let status = child.wait()?;
        if status.success() {
            return Ok(());
        }
        let how = status.code().map_or_else(|| "was killed".to_owned(), |code| format!("failed with exit code {code}"));
        Err(Failure::new(format!("the command on {:?} {how}", self.0)).exit(exit::ENGINE).into())
    }
}

/// A word for the shell on the other side, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_no_host_reaches_ssh() {
        for bad in ["", "-oProxyCommand=touch x", "a b", "a;b", "u@-oX", "$(x)", "a\nb", "a/b"] {
            assert!(Host::check(bad).is_err(), "{bad:?}");
        }
        for good in ["host", "me@host.example.com", "me@[::1]", "10.0.0.1", "fe80::1%eth0"] {
            assert!(Host::check(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_word_stays_one() {
        assert_eq!(quoted("a'b; $(c)"), r"'a'\''b; $(c)'");
    }
}
