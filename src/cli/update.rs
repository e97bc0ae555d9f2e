//! `ctr update`.

use anyhow::Result;

use crate::cli::options::{pending, publish};
use crate::cli::{Globals, Run, each, output};
use crate::container::network::change;
use crate::error::Failure;
use crate::store::names;

/// Change containers, those that run at once
#[derive(Debug, clap::Parser)]
#[command(
    override_usage = "ctr update [OPTIONS] CONTAINER [CONTAINER...]",
    after_help = "Examples:
  ctr update --publish-add 8081:81 web
  ctr update --publish-rm 80/tcp web             wherever it is published
  ctr update --publish-rm 127.0.0.1:8080:80 web  there alone"
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

/// Docker's other flags, none of which ctr has yet.
#[derive(Debug, clap::Args)]
struct Limits {
    #[arg(long, hide = true)]
    blkio_weight: Option<String>,
    #[arg(long, hide = true)]
    cpu_period: Option<String>,
    #[arg(long, hide = true)]
    cpu_quota: Option<String>,
    #[arg(long, hide = true)]
    cpu_rt_period: Option<String>,
    #[arg(long, hide = true)]
    cpu_rt_runtime: Option<String>,
    #[arg(short, long, hide = true)]
    cpu_shares: Option<String>,
    #[arg(long, hide = true)]
    cpus: Option<String>,
    #[arg(long, hide = true)]
    cpuset_cpus: Option<String>,
    #[arg(long, hide = true)]
    cpuset_mems: Option<String>,
    #[arg(short, long, hide = true)]
    memory: Option<String>,
    #[arg(long, hide = true)]
    memory_reservation: Option<String>,
    #[arg(long, hide = true)]
    memory_swap: Option<String>,
    #[arg(long, hide = true)]
    pids_limit: Option<String>,
    #[arg(long, hide = true)]
    restart: Option<String>,
}

impl Limits {
    fn check(&self) -> Result<()> {
        for (given, flag) in [
            (&self.blkio_weight, "--blkio-weight"),
            (&self.cpu_period, "--cpu-period"),
            (&self.cpu_quota, "--cpu-quota"),
            (&self.cpu_rt_period, "--cpu-rt-period"),
            (&self.cpu_rt_runtime, "--cpu-rt-runtime"),
            (&self.cpu_shares, "--cpu-shares"),
            (&self.cpus, "--cpus"),
            (&self.cpuset_cpus, "--cpuset-cpus"),
            (&self.cpuset_mems, "--cpuset-mems"),
            (&self.memory, "--memory"),
            (&self.memory_reservation, "--memory-reservation"),
            (&self.memory_swap, "--memory-swap"),
            (&self.pids_limit, "--pids-limit"),
            (&self.restart, "--restart"),
        ] {
            if given.is_some() {
                return pending::refused(flag);
            }
        }
        Ok(())
    }
}

impl Run for Update {
    fn run(self, globals: &Globals) -> Result<u8> {
        self.limits.check()?;
        let add = publish::bindings(&self.publish_add)?;
        let remove = publish::bindings(&self.publish_rm)?;
        if add.is_empty() && remove.is_empty() {
            return Err(Failure::new("you must provide one or more flags when using this command").exit(1).into());
        }
        let store = globals.store()?;
        Ok(each(&self.containers, |wanted| {
            let id = names::resolve(&store, wanted)?;
            change::publish(&store, &id, &add, &remove)?;
            output::print(&format!("{wanted}\n"));
            Ok(())
        }))
    }
}
