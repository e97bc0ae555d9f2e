//! `ctr update`.

use anyhow::{Context, Result};

use crate::cli::options::network as options;
use crate::cli::options::{pending, publish, resources, size};
use crate::cli::{Globals, Run, each, output};
use crate::container::config::Resources;
use crate::container::network::{self, change};
use crate::container::{start, update};
use crate::error::Failure;
use crate::events;
use crate::store::names;

/// Change containers, those that run at once
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr update [OPTIONS] CONTAINER [CONTAINER...]",
    after_help = "Examples:
  ctr update -m 1g --memory-swap 2g web db       at once, and from now on
  ctr update --cpus 0.5 --pids-limit 100 web
  ctr update --publish-add 8081:81 web
  ctr update --publish-rm 80/tcp web             wherever it is published
  ctr update --publish-rm 127.0.0.1:8080:80 web  there alone

A limit of memory that grows past that of memory and swap needs --memory-swap too."
)]
pub struct Update {
    /// Publish a port, as -p of run does
    #[arg(long, value_name = "[[address:]port:]port")]
    publish_add: Vec<String>,
    /// Publish a port no longer
    #[arg(long, value_name = "[[address:]port:]port")]
    publish_rm: Vec<String>,
    #[command(flatten)]
    limits: Limits,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Docker's flags.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Resources")]
struct Limits {
    /// Share of disk input and output relative to others, 10 to 1000
    #[arg(long, value_name = "weight")]
    blkio_weight: Option<u16>,
    /// Length of the scheduler's period, in microseconds
    #[arg(long, value_name = "int")]
    cpu_period: Option<u64>,
    /// Processor time in each period, in microseconds; -1: no limit
    #[arg(long, value_name = "int")]
    cpu_quota: Option<i64>,
    /// Length of the real-time scheduler's period, in microseconds
    #[arg(long, value_name = "int")]
    cpu_rt_period: Option<u64>,
    /// Real-time processor time in each period, in microseconds
    #[arg(long, value_name = "int")]
    cpu_rt_runtime: Option<i64>,
    /// Share of the processors relative to others
    #[arg(short, long, value_name = "int")]
    cpu_shares: Option<u64>,
    /// Number of processors, as 1.5
    #[arg(long, value_name = "decimal", value_parser = size::nano_cpus)]
    cpus: Option<i64>,
    /// Processors that may be used (0-3, 0,1)
    #[arg(long, value_name = "list")]
    cpuset_cpus: Option<String>,
    /// Memory nodes that may be used (0-3, 0,1)
    #[arg(long, value_name = "list")]
    cpuset_mems: Option<String>,
    /// Memory limit, as 512m or 2g
    #[arg(short, long, value_name = "bytes", value_parser = size::bytes)]
    memory: Option<i64>,
    /// Soft limit of memory, for when the machine runs short
    #[arg(long, value_name = "bytes", value_parser = size::bytes)]
    memory_reservation: Option<i64>,
    /// Memory and swap together; -1: no limit on swap
    #[arg(long, value_name = "bytes", value_parser = size::bytes_or_unlimited)]
    memory_swap: Option<i64>,
    /// How many processes there may be; -1: no limit
    #[arg(long, value_name = "int")]
    pids_limit: Option<i64>,
    #[arg(long, hide = true)]
    restart: Option<String>,
}

impl Limits {
    /// What is asked for; `None`: no flag was given.
    fn asked(&self) -> Option<Resources> {
        let given = [
            self.blkio_weight.is_some(),
            self.cpu_period.is_some(),
            self.cpu_quota.is_some(),
            self.cpu_rt_period.is_some(),
            self.cpu_rt_runtime.is_some(),
            self.cpu_shares.is_some(),
            self.cpus.is_some(),
            self.cpuset_cpus.is_some(),
            self.cpuset_mems.is_some(),
            self.memory.is_some(),
            self.memory_reservation.is_some(),
            self.memory_swap.is_some(),
            self.pids_limit.is_some(),
            self.restart.is_some(),
        ];
        let asked = Resources {
            blkio_weight: self.blkio_weight.unwrap_or_default(),
            cpu_period: self.cpu_period.unwrap_or_default(),
            cpu_quota: self.cpu_quota.unwrap_or_default(),
            cpu_realtime_period: self.cpu_rt_period.unwrap_or_default(),
            cpu_realtime_runtime: self.cpu_rt_runtime.unwrap_or_default(),
            cpu_shares: self.cpu_shares.unwrap_or_default(),
            nano_cpus: self.cpus.unwrap_or_default(),
            cpuset_cpus: self.cpuset_cpus.clone().unwrap_or_default(),
            cpuset_mems: self.cpuset_mems.clone().unwrap_or_default(),
            memory: self.memory.unwrap_or_default(),
            memory_reservation: self.memory_reservation.unwrap_or_default(),
            memory_swap: self.memory_swap.unwrap_or_default(),
            pids_limit: self.pids_limit.filter(|limit| *limit != 0),
            ..Resources::default()
        };
        given.contains(&true).then_some(asked)
    }
}

impl Run for Update {
    fn run(self, globals: &Globals) -> Result<u8> {
        if self.limits.restart.as_deref().is_some_and(|policy| !policy.is_empty()) {
            return pending::refused("--restart");
        }
        let add = publish::bindings(&self.publish_add)?;
        let remove = publish::bindings(&self.publish_rm)?;
        let has_ports = !add.is_empty() || !remove.is_empty();
        let asked = self.limits.asked();
        if !has_ports && asked.is_none() {
            return Err(Failure::new("you must provide one or more flags when using this command").exit(1).into());
        }
        let store = globals.store()?;
        Ok(each(&self.containers, |wanted| {
            // As Docker, before it is looked whether there is such a container.
            asked.as_ref().map_or(Ok(()), resources::verify)?;
            let id = names::resolve(&store, wanted)?;
            if let Some(asked) = &asked {
                update::update(&store, &id, asked).with_context(|| format!("Cannot update container {id}"))?;
            }
            if has_ports {
                change::publish(&store, &id, &add, &remove)?;
                if !add.is_empty() {
                    let wish = network::wish(&store, &start::config(&store, &id)?)?;
                    options::warn_unreached(&store, &wish.endpoints)?;
                }
            }
            events::of_container(&store, &id, "update", &[]);
            output::print(&format!("{wanted}\n"));
            Ok(())
        }))
    }
}
