//! What a registry has.

use anyhow::Result;
use ureq::http::header;

use super::client::{Ask, Client, body, unexpected};
use super::web::follow;

/// Pages of a list that are fetched: a registry that never ends has an end here.
const MAX_PAGES: usize = 10_000;

/// All pages of a list, one after the other (distribution specification, "Pagination"). `each` says
/// whether it wants more.
pub(super) fn pages(
    client: &Client,
    first: String,
    what: impl Fn() -> String,
    mut each: impl FnMut(&[u8]) -> Result<bool>,
) -> Result<()> {
    let mut url = first;
    for _ in 0..MAX_PAGES {
        let response = client.send(&Ask::get(&url, &[]))?;
        if response.status().as_u16() != 200 {
            return Err(unexpected(&what(), response));
        }
        let next = response.headers().get(header::LINK).and_then(|link| link.to_str().ok()).and_then(next_page);
        let next = next.map(|next| follow(&url, &next)).transpose()?;
        if !each(&body(response, &what)?)? {
            break;
        }
        match next {
            Some(next) => url = next,
            None => break,
        }
    }
    Ok(())
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
