//! `images`: what the index has, filtered.

use anyhow::Result;
use jiff::Timestamp;
use oci_spec::image::ImageConfiguration;

use crate::error::Failure;
use crate::image::index::{Entry, Index};
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::image::{additional, blobs, find, no_such_image};
use crate::store::Store;

/// A line of `images`: an image by one of its names.
#[derive(Debug, Clone)]
pub struct Row {
    /// `sha256:…`.
    pub id: String,
    /// `None`: dangling.
    pub name: Option<Reference>,
    pub digest: Option<String>,
    pub created: Option<Timestamp>,
    /// Bytes.
    pub size: u64,
    /// `linux/amd64`.
    pub platform: Option<Platform>,
    /// It is in an additional store.
    pub read_only: bool,
}

/// `--filter`, checked.
#[derive(Debug)]
pub enum Filter {
    /// `busybox`, `*/app:1.*`: as [`matches()`] has it.
    Reference(String),
    Dangling(bool),
    /// `key` or `key=value`.
    Label(String, Option<String>),
    Before(Timestamp),
    Since(Timestamp),
    Until(Timestamp),
}

impl Filter {
    /// Reads `name=value`; `time` reads a time.
    ///
    /// # Errors
    /// A filter that there is not, or an image that there is not. Docker's wording.
    pub fn parse(store: &Store, text: &str, time: impl Fn(&str) -> Result<Timestamp, String>) -> Result<Self> {
        let Some((name, value)) = text.split_once('=') else {
            return Err(Failure::new(format!(
                "invalid argument {text:?} for \"-f, --filter\" flag: bad format of filter (expected name=value)"
            ))
            .exit(crate::error::exit::ENGINE)
            .into());
        };
        let invalid = || Failure::new(format!("invalid filter '{name}={value}'"));
        Ok(match name.trim().to_lowercase().as_str() {
            "reference" => Self::Reference(value.to_owned()),
            "dangling" => match value {
                "1" | "true" | "t" | "T" | "TRUE" | "True" => Self::Dangling(true),
                "0" | "false" | "f" | "F" | "FALSE" | "False" => Self::Dangling(false),
                _ => return Err(invalid().into()),
            },
            "label" => match value.split_once('=') {
                Some((key, value)) => Self::Label(key.to_owned(), Some(value.to_owned())),
                None => Self::Label(value.to_owned(), None),
            },
            "before" => Self::Before(created_of(store, value)?),
            "since" => Self::Since(created_of(store, value)?),
            "until" => Self::Until(time(value).map_err(|e| invalid().source(e))?),
            _ => return Err(Failure::new(format!("invalid filter '{name}'")).into()),
        })
    }
}

fn created_of(store: &Store, wanted: &str) -> Result<Timestamp> {
    let image = find(store, wanted)?.ok_or_else(|| no_such_image(wanted))?;
    Ok(image.config.created().as_deref().and_then(|time| time.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH))
}

fn created(entry: &Entry) -> Option<Timestamp> {
    entry.created.as_deref()?.parse().ok()
}

/// The images that pass all filters, newest first. Filters of one name are alternatives for
/// `reference`, and all needed for the others, as in Docker.
///
/// # Errors
/// The index cannot be read. An image that is damaged has no labels.
pub fn list(store: &Store, filters: &[Filter]) -> Result<Vec<Row>> {
    let own = Index::read(store)?;
    let mut rows = rows(store, &own, filters, false);
    for additional in additional::stores(store) {
        let index = Index::read(&additional)?;
        for row in self::rows(&additional, &index, filters, true) {
            // What the own store has by the same name is found first.
            if !rows.iter().any(|known| (&known.id, &known.name) == (&row.id, &row.name)) {
                rows.push(row);
            }
        }
    }
    rows.sort_by(|a, b| {
        let names = || a.name.as_ref().map(Reference::familiar).cmp(&b.name.as_ref().map(Reference::familiar));
        b.created.cmp(&a.created).then_with(names)
    });
    Ok(rows)
}

fn rows(store: &Store, index: &Index, filters: &[Filter], read_only: bool) -> Vec<Row> {
    let rows = index.entries.iter().map(|entry| (entry, row(entry, read_only)));
    rows.filter(|(entry, row)| passes(store, entry, row, filters)).map(|(_, row)| row).collect()
}

fn row(entry: &Entry, read_only: bool) -> Row {
    let name: Option<Reference> = entry.name.as_deref().and_then(|name| name.parse().ok());
    Row {
        id: entry.image.to_string(),
        digest: entry.repo_digest.as_ref().filter(|_| name.is_some()).map(ToString::to_string),
        name,
        created: created(entry),
        size: entry.size,
        platform: entry.manifest.platform.clone(),
        read_only,
    }
}

/// Whether an entry of the own store passes all filters.
#[must_use]
pub fn fits(store: &Store, entry: &Entry, filters: &[Filter]) -> bool {
    passes(store, entry, &row(entry, false), filters)
}

fn passes(store: &Store, entry: &Entry, row: &Row, filters: &[Filter]) -> bool {
    let mut references = filters.iter().filter_map(|f| match f {
        Filter::Reference(pattern) => Some(pattern),
        _ => None,
    });
    if let Some(first) = references.next() {
        let Some(name) = &row.name else { return false };
        if !std::iter::once(first).chain(references).any(|pattern| matches(pattern, name)) {
            return false;
        }
    }
    for filter in filters {
        let passes = match filter {
            Filter::Reference(_) => true,
            Filter::Dangling(wanted) => row.name.is_none() == *wanted,
            Filter::Before(then) | Filter::Until(then) => row.created.is_some_and(|t| t < *then),
            Filter::Since(then) => row.created.is_some_and(|t| t > *then),
            Filter::Label(key, value) => has_label(store, entry, key, value.as_deref()),
        };
        if !passes {
            return false;
        }
    }
    true
}

fn has_label(store: &Store, entry: &Entry, key: &str, value: Option<&str>) -> bool {
    let config = blobs::read(store, &entry.image).ok().flatten();
    let config = config.and_then(|bytes| serde_json::from_slice::<ImageConfiguration>(&bytes).ok());
    let labels = config.as_ref().and_then(ImageConfiguration::labels_of_config);
    labels.and_then(|labels| labels.get(key)).is_some_and(|label| value.is_none_or(|value| label == value))
}

/// Whether a name fits a pattern: the familiar or the full form, with its tag or without.
#[must_use]
pub fn matches(pattern: &str, name: &Reference) -> bool {
    let forms = [name.familiar(), name.familiar_repository(), name.to_string(), name.repository()];
    forms.iter().any(|form| glob(pattern.as_bytes(), form.as_bytes()))
}

/// Go's `path.Match`: `*` and `?` do not match a slash; `[a-z]`, `[^a]`; a backslash quotes.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.first(), text.first()) {
        (None, None) => true,
        (Some(b'*'), _) => {
            let run = text.iter().take_while(|b| **b != b'/').count();
            (0..=run).any(|n| glob(&pattern[1..], &text[n..]))
        }
        (Some(b'?'), Some(c)) => *c != b'/' && glob(&pattern[1..], &text[1..]),
        (Some(b'['), Some(c)) => {
            let Some(end) = pattern.iter().skip(2).position(|b| *b == b']').map(|n| n + 2) else { return false };
            let (negated, set) = match &pattern[1..end] {
                [b'^', set @ ..] => (true, set),
                set => (false, set),
            };
            let mut found = false;
            let mut rest = set;
            while let Some((low, tail)) = rest.split_first() {
                let (high, tail) = match tail {
                    [b'-', high, tail @ ..] => (high, tail),
                    _ => (low, tail),
                };
                found |= (low..=high).contains(&c);
                rest = tail;
            }
            found != negated && glob(&pattern[end + 1..], &text[1..])
        }
        (Some(b'\\'), Some(c)) => pattern.get(1) == Some(c) && glob(&pattern[2..], &text[1..]),
        (Some(p), Some(c)) => p == c && glob(&pattern[1..], &text[1..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_gos_do() {
        for (pattern, name, fits) in [
            ("busybox", "busybox:1", true),
            ("busybox:1*", "busybox:1.36", true),
            ("busy*", "busybox", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("docker.io/library/busybox", "busybox", true),
            ("b?syb[n-p]x", "busybox", true),
            ("b[^u]sybox", "busybox", false),
            ("localhost:5000/x", "localhost:5000/x:y", true),
            ("usybox", "busybox", false),
        ] {
            assert_eq!(matches(pattern, &name.parse::<Reference>().expect(name).or_latest()), fits, "{pattern} {name}");
        }
    }
}
