//! What is known of a container, in the shape of Docker's API ("Inspect a container", v1.48): what
//! later parts of ctr will fill (volumes, health) is there with its empty value, so that
//! templates which reach for it work.

mod endpoints;
pub mod shape;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::container::config::{ContainerConfig, RootFs};
use crate::container::list::{Container, Status};
use crate::container::network::{self, Wish};
use crate::container::state::{Phase, Process, State};
use crate::container::{list, mounts, spec, start, state};
use crate::store::{Id, Store, record};

/// The container as `inspect` shows it. `size`: what it wrote and its whole tree, in bytes.
///
/// # Errors
/// It went away, or a record of it is damaged.
pub fn inspect(store: &Store, id: &Id, size: Option<(u64, u64)>) -> Result<Value> {
    let container = list::one(store, id)?;
    let config = start::config(store, id)?;
    let wish = network::wish(store, &config)?;
    let running = container.status().is_running();
    let process = if running { record::read::<Process>(&store.container(id).join(state::PROCESS))? } else { None };
    let argv = config.argv();
    let dir = store.container(id);
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let log = crate::monitor::log::path(store, id, &config.host_config.log_config)
        .map_or_else(String::new, |(path, _)| path.to_string_lossy().into_owned());
    let mut shown = json!({
        "Id": id.as_str(),
        "Created": time(config.created),
        "Path": argv.first().map_or("", String::as_str),
        "Args": argv.get(1..).unwrap_or_default(),
        "State": state_of(&container, process.as_ref()),
        "Image": container.state.image_id,
        "ResolvConfPath": path("resolv.conf"),
        "HostnamePath": path("hostname"),
        "HostsPath": path("hosts"),
        "LogPath": log,
        "Name": format!("/{}", container.state.name),
        "RestartCount": container.state.restarts,
        "Driver": DRIVER,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": host_config(&config, &wish)?,
        "GraphDriver": graph_driver(store, &config, process.as_ref()),
    });
    let more = json!({
        "Mounts": mounts(&config),
        "Config": settings(&config)?,
        "NetworkSettings": endpoints::settings(store, &container, &config, &wish, process.as_ref())?,
    });
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        if let Some((written, whole)) = size {
            shown.insert("SizeRw".into(), written.into());
            shown.insert("SizeRootFs".into(), whole.into());
        }
        shown.extend(more);
    }
    Ok(shown)
}

/// Go's RFC 3339 with nanoseconds: no zeros at the end.
#[must_use]
pub fn time(time: Timestamp) -> String {
    time.to_string()
}

/// What scripts know this way of keeping layers by: the kernel's overlay below one upper directory.
pub const DRIVER: &str = "overlay2";

/// What Docker shows for a time that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn state_of(container: &Container, process: Option<&Process>) -> Value {
    let running = container.status().is_running();
    let State { phase, .. } = &container.state;
    let (started, finished, oom_killed, error) = match phase {
        Phase::Created { failure } => {
            (NEVER.into(), NEVER.into(), false, failure.as_ref().map_or("", |(_, why)| why.as_str()))
        }
        Phase::Running { started, .. } => (time(*started), NEVER.into(), false, ""),
        Phase::Exited { started, finished, oom_killed, .. } => (time(*started), time(*finished), *oom_killed, ""),
    };
    json!({
        "Status": container.status().as_str(),
        "Running": running,
        "Paused": container.status() == Status::Paused,
        "Restarting": false,
        "OOMKilled": oom_killed,
        "Dead": false,
        "Pid": process.map_or(0, |process| process.pid),
        "ExitCode": container.exit_code(),
        "Error": error,
        "StartedAt": started,
        "FinishedAt": finished,
    })
}

fn settings(config: &ContainerConfig) -> Result<Value> {
    let mut settings = serde_json::to_value(&config.config)?;
    if let Value::Object(settings) = &mut settings
        && config.config.hostname.is_empty()
    {
        settings.insert("Hostname".into(), config.id.short().into());
    }
    Ok(shape::shape(settings, shape::CONFIG))
}

fn host_config(config: &ContainerConfig, wish: &Wish) -> Result<Value> {
    let mut host = serde_json::to_value(&config.host_config)?;
    let Value::Object(fields) = &mut host else { return Ok(host) };
    fields.insert("PortBindings".into(), json!(wish.port_bindings));
    fields.insert("Links".into(), json!(wish.links));
    fields.insert("Runtime".into(), "ctr".into());
    fields.entry("RestartPolicy").or_insert_with(|| json!({ "Name": "no", "MaximumRetryCount": 0 }));
    let (masked, read_only) = spec::hidden_paths(&config.host_config);
    fields.insert("MaskedPaths".into(), if masked.is_empty() { Value::Null } else { json!(masked) });
    fields.insert("ReadonlyPaths".into(), if read_only.is_empty() { Value::Null } else { json!(read_only) });
    Ok(shape::shape(host, shape::HOST_CONFIG))
}

fn graph_driver(store: &Store, config: &ContainerConfig, process: Option<&Process>) -> Value {
    match &config.root {
        RootFs::Image { layers, .. } => {
            let dir = store.container(&config.id);
            let lower: Vec<String> =
                layers.iter().map(|layer| store.layers().join(layer).to_string_lossy().into_owned()).collect();
            // The overlay is mounted inside the container's namespace alone: the way in is its process.
            let merged = process.map_or(String::new(), |process| format!("/proc/{}/root", process.pid));
            json!({
                "Data": {
                    "LowerDir": lower.join(":"),
                    "MergedDir": merged,
                    "UpperDir": dir.join("upper").to_string_lossy(),
                    "WorkDir": dir.join("work").to_string_lossy(),
                },
                "Name": DRIVER,
            })
        }
        RootFs::Directory { path } => json!({ "Data": { "RootDir": path }, "Name": "directory" }),
    }
}

fn mounts(config: &ContainerConfig) -> Value {
    let shown = mounts::of(config).into_iter().map(|mount| {
        json!({
            "Type": mount.kind,
            "Source": mount.source,
            "Destination": mount.target,
            "Mode": mount.mode,
            "RW": !mount.read_only,
            "Propagation": mount.propagation,
        })
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::config::{Config, HostConfig};

    #[test]
    fn bind_mounts_are_taken_apart() {
        let config = ContainerConfig {
            id: Id::random().unwrap(),
            created: Timestamp::UNIX_EPOCH,
            root: RootFs::Directory { path: "/x".into() },
            config: Config::default(),
            host_config: HostConfig { binds: vec!["/a:/b:ro,rslave".into(), "/c:/d".into()], ..HostConfig::default() },
            endpoints: Vec::new(),
            secrets: Vec::new(),
        };
        let mounts = mounts(&config);
        assert_eq!(mounts[0]["RW"], false);
        assert_eq!(mounts[0]["Propagation"], "rslave");
        assert_eq!(mounts[1]["Source"], "/c");
        assert_eq!(mounts[1]["RW"], true);
        assert_eq!(settings(&config).unwrap()["Hostname"], config.id.short());
        assert_eq!(host_config(&config, &Wish::of(&config)).unwrap()["RestartPolicy"]["Name"], "no");
    }

    #[test]
    fn times_are_gos() {
        assert_eq!(time("2023-11-14T22:13:20.120000000Z".parse().unwrap()), "2023-11-14T22:13:20.12Z");
        assert_eq!(time("2023-11-14T22:13:20Z".parse().unwrap()), "2023-11-14T22:13:20Z");
    }
}
