//! `registries.conf`, version 2, and its drop-ins: containers-registries.conf(5),
//! containers-registries.conf.d(5). And what Docker's `daemon.json` says of registries.

mod file;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use self::file::{From, Mirror, Settings, Table};
use super::{host, in_network, is_loopback, own, read_text, variable};
use crate::error::Failure;
use crate::image::reference::Reference;

const DAEMON: &str = "/etc/docker/daemon.json";

/// Where an image is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub reference: Reference,
    /// It may have a certificate that nobody knows, or no TLS.
    pub insecure: bool,
    /// What it lacks, the registry itself may have.
    pub is_mirror: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Daemon {
    insecure_registries: Vec<String>,
    registry_mirrors: Vec<String>,
}

/// What all files say together.
#[derive(Debug, Default)]
pub struct Registries {
    settings: Settings,
    daemon: Daemon,
}

impl Registries {
    /// Reads them. Without any, all registries are what their names say.
    ///
    /// # Errors
    /// A file that cannot be read or understood: its name, and the line.
    pub fn read() -> Result<Self> {
        let mut settings = Settings::default();
        for path in files() {
            if let Some(text) = read_text(&path)? {
                settings.add(&path, &text)?;
            }
        }
        let daemon = match read_text(Path::new(DAEMON))? {
            Some(text) => serde_json::from_str(&text).with_context(|| format!("read {DAEMON:?}"))?,
            None => Daemon::default(),
        };
        Ok(Self { settings, daemon })
    }

    /// What one file says, as if there were no other.
    ///
    /// # Errors
    /// It cannot be understood: its name, and the line.
    pub fn of_file(path: &Path, text: &str) -> Result<Self> {
        let mut settings = Settings::default();
        settings.add(path, text)?;
        Ok(Self { settings, daemon: Daemon::default() })
    }

    /// Where an image is pulled from: its mirrors in their order, then the registry itself.
    ///
    /// # Errors
    /// The registry is blocked; a location that is none.
    pub fn endpoints(&self, name: &Reference) -> Result<Vec<Endpoint>> {
        let mut endpoints = Vec::new();
        let chosen = self.choose(name)?;
        if let Some((table, matched)) = &chosen {
            for mirror in table.mirror.iter().filter(|mirror| mirror.serves(table, name)) {
                let reference = moved(name, *matched, &mirror.location)?;
                let insecure = mirror.insecure || self.is_open(reference.domain());
                endpoints.push(Endpoint { reference, insecure, is_mirror: true });
            }
        }
        if name.domain() == "docker.io" {
            for address in &self.daemon.registry_mirrors {
                let location = address.trim_end_matches('/');
                let plain = location.strip_prefix("http://");
                let location = plain.or_else(|| location.strip_prefix("https://")).unwrap_or(location);
                let reference = name.at(&format!("{location}/{}", name.path()))?;
                let insecure = plain.is_some() || self.is_open(reference.domain());
                endpoints.push(Endpoint { reference, insecure, is_mirror: true });
            }
        }
        let reference = match &chosen {
            Some((table, matched)) if !table.location.is_empty() => moved(name, *matched, &table.location)?,
            _ => name.clone(),
        };
        let insecure = chosen.is_some_and(|(table, _)| table.insecure) || self.is_open(reference.domain());
        endpoints.push(Endpoint { reference, insecure, is_mirror: false });
        Ok(endpoints)
    }

    /// Where an image is pushed to: what its name says. Mirrors and other locations are for reading.
    ///
    /// # Errors
    /// The registry is blocked.
    pub fn itself(&self, name: &Reference) -> Result<Endpoint> {
        let insecure = self.choose(name)?.is_some_and(|(table, _)| table.insecure) || self.is_open(name.domain());
        Ok(Endpoint { reference: name.clone(), insecure, is_mirror: false })
    }

    /// Whether a registry as a whole may be talked to without TLS.
    #[must_use]
    pub fn is_insecure(&self, domain: &str) -> bool {
        let table = self.settings.tables.iter().find(|table| table.prefix() == domain);
        table.is_some_and(|table| table.insecure) || self.is_open(domain)
    }

    /// What a name without a registry may mean, the first one first.
    ///
    /// # Errors
    /// It is not a name.
    pub fn candidates(&self, text: &str) -> Result<Vec<Reference>> {
        let parsed: Reference = text.parse()?;
        if !Reference::is_short(text) {
            return Ok(vec![parsed]);
        }
        let end = text.find([':', '@']).unwrap_or(text.len());
        let (name, suffix) = text.split_at(end);
        if let Some(alias) = self.settings.aliases.get(name).filter(|alias| !alias.is_empty()) {
            return Ok(vec![format!("{alias}{suffix}").parse()?]);
        }
        if self.settings.search.is_empty() {
            return Ok(vec![parsed]);
        }
        let mut found: Vec<Reference> = Vec::new();
        for registry in &self.settings.search {
            found.push(format!("{registry}/{text}").parse()?);
        }
        Ok(found)
    }

    /// The table with the longest prefix that fits, and how much of the name that is.
    fn choose(&self, name: &Reference) -> Result<Option<(&Table, usize)>> {
        let text = name.to_string();
        let fitting = self.settings.tables.iter().filter_map(|table| Some((table, fits(table.prefix(), name, &text)?)));
        // By what was written: a host's own table goes before one for all hosts of a domain.
        let chosen = fitting.max_by_key(|(table, _)| table.prefix().len());
        if let Some((table, _)) = chosen.filter(|(table, _)| table.blocked) {
            return Err(Failure::new(format!("registry {:?} is blocked", table.prefix()))
                .hint(format!("{:?} has blocked = true for it", table.file))
                .into());
        }
        Ok(chosen)
    }

    /// Loopback, and what Docker is told of.
    fn is_open(&self, domain: &str) -> bool {
        let host = host(domain);
        is_loopback(host)
            || self.daemon.insecure_registries.iter().any(|entry| entry == domain || in_network(host, entry))
    }
}

impl Mirror {
    /// Whether it is there for a name such as this one.
    fn serves(&self, table: &Table, name: &Reference) -> bool {
        let by_digest = name.digest().is_some();
        match self.serves {
            From::All => by_digest || !table.mirror_by_digest_only,
            From::DigestOnly => by_digest,
            From::TagOnly => !by_digest,
        }
    }
}

/// How many bytes of a name a prefix stands for; `None`: it is for others.
fn fits(prefix: &str, name: &Reference, text: &str) -> Option<usize> {
    if let Some(suffix) = prefix.strip_prefix('*') {
        return host(name.domain()).ends_with(suffix).then(|| name.domain().len());
    }
    let rest = text.strip_prefix(prefix)?;
    // Behind a host alone, a colon would begin a port.
    let is_end = rest.is_empty() || rest.starts_with('/') || (prefix.contains('/') && rest.starts_with([':', '@']));
    is_end.then_some(prefix.len())
}

/// The same image at another place.
fn moved(name: &Reference, matched: usize, location: &str) -> Result<Reference> {
    let repository = name.repository();
    let rest = repository.get(matched..).unwrap_or_default();
    Ok(name.at(&format!("{location}{rest}"))?)
}

/// All files, those that go before others behind them.
fn files() -> Vec<PathBuf> {
    if let Some(path) = variable("CONTAINERS_REGISTRIES_CONF") {
        return vec![path];
    }
    let own_file = own("registries.conf").filter(|path| path.exists());
    let mut files = vec![own_file.unwrap_or_else(|| PathBuf::from("/etc/containers/registries.conf"))];
    let folders = [Some(PathBuf::from("/etc/containers/registries.conf.d")), own("registries.conf.d")];
    for folder in folders.into_iter().flatten() {
        let mut inside: Vec<PathBuf> =
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        inside.retain(|path| path.extension().is_some_and(|e| e == "conf"));
        inside.sort();
        files.extend(inside);
    }
    files
}

#[cfg(test)]
mod tests;
