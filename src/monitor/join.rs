//! From a request for a further process to that process, in the child that the monitor forked for it.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use nix::unistd::Pid;

use crate::container::config::ContainerConfig;
use crate::container::exec::Request;
use crate::container::spec;
use crate::container::state::{PROCESS, Process as Record};
use crate::monitor::exec::Descriptors;
use crate::monitor::run::{filter, give};
use crate::runtime::cgroup::Cgroup;
use crate::runtime::{self, Join, Process, Stdio};
use crate::store::{Id, Store, record};
use crate::sys::pidfd;

/// Makes it, as a child of the caller's. All that a process of this container is confined by is made
/// again from the container's configuration.
///
/// # Errors
/// What the client is told.
pub fn join(store: &Store, id: &Id, init: Pid, request: &Request, descriptors: Descriptors) -> Result<Process> {
    let directory = store.container(id);
    let mut config: ContainerConfig = record::read(&directory.join("config.json"))?.context("no config.json")?;
    let running: Record = record::read(&directory.join(PROCESS))?.context("no process.json")?;
    if request.privileged {
        config.host_config.privileged = true;
    }
    config.config.entrypoint = None;
    config.config.cmd = Some(request.argv.clone());
    config.config.tty = request.tty;
    if let Some(user) = &request.user {
        config.config.user.clone_from(user);
    }
    if let Some(workdir) = &request.workdir {
        config.config.working_dir.clone_from(workdir);
    }
    for variable in &request.env {
        let name = variable.split('=').next();
        config.config.env.retain(|other| other.split('=').next() != name);
        config.config.env.push(variable.clone());
    }
    let process = spec::process(store, &config)?;
    let seccomp = filter(store, &config, &process)?;
    let Descriptors { streams, further } = descriptors;
    if let (Some(ids), Some([stdin, stdout, stderr])) = (&config.host_config.ids, &streams) {
        give([stdin, stdout, stderr], ids)?;
    }
    let stdio = match streams {
        Some([stdin, stdout, stderr]) => Stdio::Pipes { stdin, stdout, stderr },
        None => Stdio::Terminal { rows: request.size.0, columns: request.size.1 },
    };
    // Not another process by now: the monitor has not waited for its child.
    let pidfd = pidfd::open(init)?;
    pidfd::signal(pidfd.as_fd(), 0).context("the container has ended")?;
    runtime::exec(Join {
        pid: init,
        pidfd,
        process,
        user: Some(config.config.user).filter(|user| !user.is_empty()).or(Some("0".to_owned())),
        groups: config.host_config.group_add,
        stdio,
        cgroup: (!running.cgroups.is_empty()).then(|| Cgroup::open(&running.cgroups)).transpose()?,
        seccomp,
        descriptors: request.descriptors.iter().copied().zip(further).collect(),
    })
}
