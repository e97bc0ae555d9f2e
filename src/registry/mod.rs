//! The OCI distribution protocol.

use std::io::Read;

use anyhow::Result;

/// What an address gives.
///
/// # Errors
/// It cannot be fetched.
pub fn download(url: &str) -> Result<impl Read + use<>> {
    Ok(ureq::get(url).call()?.into_body().into_reader())
}
