//! `--filter` of `ps`: values of one name are alternatives, labels must all be there.

use std::ops::RangeInclusive;

use anyhow::Result;
use regex::Regex;

use crate::cli::options::{pending, publish};
use crate::container::list::{Container, Status};
use crate::container::network::{self, change};
use crate::container::{mounts, start};
use crate::error::Failure;
use crate::image;
use crate::network::{Protocol, ports};
use crate::store::{Id, Store, names};

/// `name=value`.
///
/// # Errors
/// Docker's sentence.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("bad format of filter (expected name=value)")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

/// Filters, checked.
#[derive(Debug, Default)]
pub struct Filters {
    ids: Vec<Regex>,
    names: Vec<Regex>,
    labels: Vec<String>,
    statuses: Vec<Option<Status>>,
    codes: Vec<i32>,
    ancestors: Vec<Ancestor>,
    before: Vec<Id>,
    since: Vec<Id>,
    /// By the name that containers' records have, or whatever was given.
    networks: Vec<String>,
    publishes: Vec<Ports>,
    exposes: Vec<Ports>,
    /// Sources or places in the container.
    volumes: Vec<String>,
    /// As Docker calls them; `none` is what has no check.
    healths: Vec<String>,
    is_task: Option<bool>,
}

/// `80`, `80/udp`, `8000-8010/tcp`.
#[derive(Debug)]
struct Ports {
    range: RangeInclusive<u16>,
    protocol: Protocol,
}

impl Ports {
    /// Docker's sentences.
    fn of_filter(name: &str, value: &str) -> Result<Self, Failure> {
        if value.contains(':') {
            return Err(Failure::new(format!("filter for '{name}' should not contain ':': {value}")));
        }
        let wrong = || Failure::new(format!("error while looking up for {name} {value}: invalid port range"));
        Self::check(value).ok_or_else(wrong)
    }

    fn check(text: &str) -> Option<Self> {
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = publish::range(range)?;
        Some(Self { range: first..=last, protocol: Protocol::of(protocol)? })
    }
}

/// What Docker takes for a truth here.
fn truth(value: &str) -> Option<bool> {
    match value {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

#[derive(Debug)]
struct Ancestor {
    wanted: String,
    /// Of the image that is called so now, if there is one.
    image_id: Option<String>,
}

impl Filters {
    /// # Errors
    /// A name that there is not, or not yet; a value that makes no sense.
    pub fn check(store: &Store, given: &[(String, String)]) -> Result<Self> {
        let mut filters = Self::default();
        for (name, value) in given {
            let invalid = || Failure::new(format!("invalid filter '{name}={value}'"));
            let pattern = || Regex::new(value).map_err(|e| invalid().source(e));
            match name.as_str() {
                "id" => filters.ids.push(pattern()?),
                "name" => filters.names.push(pattern()?),
                "label" => filters.labels.push(value.clone()),
                "status" => filters.statuses.push(match value.as_str() {
                    "created" => Some(Status::Created),
                    "running" => Some(Status::Running),
                    "paused" => Some(Status::Paused),
                    "exited" => Some(Status::Exited),
                    // No container is ever in these.
                    "restarting" | "removing" | "dead" => None,
                    _ => return Err(invalid().into()),
                }),
                "exited" => {
                    let wrong = || Failure::new(format!("strconv.Atoi: parsing {value:?}: invalid syntax"));
                    filters.codes.push(value.parse().map_err(|_| wrong())?);
                }
                "ancestor" => {
                    let image = image::find(store, value).ok().flatten();
                    filters.ancestors.push(Ancestor { wanted: value.clone(), image_id: image.map(|image| image.id) });
                }
                "before" => filters.before.push(names::resolve(store, value)?),
                "since" => filters.since.push(names::resolve(store, value)?),
                "network" => filters.networks.push(change::name(store, value).unwrap_or_else(|_| value.clone())),
                "publish" => filters.publishes.push(Ports::of_filter(name, value)?),
                "expose" => filters.exposes.push(Ports::of_filter(name, value)?),
                "volume" => filters.volumes.push(value.clone()),
                "health" => match value.as_str() {
                    "none" | "starting" | "healthy" | "unhealthy" => filters.healths.push(value.clone()),
                    _ => return Err(invalid().into()),
                },
                "is-task" => filters.is_task = Some(truth(value).ok_or_else(invalid)?),
                // Every container here is as isolated as the others: Docker does not look at it either.
                "isolation" => {}
                "pod" => return pending::refused("--filter pod"),
                _ => return Err(Failure::new(format!("invalid filter '{name}'")).into()),
            }
        }
        Ok(filters)
    }

    /// Whether those that do not run are asked for, without `--all`.
    #[must_use]
    pub fn ask_for_status(&self) -> bool {
        !self.statuses.is_empty() || !self.codes.is_empty()
    }

    /// With the times that `before` and `since` mean.
    ///
    /// # Errors
    /// A container that they name went away.
    pub fn resolve<'a>(&'a self, store: &'a Store, all: &[Container]) -> Result<Resolved<'a>> {
        let created = |id: &Id| {
            let found = all.iter().find(|container| container.id == *id);
            found.map(|c| c.state.created).ok_or_else(|| Failure::new(format!("No such container: {id}")))
        };
        let before = self.before.iter().map(created).collect::<Result<Vec<_>, _>>()?.into_iter().min();
        let since = self.since.iter().map(created).collect::<Result<Vec<_>, _>>()?.into_iter().max();
        Ok(Resolved { filters: self, store, before, since })
    }
}

/// Filters that need nothing but a container.
#[derive(Debug)]
pub struct Resolved<'a> {
    filters: &'a Filters,
    store: &'a Store,
    before: Option<jiff::Timestamp>,
    since: Option<jiff::Timestamp>,
}

impl Resolved<'_> {
    /// Keeps those that match.
    pub fn retain(&self, containers: &mut Vec<Container>) {
        containers.retain(|container| self.matches(container));
    }

    fn matches(&self, container: &Container) -> bool {
        fn any<T>(given: &[T], matches: impl FnMut(&T) -> bool) -> bool {
            given.is_empty() || given.iter().any(matches)
        }
        let state = &container.state;
        let filters = self.filters;
        let code = i32::from(container.exit_code());
        any(&filters.ids, |id| id.is_match(container.id.as_str()))
            // Docker's names have a slash before them, and patterns may count on it or not.
            && any(&filters.names, |name| name.is_match(&state.name) || name.is_match(&format!("/{}", state.name)))
            && filters.labels.iter().all(|label| match label.split_once('=') {
                Some((name, value)) => state.labels.get(name).is_some_and(|own| own == value),
                None => state.labels.contains_key(label),
            })
            && any(&filters.statuses, |status| *status == Some(container.status()))
            && any(&filters.codes, |wanted| container.status() == Status::Exited && *wanted == code)
            && any(&filters.ancestors, |ancestor| ancestor.is_of(&state.image, &state.image_id))
            && any(&filters.networks, |name| state.networks.contains(name))
            // Nothing is checked yet, and there is no swarm that could have given it.
            && any(&filters.healths, |health| health == "none")
            && filters.is_task != Some(true)
            && (filters.volumes.is_empty() || self.has_volume(container))
            && (filters.publishes.is_empty() && filters.exposes.is_empty() || self.has_ports(container))
            && self.before.is_none_or(|before| state.created < before)
            && self.since.is_none_or(|since| state.created > since)
    }
}

impl Resolved<'_> {
    /// Whether one of its mounts comes from there, or is there.
    fn has_volume(&self, container: &Container) -> bool {
        // One that went away meanwhile has none.
        let Ok(config) = start::config(self.store, &container.id) else { return false };
        let mounts = mounts::of(&config);
        self.filters.volumes.iter().any(|wanted| {
            let place = wanted.trim_end_matches('/');
            mounts.iter().any(|mount| mount.source == *wanted || mount.target.trim_end_matches('/') == place)
        })
    }

    /// Whether its ports are those asked for: as they are, or of one that does not run as they are to
    /// be. Inside or outside, for what is published.
    fn has_ports(&self, container: &Container) -> bool {
        let shown = match container.status() {
            status if status.is_running() => container.state.ports.clone(),
            _ => network::shown_ports(self.store, &container.id).unwrap_or_default(),
        };
        let any = |given: &[Ports], published| {
            given.is_empty()
                || given.iter().any(|ports| ports::matches(&shown, published, &ports.range, ports.protocol))
        };
        any(&self.filters.publishes, true) && any(&self.filters.exposes, false)
    }
}

impl Ancestor {
    fn is_of(&self, image: &str, image_id: &str) -> bool {
        if let Some(id) = &self.image_id {
            return id == image_id;
        }
        // An image that is no more: by what the container was made from.
        let hex = image_id.strip_prefix("sha256:").unwrap_or(image_id);
        let wanted = self.wanted.strip_prefix("sha256:").unwrap_or(&self.wanted);
        image == self.wanted
            || image.strip_suffix(":latest") == Some(&self.wanted)
            || self.wanted.strip_suffix(":latest") == Some(image)
            || (wanted.len() >= 4 && hex.starts_with(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::state::{Phase, State};

    fn container(name: &str, phase: Phase) -> Container {
        let state = State {
            name: name.into(),
            image: "busybox".into(),
            image_id: "sha256:abcdef".into(),
            command: vec![],
            created: jiff::Timestamp::now(),
            phase,
            labels: [("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())].into(),
            ports: String::new(),
            networks: Vec::new(),
            restarts: 0,
            unstarted: false,
        };
        Container { id: Id::random().unwrap(), state }
    }

    fn names_of(given: &[&str]) -> Vec<String> {
        let store = Store::at("/nonexistent".into(), "/nonexistent".into());
        let pairs: Vec<_> = given.iter().map(|text| pair(text).unwrap()).collect();
        let now = jiff::Timestamp::now();
        let mut all = vec![
            container("web1", Phase::Running { started: now, paused: false }),
            container("cache", Phase::Running { started: now, paused: true }),
            container("web2", Phase::Exited { started: now, finished: now, code: 3, oom_killed: false }),
            container("db", Phase::Created { failure: None }),
        ];
        let filters = Filters::check(&store, &pairs).unwrap();
        filters.resolve(&store, &all).unwrap().retain(&mut all);
        all.into_iter().map(|container| container.state.name).collect()
    }

    #[test]
    fn what_matches_stays() {
        assert_eq!(names_of(&["name=web"]), ["web1", "web2"]);
        assert_eq!(names_of(&["name=^web1$", "name=^/db$"]), ["web1", "db"]);
        assert_eq!(names_of(&["status=exited", "status=created"]), ["web2", "db"]);
        assert_eq!(names_of(&["status=paused"]), ["cache"]);
        assert_eq!(names_of(&["exited=3"]), ["web2"]);
        assert_eq!(names_of(&["exited=0"]), [""; 0]);
        assert_eq!(names_of(&["label=a=1", "label=b"]).len(), 4);
        assert_eq!(names_of(&["label=a=2"]), [""; 0]);
        assert_eq!(names_of(&["ancestor=busybox:latest"]).len(), 4);
        assert_eq!(names_of(&["ancestor=abcd"]).len(), 4);
        assert_eq!(names_of(&["health=none", "health=healthy"]).len(), 4);
        assert_eq!(names_of(&["health=unhealthy"]), [""; 0]);
        assert_eq!(names_of(&["is-task=false"]).len(), 4);
        assert_eq!(names_of(&["is-task=true"]), [""; 0]);
        assert_eq!(names_of(&["volume=/nowhere"]), [""; 0]);
        assert_eq!(names_of(&["status=dead"]), [""; 0]);
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        let store = Store::at("/nonexistent".into(), "/nonexistent".into());
        let message = |text: &str| Filters::check(&store, &[pair(text).unwrap()]).unwrap_err().to_string();
        assert_eq!(message("foo=bar"), "invalid filter 'foo'");
        assert_eq!(message("status=foo"), "invalid filter 'status=foo'");
        assert_eq!(message("health=ill"), "invalid filter 'health=ill'");
        assert_eq!(message("is-task=maybe"), "invalid filter 'is-task=maybe'");
        assert_eq!(message("exited=x"), "strconv.Atoi: parsing \"x\": invalid syntax");
        assert_eq!(message("publish=1:2"), "filter for 'publish' should not contain ':': 1:2");
        assert_eq!(message("expose=x"), "error while looking up for expose x: invalid port range");
        assert_eq!(message("before=nosuch"), "No such container: nosuch");
        assert_eq!(pair("x"), Err("bad format of filter (expected name=value)".into()));
    }
}
