//! Who we are to a registry, asked of the registry itself: what `login` is sure of before it keeps a
//! password.

use anyhow::Result;

use super::answer::unexpected;
use super::client::{Access, Ask, Client};
use crate::config::Credentials;
use crate::config::registries::Registries;
use crate::error::Failure;

/// Asks a registry whether it takes these credentials, and returns those that are to be kept: an
/// identity token in place of the password, where its authorization service gives one.
///
/// # Errors
/// It does not take them, cannot be reached, or is none.
pub fn log_in(domain: &str, credentials: &Credentials) -> Result<Credentials> {
    let insecure = Registries::read()?.is_insecure(domain);
    let client = Client::connect(domain, insecure, Some(credentials), Access::None)?;
    let url = format!("{}/v2/", client.base);
    let response = client.send_once(&Ask::get(&url, &[]))?;
    match response.status().as_u16() {
        200 => Ok(client.identity_token().map_or_else(|| credentials.clone(), Credentials::IdentityToken)),
        401 => Err(Failure::new(format!("login attempt to {url} failed with status: 401 Unauthorized"))
            .hint("check the user name and the password")
            .into()),
        404 => Err(Failure::new(format!("login attempt to {url} failed with status: 404 Not Found"))
            .hint("there is no registry at this address")
            .into()),
        _ => Err(unexpected(&format!("login attempt to {url}"), response)),
    }
}
