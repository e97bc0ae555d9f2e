//! Paths in a container, for `cp web:/et`: as the container sees them, and no link leads out of it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Result;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{SFlag, fstatat};

use super::{Candidate, candidate};
use crate::container::files::tree::Entered;
use crate::container::start;
use crate::image::pack::walk::{is, names as entries};
use crate::store::{Store, names};
use crate::sys::openat2::open_in_root;

/// A person waits; what a container has mounted may never answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What of the container `name` begins with `path`; folders end with a slash. Nothing where it cannot be
/// told, or not soon.
pub fn of(store: Store, name: &str, path: &str) -> Vec<Candidate> {
    // Entered by the only thread that there is, and the other one is in it with this one.
    let Ok(entered) = Entered::enter(&store) else { return Vec::new() };
    let (name, path) = (name.to_owned(), path.to_owned());
    let (found, wanted) = mpsc::channel();
    std::thread::spawn(move || found.send(list(&entered, &store, &name, &path).unwrap_or_default()));
    wanted.recv_timeout(PATIENCE).unwrap_or_default()
}

fn list(entered: &Entered, store: &Store, name: &str, path: &str) -> Result<Vec<Candidate>> {
    let config = start::config(store, &names::resolve(store, name)?)?;
    let root = entered.look(store, &config)?;
    // Without a slash it begins at the root too.
    let (folder, begun) = path.rfind('/').map_or(("/", path), |slash| path.split_at(slash + 1));
    let typed = if path.is_empty() { "/" } else { &path[..path.len() - begun.len()] };
    let opened = open_in_root(&root, folder, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK)?;
    let mut all = Vec::new();
    for entry in entries(opened.as_fd())? {
        let Ok(entry) = entry.to_str() else { continue };
        // Hidden ones are for who asks for them.
        if entry.starts_with(begun) && (begun.starts_with('.') || !entry.starts_with('.')) {
            let slash = if is_folder(&root, &opened, folder, entry) { "/" } else { "" };
            all.extend(candidate(&format!("{name}:{typed}{entry}{slash}"), ""));
        }
    }
    all.sort_by(|a, b| a.word.cmp(&b.word));
    Ok(all)
}

/// Whether it is one, or a link to one in the container.
fn is_folder(root: &OwnedFd, opened: &OwnedFd, folder: &str, entry: &str) -> bool {
    let Ok(stat) = fstatat(opened, entry, AtFlags::AT_SYMLINK_NOFOLLOW) else {
        return false;
    };
    let leads = || open_in_root(root, format!("{folder}{entry}").as_str(), OFlag::O_PATH | OFlag::O_DIRECTORY).is_ok();
    is(&stat, SFlag::S_IFDIR) || (is(&stat, SFlag::S_IFLNK) && leads())
}
