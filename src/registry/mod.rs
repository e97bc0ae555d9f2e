//! The OCI distribution protocol, its reading half: manifests and blobs of one repository, over
//! HTTPS, with the authentication that registries use. Called by `image::pull`; knows nothing of
//! the store.
//!
//! Promises: credentials go to the registry and to the token service it names, never to the host
//! that it redirects to; a document is never larger than [`blobs::MAX_DOCUMENT`]; what is busy or
//! broken is tried again, with growing pauses; whatever is refused says how to mend it.

mod auth;
mod blob;
mod tls;

use std::io::Read;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};
use ureq::http::{Response, header};
use ureq::{Agent, Body};

use self::auth::Challenge;
use crate::config::{self, Credentials};
use crate::error::Failure;
use crate::image::blobs;
use crate::image::digest::Digest;
use crate::image::manifest;
use crate::image::reference::Reference;

pub use blob::BlobReader;

const CONNECT: Duration = Duration::from_secs(15);
const RESPONSE: Duration = Duration::from_secs(60);
/// Without a byte for so long, a transfer is broken.
const STALL: Duration = Duration::from_secs(30);
/// Tries of one request, or of a transfer that does not get on.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// One repository of one registry.
#[derive(Debug)]
pub struct Repository {
    agent: Agent,
    /// `https://host:port`.
    base: String,
    domain: String,
    path: String,
    credentials: Option<Credentials>,
    /// The `Authorization` header that worked last.
    authorization: Mutex<Option<String>>,
}

impl Repository {
    /// Finds out how the registry is spoken to. One that is known to be insecure may have a
    /// certificate that nobody knows, or no TLS.
    ///
    /// # Errors
    /// Nobody answers; configuration files that cannot be understood.
    pub fn connect(reference: &Reference) -> Result<Self> {
        let (domain, path) = (reference.domain(), reference.path());
        let host = if domain == "docker.io" { "registry-1.docker.io" } else { domain };
        let credentials = config::credentials(domain, path);
        let make = |scheme: &str, verify| -> Result<Self> {
            Ok(Self {
                agent: agent(domain, verify)?,
                base: format!("{scheme}://{host}"),
                domain: domain.to_owned(),
                path: path.to_owned(),
                credentials: credentials.clone(),
                authorization: Mutex::new(None),
            })
        };
        let secure = make("https", true)?;
        if !config::is_insecure(domain, path)? {
            return Ok(secure);
        }
        // As Docker does: TLS, then TLS with any certificate, then none.
        let ping = |it: &Self| it.agent.get(format!("{}/v2/", it.base)).call();
        match ping(&secure) {
            Err(e) if is_certificate(&e) => make("https", false),
            Err(e) if is_not_tls(&e) => make("http", true),
            _ => Ok(secure),
        }
    }

    /// A manifest or an index, its media type, and its digest.
    ///
    /// # Errors
    /// There is none, it may not be read, or it is another one than `wanted` (a tag or a digest) says.
    pub fn manifest(&self, wanted: &str) -> Result<Vec<u8>> {
        let accept =
            [manifest::OCI_INDEX, manifest::DOCKER_LIST, manifest::OCI_MANIFEST, manifest::DOCKER_MANIFEST].join(", ");
        let url = format!("{}/v2/{}/manifests/{wanted}", self.base, self.path);
        let what = || format!("manifest of \"{}\"", self.name(wanted));
        let response = self.get(&url, &[(header::ACCEPT.as_str(), &accept)]).with_context(what)?;
        if response.status().as_u16() == 404 {
            return Err(Failure::new(format!("manifest for {} not found: manifest unknown", self.name(wanted)))
                .hint(if wanted.parse::<Digest>().is_ok() {
                    "compare the digest with the registry's, or give a tag alone"
                } else {
                    "look for another tag at the registry"
                })
                .into());
        }
        let bytes = blobs::bounded(response.into_body().into_reader()).with_context(what)?;
        if let Ok(digest) = wanted.parse::<Digest>() {
            check(&bytes, &digest).with_context(what)?;
        }
        Ok(bytes)
    }

    /// A small blob: a configuration.
    ///
    /// # Errors
    /// It is not there, too large, or another one than its digest says.
    pub fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let what = || format!("blob {:?}", digest.short());
        let response = self.get(&self.blob_url(digest), &[]).with_context(what)?;
        self.found(&response, digest)?;
        let bytes = blobs::bounded(response.into_body().into_reader()).with_context(what)?;
        check(&bytes, digest).with_context(what)?;
        Ok(bytes)
    }

    fn blob_url(&self, digest: &Digest) -> String {
        format!("{}/v2/{}/blobs/{digest}", self.base, self.path)
    }

    fn found(&self, response: &Response<Body>, digest: &Digest) -> Result<()> {
        if response.status().as_u16() == 404 {
            return Err(Failure::new(format!("blob {digest} of \"{}/{}\" not found", self.domain, self.path))
                .hint("the registry has lost a part of the image; push the image again")
                .into());
        }
        Ok(())
    }

    fn name(&self, wanted: &str) -> String {
        let separator = if wanted.contains(':') { '@' } else { ':' };
        format!("{}/{}{separator}{wanted}", self.domain, self.path)
    }

    /// A response of status 200, 206 or 404; authenticated when the registry wants it.
    fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Response<Body>> {
        let mut pause = FIRST_PAUSE;
        let mut tries = 1;
        let mut authenticated = false;
        loop {
            let mut request = self.agent.get(url);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let sent = self.authorization();
            if let Some(value) = &sent {
                request = request.header(header::AUTHORIZATION, value);
            }
            let wait = match request.call() {
                Ok(response) => match response.status().as_u16() {
                    200 | 206 | 404 => return Ok(response),
                    401 if !authenticated => {
                        self.authenticate(&response, sent.as_deref())?;
                        authenticated = true;
                        continue;
                    }
                    status @ (401 | 403) => return Err(self.denied(status)),
                    status @ (429 | 500..=599) if tries == TRIES => {
                        return Err(busy(status));
                    }
                    429 | 500..=599 => retry_after(&response).unwrap_or(pause),
                    status => {
                        return Err(Failure::new(format!("the registry answers with status {status}")).into());
                    }
                },
                Err(e) if tries < TRIES && is_passing(&e) => pause,
                Err(e) => return Err(self.unreachable(e)),
            };
            std::thread::sleep(wait.min(LONGEST_PAUSE));
            pause *= 2;
            tries += 1;
        }
    }

    fn authorization(&self) -> Option<String> {
        self.authorization.lock().map(|it| it.clone()).unwrap_or_default()
    }

    /// Answers a challenge. Several layers' threads meet one at a time here: the first fetches a
    /// token, the others find it.
    fn authenticate(&self, response: &Response<Body>, sent: Option<&str>) -> Result<()> {
        let Ok(mut known) = self.authorization.lock() else { return Ok(()) };
        if known.as_deref() != sent {
            return Ok(());
        }
        let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
        let header: Vec<&str> = headers.iter().filter_map(|value| value.to_str().ok()).collect();
        *known = Some(match Challenge::parse(&header.join(", ")) {
            Some(Challenge::Basic) => match &self.credentials {
                Some(Credentials::Password { user, password }) => auth::basic(user, password),
                _ => return Err(self.denied(401)),
            },
            Some(Challenge::Bearer { realm, service, scope }) => {
                let challenge = (realm.as_str(), service.as_deref(), scope.as_deref());
                let secure = self.base.starts_with("https://");
                let token = auth::token(&self.agent, challenge, self.credentials.as_ref(), &self.path, secure)?;
                format!("Bearer {token}")
            }
            None => return Err(Failure::new("the registry wants an authentication that is not supported").into()),
        });
        Ok(())
    }

    /// Docker's wording, since a registry does not tell what is secret from what is not there.
    fn denied(&self, status: u16) -> anyhow::Error {
        let name = format!("{}/{}", self.domain, self.path);
        let hint = if self.credentials.is_some() {
            format!("the credentials for {} were refused; correct them in ~/.docker/config.json", self.domain)
        } else {
            format!(
                "put credentials into ~/.docker/config.json: {{\"auths\":{{\"{}\":{{\"auth\":\"BASE64 of user:password\"}}}}}}",
                self.domain
            )
        };
        let why = "repository does not exist or may require 'docker login'";
        Failure::new(format!("pull access denied for {name}, {why} (status {status})")).hint(hint).into()
    }

    /// A request that got no answer, with the way out where there is one.
    fn unreachable(&self, error: ureq::Error) -> anyhow::Error {
        let domain = &self.domain;
        let message = format!("registry \"{domain}\" cannot be reached");
        let hint = if matches!(error, ureq::Error::HostNotFound) || error.to_string().contains("failed to lookup") {
            Some("check the name, and that this machine has a name server".to_owned())
        } else if is_certificate(&error) {
            Some(format!("put the certificate of its authority into /etc/containers/certs.d/{domain}/ca.crt"))
        } else if is_not_tls(&error) {
            Some(format!(
                "it seems to speak HTTP; if that is meant, set insecure = true for location = \"{domain}\" in /etc/containers/registries.conf"
            ))
        } else {
            None
        };
        let failure = Failure::new(message).source(error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
        .into()
    }
}

/// What an address gives, for `import`.
///
/// # Errors
/// It cannot be fetched.
pub fn download(url: &str) -> Result<impl Read + use<>> {
    let agent = agent("", true)?;
    let response = agent.get(url).call().with_context(|| format!("download {url:?}"))?;
    if response.status().as_u16() != 200 {
        return Err(Failure::new(format!("download {url:?}: status {}", response.status().as_u16())).into());
    }
    Ok(response.into_body().into_reader())
}

fn agent(domain: &str, verify: bool) -> Result<Agent> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .tls_config(tls::config(domain, verify)?)
        .user_agent(format!("ctr/{}", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(RESPONSE))
        .timeout_per_read(Some(STALL))
        .input_buffer_size(256 << 10)
        .max_idle_connections_per_host(8);
    Ok(config.build().new_agent())
}

fn check(bytes: &[u8], digest: &Digest) -> Result<()> {
    let is = Digest::of(bytes);
    if is == *digest {
        return Ok(());
    }
    Err(Failure::new(format!("the registry sent something else: its digest is {is}, not {digest}")).into())
}

fn busy(status: u16) -> anyhow::Error {
    let failure = Failure::new(format!("the registry answers with status {status}, {TRIES} times"));
    let hint = if status == 429 {
        "it limits how often one may ask: put credentials into ~/.docker/config.json, or wait some minutes"
    } else {
        "it has a fault of its own: try again later"
    };
    failure.hint(hint).into()
}

/// `Retry-After` in seconds.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Whether another try may go better: the connection broke, or nobody answered in time.
fn is_passing(error: &ureq::Error) -> bool {
    use std::io::ErrorKind;
    match error {
        ureq::Error::Timeout(_) | ureq::Error::Protocol(_) => true,
        ureq::Error::Io(e) => {
            matches!(
                e.kind(),
                ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::BrokenPipe
                    | ErrorKind::UnexpectedEof
                    | ErrorKind::TimedOut
                    | ErrorKind::Interrupted
            )
        }
        _ => false,
    }
}

/// The other side has a certificate that is not believed. The library wraps these several times
/// deep, so the words are what there is to go by.
fn is_certificate(error: &ureq::Error) -> bool {
    let text = error.to_string();
    text.contains("certificate") || text.contains("UnknownIssuer")
}

/// The other side does not speak TLS.
fn is_not_tls(error: &ureq::Error) -> bool {
    let text = error.to_string();
    text.contains("InvalidContentType") || text.contains("corrupt message") || text.contains("invalid message")
}
