//! Which CPUs and memory nodes there are. v2 takes a list with some that are not there, and then lets
//! the container have others (`cgroup-v2.rst`, "cpuset.cpus"): so it is looked first, as Docker does.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::limits::Setting;
use crate::error::Failure;

/// Checks a setting of the cpuset controller against what the cgroup above `dir` has; others pass.
///
/// # Errors
/// Docker's `Requested CPUs are not available`.
pub(super) fn check(dir: &Path, setting: &Setting) -> Result<()> {
    // The names of v2, of v1, and, where the kernel tells neither, what the machine has.
    let (what, files, machine) = match setting.file.as_str() {
        "cpuset.cpus" => ("CPUs", ["cpuset.cpus.effective", "cpuset.effective_cpus"], "cpu"),
        "cpuset.mems" => ("memory nodes", ["cpuset.mems.effective", "cpuset.effective_mems"], "node"),
        _ => return Ok(()),
    };
    let above = files.iter().filter_map(|file| fs::read_to_string(dir.parent()?.join(file)).ok());
    let online = || fs::read_to_string(format!("/sys/devices/system/{machine}/online")).ok();
    let Some(available) = above.into_iter().next().or_else(online) else { return Ok(()) };
    let available = available.trim();
    let (Some(wanted), Some(there)) = (ranges(&setting.value), ranges(available)) else { return Ok(()) };
    if wanted.iter().all(|range| is_within(*range, &there)) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "Requested {what} are not available - requested {}, available: {available}",
        setting.value
    ))
    .into())
}

/// `0-2,7` as pairs of first and last; `None`: the kernel may know what it means.
fn ranges(list: &str) -> Option<Vec<(u32, u32)>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    };
    list.split(',').map(range).collect()
}

/// The kernel writes its lists in order, and joins neighbours.
fn is_within((first, last): (u32, u32), there: &[(u32, u32)]) -> bool {
    there.iter().any(|(from, to)| (*from..=*to).contains(&first) && last <= *to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_told() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("cpuset.cpus.effective"), "0-3,8\n").unwrap();
        let dir = home.path().join("box");
        let set = |value: &str| Setting {
            controller: "cpuset".into(),
            file: "cpuset.cpus".into(),
            value: value.into(),
            instead: None,
        };
        for fine in ["0", "1-3", "0,8", "0-1,2-3", "0-3:2/4"] {
            check(&dir, &set(fine)).unwrap();
        }
        for (wrong, list) in [("4", "4"), ("0-4294967295", "0-4294967295"), ("8-9", "8-9"), ("0,99", "0,99")] {
            let message = check(&dir, &set(wrong)).unwrap_err().to_string();
            assert_eq!(message, format!("Requested CPUs are not available - requested {list}, available: 0-3,8"));
        }
    }
}
