//! Flags that Podman has and Docker has not: time, umask, end, descriptors, accounts, names.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::bad;
use crate::container::accounts::Accounts;
use crate::container::config::Extras;
use crate::container::spec::timezone;
use crate::sys::descriptors;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Process")]
pub struct ExtraOptions {
    /// Time zone: local, or a name (Europe/Berlin)
    #[arg(long, value_name = "zone")]
    tz: Option<String>,
    /// What new files are not to be: 0022
    #[arg(long, value_name = "octal", value_parser = umask)]
    umask: Option<u32>,
    /// Kill the container after so many seconds; its exit code is 255
    #[arg(long, value_name = "seconds", default_value = "0", hide_default_value = true)]
    timeout: u64,
    /// Write the number of the container's first process to a file
    #[arg(long, value_name = "file")]
    pidfile: Option<PathBuf>,
    /// Lines of /etc/passwd for the container's user: $USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/sh
    #[arg(long, value_name = "line")]
    passwd_entry: Option<String>,
    /// The same for /etc/group: $GROUPNAME:x:$GID:$USERLIST
    #[arg(long, value_name = "line")]
    group_entry: Option<String>,
    /// Give the container an account of the host's, by name or number
    #[arg(long, value_name = "user")]
    hostuser: Vec<String>,
    /// Add to the container's /etc/passwd and /etc/group
    #[arg(long, action = clap::ArgAction::Set, value_name = "bool", default_value = "true", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = super::boolean, hide_default_value = true)]
    passwd: bool,
    /// Leave /etc/hosts as the image has it
    #[arg(long, help_heading = "Network")]
    no_hosts: bool,
    /// What /etc/hosts begins with: a file, image, or none
    #[arg(long, value_name = "file", help_heading = "Network")]
    hosts_file: Option<String>,
    /// Leave /etc/hostname as the image has it
    #[arg(long, help_heading = "Network")]
    no_hostname: bool,
}

impl ExtraOptions {
    /// # Errors
    /// A zone that can be none, what contradicts itself.
    pub fn check(&self, has_extra_hosts: bool) -> Result<(Extras, Accounts)> {
        let timezone = self.tz.clone().unwrap_or_default();
        if !timezone.is_empty() {
            timezone::check(&timezone)?;
        }
        if self.no_hosts && (has_extra_hosts || self.hosts_file.is_some()) {
            return bad("--no-hosts and --add-host cannot be set together");
        }
        let hosts_file = match self.hosts_file.as_deref() {
            None | Some("") => String::new(),
            Some(word @ ("image" | "none")) => word.to_owned(),
            Some(path) => {
                let path = std::fs::canonicalize(path).with_context(|| format!("--hosts-file {path:?}"))?;
                text(&path, "hosts-file")?
            }
        };
        let pid_file = match self.pidfile.as_deref().filter(|path| !path.as_os_str().is_empty()) {
            None => String::new(),
            Some(path) => text(&std::path::absolute(path).context("the working directory")?, "pidfile")?,
        };
        let entries = [("passwd", &self.passwd_entry, 7), ("group", &self.group_entry, 4)];
        for (kind, entry, fields) in entries {
            if let Some(entry) = entry.as_deref().filter(|e| e.contains('\n') || e.split(':').count() != fields) {
                return bad(format!("--{kind}-entry: {entry:?} is no line of {kind}(5): it has {fields} fields"));
            }
        }
        let accounts = Accounts {
            passwd_entry: self.passwd_entry.clone(),
            group_entry: self.group_entry.clone(),
            host_users: self.hostuser.clone(),
            none: !self.passwd,
        };
        if accounts.none && (self.passwd_entry.is_some() || self.group_entry.is_some() || !self.hostuser.is_empty()) {
            return bad("--passwd=false and an entry for /etc/passwd or /etc/group cannot be set together");
        }
        let extras = Extras {
            timezone,
            umask: self.umask,
            timeout: self.timeout,
            pid_file,
            no_hosts: self.no_hosts,
            no_hostname: self.no_hostname,
            hosts_file,
            ..Extras::default()
        };
        Ok((extras, accounts))
    }
}

fn text(path: &Path, flag: &str) -> Result<String> {
    match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => bad(format!("--{flag}: {path:?} is not UTF-8")),
    }
}

/// `run` and `exec`: descriptors of the caller's that the command gets.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Process")]
pub struct Preserved {
    /// Pass so many further descriptors on, from 3
    #[arg(long, value_name = "n", default_value = "0", hide_default_value = true)]
    preserve_fds: u32,
    /// Pass these descriptors on
    #[arg(long, value_name = "n,…", value_delimiter = ',', value_parser = clap::value_parser!(i32).range(3..))]
    preserve_fd: Vec<i32>,
}

impl Preserved {
    /// Most of them: one packet of the monitor's socket carries them.
    const MOST: usize = 100;

    /// Takes them over, by the numbers that they have here and are to have there. To be called once,
    /// before anything is opened.
    ///
    /// # Errors
    /// One is not open.
    pub fn take(&self) -> Result<Vec<(i32, OwnedFd)>> {
        let row = i32::try_from(self.preserve_fds).ok().and_then(|n| n.checked_add(3));
        let mut numbers: Vec<i32> = match row {
            Some(end) if self.preserve_fds as usize <= Self::MOST => (3..end).collect(),
            _ => return bad(format!("--preserve-fds: there can be {} at most", Self::MOST)),
        };
        numbers.extend(&self.preserve_fd);
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.len() > Self::MOST {
            return bad(format!("--preserve-fd: there can be {} at most", Self::MOST));
        }
        if let Some(number) = numbers.iter().find(|number| **number >= 1024) {
            return bad(format!("--preserve-fd: {number}: only numbers below 1024 can be passed on"));
        }
        numbers
            .into_iter()
            .map(|number| {
                let fd = descriptors::inherited(number)
                    .with_context(|| format!("file descriptor {number} is not available: it is not open"))?;
                Ok((number, fd))
            })
            .collect()
    }
}

/// As Podman reads it: octal digits, of the permissions only.
fn umask(text: &str) -> Result<u32, String> {
    let is_octal = (1..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match u32::from_str_radix(text, 8) {
        Ok(mask) if is_octal && mask <= 0o777 => Ok(mask),
        _ => Err("invalid umask: it is octal, 0000 to 0777".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn umasks() {
        assert_eq!(umask("0022"), Ok(0o022));
        assert_eq!(umask("7"), Ok(0o007));
        for wrong in ["8", "", "01777", "+22", "00022"] {
            assert!(umask(wrong).is_err(), "{wrong}");
        }
    }
}
