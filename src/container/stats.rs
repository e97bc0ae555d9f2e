//! What a container uses at this moment.
//!
//! The figures are its cgroup's. What no cgroup counts (an ordinary user has none on cgroup v1) is
//! added up over its processes: processor time with that of children which were waited for, memory
//! as each one's share of what several have mapped.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use crate::container::processes;
use crate::container::signal::Running;
use crate::container::state::Process;
use crate::runtime::cgroup::Cgroup;
use crate::store::{Id, Store};

/// One look at a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    at: Instant,
    /// Nanoseconds of processor time since it was started.
    cpu: u64,
    /// Bytes.
    pub memory: u64,
    /// Bytes: its limit, or what the machine has.
    pub limit: u64,
    /// Bytes received and sent on all interfaces but the loopback; none where it has the host's.
    pub network: (u64, u64),
    /// Bytes read and written.
    pub block: (u64, u64),
    /// Processes and threads.
    pub tasks: u64,
}

impl Sample {
    /// `None`: it does not run.
    ///
    /// # Errors
    /// Its record cannot be read.
    pub fn take(store: &Store, id: &Id) -> anyhow::Result<Option<Self>> {
        let Some(running) = Running::find(store, id)? else { return Ok(None) };
        let process = &running.process;
        let usage = Cgroup::from_paths(&process.cgroups).usage();
        let complete = (usage.cpu, usage.memory, usage.tasks, usage.block);
        let (cpu, memory, tasks, block) = if let (Some(cpu), Some(memory), Some(tasks), Some(block)) = complete {
            (cpu, memory, tasks, block)
        } else {
            let sum = Sum::of(process, usage.memory.is_none(), usage.block.is_none());
            (
                usage.cpu.unwrap_or(sum.cpu),
                usage.memory.unwrap_or(sum.memory),
                usage.tasks.unwrap_or(sum.tasks),
                usage.block.unwrap_or(sum.block),
            )
        };
        let machine = machine_memory();
        Ok(Some(Self {
            at: Instant::now(),
            cpu,
            memory,
            limit: usage.memory_limit.map_or(machine, |limit| limit.min(machine)),
            network: network(process.pid),
            block,
            tasks,
        }))
    }

    /// Percent of one processor that it used since `before`.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
    pub fn cpu_percent(&self, before: &Self) -> f64 {
        let elapsed = self.at.saturating_duration_since(before.at).as_nanos();
        // Started again meanwhile, or a process took its count along: there is nothing to compare.
        let used = self.cpu.saturating_sub(before.cpu);
        if elapsed == 0 { 0.0 } else { used as f64 / elapsed as f64 * 100.0 }
    }

    /// Percent of [`Sample::limit`].
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
    pub fn memory_percent(&self) -> f64 {
        if self.limit == 0 { 0.0 } else { self.memory as f64 / self.limit as f64 * 100.0 }
    }
}

/// Added up over processes, some of which end while this reads.
#[derive(Debug, Default)]
struct Sum {
    cpu: u64,
    memory: u64,
    tasks: u64,
    block: (u64, u64),
}

impl Sum {
    fn of(process: &Process, memory: bool, block: bool) -> Self {
        let tick = 1_000_000_000 / ticks();
        let mut sum = Self::default();
        for pid in processes::of(process) {
            let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let Some((ticks, threads)) = times(&read("stat")) else { continue };
            sum.cpu += ticks * tick;
            sum.tasks += threads;
            if memory {
                // A kernel thread, or a process on its way out, has none.
                sum.memory += value(&read("smaps_rollup"), "Pss:").unwrap_or_default() * 1024;
            }
            if block {
                let io = read("io");
                sum.block.0 += value(&io, "read_bytes:").unwrap_or_default();
                sum.block.1 += value(&io, "write_bytes:").unwrap_or_default();
            }
        }
        sum
    }
}

/// Clock ticks of a process and its children that were waited for, and its threads:
/// proc_pid_stat(5), fields 14 to 17 and 20.
fn times(stat: &str) -> Option<(u64, u64)> {
    // The second field, the program's name in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(((14..=17).filter_map(field).sum(), field(20)?))
}

/// The first number behind a word at the beginning of a line.
fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.split_ascii_whitespace().next()?.parse().ok())
}

fn ticks() -> u64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    ticks.and_then(|ticks| u64::try_from(ticks).ok()).filter(|ticks| *ticks > 0).unwrap_or(100)
}

fn machine_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    value(&text, "MemTotal:").unwrap_or_default() * 1024
}

/// Bytes in and out, of proc_pid_net(5), `dev`.
fn network(pid: i32) -> (u64, u64) {
    let namespace = |who: &str| fs::metadata(format!("/proc/{who}/ns/net")).ok().map(|meta| meta.ino());
    if namespace(&pid.to_string()) == namespace("self") {
        return (0, 0);
    }
    interfaces(&fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default())
}

fn interfaces(text: &str) -> (u64, u64) {
    let mut sum = (0, 0);
    for line in text.lines().skip(2) {
        let Some((name, counters)) = line.split_once(':') else { continue };
        let counters: Vec<u64> = counters.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
        if let (false, Some(received), Some(sent)) = (name.trim() == "lo", counters.first(), counters.get(8)) {
            sum.0 += received;
            sum.1 += sent;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn proc_is_read() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 100 0 0 0 7 3 20 10 20 0 5 0 1 2 3\n";
        assert_eq!(times(stat), Some((40, 5)));
        assert_eq!(times(""), None);
        assert_eq!(value("Rss: 8 kB\nPss:    12 kB\n", "Pss:"), Some(12));
        let dev = "Inter-|   Receive\n face |bytes\n    lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n  eth0:10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n\
                   eth1: 1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\nbroken\n";
        assert_eq!(interfaces(dev), (11, 22));
        assert!(machine_memory() > 0);
    }

    #[test]
    fn shares_of_a_second_and_of_the_limit() {
        let at = Instant::now();
        let before = Sample { at, cpu: 1_000, memory: 25, limit: 100, network: (0, 0), block: (0, 0), tasks: 1 };
        let now = Sample { at: at + Duration::from_secs(1), cpu: 1_000 + 1_500_000_000, ..before.clone() };
        assert!((now.cpu_percent(&before) - 150.0).abs() < 0.01);
        assert!((now.memory_percent() - 25.0).abs() < 0.01);
        // Started again: its count began anew.
        assert!(before.cpu_percent(&now) == 0.0);
        assert!(Sample { limit: 0, ..before.clone() }.memory_percent() == 0.0);
    }
}
