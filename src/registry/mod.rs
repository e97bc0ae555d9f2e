//! The OCI distribution protocol, both halves: manifests and blobs of one repository, over HTTPS, with
//! the authentication that registries use. Called by `image::pull`, `image::push` and the commands for
//! registries; knows nothing of the store.
//!
//! - [`web`]: HTTP; [`client`]: requests to one registry, authenticated ([`auth`], [`tls`]) and tried again
//!   ([`tries`]); [`answer`]: what it says of what is wrong
//! - here: a repository's manifests; [`blob`] reads its blobs, [`upload`] writes them
//! - [`account`]: who we are to a registry; [`search`]: what it has
//!
//! Promises: credentials go to the registry and to the token service it names, never to the host
//! that it redirects to; a document is never larger than [`crate::image::blobs::MAX_DOCUMENT`]; what is busy or
//! broken is tried again, with growing pauses; whatever is refused says how to mend it.

pub mod account;
mod answer;
mod auth;
mod blob;
mod client;
mod pace;
pub mod search;
mod tls;
mod tries;
pub mod upload;
mod web;

use std::io::Read;

use anyhow::{Context, Result};
use ureq::http::{Method, header};

use self::answer::{body, unexpected};
use self::client::{Ask, Client};
use self::web::{Outgoing, Web};
use crate::config::credentials;
use crate::config::registries::{Endpoint, Registries};
use crate::error::{self, Failure};
use crate::image::digest::Digest;
use crate::image::manifest;
use crate::image::reference::{self, Reference};

pub use blob::BlobReader;
pub use client::Access;

/// Tags of one repository.
const MAX_TAGS: usize = 100_000;

/// One repository of one registry.
#[derive(Debug)]
pub struct Repository {
    client: Client,
    path: String,
}

/// What a name led to, and where.
pub struct Found {
    pub repository: Repository,
    pub manifest: Vec<u8>,
    pub media_type: String,
}

/// Finds the manifest of an image: at the first of its registry's mirrors that has it, or at the
/// registry.
///
/// # Errors
/// None has it; configuration files that cannot be understood.
pub fn find(name: &Reference) -> Result<Found> {
    at_endpoints(name, |endpoint| {
        let repository = Repository::connect(endpoint, Access::Pull)?;
        let (manifest, media_type) = repository.manifest(endpoint.reference.wanted())?;
        Ok(Found { repository, manifest, media_type })
    })
}

/// All tags of a repository, in the registry's order.
///
/// # Errors
/// As [`find`].
pub fn tags(name: &Reference) -> Result<Vec<String>> {
    at_endpoints(name, |endpoint| Repository::connect(endpoint, Access::Pull)?.tags())
}

fn at_endpoints<T>(name: &Reference, ask: impl Fn(&Endpoint) -> Result<T>) -> Result<T> {
    for endpoint in Registries::read()?.endpoints(name)? {
        match ask(&endpoint) {
            Err(error) if endpoint.is_mirror => {
                let mirror = endpoint.reference.domain();
                error::warn(&format!("mirror {mirror:?} is passed over: {}", error::message(&error)));
            }
            other => return other,
        }
    }
    Err(Failure::new(format!("there is no registry for {name}")).into())
}

impl Repository {
    /// Finds out how the registry is spoken to.
    ///
    /// # Errors
    /// Nobody answers; configuration files that cannot be understood.
    pub fn connect(endpoint: &Endpoint, access: Access) -> Result<Self> {
        let (domain, path) = (endpoint.reference.domain(), endpoint.reference.path());
        let mut client = Client::connect(domain, endpoint.insecure, credentials::find(domain, path).as_ref(), access)?;
        client.subject = endpoint.reference.repository();
        client.scopes = vec![scope(path, access)];
        Ok(Self { client, path: path.to_owned() })
    }

    /// For what is asked for by its digest: at the registry itself, without its mirrors.
    ///
    /// # Errors
    /// As [`Self::connect`]; the registry is blocked.
    pub fn for_pull(name: &Reference) -> Result<Self> {
        let itself = Registries::read()?.endpoints(name)?.pop();
        let none = || Failure::new(format!("there is no registry for {name}"));
        Self::connect(&itself.ok_or_else(none)?, Access::Pull)
    }

    /// For pushing: at the registry itself. `sources`: repositories there whose blobs may be mounted.
    ///
    /// # Errors
    /// As [`Self::connect`]; the registry is blocked.
    pub fn for_push(name: &Reference, sources: &[String]) -> Result<Self> {
        let mut repository = Self::connect(&Registries::read()?.itself(name)?, Access::Push)?;
        repository.client.scopes.extend(sources.iter().map(|path| scope(path, Access::Pull)));
        Ok(repository)
    }

    /// A manifest or an index, and the media type that it was sent as. `wanted`: a tag or a digest.
    ///
    /// # Errors
    /// There is none, it may not be read, or it is another one than its digest says.
    pub fn manifest(&self, wanted: &str) -> Result<(Vec<u8>, String)> {
        self.manifest_if_any(wanted)?.ok_or_else(|| {
            Failure::new(format!("manifest for {} not found: manifest unknown", self.name(wanted)))
                .hint(if wanted.parse::<Digest>().is_ok() {
                    "compare the digest with the registry's, or give a tag alone"
                } else {
                    "look for another tag at the registry"
                })
                .into()
        })
    }

    /// The same; `None`: there is none.
    ///
    /// # Errors
    /// As [`Self::manifest`] otherwise.
    pub fn manifest_if_any(&self, wanted: &str) -> Result<Option<(Vec<u8>, String)>> {
        let what = || format!("manifest of \"{}\"", self.name(wanted));
        let url = self.manifest_url(wanted);
        let response =
            self.client.send(&Ask::get(&url, &[(header::ACCEPT.as_str(), &accepted())])).with_context(what)?;
        match response.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            _ => return Err(unexpected(&what(), response)),
        }
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_owned();
        let bytes = body(response, what)?;
        if let Ok(digest) = wanted.parse::<Digest>() {
            check(&bytes, &digest).with_context(what)?;
        }
        Ok(Some((bytes, kind)))
    }

    /// Gives a manifest or an index its name, a tag or its digest; what it is made of is there already.
    ///
    /// # Errors
    /// The registry refuses it, or calls it something else.
    pub fn put_manifest(&self, wanted: &str, bytes: &[u8], media_type: &str) -> Result<()> {
        let what = || format!("manifest of \"{}\"", self.name(wanted));
        let (url, headers) = (self.manifest_url(wanted), [(header::CONTENT_TYPE.as_str(), media_type)]);
        let ask = Ask { method: Method::PUT, url: &url, headers: &headers, body: bytes };
        let response = self.client.send_patiently(&ask).with_context(what)?;
        if !response.status().is_success() {
            return Err(unexpected(&what(), response));
        }
        let digest = Digest::of(bytes);
        let said = response.headers().get("Docker-Content-Digest").and_then(|value| value.to_str().ok());
        if said.is_some_and(|said| said.parse::<Digest>().is_ok_and(|said| said != digest)) {
            return Err(Failure::new(format!("the registry stored {}, not {digest}", said.unwrap_or_default())).into());
        }
        Ok(())
    }

    /// A small blob: a configuration.
    ///
    /// # Errors
    /// It is not there, too large, or another one than its digest says.
    pub fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let what = || format!("blob {:?}", digest.short());
        let url = self.blob_url(digest);
        let response = self.client.send(&Ask::get(&url, &[])).with_context(what)?;
        self.found(&response, digest)?;
        if response.status().as_u16() != 200 {
            return Err(unexpected(&what(), response));
        }
        let bytes = body(response, what)?;
        check(&bytes, digest).with_context(what)?;
        Ok(bytes)
    }

    /// All tags, in the registry's order.
    ///
    /// # Errors
    /// The registry does not tell.
    pub fn tags(&self) -> Result<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct Tags {
            tags: Option<Vec<String>>,
        }
        let what = || format!("tags of \"{}\"", self.client.subject);
        let first = format!("{}/v2/{}/tags/list", self.client.base, self.path);
        let mut all = Vec::new();
        search::pages(&self.client, first, what, |bytes| {
            all.extend(serde_json::from_slice::<Tags>(bytes)?.tags.unwrap_or_default());
            if all.len() > MAX_TAGS {
                return Err(Failure::new(format!("{} has more than {MAX_TAGS} tags", self.client.subject)).into());
            }
            Ok(true)
        })?;
        // They become parts of addresses and names of the store.
        if let Some(wrong) = all.iter().find(|tag| !reference::is_tag(tag)) {
            return Err(Failure::new(format!("the registry names a tag {wrong:?}, which is none")).into());
        }
        Ok(all)
    }

    fn manifest_url(&self, wanted: &str) -> String {
        format!("{}/v2/{}/manifests/{wanted}", self.client.base, self.path)
    }

    fn blob_url(&self, digest: &Digest) -> String {
        format!("{}/v2/{}/blobs/{digest}", self.client.base, self.path)
    }

    fn found<T>(&self, response: &ureq::http::Response<T>, digest: &Digest) -> Result<()> {
        if response.status().as_u16() == 404 {
            return Err(Failure::new(format!("blob {digest} of \"{}\" not found", self.client.subject))
                .hint("the registry has lost a part of the image; push the image again")
                .into());
        }
        Ok(())
    }

    fn name(&self, wanted: &str) -> String {
        let separator = if wanted.contains(':') { '@' } else { ':' };
        format!("{}{separator}{wanted}", self.client.subject)
    }
}

/// Media types of what a name may lead to.
fn accepted() -> String {
    [manifest::OCI_INDEX, manifest::DOCKER_LIST, manifest::OCI_MANIFEST, manifest::DOCKER_MANIFEST].join(", ")
}

/// A token's scope (distribution specification, "Token Scope Documentation").
fn scope(path: &str, access: Access) -> String {
    format!("repository:{path}:{}", if access == Access::Push { "pull,push" } else { "pull" })
}

/// What an address gives, for `import`.
///
/// # Errors
/// It cannot be fetched.
pub fn download(url: &str) -> Result<impl Read + use<>> {
    let web = Web::new("", true)?;
    let mut address = url.to_owned();
    for _ in 0..10 {
        let response =
            web.call(&Method::GET, &address, &[], Outgoing::Nothing).with_context(|| format!("download {url:?}"))?;
        match response.status().as_u16() {
            200 => return Ok(response.into_body().into_reader()),
            301 | 302 | 303 | 307 | 308 => {
                let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
                address = web::follow(&address, location.unwrap_or_default())?;
            }
            status => return Err(Failure::new(format!("download {url:?}: status {status}")).into()),
        }
    }
    Err(Failure::new(format!("download {url:?}: it redirects in a circle")).into())
}

fn check(bytes: &[u8], digest: &Digest) -> Result<()> {
    let is = Digest::of(bytes);
    if is == *digest {
        return Ok(());
    }
    Err(Failure::new(format!("the registry sent something else: its digest is {is}, not {digest}")).into())
}
