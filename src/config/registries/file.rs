//! The text of one file, and how several come together.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Deserialize;
use toml::Spanned;

use crate::error::Failure;

/// What files say, later ones before earlier ones.
#[derive(Debug, Default)]
pub struct Settings {
    pub tables: Vec<Table>,
    pub search: Vec<String>,
    /// Short names to full ones; an empty one was taken back.
    pub aliases: BTreeMap<String, String>,
}

/// `[[registry]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Table {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    pub location: String,
    #[serde(default)]
    pub insecure: bool,
    #[serde(default)]
    pub blocked: bool,
    #[serde(default)]
    pub mirror_by_digest_only: bool,
    #[serde(default)]
    pub mirror: Vec<Mirror>,
    /// Where it stands.
    #[serde(skip)]
    pub file: PathBuf,
}

/// `[[registry.mirror]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mirror {
    pub location: String,
    #[serde(default)]
    pub insecure: bool,
    #[serde(default)]
    #[serde(rename = "pull-from-mirror")]
    pub serves: From,
}

/// What a mirror is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum From {
    #[default]
    #[serde(alias = "")]
    All,
    DigestOnly,
    TagOnly,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Written {
    unqualified_search_registries: Vec<String>,
    registry: Vec<Spanned<Table>>,
    aliases: BTreeMap<String, Spanned<String>>,
    /// Version 1.
    registries: Option<Spanned<toml::Table>>,
}

impl Table {
    /// What it is for.
    pub fn prefix(&self) -> &str {
        if self.prefix.is_empty() { &self.location } else { &self.prefix }
    }

    fn check(&self) -> Result<(), String> {
        let prefix = self.prefix();
        if prefix.is_empty() {
            return Err("a registry has neither prefix nor location".to_owned());
        }
        if let Some(rest) = prefix.strip_prefix('*') {
            if !rest.starts_with('.') || rest.contains(['*', '/', ':']) {
                return Err(format!("prefix {prefix:?}: a wildcard is written *.example.com"));
            }
        } else if prefix.contains('*') {
            return Err(format!("prefix {prefix:?}: a wildcard is written *.example.com"));
        }
        let locations = self.mirror.iter().map(|mirror| &mirror.location).chain([&self.location]);
        for location in locations.filter(|location| !location.starts_with('*')) {
            if location.contains("://") {
                return Err(format!("location {location:?}: a host and a path, without https://"));
            }
        }
        if self.mirror.iter().any(|mirror| mirror.location.is_empty()) {
            return Err(format!("a mirror of {prefix:?} has no location"));
        }
        if self.mirror_by_digest_only && self.mirror.iter().any(|mirror| mirror.serves != From::All) {
            return Err(format!("pull-from-mirror and mirror-by-digest-only for {prefix:?} exclude each other"));
        }
        Ok(())
    }
}

impl Settings {
    /// Adds a file that goes before those that were added already.
    ///
    /// # Errors
    /// What is wrong with it, and in which line.
    pub fn add(&mut self, path: &Path, text: &str) -> Result<()> {
        let wrong = |span: Option<Range<usize>>, why: &str| {
            let line =
                span.map_or(1, |span| text.as_bytes()[..span.start.min(text.len())].split(|b| *b == b'\n').count());
            Failure::new(format!("{path:?}, line {line}: {why}"))
        };
        let written: Written = toml::from_str(text).map_err(|e| wrong(e.span(), e.message()))?;
        if let Some(old) = written.registries {
            return Err(wrong(Some(old.span()), "[registries.…] is version 1 of this file, which is not read")
                .hint("write version 2: containers-registries.conf(5)")
                .into());
        }
        if !written.unqualified_search_registries.is_empty() {
            self.search = written.unqualified_search_registries;
        }
        for spanned in written.registry {
            let span = spanned.span();
            let mut table = spanned.into_inner();
            table.check().map_err(|why| wrong(Some(span), &why))?;
            if table.location.starts_with('*') {
                table.location.clear();
            }
            path.clone_into(&mut table.file);
            self.tables.retain(|old| old.prefix() != table.prefix());
            self.tables.push(table);
        }
        for (name, value) in written.aliases {
            if name.contains([':', '@']) || value.get_ref().contains('@') {
                return Err(wrong(Some(value.span()), &format!("alias {name:?}: without tag or digest")).into());
            }
            self.aliases.insert(name, value.into_inner());
        }
        Ok(())
    }
}
