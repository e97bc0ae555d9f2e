//! What a registry has: by Docker Hub's search, which some others have as well, or by the names in the
//! catalog of the distribution specification.

use std::collections::HashSet;

use anyhow::{Context, Result};
use serde::Deserialize;
use ureq::http::header;

use super::answer::{body, unexpected};
use super::auth::encode;
use super::client::{Access, Ask, Client};
use super::web::follow;
use crate::config::credentials;
use crate::config::registries::Registries;
use crate::error::Failure;

/// A repository that fits.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Match {
    /// With the registry's host, but for Docker Hub's.
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default, rename = "star_count")]
    pub stars: i64,
    #[serde(default)]
    pub is_official: bool,
    #[serde(default)]
    pub is_automated: bool,
}

/// Repositories of a registry for a word, `limit` at most. A registry without a search has a catalog:
/// there it is the name alone that is searched.
///
/// # Errors
/// The registry cannot be reached, or tells nobody what it has.
pub fn search(domain: &str, term: &str, limit: usize) -> Result<Vec<Match>> {
    #[derive(Deserialize)]
    struct Results {
        results: Vec<Match>,
    }
    let is_hub = domain == "docker.io";
    // Docker Hub's search is at a host of its own.
    let host = if is_hub { "index.docker.io" } else { domain };
    let insecure = Registries::read()?.is_insecure(host);
    let client = Client::connect(host, insecure, credentials::find(domain, "").as_ref(), Access::None)?;
    let what = || format!("search {domain:?}");
    let query = encode(&[("q", term), ("n", &limit.to_string())]);
    let url = format!("{}/v1/search?{query}", client.base);
    let response = client.send_once(&Ask::get(&url, &[])).with_context(what)?;
    let mut found = match response.status().as_u16() {
        200 => serde_json::from_slice::<Results>(&body(response, what)?).with_context(what)?.results,
        status if is_hub || !matches!(status, 401 | 403 | 404 | 405 | 410) => {
            return Err(unexpected(&what(), response));
        }
        _ => by_catalog(&client, term, limit).with_context(what)?,
    };
    if !is_hub {
        for it in &mut found {
            it.name = format!("{domain}/{}", it.name);
        }
    }
    found.truncate(limit);
    for it in &mut found {
        it.name.retain(|c| !c.is_control());
        it.description = it.description.take().map(|text| text.replace(char::is_control, " "));
    }
    Ok(found)
}

fn by_catalog(client: &Client, term: &str, limit: usize) -> Result<Vec<Match>> {
    #[derive(Deserialize)]
    struct Catalog {
        repositories: Vec<String>,
    }
    let mut found = Vec::new();
    let first = format!("{}/v2/_catalog?n=1000", client.base);
    let none = || "it has neither a search nor a catalog that may be read".to_owned();
    pages(client, first, none, |bytes| {
        let page: Catalog = serde_json::from_slice(bytes).map_err(|e| Failure::new("damaged catalog").source(e))?;
        let fitting = page.repositories.into_iter().filter(|name| name.contains(term));
        found.extend(fitting.map(|name| Match {
            name,
            description: None,
            stars: 0,
            is_official: false,
            is_automated: false,
        }));
        Ok(found.len() < limit)
    })?;
    Ok(found)
}

/// Pages of a list that are fetched: a registry that never ends has an end here.
const MAX_PAGES: usize = 1000;

/// All pages of a list, one after the other (distribution specification, "Pagination"). `each` says
/// whether it wants more.
pub(super) fn pages(
    client: &Client,
    first: String,
    what: impl Fn() -> String,
    mut each: impl FnMut(&[u8]) -> Result<bool>,
) -> Result<()> {
    let mut url = first;
    let mut seen = HashSet::new();
    for _ in 0..MAX_PAGES {
        if !seen.insert(url.clone()) {
            return Err(Failure::new(format!("{}: the registry's list goes in a circle", what())).into());
        }
        let response = client.send(&Ask::get(&url, &[]))?;
        if response.status().as_u16() != 200 {
            return Err(unexpected(&what(), response));
        }
        let next = response.headers().get(header::LINK).and_then(|link| link.to_str().ok()).and_then(next_page);
        let next = next.map(|next| follow(&url, &next)).transpose()?;
        if !each(&body(response, &what)?)? {
            return Ok(());
        }
        match next {
            Some(next) => url = next,
            None => return Ok(()),
        }
    }
    Err(Failure::new(format!("{}: the registry's list has more than {MAX_PAGES} pages", what())).into())
}

/// The address in `Link: </v2/x/tags/list?last=b>; rel="next"` (RFC 8288).
fn next_page(header: &str) -> Option<String> {
    let (address, rest) = header.trim().strip_prefix('<')?.split_once('>')?;
    rest.contains("rel=\"next\"").then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_linked() {
        assert_eq!(next_page("</v2/a/tags/list?n=1>; rel=\"next\"").as_deref(), Some("/v2/a/tags/list?n=1"));
        assert_eq!(next_page("</x>; rel=\"prev\""), None);
    }
}
