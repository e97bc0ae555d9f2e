//! Garbage: what a killed process left half made. All of it bears a name `tmp-PID-N`, so that
//! the dead maker can be told from one still at work.

use std::path::{Path, PathBuf};

/// The entries of `dir` that a process made which is no more.
#[must_use]
pub fn garbage(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| maker(name).is_some_and(is_dead)))
        .map(|entry| entry.path())
        .collect()
}

/// The process that a temporary name belongs to.
fn maker(name: &str) -> Option<u32> {
    name.strip_prefix("tmp-")?.split('-').next()?.parse().ok()
}

/// A number that was given to another process since only delays the sweep.
fn is_dead(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}
