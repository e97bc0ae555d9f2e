//! Garbage: what a killed process left half made. All of it bears a name `tmp-PID-N-NAMESPACE`, so
//! that the dead maker can be told from one still at work.

use std::fs::DirEntry;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::store::record;

/// What a process of another pid namespace made is left to the commands there for so long. Whether
/// that process lives cannot be told from here.
const FOREIGN: Duration = Duration::from_secs(24 * 60 * 60);

/// The entries of `dir` that a process made which is no more.
#[must_use]
pub fn garbage(dir: &Path) -> Vec<PathBuf> {
    garbage_at(dir, SystemTime::now())
}

fn garbage_at(dir: &Path, now: SystemTime) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().filter(|entry| is_garbage(entry, now)).map(|entry| entry.path()).collect()
}

fn is_garbage(entry: &DirEntry, now: SystemTime) -> bool {
    let name = entry.file_name();
    let Some(maker) = name.to_str().and_then(Maker::of) else { return false };
    if maker.namespace == Some(record::pid_namespace()) {
        return is_dead(maker.pid);
    }
    // The time of the last change of the inode: a rename counts, and what is being removed was
    // renamed to this name when its content may have been old already.
    let Ok(meta) = entry.metadata() else { return false };
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(meta.ctime()).unwrap_or(u64::MAX / 4));
    now.duration_since(changed).is_ok_and(|age| age > FOREIGN)
}

/// The process that a temporary name belongs to.
#[derive(Debug, PartialEq, Eq)]
struct Maker {
    pid: u32,
    /// The number of its pid namespace.
    namespace: Option<u64>,
}

impl Maker {
    fn of(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix("tmp-")?.split('-');
        let pid = parts.next()?.parse().ok()?;
        Some(Self { pid, namespace: parts.nth(1).and_then(|number| number.parse().ok()) })
    }
}

/// A number that was given to another process since only delays the sweep.
fn is_dead(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_is_at_work_on_is_garbage() {
        let home = tempfile::tempdir().unwrap();
        let mine = record::pid_namespace();
        // No process has this number: proc_sys_kernel(5), pid_max.
        let dead = 1 << 30;
        let own = record::temporary_beside(&home.path().join("x"));
        let killed = home.path().join(format!("tmp-{dead}-0-{mine}"));
        let foreign = home.path().join(format!("tmp-{dead}-0-{}", mine + 1));
        // As no process of this version calls it.
        let nameless = home.path().join(format!("tmp-{dead}-0"));
        for path in [&own, &killed, &foreign, &nameless, &home.path().join("tmp-x"), &home.path().join("other")] {
            std::fs::create_dir(path).unwrap();
        }
        assert_eq!(garbage(home.path()), std::slice::from_ref(&killed));
        let mut later = garbage_at(home.path(), SystemTime::now() + FOREIGN + Duration::from_secs(60));
        later.sort();
        let mut wanted = vec![killed, foreign, nameless];
        wanted.sort();
        assert_eq!(later, wanted);
    }
}
