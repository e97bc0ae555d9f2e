//! What a container may use: memory, processors, processes, devices, limits.

use anyhow::Result;

use super::{bad, size};
use crate::container::config::{Device, Resources, ThrottleDevice, Ulimit, WeightDevice};
use crate::error::{Failure, exit};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Resources")]
pub struct ResourceOptions {
    /// Memory limit, as 512m or 2g
    #[arg(short, long, value_name = "bytes", value_parser = size::bytes)]
    memory: Option<i64>,
    /// Soft limit of memory, for when the machine runs short
    #[arg(long, value_name = "bytes", value_parser = size::bytes)]
    memory_reservation: Option<i64>,
    /// Memory and swap together; -1: no limit on swap
    #[arg(long, value_name = "bytes", value_parser = size::bytes_or_unlimited)]
    memory_swap: Option<i64>,
    /// How readily memory is swapped out, 0 to 100
    #[arg(long, value_name = "int", default_value = "-1", hide_default_value = true)]
    memory_swappiness: i64,
    /// Number of processors, as 1.5
    #[arg(long, value_name = "decimal", value_parser = size::nano_cpus)]
    cpus: Option<i64>,
    /// Share of the processors relative to others
    #[arg(short, long, value_name = "int")]
    cpu_shares: Option<u64>,
    /// Length of the scheduler's period, in microseconds
    #[arg(long, value_name = "int")]
    cpu_period: Option<u64>,
    /// Processor time in each period, in microseconds
    #[arg(long, value_name = "int")]
    cpu_quota: Option<i64>,
    /// Length of the real-time scheduler's period, in microseconds
    #[arg(long, value_name = "int")]
    cpu_rt_period: Option<u64>,
    /// Real-time processor time in each period, in microseconds
    #[arg(long, value_name = "int")]
    cpu_rt_runtime: Option<i64>,
    /// Processors that may be used (0-3, 0,1)
    #[arg(long, value_name = "list")]
    cpuset_cpus: Option<String>,
    /// Memory nodes that may be used (0-3, 0,1)
    #[arg(long, value_name = "list")]
    cpuset_mems: Option<String>,
    /// How many processes there may be; -1: no limit
    #[arg(long, value_name = "int")]
    pids_limit: Option<i64>,
    /// Limits of each process (nofile=1024:2048)
    #[arg(long, value_name = "name=soft[:hard]", value_parser = ulimit)]
    ulimit: Vec<Ulimit>,
    /// Size of /dev/shm (64m)
    #[arg(long, value_name = "bytes", value_parser = size::bytes)]
    shm_size: Option<i64>,
    /// Do not kill processes when memory runs out
    #[arg(long)]
    oom_kill_disable: bool,
    /// Preference for being killed when memory runs out, -1000 to 1000
    #[arg(long, value_name = "int", default_value = "0", hide_default_value = true)]
    oom_score_adj: i32,
    /// Share of disk input and output relative to others, 10 to 1000
    #[arg(long, value_name = "weight", default_value = "0", hide_default_value = true)]
    blkio_weight: u16,
    /// The same for one device
    #[arg(long, value_name = "device:weight", value_parser = weight_device)]
    blkio_weight_device: Vec<WeightDevice>,
    /// Bytes a second that are read from a device
    #[arg(long, value_name = "device:rate", value_parser = bytes_rate)]
    device_read_bps: Vec<ThrottleDevice>,
    /// Bytes a second that are written to a device
    #[arg(long, value_name = "device:rate", value_parser = bytes_rate)]
    device_write_bps: Vec<ThrottleDevice>,
    /// Reads a second from a device
    #[arg(long, value_name = "device:rate", value_parser = operations_rate)]
    device_read_iops: Vec<ThrottleDevice>,
    /// Writes a second to a device
    #[arg(long, value_name = "device:rate", value_parser = operations_rate)]
    device_write_iops: Vec<ThrottleDevice>,
    /// A device of the host's for the container
    #[arg(long, value_name = "host[:container][:rwm]")]
    device: Vec<String>,
    /// A rule for the device cgroup (c 1:3 rwm)
    #[arg(long, value_name = "rule", value_parser = device_rule)]
    device_cgroup_rule: Vec<String>,
    /// The cgroup below which the container's is made
    #[arg(long, value_name = "cgroup")]
    cgroup_parent: Option<String>,
}

/// What came of [`ResourceOptions`].
pub struct Checked {
    pub resources: Resources,
    pub shm_size: u64,
    pub oom_score_adj: i32,
    pub cgroup_parent: String,
}

const MIB: i64 = 1 << 20;

impl ResourceOptions {
    /// The rules and the words of Docker's daemon.
    ///
    /// # Errors
    /// Limits that are out of range or contradict each other.
    pub fn check(self) -> Result<Checked> {
        let memory = self.memory.unwrap_or_default();
        let memory_swap = self.memory_swap.unwrap_or_default();
        if memory == 0 && memory_swap > 0 {
            return bad("You should always set the Memory limit when using Memoryswap limit, see usage");
        }
        if !(-1..=100).contains(&self.memory_swappiness) {
            return bad(format!("invalid value: {}. Valid memory swappiness range is 0-100", self.memory_swappiness));
        }
        if !(-1000..=1000).contains(&self.oom_score_adj) {
            return bad(format!("Invalid value {}, range for oom score adj is [-1000, 1000]", self.oom_score_adj));
        }
        let mut resources = Resources {
            cpu_shares: self.cpu_shares.unwrap_or_default(),
            memory,
            nano_cpus: self.cpus.unwrap_or_default(),
            blkio_weight: self.blkio_weight,
            blkio_weight_device: self.blkio_weight_device,
            blkio_device_read_bps: self.device_read_bps,
            blkio_device_write_bps: self.device_write_bps,
            blkio_device_read_iops: self.device_read_iops,
            blkio_device_write_iops: self.device_write_iops,
            cpu_period: self.cpu_period.unwrap_or_default(),
            cpu_quota: self.cpu_quota.unwrap_or_default(),
            cpu_realtime_period: self.cpu_rt_period.unwrap_or_default(),
            cpu_realtime_runtime: self.cpu_rt_runtime.unwrap_or_default(),
            cpuset_cpus: self.cpuset_cpus.unwrap_or_default(),
            cpuset_mems: self.cpuset_mems.unwrap_or_default(),
            devices: self.device.iter().map(|d| device(d)).collect::<Result<_>>()?,
            device_cgroup_rules: self.device_cgroup_rule,
            memory_reservation: self.memory_reservation.unwrap_or_default(),
            memory_swap,
            memory_swappiness: Some(self.memory_swappiness).filter(|s| *s >= 0),
            oom_kill_disable: Some(self.oom_kill_disable).filter(|disable| *disable),
            pids_limit: self.pids_limit.filter(|limit| *limit != 0),
            ulimits: last_of_each(self.ulimit),
        };
        verify(&resources)?;
        if memory > 0 && memory_swap == 0 {
            // Docker: as much swap as memory, unless told otherwise.
            resources.memory_swap = memory.saturating_mul(2);
        }
        // 0 is Docker's way to say "the default".
        let shm_size = self.shm_size.filter(|size| *size > 0).unwrap_or(64 * MIB);
        Ok(Checked {
            resources,
            shm_size: shm_size.unsigned_abs(),
            oom_score_adj: self.oom_score_adj,
            cgroup_parent: self.cgroup_parent.unwrap_or_default(),
        })
    }
}

/// The rules that hold for `update` too; 0 and empty are "not asked for".
///
/// # Errors
/// Docker's sentences.
pub fn verify(asked: &Resources) -> Result<()> {
    let (memory, swap, reservation) = (asked.memory, asked.memory_swap, asked.memory_reservation);
    if memory > 0 && memory < 6 * MIB {
        return bad("Minimum memory limit allowed is 6MB");
    }
    if memory > 0 && swap > 0 && swap < memory {
        return bad("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if reservation > 0 && reservation < 6 * MIB {
        return bad("Minimum memory reservation allowed is 6MB");
    }
    if memory > 0 && reservation > memory {
        return bad("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    let (nano_cpus, period, quota) = (asked.nano_cpus, asked.cpu_period, asked.cpu_quota);
    if nano_cpus != 0 && period > 0 {
        return bad("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if nano_cpus != 0 && quota > 0 {
        return bad("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let all = i64::try_from(processors).unwrap_or(1).saturating_mul(1_000_000_000);
    if nano_cpus != 0 && !(10_000_000..=all).contains(&nano_cpus) {
        return bad(format!(
            "range of CPUs is from 0.01 to {processors}.00, as there are only {processors} CPUs available"
        ));
    }
    if period != 0 && !(1000..=1_000_000).contains(&period) {
        return bad("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
    }
    if quota > 0 && quota < 1000 {
        return bad("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    for (set, what) in [(&asked.cpuset_cpus, "cpus"), (&asked.cpuset_mems, "mems")] {
        if !set.is_empty() && !is_number_list(set) {
            return bad(format!("Invalid value {set} for cpuset {what}"));
        }
    }
    if asked.blkio_weight != 0 && !(10..=1000).contains(&asked.blkio_weight) {
        return bad("Range of blkio weight is from 10 to 1000");
    }
    Ok(())
}

/// `0-3,5`.
fn is_number_list(text: &str) -> bool {
    let number = |n: &str| n.parse::<u32>().ok();
    text.split(',').all(|part| match part.split_once('-') {
        Some((from, to)) => matches!((number(from), number(to)), (Some(from), Some(to)) if from <= to),
        None => number(part).is_some(),
    })
}

fn last_of_each(given: Vec<Ulimit>) -> Vec<Ulimit> {
    let mut limits: Vec<Ulimit> = Vec::with_capacity(given.len());
    for limit in given {
        match limits.iter_mut().find(|l| l.name == limit.name) {
            Some(earlier) => *earlier = limit,
            None => limits.push(limit),
        }
    }
    limits.sort_by(|a, b| a.name.cmp(&b.name));
    limits
}

/// `nofile=1024[:2048]`; -1: unlimited.
fn ulimit(text: &str) -> Result<Ulimit, String> {
    const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let Some((name, values)) = text.split_once('=') else {
        return Err(format!("invalid ulimit argument: {text}"));
    };
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |value: &str| match value {
        "unlimited" => Ok(-1),
        _ => value.parse::<i64>().map_err(|_| format!("strconv.ParseInt: parsing {value:?}: invalid syntax")),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && soft == -1 {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {hard}"
        ));
    }
    if hard != -1 && soft > hard {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(Ulimit { name: name.to_owned(), hard, soft })
}

fn weight_device(text: &str) -> Result<WeightDevice, String> {
    let (path, weight) = device_and(text)?;
    let weight = weight.parse::<u16>().ok().filter(|w| *w == 0 || (10..=1000).contains(w));
    let weight = weight.ok_or_else(|| format!("invalid weight for device: {text}"))?;
    Ok(WeightDevice { path, weight })
}

fn bytes_rate(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_and(text)?;
    let rate = size::bytes(rate).map_err(|_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. \
             Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )
    })?;
    Ok(ThrottleDevice { path, rate: rate.unsigned_abs() })
}

fn operations_rate(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_and(text)?;
    let rate = rate.parse().map_err(|_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>. \
             Number must be a positive integer"
        )
    })?;
    Ok(ThrottleDevice { path, rate })
}

fn device_and(text: &str) -> Result<(String, &str), String> {
    let Some((path, value)) = text.rsplit_once(':') else {
        return Err(format!("bad format: {text}"));
    };
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    Ok((path.to_owned(), value))
}

/// `a|b|c MAJOR:MINOR [r][w][m]`, numbers or `*`.
fn device_rule(text: &str) -> Result<String, String> {
    let is_number = |n: &str| n == "*" || (!n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let words: Vec<&str> = text.split(' ').collect();
    let valid = match words.as_slice() {
        [kind, numbers, access] => {
            matches!(*kind, "a" | "b" | "c")
                && numbers.split_once(':').is_some_and(|(major, minor)| is_number(major) && is_number(minor))
                && is_access(access)
        }
        _ => false,
    };
    if valid { Ok(text.to_owned()) } else { Err(format!("invalid device cgroup format '{text}'")) }
}

fn is_access(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.bytes().all(|b| b"rwm".contains(&b))
}

/// `--device`: `HOST[:CONTAINER][:rwm]`.
fn device(text: &str) -> Result<Device> {
    if text.split_once('=').is_some_and(|(kind, _)| kind.contains('/') && !kind.starts_with('/')) {
        return Err(Failure::new(format!("CDI device injection failed: unresolvable CDI devices {text}"))
            .hint(
                "ctr reads no CDI specifications: name the device's nodes (--device /dev/dri) and mount its libraries",
            )
            .exit(exit::ENGINE)
            .into());
    }
    let parts: Vec<&str> = text.split(':').collect();
    if text.is_empty() {
        return bad("bad format for path: ");
    }
    let (host, inside, access) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, second] if is_access(second) => (*host, *host, *second),
        [host, inside] => (*host, *inside, "rwm"),
        [_, _, access] if !is_access(access) => return bad(format!("bad mode specified: {access}")),
        [host, inside, access] => (*host, *inside, *access),
        _ => return bad(format!("bad format for path: {text}")),
    };
    for path in [inside, host] {
        if !path.starts_with('/') {
            return bad(format!("{path} is not an absolute path"));
        }
    }
    Ok(Device { path_on_host: host.into(), path_in_container: inside.into(), cgroup_permissions: access.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &[&str]) -> Result<Checked> {
        use clap::{Args, Command, FromArgMatches};
        let command = crate::cli::as_docker_parses(ResourceOptions::augment_args(Command::new("x")));
        let matches = command.try_get_matches_from([&["x"], args].concat())?;
        ResourceOptions::from_arg_matches(&matches)?.check()
    }

    fn message(args: &[&str]) -> String {
        check(args).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn memory_rules() {
        let resources = check(&["-m", "512m"]).unwrap().resources;
        assert_eq!((resources.memory, resources.memory_swap), (512 << 20, 1 << 30));
        assert_eq!(check(&["-m=64m", "--memory-swap", "-1"]).unwrap().resources.memory_swap, -1);
        assert_eq!(message(&["-m", "5m"]), "Minimum memory limit allowed is 6MB");
        assert!(message(&["-m", "20m", "--memory-swap", "10m"]).starts_with("Minimum memoryswap limit"));
        assert!(message(&["--memory-swap", "10m"]).starts_with("You should always set the Memory limit"));
        assert!(message(&["-m", "20m", "--memory-reservation", "30m"]).starts_with("Minimum memory limit can not"));
    }

    #[test]
    fn processor_rules() {
        assert_eq!(check(&["--cpus", "0.5"]).unwrap().resources.nano_cpus, 500_000_000);
        assert!(message(&["--cpus", ".5", "--cpu-period", "100000"]).starts_with("Conflicting options"));
        assert!(message(&["--cpus", "100000"]).starts_with("range of CPUs is from 0.01 to"));
        assert!(message(&["--cpu-period", "1"]).starts_with("CPU cfs period"));
        assert_eq!(message(&["--cpuset-cpus", "1-0"]), "Invalid value 1-0 for cpuset cpus");
    }

    #[test]
    fn ulimits() {
        assert_eq!(ulimit("nofile=1024:2048"), Ok(Ulimit { name: "nofile".into(), hard: 2048, soft: 1024 }));
        assert_eq!(ulimit("core=-1"), Ok(Ulimit { name: "core".into(), hard: -1, soft: -1 }));
        assert_eq!(ulimit("foo=1"), Err("invalid ulimit type: foo".into()));
        assert!(ulimit("nofile=10:5").unwrap_err().ends_with("10 > 5"));
        let limits = check(&["--ulimit", "nproc=1", "--ulimit", "core=0", "--ulimit", "nproc=2"]).unwrap();
        assert_eq!(limits.resources.ulimits.iter().map(|l| l.soft).collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn devices() {
        let found = device("/dev/null:rw").unwrap();
        assert_eq!((found.path_in_container.as_str(), found.cgroup_permissions.as_str()), ("/dev/null", "rw"));
        let found = device("/dev/null:/dev/x:r").unwrap();
        assert_eq!((found.path_in_container.as_str(), found.cgroup_permissions.as_str()), ("/dev/x", "r"));
        assert_eq!(device("/dev/null:/dev/x:rwz").unwrap_err().to_string(), "bad mode specified: rwz");
        assert_eq!(device("foo").unwrap_err().to_string(), "foo is not an absolute path");
        assert_eq!(device_rule("c *:3 rwm"), Ok("c *:3 rwm".into()));
        assert_eq!(device_rule("foo"), Err("invalid device cgroup format 'foo'".into()));
    }
}
