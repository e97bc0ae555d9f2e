//! `ctr search`.

use anyhow::Result;
use gotmpl::Value;

use crate::cli::output::template::{Column, listing, text};
use crate::cli::{Globals, Run, output};
use crate::error::Failure;
use crate::image::reference::Reference;
use crate::registry::search::{Match, search};

/// Search a registry for images
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr search --limit 5 --filter is-official=true busybox
  ctr search registry.example.com:5000/team

Without a registry's host it is Docker Hub that is searched. A registry that has no search but a
catalog is searched by name.")]
pub struct Search {
    /// Only those that match: is-official=true, is-automated=false, stars=3
    #[arg(short, long, value_name = "name=value", value_parser = crate::cli::filter::pair)]
    filter: Vec<(String, String)>,
    /// Pretty-print search using a Go template
    #[arg(long, value_name = "format")]
    format: Option<String>,
    /// Max number of search results
    #[arg(long, value_name = "n", default_value_t = DEFAULT, hide_default_value = true)]
    limit: usize,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    #[arg(value_name = "TERM")]
    term: String,
}

const DEFAULT: usize = 25;
/// As Docker Hub has it.
const MOST: usize = 100;
/// Characters of a description.
const DESCRIPTION: usize = 45;

/// Filters, checked.
#[derive(Debug, Default)]
struct Filters {
    official: Option<bool>,
    automated: Option<bool>,
    stars: i64,
}

impl Filters {
    /// Docker's sentences.
    fn check(pairs: &[(String, String)]) -> Result<Self, Failure> {
        let mut filters = Self::default();
        for (name, value) in pairs {
            let invalid = || Failure::new(format!("invalid filter '{name}={value}'"));
            let truth = || match value.as_str() {
                "true" | "1" => Ok(Some(true)),
                "false" | "0" => Ok(Some(false)),
                _ => Err(invalid()),
            };
            match name.as_str() {
                "is-official" => filters.official = truth()?,
                "is-automated" => filters.automated = truth()?,
                "stars" => filters.stars = filters.stars.max(value.parse().map_err(|_| invalid())?),
                _ => return Err(Failure::new(format!("invalid filter '{name}'"))),
            }
        }
        Ok(filters)
    }

    fn fits(&self, found: &Match) -> bool {
        self.official.is_none_or(|is| is == found.is_official)
            && self.automated.is_none_or(|is| is == found.is_automated)
            && found.stars >= self.stars
    }
}

struct Row {
    found: Match,
    no_trunc: bool,
}

fn mark(is: bool) -> Value {
    text(if is { "[OK]" } else { "" })
}

const COLUMNS: &[Column<Row>] = &[
    Column { name: "Description", heading: "DESCRIPTION", cell: |row| text(row.description()) },
    Column { name: "IsAutomated", heading: "AUTOMATED", cell: |row| mark(row.found.is_automated) },
    Column { name: "IsOfficial", heading: "OFFICIAL", cell: |row| mark(row.found.is_official) },
    Column { name: "Name", heading: "NAME", cell: |row| text(row.found.name.as_str()) },
    Column { name: "StarCount", heading: "STARS", cell: |row| text(row.found.stars.to_string()) },
];

impl Row {
    fn description(&self) -> String {
        let line = self.found.description.as_deref().unwrap_or_default().replace(['\n', '\r'], " ");
        if self.no_trunc || line.chars().count() <= DESCRIPTION {
            return line;
        }
        line.chars().take(DESCRIPTION - 1).chain(['\u{2026}']).collect()
    }
}

impl Run for Search {
    fn run(self, _: &Globals) -> Result<u8> {
        let filters = Filters::check(&self.filter)?;
        // 0 is what Docker's flag says when nobody gave it.
        let limit = if self.limit == 0 { DEFAULT } else { self.limit };
        if limit > MOST {
            return Err(Failure::new(format!("limit {limit} is outside the range of [1, {MOST}]")).into());
        }
        let (domain, term) = match self.term.split_once('/') {
            Some((domain, term)) if !Reference::is_short(&self.term) => (domain, term),
            _ => ("docker.io", self.term.as_str()),
        };
        let mut found = search(domain, term, limit)?;
        found.retain(|found| filters.fits(found));
        found.sort_by_key(|found| std::cmp::Reverse(found.stars));
        let rows: Vec<Row> = found.into_iter().map(|found| Row { found, no_trunc: self.no_trunc }).collect();
        let columns = ["Name", "Description", "StarCount", "IsOfficial"];
        output::print(&listing(COLUMNS, &columns, self.format.as_deref(), &rows)?);
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(text: &str) -> (String, String) {
        crate::cli::filter::pair(text).expect(text)
    }

    #[test]
    fn filters_are_dockers() {
        let found = |stars, is_official| Match {
            name: "x".to_owned(),
            description: None,
            stars,
            is_official,
            is_automated: false,
        };
        let filters = Filters::check(&[pair("stars=3"), pair("is-official=true")]).expect("good");
        assert!(filters.fits(&found(3, true)) && !filters.fits(&found(2, true)) && !filters.fits(&found(9, false)));
        for (wrong, sentence) in [
            ("a=b", "invalid filter 'a'"),
            ("stars=x", "invalid filter 'stars=x'"),
            ("is-official=y", "invalid filter 'is-official=y'"),
        ] {
            assert_eq!(Filters::check(&[pair(wrong)]).expect_err(wrong).to_string(), sentence);
        }
    }

    #[test]
    fn descriptions_are_cut() {
        let row = |no_trunc| Row {
            found: Match {
                name: String::new(),
                description: Some("\u{e4}".repeat(50)),
                stars: 0,
                is_official: false,
                is_automated: false,
            },
            no_trunc,
        };
        assert_eq!(row(false).description().chars().count(), 45);
        assert!(row(false).description().ends_with('\u{2026}') && row(true).description().chars().count() == 50);
    }
}
