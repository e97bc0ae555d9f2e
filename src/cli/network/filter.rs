//! `--filter` of `network ls` and `network prune`.

use std::collections::HashSet;

use anyhow::Result;
use jiff::Timestamp;

use crate::cli::{options, when};
use crate::container::list;
use crate::error::Failure;
use crate::network::record::Network;
use crate::network::{member, names};
use crate::store::{Id, Store};

/// Filters, checked: values of one name are alternatives, labels must all be there.
#[derive(Debug, Default)]
pub struct Filters {
    drivers: Vec<String>,
    ids: Vec<String>,
    names: Vec<String>,
    labels: Vec<String>,
    not_labels: Vec<String>,
    scopes: Vec<String>,
    custom: Vec<bool>,
    dangling: Option<bool>,
    until: Option<Timestamp>,
}

impl Filters {
    /// `prune`: only those that `network prune` has.
    ///
    /// # Errors
    /// A name that there is not, a value that makes no sense.
    pub fn check(given: &[(String, String)], prune: bool) -> Result<Self> {
        let mut filters = Self::default();
        for (name, value) in given {
            let invalid = || Failure::new(format!("invalid filter '{name}={value}'"));
            let value = value.clone();
            match name.as_str() {
                "label" => filters.labels.push(value),
                "label!" if prune => filters.not_labels.push(value),
                "until" if prune => filters.until = Some(when::parse(&value).map_err(|e| invalid().source(e))?),
                _ if prune => return Err(Failure::new(format!("invalid filter '{name}'")).into()),
                "driver" => filters.drivers.push(value),
                "id" => filters.ids.push(value),
                "name" => filters.names.push(value),
                "scope" => filters.scopes.push(value),
                "type" => filters.custom.push(match value.as_str() {
                    "custom" => true,
                    "builtin" => false,
                    _ => return Err(invalid().into()),
                }),
                "dangling" => filters.dangling = Some(options::boolean(&value).map_err(|_| invalid())?),
                _ => return Err(Failure::new(format!("invalid filter '{name}'")).into()),
            }
        }
        Ok(filters)
    }

    /// Keeps those that match.
    ///
    /// # Errors
    /// Who is on them cannot be told.
    pub fn retain(&self, store: &Store, networks: &mut Vec<Network>) -> Result<()> {
        networks.retain(|network| self.matches(network));
        if let Some(dangling) = self.dangling {
            let used = used(store, networks)?;
            networks.retain(|network| (!network.is_predefined() && !used.contains(&network.id)) == dangling);
        }
        Ok(())
    }

    fn matches(&self, network: &Network) -> bool {
        fn any<T>(given: &[T], matches: impl FnMut(&T) -> bool) -> bool {
            given.is_empty() || given.iter().any(matches)
        }
        let has = |label: &String| match label.split_once('=') {
            Some((name, value)) => network.labels.get(name).is_some_and(|own| own == value),
            None => network.labels.contains_key(label),
        };
        any(&self.drivers, |driver| driver == network.driver.as_str())
            && any(&self.ids, |id| network.id.as_str().contains(id.as_str()))
            && any(&self.names, |name| network.name.contains(name.as_str()))
            && any(&self.scopes, |scope| scope == "local")
            && any(&self.custom, |custom| *custom != network.is_predefined())
            && self.labels.iter().all(has)
            && !self.not_labels.iter().any(has)
            && self.until.is_none_or(|until| network.created < until)
    }
}

/// Those of the networks that a container is on or, not running, is to be on.
///
/// # Errors
/// The containers cannot be listed.
pub fn used(store: &Store, networks: &[Network]) -> Result<HashSet<Id>> {
    let mut used = HashSet::new();
    // A container whose record is damaged is said by the commands for containers.
    for container in list::all(store, |_, _| {})? {
        for name in &container.state.networks {
            used.extend(names::resolve(store, name).ok());
        }
    }
    for network in networks {
        if !used.contains(&network.id) && !member::living(store, &network.id)?.is_empty() {
            used.insert(network.id.clone());
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::record::Driver;

    #[test]
    fn what_matches() {
        let network = Network {
            id: Id::random().unwrap(),
            name: "front".into(),
            created: Timestamp::now(),
            driver: Driver::Bridge,
            internal: false,
            subnets: Vec::new(),
            options: [].into(),
            labels: [("a".to_owned(), "1".to_owned())].into(),
            attachable: false,
            ipam_options: [].into(),
            found: None,
            configuration: None,
            config_from: String::new(),
        };
        let matches = |texts: &[&str], prune: bool| {
            let pairs: Vec<_> = texts.iter().map(|text| crate::cli::filter::pair(text).unwrap()).collect();
            Filters::check(&pairs, prune).map(|filters| filters.matches(&network)).map_err(|e| e.to_string())
        };
        for texts in [&["name=ron"][..], &["driver=bridge", "driver=host"], &["label=a", "label=a=1"], &["type=custom"]]
        {
            assert_eq!(matches(texts, false), Ok(true), "{texts:?}");
        }
        for texts in [&["name=x"][..], &["driver=host"], &["label=a=2"], &["type=builtin"], &["scope=swarm"]] {
            assert_eq!(matches(texts, false), Ok(false), "{texts:?}");
        }
        assert_eq!(matches(&["until=1h"], true), Ok(false));
        assert_eq!(matches(&["label!=a"], true), Ok(false));
        assert_eq!(matches(&["name=x"], true), Err("invalid filter 'name'".into()));
        assert_eq!(matches(&["type=x"], false), Err("invalid filter 'type=x'".into()));
    }
}
