//! What a container's processes have used: kernel documentation, `cgroup-v2.rst` and `cgroup-v1/`
//! (`memory.rst`, `cpuacct.rst`, `blkio-controller.rst`, `pids.rst`).

use std::fs;

use super::Cgroup;

/// What the kernel has counted; `None` where no controller counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds of processor time.
    pub cpu: Option<u64>,
    /// Bytes of memory, without the part of the page cache that can go at once.
    pub memory: Option<u64>,
    /// Bytes; `None`: no limit.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub tasks: Option<u64>,
    /// Bytes read from and written to block devices.
    pub block: Option<(u64, u64)>,
}

/// More than any machine has: v1's way to say "no limit" is the largest multiple of the page size.
const UNLIMITED: u64 = 1 << 62;

impl Cgroup {
    #[must_use]
    pub fn usage(&self) -> Usage {
        let number = |file: &str| self.text(file)?.trim().parse::<u64>().ok();
        let cpu = number("cpuacct.usage").or_else(|| Some(field(&self.text("cpu.stat")?, "usage_usec ")? * 1000));
        let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"));
        let memory = used.map(|used| {
            let stat = self.text("memory.stat").unwrap_or_default();
            let idle = field(&stat, "total_inactive_file ").or_else(|| field(&stat, "inactive_file "));
            used - idle.filter(|idle| *idle < used).unwrap_or_default()
        });
        let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"));
        let block = self.text("io.stat").map(|text| block_v2(&text)).or_else(|| {
            let files = ["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"];
            files.iter().find_map(|file| self.text(file)).map(|text| block_v1(&text))
        });
        Usage {
            cpu,
            memory,
            memory_limit: limit.filter(|limit| *limit < UNLIMITED),
            tasks: number("pids.current"),
            block,
        }
    }

    /// The file's content in the first of its directories that has it.
    fn text(&self, file: &str) -> Option<String> {
        self.paths.iter().find_map(|dir| fs::read_to_string(dir.join(file)).ok())
    }
}

fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

/// `8:0 rbytes=1 wbytes=2 …` for each device.
fn block_v2(text: &str) -> (u64, u64) {
    let sum =
        |key: &str| text.split_ascii_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok()).sum();
    (sum("rbytes="), sum("wbytes="))
}

/// `8:0 Read 1` and so on for each device, then `Total 1`.
fn block_v1(text: &str) -> (u64, u64) {
    let sum = |operation: &str| {
        let lines = text.lines().filter_map(|line| line.split_once(' ')?.1.strip_prefix(operation));
        lines.filter_map(|number| number.trim().parse::<u64>().ok()).sum()
    };
    (sum("Read "), sum("Write "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        let home = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| fs::write(home.path().join(name), text).unwrap();
        let cgroup = Cgroup::from_paths(&[home.path().display().to_string()]);
        assert_eq!(cgroup.usage(), Usage::default());
        file("cpu.stat", "usage_usec 1500\nuser_usec 1\n");
        file("memory.current", "1000\n");
        file("memory.stat", "anon 1\ninactive_file 300\n");
        file("memory.max", "max\n");
        file("pids.current", "3\n");
        file("io.stat", "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2\n253:0\n");
        let expected = Usage {
            cpu: Some(1_500_000),
            memory: Some(700),
            memory_limit: None,
            tasks: Some(3),
            block: Some((11, 22)),
        };
        assert_eq!(cgroup.usage(), expected);
        file("memory.max", "5000\n");
        assert_eq!(cgroup.usage().memory_limit, Some(5000));
        assert_eq!(block_v1("8:0 Read 5\n8:0 Write 6\n8:0 Total 11\n8:16 Read 1\nTotal 12\n"), (6, 6));
    }

    #[test]
    fn all_of_it_may_be_idle_cache() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("memory.usage_in_bytes"), "100\n").unwrap();
        fs::write(home.path().join("memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        fs::write(home.path().join("memory.stat"), "inactive_file 1\ntotal_inactive_file 200\n").unwrap();
        let usage = Cgroup::from_paths(&[home.path().display().to_string()]).usage();
        assert_eq!((usage.memory, usage.memory_limit), (Some(100), None));
    }
}
