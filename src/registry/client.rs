//! One registry: requests that are authenticated where it asks for that, follow where it redirects, and
//! are tried again where that may help.

use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use ureq::Body;
use ureq::http::{Method, Response, header};

use super::answer::{complaint, finish};
use super::auth::{self, Challenge};
use super::tries::Tries;
use super::web::{
    Outgoing, Web, follow, is_certificate, is_not_tls, is_passing, is_refused, same_origin, wants_certificate,
};
use crate::config::Credentials;
use crate::error::Failure;

/// Redirects of one request.
const MAX_HOPS: u32 = 10;

/// What is to be done in a repository, for tokens and for the words of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Pull,
    Push,
    /// No repository: the registry itself, as `login` and `search` ask it.
    None,
}

/// A request.
pub struct Ask<'a> {
    pub method: Method,
    pub url: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

impl<'a> Ask<'a> {
    pub fn get(url: &'a str, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self { method: Method::GET, url, headers, body: &[] }
    }

    pub fn head(url: &'a str, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self { method: Method::HEAD, url, headers, body: &[] }
    }
}

/// One registry at one address.
#[derive(Debug)]
pub struct Client {
    pub web: Web,
    /// `https://host:port`.
    pub base: String,
    pub domain: String,
    /// What it is asked for, as messages have it: a repository, or the registry.
    pub subject: String,
    pub access: Access,
    pub credentials: Option<Credentials>,
    /// What tokens are asked for, beside what the registry says: `repository:a/b:pull,push`.
    pub scopes: Vec<String>,
    /// The `Authorization` header that worked last.
    authorization: Mutex<Option<String>>,
    /// What the token service gives in place of the password (`offline_token`).
    identity: Mutex<Option<String>>,
    /// It has answered something.
    is_known: AtomicBool,
}

impl Client {
    /// Finds out how the registry is spoken to. One that is `insecure` may have a certificate that nobody
    /// knows, or no TLS.
    ///
    /// # Errors
    /// A certificate file that is damaged.
    pub fn connect(domain: &str, insecure: bool, credentials: Option<&Credentials>, access: Access) -> Result<Self> {
        let host = if domain == "docker.io" { "registry-1.docker.io" } else { domain };
        let make = |scheme: &str, verify| -> Result<Self> {
            Ok(Self {
                web: Web::new(domain, verify)?,
                base: format!("{scheme}://{host}"),
                domain: domain.to_owned(),
                subject: domain.to_owned(),
                access,
                credentials: credentials.cloned(),
                scopes: Vec::new(),
                authorization: Mutex::new(None),
                identity: Mutex::new(None),
                is_known: AtomicBool::new(false),
            })
        };
        let secure = make("https", true)?;
        if !insecure {
            return Ok(secure);
        }
        // As Docker does: TLS, then TLS with any certificate, then none.
        match secure.web.call(&Method::GET, &format!("{}/v2/", secure.base), &[], Outgoing::Nothing) {
            Err(e) if is_certificate(&e) => make("https", false),
            Err(e) if is_not_tls(&e) => make("http", true),
            _ => Ok(secure),
        }
    }

    /// The answer to a request, whatever its status, but for those that ask for a password or for
    /// patience.
    ///
    /// # Errors
    /// It may not be; the registry cannot be reached, stays busy, or redirects for ever.
    pub fn send(&self, ask: &Ask<'_>) -> Result<Response<Body>> {
        let response = self.send_once(ask)?;
        match response.status().as_u16() {
            401 | 403 => Err(self.denied(response)),
            _ => Ok(response),
        }
    }

    /// [`Self::send`], with patience: a registry that has answered before and takes no connection now is being
    /// started anew, mostly.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_patiently(&self, ask: &Ask<'_>) -> Result<Response<Body>> {
        let mut tries = Tries::default();
        loop {
            match self.send(ask) {
                Err(e) if self.is_known.load(Ordering::Relaxed) && has_refused(&e) && tries.again() => {}
                other => return other,
            }
        }
    }

    /// The same as [`Self::send`], with a refusal as an answer among others.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_once(&self, ask: &Ask<'_>) -> Result<Response<Body>> {
        let mut url = ask.url.to_owned();
        let mut hops = 0;
        let mut tries = Tries::default();
        let mut authenticated = false;
        loop {
            // Whoever else the registry sends us to, its storage mostly, is told nothing.
            let is_own = same_origin(&url, &self.base);
            let sent = if is_own { self.authorization() } else { None };
            let response = match self.call(ask, &url, sent.as_deref()) {
                Ok(response) => response,
                Err(e) if is_passing(&e) && tries.again() => continue,
                Err(e) => return Err(self.unreachable(e)),
            };
            match response.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => {
                    hops += 1;
                    if hops > MAX_HOPS {
                        return Err(Failure::new(format!(
                            "registry {:?} redirects more than {MAX_HOPS} times, in a circle it seems",
                            self.domain
                        ))
                        .into());
                    }
                    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
                    url = follow(&url, location.ok_or_else(|| Failure::new("the registry redirects to nowhere"))?)?;
                    finish(response);
                }
                401 if is_own && !authenticated => {
                    self.authenticate(&response, sent.as_deref())?;
                    authenticated = true;
                    finish(response);
                }
                401 | 403 if !is_own => {
                    return Err(Failure::new(format!(
                        "{:?}, where registry {:?} redirects to, refuses (status {})",
                        url.split('?').next().unwrap_or_default(),
                        self.domain,
                        response.status().as_u16()
                    ))
                    .hint("it is given no password, being another server: the registry's own set-up has to be mended")
                    .into());
                }
                429 | 500..=599 => tries.after(response)?,
                _ => return Ok(response),
            }
        }
    }

    fn call(&self, ask: &Ask<'_>, url: &str, authorization: Option<&str>) -> Result<Response<Body>, ureq::Error> {
        let mut headers = ask.headers.to_vec();
        headers.extend(authorization.map(|value| (header::AUTHORIZATION.as_str(), value)));
        let reads = matches!(ask.method, Method::GET | Method::HEAD | Method::DELETE);
        let body = if reads { Outgoing::Nothing } else { Outgoing::Bytes(ask.body) };
        let answer = self.web.call(&ask.method, url, &headers, body);
        self.is_known.fetch_or(answer.is_ok(), Ordering::Relaxed);
        answer
    }

    /// Sends a stream, once: what came of it before a break, only the sender can find out.
    ///
    /// # Errors
    /// There is no answer.
    pub fn stream(
        &self,
        method: &Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &mut dyn Read,
        length: Option<u64>,
    ) -> Result<Response<Body>, ureq::Error> {
        let authorization = if same_origin(url, &self.base) { self.authorization() } else { None };
        let mut headers = headers.to_vec();
        headers.extend(authorization.as_deref().map(|value| (header::AUTHORIZATION.as_str(), value)));
        self.web.call(method, url, &headers, Outgoing::Stream(body, length))
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
        *known = Some(match challenge(response) {
            Some(Challenge::Basic) => match &self.credentials {
                Some(Credentials::Password { user, password }) => auth::basic(user, password),
                _ => return Err(self.refusal(401, "")),
            },
            Some(Challenge::Bearer { realm, service, scope, .. }) => {
                let mut scopes = self.scopes.clone();
                scopes.extend(scope.filter(|scope| !self.scopes.contains(scope)));
                let offline = self.access == Access::None;
                let wanted = auth::Wanted { realm: &realm, service: service.as_deref(), scopes: &scopes, offline };
                let given = auth::token(&self.web, &wanted, self.credentials.as_ref(), &self.base, &self.domain)?;
                if let (Some(token), Ok(mut identity)) = (given.refresh, self.identity.lock()) {
                    *identity = Some(token);
                }
                format!("Bearer {}", given.access)
            }
            None => return Err(Failure::new("the registry wants an authentication that is not supported").into()),
        });
        Ok(())
    }

    /// What is to be kept in place of the password.
    pub fn identity_token(&self) -> Option<String> {
        self.identity.lock().map(|it| it.clone()).unwrap_or_default()
    }

    /// What a refused answer means.
    pub fn denied(&self, response: Response<Body>) -> anyhow::Error {
        let status = response.status().as_u16();
        // A token was just given, and is not taken.
        let other = matches!(
            challenge(&response),
            Some(Challenge::Bearer { error: Some(error), .. }) if error == "insufficient_scope" || error == "invalid_token"
        ) && self.authorization().is_some();
        let mut said = complaint(response);
        if said.is_empty() && other {
            "its token service gave a token that is not for this".clone_into(&mut said);
        }
        self.refusal(status, &said)
    }

    /// Docker's wording, since a registry does not tell what is secret from what is not there.
    fn refusal(&self, status: u16, said: &str) -> anyhow::Error {
        let domain = &self.domain;
        let hint = if self.credentials.is_some() {
            format!("the credentials for {domain} were refused; correct them with: ctr login {domain}")
        } else {
            format!("give a user name and a password with: ctr login {domain}")
        };
        let said = if said.is_empty() { format!("status {status}") } else { said.to_owned() };
        let message = match self.access {
            Access::None => format!("registry {:?} refuses: {said}", self.subject),
            access => {
                let verb = if access == Access::Push { "push" } else { "pull" };
                let why = "repository does not exist or may require 'docker login'";
                format!("{verb} access denied for {}, {why}: {said}", self.subject)
            }
        };
        Failure::new(message).hint(hint).into()
    }

    /// A request that got no answer, with the way out where there is one.
    pub fn unreachable(&self, error: ureq::Error) -> anyhow::Error {
        let domain = &self.domain;
        let message = format!("registry \"{domain}\" cannot be reached");
        let hint = if matches!(error, ureq::Error::HostNotFound) || error.to_string().contains("failed to lookup") {
            Some("check the name, and that this machine has a name server".to_owned())
        } else if wants_certificate(&error) {
            let at = format!("/etc/containers/certs.d/{domain}");
            Some(format!(
                "it wants to see a certificate: put yours and its key into {at}/client.cert and {at}/client.key"
            ))
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

fn has_refused(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<ureq::Error>().is_some_and(is_refused))
}

fn challenge(response: &Response<Body>) -> Option<Challenge> {
    let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
    let header: Vec<&str> = headers.iter().filter_map(|value| value.to_str().ok()).collect();
    Challenge::parse(&header.join(", "))
}
