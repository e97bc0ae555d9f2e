//! Who is in a cgroup.

use std::path::Path;

use super::Cgroup;
use super::files::{DEEPEST, children};

impl Cgroup {
    /// The processes in it and below it, as the reader's pid namespace numbers them; each once. Empty
    /// where it is gone.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        // On v1 the same processes are in all of them.
        if let Some(dir) = self.paths.first() {
            gather(dir, 0, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn gather(dir: &Path, depth: usize, into: &mut Vec<i32>) {
    let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    // 0: of another pid namespace, and nothing that could be asked about.
    into.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    if depth < DEEPEST {
        for child in children(dir) {
            gather(&child, depth + 1, into);
        }
    }
}
