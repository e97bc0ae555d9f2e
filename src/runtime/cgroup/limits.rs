//! From the OCI spec's resources to files and what is written to them, for both versions of
//! cgroups. Pure: nothing is touched here.
//!
//! Conversions between the versions are runc's, which the OCI runtime spec names as the model
//! (config-linux.md, "Unified"; opencontainers/cgroups, `utils.go`).

use std::fmt::{Display, Write};

use anyhow::Result;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use crate::error::Failure;

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// Without it the file does not exist.
    pub(super) controller: String,
    pub(super) file: String,
    pub(super) value: String,
    /// Another file and value, where the kernel lacks the first.
    pub(super) instead: Option<(String, String)>,
}

/// Settings in the order in which they are to be written.
type Settings = Vec<Setting>;

fn set(into: &mut Settings, file: &str, value: impl Display) {
    let controller = file.split('.').next().unwrap_or(file).to_owned();
    into.push(Setting { controller, file: file.into(), value: value.to_string(), instead: None });
}

/// v2: -1 is "no limit".
fn max_or(value: i64) -> String {
    if value < 0 { "max".into() } else { value.to_string() }
}

fn unsupported(what: &str, option: &str) -> anyhow::Error {
    Failure::new(format!("{what} is not supported on cgroup v2"))
        .hint(format!("leave {option} out, or use a machine with cgroup v1"))
        .into()
}

/// What was asked for, as files of cgroup v2.
pub(super) fn v2(resources: &LinuxResources) -> Result<Settings> {
    let mut to = Settings::new();
    if let Some(memory) = resources.memory() {
        memory_v2(memory, &mut to)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu_v2(cpu, &mut to)?;
    }
    // 0 is "not asked for" in Docker's API and in what older specs have.
    if let Some(pids) = resources.pids().as_ref().map(oci_spec::runtime::LinuxPids::limit).filter(|&n| n != 0) {
        set(&mut to, "pids.max", max_or(pids));
    }
    if let Some(io) = resources.block_io() {
        io_v2(io, &mut to);
    }
    for page in resources.hugepage_limits().iter().flatten() {
        set(&mut to, &format!("hugetlb.{}.max", page.page_size()), max_or(page.limit()));
    }
    for (device, limit) in resources.rdma().iter().flatten() {
        let mut line = device.clone();
        for (name, value) in [("hca_handle", limit.hca_handles()), ("hca_object", limit.hca_objects())] {
            if let Some(value) = value {
                let _ = write!(line, " {name}={value}");
            }
        }
        set(&mut to, "rdma.max", line);
    }
    for (file, value) in resources.unified().iter().flatten() {
        if file.contains('/') || !file.contains('.') || file.starts_with("cgroup.") {
            return Err(Failure::new(format!("{file:?} is no file of a cgroup controller")).into());
        }
        // A file may take several lines, one a write: io.max.
        for line in value.lines() {
            set(&mut to, file, line);
        }
    }
    Ok(to)
}

fn memory_v2(memory: &LinuxMemory, to: &mut Settings) -> Result<()> {
    let limit = memory.limit().filter(|&n| n != 0);
    if let Some(limit) = limit {
        set(to, "memory.max", max_or(limit));
    }
    // The spec's value counts memory and swap together, v2's swap alone.
    if let Some(swap) = memory.swap().filter(|&n| n != 0) {
        let value = match (swap, limit) {
            (..0, _) => "max".into(),
            (_, None | Some(..0)) => {
                return Err(Failure::new("a limit of memory and swap needs a limit of memory")
                    .hint("set --memory too")
                    .into());
            }
            (swap, Some(limit)) if swap < limit => {
                return Err(Failure::new("the limit of memory and swap is smaller than that of memory").into());
            }
            (swap, Some(limit)) => (swap - limit).to_string(),
        };
        set(to, "memory.swap.max", value);
    }
    if let Some(low) = memory.reservation().filter(|&n| n != 0) {
        set(to, "memory.low", max_or(low));
    }
    if memory.swappiness().is_some() {
        return Err(unsupported("memory swappiness", "--memory-swappiness"));
    }
    if memory.disable_oom_killer() == Some(true) {
        return Err(unsupported("disabling the OOM killer", "--oom-kill-disable"));
    }
    Ok(())
}

fn cpu_v2(cpu: &LinuxCpu, to: &mut Settings) -> Result<()> {
    if let Some(shares) = cpu.shares().filter(|&n| n != 0) {
        set(to, "cpu.weight", weight_of_shares(shares));
    }
    let quota = cpu.quota().filter(|&n| n != 0);
    let period = cpu.period().filter(|&n| n != 0);
    if quota.is_some() || period.is_some() {
        set(to, "cpu.max", format!("{} {}", max_or(quota.unwrap_or(-1)), period.unwrap_or(100_000)));
    }
    if let Some(burst) = cpu.burst() {
        set(to, "cpu.max.burst", burst);
    }
    if let Some(idle) = cpu.idle() {
        set(to, "cpu.idle", idle);
    }
    if cpu.realtime_runtime().is_some_and(|n| n != 0) || cpu.realtime_period().is_some_and(|n| n != 0) {
        return Err(unsupported("real-time scheduling of groups", "--cpu-rt-runtime and --cpu-rt-period"));
    }
    for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
            set(to, file, value);
        }
    }
    Ok(())
}

/// Shares (2 to 262144, usually 1024) to a weight (1 to 10000, usually 100), so that the ends and
/// the usual values meet: 10^((l² + 125 l) / 612 - 7 / 34) with l = log2(shares).
fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        shares => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

/// v1's 10 to 1000 to v2's 1 to 10000.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

fn io_v2(io: &LinuxBlockIo, to: &mut Settings) {
    // The BFQ scheduler's own file, where it is there, has v1's range.
    let mut either = |bfq: String, other: String| {
        let (controller, file) = ("io".to_owned(), "io.bfq.weight".to_owned());
        to.push(Setting { controller, file, value: bfq, instead: Some(("io.weight".into(), other)) });
    };
    if let Some(weight) = io.weight().filter(|&n| n != 0) {
        either(weight.to_string(), format!("default {}", io_weight(weight)));
    }
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let name = format!("{}:{}", device.major(), device.minor());
            either(format!("{name} {weight}"), format!("{name} {}", io_weight(weight)));
        }
    }
    for (kind, devices) in [
        ("rbps", io.throttle_read_bps_device()),
        ("wbps", io.throttle_write_bps_device()),
        ("riops", io.throttle_read_iops_device()),
        ("wiops", io.throttle_write_iops_device()),
    ] {
        for device in devices.iter().flatten() {
            let (name, rate) = throttle(device);
            set(to, "io.max", format!("{name} {kind}={rate}"));
        }
    }
}

fn throttle(device: &LinuxThrottleDevice) -> (String, String) {
    let rate = if device.rate() == 0 { "max".into() } else { device.rate().to_string() };
    (format!("{}:{}", device.major(), device.minor()), rate)
}

/// What was asked for, as files of cgroup v1.
pub(super) fn v1(resources: &LinuxResources) -> Result<Settings> {
    let mut to = Settings::new();
    if let Some(memory) = resources.memory() {
        // The limit first: that of both may not be below it.
        for (file, value) in [
            ("memory.limit_in_bytes", memory.limit()),
            ("memory.memsw.limit_in_bytes", memory.swap()),
            ("memory.soft_limit_in_bytes", memory.reservation()),
        ] {
            if let Some(value) = value.filter(|&n| n != 0) {
                set(&mut to, file, value);
            }
        }
        if let Some(swappiness) = memory.swappiness() {
            set(&mut to, "memory.swappiness", swappiness);
        }
        if memory.disable_oom_killer() == Some(true) {
            set(&mut to, "memory.oom_control", 1);
        }
    }
    if let Some(cpu) = resources.cpu() {
        // Periods first: the others must fit into them.
        let unsigned = |n: Option<u64>| n.filter(|&n| n != 0).map(|n| n.to_string());
        let signed = |n: Option<i64>| n.filter(|&n| n != 0).map(|n| n.to_string());
        for (file, value) in [
            ("cpu.shares", unsigned(cpu.shares())),
            ("cpu.cfs_period_us", unsigned(cpu.period())),
            ("cpu.cfs_quota_us", signed(cpu.quota())),
            ("cpu.cfs_burst_us", unsigned(cpu.burst())),
            ("cpu.rt_period_us", unsigned(cpu.realtime_period())),
            ("cpu.rt_runtime_us", signed(cpu.realtime_runtime())),
            ("cpu.idle", cpu.idle().map(|n| n.to_string())),
            ("cpuset.cpus", cpu.cpus().clone().filter(|v| !v.is_empty())),
            ("cpuset.mems", cpu.mems().clone().filter(|v| !v.is_empty())),
        ] {
            if let Some(value) = value {
                set(&mut to, file, value);
            }
        }
    }
    if let Some(pids) = resources.pids().as_ref().map(oci_spec::runtime::LinuxPids::limit).filter(|&n| n != 0) {
        set(&mut to, "pids.max", max_or(pids));
    }
    if let Some(io) = resources.block_io() {
        io_v1(io, &mut to);
    }
    for page in resources.hugepage_limits().iter().flatten() {
        set(&mut to, &format!("hugetlb.{}.limit_in_bytes", page.page_size()), page.limit());
    }
    if resources.unified().as_ref().is_some_and(|map| !map.is_empty()) {
        return Err(Failure::new("files of cgroup v2 were asked for, and this machine has cgroup v1")
            .hint("use a machine with cgroup v2 (kernel parameter systemd.unified_cgroup_hierarchy=1)")
            .into());
    }
    Ok(to)
}

fn io_v1(io: &LinuxBlockIo, to: &mut Settings) {
    let mut either = |file: &str, bfq: &str, value: String| {
        let instead = Some((bfq.to_owned(), value.clone()));
        to.push(Setting { controller: "blkio".into(), file: file.into(), value, instead });
    };
    if let Some(weight) = io.weight().filter(|&n| n != 0) {
        either("blkio.weight", "blkio.bfq.weight", weight.to_string());
    }
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let line = format!("{}:{} {weight}", device.major(), device.minor());
            either("blkio.weight_device", "blkio.bfq.weight_device", line);
        }
    }
    for (file, devices) in [
        ("blkio.throttle.read_bps_device", io.throttle_read_bps_device()),
        ("blkio.throttle.write_bps_device", io.throttle_write_bps_device()),
        ("blkio.throttle.read_iops_device", io.throttle_read_iops_device()),
        ("blkio.throttle.write_iops_device", io.throttle_write_iops_device()),
    ] {
        for device in devices.iter().flatten() {
            set(to, file, format!("{}:{} {}", device.major(), device.minor(), device.rate()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: &str) -> LinuxResources {
        serde_json::from_str(json).unwrap()
    }

    fn lines(settings: Result<Settings>) -> Vec<String> {
        settings.unwrap().into_iter().map(|s| format!("{}={}", s.file, s.value)).collect()
    }

    #[test]
    fn shares_become_weights_as_runc_has_it() {
        let pairs = [
            (2, 1),
            (10, 4),
            (100, 17),
            (256, 35),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (8192, 532),
            (262_144, 10_000),
        ];
        for (shares, weight) in pairs {
            assert_eq!(weight_of_shares(shares), weight, "{shares} shares");
        }
        assert_eq!([io_weight(10), io_weight(500), io_weight(1000)], [1, 4950, 10_000]);
    }

    #[test]
    fn limits_of_v2() {
        let r = resources(
            r#"{"memory": {"limit": 67108864, "swap": 134217728, "reservation": 1048576},
                "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0-1", "mems": "0"},
                "pids": {"limit": 100},
                "blockIO": {"weight": 500, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}]},
                "unified": {"memory.high": "1M"}}"#,
        );
        assert_eq!(
            lines(v2(&r)),
            [
                "memory.max=67108864",
                "memory.swap.max=67108864",
                "memory.low=1048576",
                "cpu.weight=59",
                "cpu.max=50000 100000",
                "cpuset.cpus=0-1",
                "cpuset.mems=0",
                "pids.max=100",
                "io.bfq.weight=500",
                "io.max=8:0 rbps=1000",
                "memory.high=1M"
            ]
        );
    }

    #[test]
    fn edges_of_v2() {
        let of = |json| lines(v2(&resources(json)));
        assert_eq!(of(r#"{"memory": {"limit": -1, "swap": -1}}"#), ["memory.max=max", "memory.swap.max=max"]);
        assert_eq!(of(r#"{"cpu": {"quota": 5000}}"#), ["cpu.max=5000 100000"]);
        assert_eq!(of(r#"{"cpu": {"period": 50000}}"#), ["cpu.max=max 50000"]);
        assert_eq!(of(r#"{"pids": {"limit": -1}}"#), ["pids.max=max"]);
        assert_eq!(of(r#"{"pids": {"limit": 0}, "memory": {}, "cpu": {}}"#), [""; 0]);
        for bad in [
            r#"{"memory": {"swap": 5}}"#,
            r#"{"memory": {"limit": 10, "swap": 5}}"#,
            r#"{"memory": {"swappiness": 10}}"#,
            r#"{"memory": {"disableOOMKiller": true}}"#,
            r#"{"cpu": {"realtimeRuntime": 5}}"#,
            r#"{"unified": {"../x.y": "1"}}"#,
            r#"{"unified": {"cgroup.procs": "1"}}"#,
        ] {
            assert!(v2(&resources(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_of_v1() {
        let r = resources(
            r#"{"memory": {"limit": 64, "swap": 128, "swappiness": 0, "disableOOMKiller": true},
                "cpu": {"shares": 512, "quota": 50000, "period": 100000, "realtimeRuntime": 7, "cpus": "0"},
                "pids": {"limit": -1}, "blockIO": {"weight": 500}}"#,
        );
        assert_eq!(
            lines(v1(&r)),
            [
                "memory.limit_in_bytes=64",
                "memory.memsw.limit_in_bytes=128",
                "memory.swappiness=0",
                "memory.oom_control=1",
                "cpu.shares=512",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "cpu.rt_runtime_us=7",
                "cpuset.cpus=0",
                "pids.max=max",
                "blkio.weight=500"
            ]
        );
        assert!(v1(&resources(r#"{"unified": {"memory.max": "1"}}"#)).is_err());
    }
}
