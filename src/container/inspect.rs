//! What is known of a container, in the shape of Docker's API ("Inspect a container", v1.48): what
//! later parts of ctr will fill (volumes, health) is there with its empty value, so that
//! templates which reach for it work.

mod endpoints;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::container::bind::Bind;
use crate::container::config::{ContainerConfig, RootFs};
use crate::container::list::{Container, Status};
use crate::container::network::{self, Wish};
use crate::container::state::{Phase, Process, State};
use crate::container::{list, start, state};
use crate::store::{Id, Store, record};

/// The container as `inspect` shows it. `size`: what it wrote and its whole tree, in bytes.
///
/// # Errors
/// It went away, or a record of it is damaged.
pub fn inspect(store: &Store, id: &Id, size: Option<(u64, u64)>) -> Result<Value> {
    let container = list::one(store, id)?;
    let config = start::config(store, id)?;
    let wish = network::wish(store, &config)?;
    let running = container.status() == Status::Running;
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
        "Driver": "overlay",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": host_config(&config, &wish)?,
        "GraphDriver": graph_driver(store, &config),
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

/// What Docker shows for a time that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn state_of(container: &Container, process: Option<&Process>) -> Value {
    let running = container.status() == Status::Running;
    let State { phase, .. } = &container.state;
    let (started, finished, oom_killed, error) = match phase {
        Phase::Created { failure } => {
            (NEVER.into(), NEVER.into(), false, failure.as_ref().map_or("", |(_, why)| why.as_str()))
        }
        Phase::Running { started } => (time(*started), NEVER.into(), false, ""),
        Phase::Exited { started, finished, oom_killed, .. } => (time(*started), time(*finished), *oom_killed, ""),
    };
    json!({
        "Status": container.status().as_str(),
        "Running": running,
        "Paused": false,
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
    if let Value::Object(settings) = &mut settings {
        if config.config.hostname.is_empty() {
            settings.insert("Hostname".into(), config.id.short().into());
        }
        for empty in ["Volumes", "ExposedPorts"] {
            if settings.get(empty).is_some_and(|map| map.as_object().is_some_and(Map::is_empty)) {
                settings.insert(empty.into(), Value::Null);
            }
        }
        settings.insert("OnBuild".into(), Value::Null);
    }
    Ok(settings)
}

fn host_config(config: &ContainerConfig, wish: &Wish) -> Result<Value> {
    let mut host = serde_json::to_value(&config.host_config)?;
    let later = json!({
        "PortBindings": wish.port_bindings,
        "Links": if wish.links.is_empty() { Value::Null } else { json!(wish.links) },
        "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 },
        "VolumeDriver": "",
        "VolumesFrom": null,
        "Runtime": "ctr",
        "Isolation": "",
    });
    if let (Value::Object(host), Value::Object(later)) = (&mut host, later) {
        host.extend(later);
    }
    Ok(host)
}

fn graph_driver(store: &Store, config: &ContainerConfig) -> Value {
    match &config.root {
        RootFs::Image { layers, .. } => {
            let dir = store.container(&config.id);
            let lower: Vec<String> =
                layers.iter().map(|layer| store.layers().join(layer).to_string_lossy().into_owned()).collect();
            // There is no MergedDir: the overlay is mounted inside the container's namespace alone.
            json!({
                "Name": "overlay",
                "Data": {
                    "LowerDir": lower.join(":"),
                    "UpperDir": dir.join("upper").to_string_lossy(),
                    "WorkDir": dir.join("work").to_string_lossy(),
                },
            })
        }
        RootFs::Directory { path } => json!({ "Name": "directory", "Data": { "RootDir": path } }),
    }
}

/// `-v` and `--mount` as Docker lists them; tmpfs of `--tmpfs` is only in `HostConfig`.
fn mounts(config: &ContainerConfig) -> Value {
    let binds = config.host_config.binds.iter().filter_map(|text| Bind::parse(text).ok()).map(|bind| {
        json!({
            "Type": "bind",
            "Source": bind.source,
            "Destination": bind.target,
            "Mode": bind.options.join(","),
            "RW": !bind.has("ro"),
            "Propagation": bind.propagation(),
        })
    });
    let mounts = config.host_config.mounts.iter().map(|mount| {
        let propagation = mount.bind_options.as_ref().map(|bind| bind.propagation.as_str());
        let propagation = propagation.filter(|p| !p.is_empty()).unwrap_or("rprivate");
        json!({
            "Type": mount.r#type,
            "Source": mount.source,
            "Destination": mount.target,
            "Mode": "",
            "RW": !mount.read_only,
            "Propagation": if mount.r#type == "bind" { propagation } else { "" },
        })
    });
    binds.chain(mounts).collect()
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
