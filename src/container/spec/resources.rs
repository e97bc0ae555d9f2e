//! Limits: from Docker's names and units to those of the OCI spec.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use anyhow::Result;
use nix::sys::stat::{major, minor};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxMemory, LinuxPids,
    LinuxPidsBuilder, LinuxResources, LinuxThrottleDevice, LinuxThrottleDeviceBuilder, LinuxWeightDevice,
    LinuxWeightDeviceBuilder,
};

use crate::container::config::{HostConfig, Resources, ThrottleDevice};
use crate::error::Failure;

/// A period of 100 ms, the kernel's own, in microseconds.
const CPU_PERIOD: u64 = 100_000;

/// Device nodes that every container may use: the standard ones, terminals, and the making (not
/// the use) of any other (moby, `oci/defaults.go`).
const DEVICES: &[(LinuxDeviceType, Option<i64>, Option<i64>, &str)] = &[
    (LinuxDeviceType::C, None, None, "m"),
    (LinuxDeviceType::B, None, None, "m"),
    (LinuxDeviceType::C, Some(1), Some(3), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(5), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(7), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(8), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(9), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(0), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(1), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(2), "rwm"),
    (LinuxDeviceType::C, Some(136), None, "rwm"),
];

/// What was asked for; a part is `None` where nothing of it was.
pub fn of(host: &HostConfig) -> Result<LinuxResources> {
    let asked = &host.resources;
    let mut resources = LinuxResources::default();
    resources
        .set_memory(memory(asked))
        .set_cpu(cpu(asked))
        .set_pids(pids(asked)?)
        .set_block_io(block_io(asked)?)
        .set_devices(Some(devices(host)?));
    Ok(resources)
}

fn memory(asked: &Resources) -> Option<LinuxMemory> {
    let mut memory = LinuxMemory::default();
    let nothing = memory;
    let positive = |n: i64| (n > 0).then_some(n);
    memory.set_limit(positive(asked.memory)).set_reservation(positive(asked.memory_reservation));
    // Docker's rule: a limit without a word on swap allows as much swap again.
    memory.set_swap(match (asked.memory_swap, positive(asked.memory)) {
        (0, Some(limit)) => Some(limit.saturating_mul(2)),
        (0, None) => None,
        (swap, _) => Some(swap),
    });
    memory.set_swappiness(asked.memory_swappiness.and_then(|n| u64::try_from(n).ok()));
    memory.set_disable_oom_killer(asked.oom_kill_disable.filter(|&off| off));
    (memory != nothing).then_some(memory)
}

fn cpu(asked: &Resources) -> Option<LinuxCpu> {
    let mut cpu = LinuxCpu::default();
    let nothing = cpu.clone();
    let text = |s: &String| Some(s.clone()).filter(|s| !s.is_empty());
    cpu.set_shares(Some(asked.cpu_shares).filter(|&n| n > 0))
        .set_period(Some(asked.cpu_period).filter(|&n| n > 0))
        .set_quota(Some(asked.cpu_quota).filter(|&n| n != 0))
        .set_realtime_period(Some(asked.cpu_realtime_period).filter(|&n| n > 0))
        .set_realtime_runtime(Some(asked.cpu_realtime_runtime).filter(|&n| n > 0))
        .set_cpus(text(&asked.cpuset_cpus))
        .set_mems(text(&asked.cpuset_mems));
    if asked.nano_cpus > 0 {
        // A billionth of a processor is a ten-thousandth of a microsecond of the period.
        cpu.set_period(Some(CPU_PERIOD)).set_quota(Some(asked.nano_cpus / 10_000));
    }
    (cpu != nothing).then_some(cpu)
}

fn pids(asked: &Resources) -> Result<Option<LinuxPids>> {
    let limit = asked.pids_limit.filter(|&n| n > 0);
    limit.map(|n| Ok(LinuxPidsBuilder::default().limit(n).build()?)).transpose()
}

fn block_io(asked: &Resources) -> Result<Option<LinuxBlockIo>> {
    let mut io = LinuxBlockIo::default();
    let nothing = io.clone();
    io.set_weight(Some(asked.blkio_weight).filter(|&n| n > 0));
    if !asked.blkio_weight_device.is_empty() {
        let weights: Result<Vec<LinuxWeightDevice>> = asked
            .blkio_weight_device
            .iter()
            .map(|d| {
                let (major, minor) = block_device(&d.path)?;
                Ok(LinuxWeightDeviceBuilder::default().major(major).minor(minor).weight(d.weight).build()?)
            })
            .collect();
        io.set_weight_device(Some(weights?));
    }
    io.set_throttle_read_bps_device(throttles(&asked.blkio_device_read_bps)?)
        .set_throttle_write_bps_device(throttles(&asked.blkio_device_write_bps)?)
        .set_throttle_read_iops_device(throttles(&asked.blkio_device_read_iops)?)
        .set_throttle_write_iops_device(throttles(&asked.blkio_device_write_iops)?);
    Ok((io != nothing).then_some(io))
}

fn throttles(asked: &[ThrottleDevice]) -> Result<Option<Vec<LinuxThrottleDevice>>> {
    if asked.is_empty() {
        return Ok(None);
    }
    let each = asked.iter().map(|d| {
        let (major, minor) = block_device(&d.path)?;
        Ok(LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(d.rate).build()?)
    });
    each.collect::<Result<_>>().map(Some)
}

fn block_device(path: &str) -> Result<(i64, i64)> {
    let meta = fs::metadata(path).map_err(|e| Failure::new(format!("block device {path:?}")).source(e))?;
    if !meta.file_type().is_block_device() {
        return Err(Failure::new(format!("{path:?} is not a block device")).into());
    }
    Ok((i64::try_from(major(meta.rdev()))?, i64::try_from(minor(meta.rdev()))?))
}

fn devices(host: &HostConfig) -> Result<Vec<LinuxDeviceCgroup>> {
    let rule = |allow, typ, major: Option<i64>, minor: Option<i64>, access: &str| -> Result<LinuxDeviceCgroup> {
        let mut rule = LinuxDeviceCgroupBuilder::default().allow(allow).typ(typ).access(access).build()?;
        rule.set_major(major).set_minor(minor);
        Ok(rule)
    };
    if host.privileged {
        return Ok(vec![rule(true, LinuxDeviceType::A, None, None, "rwm")?]);
    }
    let mut rules = vec![rule(false, LinuxDeviceType::A, None, None, "rwm")?];
    for &(typ, major, minor, access) in DEVICES {
        rules.push(rule(true, typ, major, minor, access)?);
    }
    for device in super::devices::of(host)? {
        let asked = host.resources.devices.iter().find(|a| device.path().starts_with(&a.path_in_container));
        let Some(asked) = asked else { continue };
        rules.push(rule(true, device.typ(), Some(device.major()), Some(device.minor()), &asked.cgroup_permissions)?);
    }
    for text in &host.resources.device_cgroup_rules {
        rules.push(parse_rule(text).ok_or_else(|| Failure::new(format!("invalid device cgroup format {text:?}")))?);
    }
    Ok(rules)
}

/// `c 1:3 rwm`, `a *:* rwm`: the kernel's devices.rst.
fn parse_rule(text: &str) -> Option<LinuxDeviceCgroup> {
    let mut words = text.split_ascii_whitespace();
    let typ: LinuxDeviceType = words.next().filter(|t| matches!(*t, "a" | "b" | "c"))?.parse().ok()?;
    let (major, minor) = words.next()?.split_once(':')?;
    let access = words.next().filter(|a| !a.is_empty() && a.bytes().all(|b| b"rwm".contains(&b)))?;
    let number = |n: &str| if n == "*" { Some(None) } else { n.parse().ok().map(Some) };
    let mut rule = LinuxDeviceCgroupBuilder::default().allow(true).typ(typ).access(access).build().ok()?;
    rule.set_major(number(major)?).set_minor(number(minor)?);
    words.next().is_none().then_some(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_become_a_quota_of_the_usual_period() {
        let asked = Resources { nano_cpus: 1_500_000_000, ..Resources::default() };
        let cpu = cpu(&asked).expect("a limit was asked for");
        assert_eq!((cpu.period(), cpu.quota()), (Some(100_000), Some(150_000)));
    }

    #[test]
    fn memory_alone_allows_as_much_swap_again() {
        let asked = Resources { memory: 1 << 20, ..Resources::default() };
        assert_eq!(memory(&asked).and_then(|m| m.swap()), Some(2 << 20));
        assert_eq!(memory(&Resources::default()), None);
    }

    #[test]
    fn device_rules_are_parsed_whole_or_refused() {
        let rule = parse_rule("c 10:* rw").expect("a right rule");
        assert_eq!((rule.major(), rule.minor(), rule.access().as_deref()), (Some(10), None, Some("rw")));
        for wrong in ["", "c", "x 1:3 r", "c 1 r", "c 1:3", "c 1:3 q", "c 1:3 r r"] {
            assert_eq!(parse_rule(wrong), None, "{wrong}");
        }
    }
}
