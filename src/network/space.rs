//! The network namespace that bridges are in: found, or made by the first container that needs it.
//!
//! An ordinary user's lives as long as a descriptor of it is open. Each monitor whose container is
//! in it holds one, and writes down which (`networks/holders/<container id>`); the next container's
//! monitor takes it from there. So no process is needed to keep it, and nothing is left of it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;

use crate::container::state;
use crate::network::netlink::Socket;
use crate::store::{Id, Lock, Store};
use crate::sys::netns;

/// Where bridges, their ports and rules are made.
#[derive(Debug)]
pub enum Space {
    /// The network namespace of this process, which it may change: root's.
    Here,
    /// The user's own, which all of the user's containers share. What leaves it goes through the
    /// uplink.
    Apart(OwnedFd),
}

impl Space {
    /// The space for a container, whose monitor this process is; made where there is none. It is
    /// there for as long as the result is kept.
    ///
    /// # Errors
    /// The kernel makes no network namespace, or the holder's file cannot be written.
    pub fn hold(store: &Store, container: &Id) -> Result<Self> {
        if is_own()? {
            return Ok(Self::Here);
        }
        let holders = holders(store);
        let _lock = Lock::exclusive(&holders).with_context(|| format!("lock {holders:?}"))?;
        let namespace = match held(store, &holders)? {
            Some(namespace) => namespace,
            None => netns::make().context("make a network namespace for your containers")?,
        };
        let text = format!("{} {}\n", std::process::id(), namespace.as_raw_fd());
        let file = holders.join(container.as_str());
        fs::write(&file, text).with_context(|| format!("write {file:?}"))?;
        Ok(Self::Apart(namespace))
    }

    /// The space as it is now, for a command: `None` where no container of the user's has one.
    ///
    /// # Errors
    /// The holders' files cannot be read.
    pub fn find(store: &Store) -> Result<Option<Self>> {
        if is_own()? {
            return Ok(Some(Self::Here));
        }
        Ok(held(store, &holders(store))?.map(Self::Apart))
    }

    /// Removes the word that the container's monitor holds it.
    pub fn forget(store: &Store, container: &Id) {
        // Of no consequence where it stays: who reads it asks whether the monitor lives.
        let _ = fs::remove_file(holders(store).join(container.as_str()));
    }

    /// Whether what leaves this namespace needs the uplink.
    #[must_use]
    pub fn is_apart(&self) -> bool {
        matches!(self, Self::Apart(_))
    }

    /// A socket for links, addresses and routes of this namespace.
    ///
    /// # Errors
    /// As socket(2).
    pub fn route(&self) -> Result<Socket> {
        self.inside(Socket::route)?.context("open a netlink socket")
    }

    /// A socket for nf_tables of this namespace.
    ///
    /// # Errors
    /// As socket(2).
    pub fn netfilter(&self) -> Result<Socket> {
        self.inside(Socket::netfilter)?.context("open a netlink socket for nf_tables")
    }

    /// Runs `body` in this namespace: its sockets and its `/proc/sys/net`.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T> {
        match self {
            Self::Here => Ok(body()),
            Self::Apart(namespace) => {
                netns::inside(namespace.as_fd(), body).context("enter the network namespace of your containers")
            }
        }
    }
}

/// Whether this process may change the network namespace that it is in. One that belongs to a user
/// namespace further out cannot even be asked for its owner: ioctl_nsfs(2).
fn is_own() -> Result<bool> {
    let path = "/proc/self/ns/net";
    let namespace = File::open(path).with_context(|| format!("open {path:?}"))?;
    match netns::owner(namespace.as_fd()) {
        Ok(_) => Ok(nix::unistd::geteuid().is_root()),
        Err(Errno::EPERM) => Ok(false),
        Err(e) => Err(e).context("ask who owns this network namespace"),
    }
}

fn holders(store: &Store) -> PathBuf {
    store.networks().join("holders")
}

/// The namespace that a live monitor holds.
fn held(store: &Store, holders: &Path) -> Result<Option<OwnedFd>> {
    let entries = match fs::read_dir(holders) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        entries => entries.with_context(|| format!("read {holders:?}"))?,
    };
    Ok(entries.flatten().find_map(|entry| {
        let id: Id = entry.file_name().to_str()?.parse().ok()?;
        let namespace = open(&entry.path()).filter(is_usable);
        // Asked last: while the monitor lives, the descriptor that was opened above is its own.
        if state::is_alive(store, &id) {
            return namespace;
        }
        let _ = fs::remove_file(entry.path());
        None
    }))
}

fn open(holder: &Path) -> Option<OwnedFd> {
    let text = fs::read_to_string(holder).ok()?;
    let (pid, fd) = text.trim_end().split_once(' ')?;
    let (pid, fd): (u32, u32) = (pid.parse().ok()?, fd.parse().ok()?);
    Some(File::open(format!("/proc/{pid}/fd/{fd}")).ok()?.into())
}

/// Whether it is a network namespace of the user namespace that this process is in.
fn is_usable(namespace: &OwnedFd) -> bool {
    let ours = File::open("/proc/self/ns/user").ok();
    let inode = |fd: std::os::fd::BorrowedFd<'_>| nix::sys::stat::fstat(fd).map(|stat| stat.st_ino).ok();
    let owner = netns::owner(namespace.as_fd()).ok();
    owner.is_some_and(|owner| inode(owner.as_fd()) == ours.and_then(|ours| inode(ours.as_fd())))
}
