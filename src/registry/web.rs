//! HTTP as all of this folder needs it: time limits, certificates, the proxy that fits each address, and
//! redirects, which are followed by the callers: they know what may not go to another host.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use anyhow::Result;
use ureq::http::{Method, Request, Response, header};
use ureq::{Agent, AsSendBody, Body, Proxy, SendBody};

use super::tls;
use crate::config::{self, proxies};
use crate::error::Failure;

const CONNECT: Duration = Duration::from_secs(15);
const RESPONSE: Duration = Duration::from_secs(60);
/// How long a registry may take to put a blob's pieces together.
const COMMIT: Duration = Duration::from_secs(15 * 60);
/// Without a byte for so long, a transfer is broken.
const STALL: Duration = Duration::from_secs(30);

/// What goes with a request.
pub enum Outgoing<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// Of so many bytes, where that is known.
    Stream(&'a mut dyn Read, Option<u64>),
}

/// What a registry, its token service and its storage are spoken to with.
#[derive(Debug)]
pub struct Web {
    agent: Agent,
}

impl Web {
    /// `verify`: certificates must be known.
    ///
    /// # Errors
    /// A certificate file that is damaged.
    pub fn new(domain: &str, verify: bool) -> Result<Self> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls::config(domain, verify)?)
            .user_agent(format!("ctr/{}", env!("CARGO_PKG_VERSION")))
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(RESPONSE))
            .timeout_per_read(Some(STALL))
            .timeout_per_write(Some(STALL))
            .input_buffer_size(256 << 10)
            .output_buffer_size(128 << 10)
            .max_idle_connections_per_host(8);
        Ok(Self { agent: config.build().new_agent() })
    }

    /// One request, one answer, whatever its status.
    ///
    /// # Errors
    /// There is no answer.
    pub fn call(
        &self,
        method: &Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Outgoing<'_>,
    ) -> Result<Response<Body>, ureq::Error> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        // A registry answers the end of an upload when all of it is stored.
        let patience = if matches!(*method, Method::PUT | Method::PATCH) { COMMIT } else { RESPONSE };
        match body {
            Outgoing::Nothing => self.run(request.body(())?, url, patience),
            Outgoing::Bytes(mut bytes) => {
                let request = request.header(header::CONTENT_LENGTH, bytes.len());
                self.run(request.body(SendBody::from_reader(&mut bytes))?, url, patience)
            }
            Outgoing::Stream(reader, length) => {
                if let Some(length) = length {
                    request = request.header(header::CONTENT_LENGTH, length);
                }
                self.run(request.body(SendBody::from_reader(reader))?, url, patience)
            }
        }
    }

    fn run(
        &self,
        request: Request<impl AsSendBody>,
        url: &str,
        patience: Duration,
    ) -> Result<Response<Body>, ureq::Error> {
        let (method, began) = (request.method().clone(), Instant::now());
        let configured = self.agent.configure_request(request);
        let answer = self.agent.run(configured.proxy(proxy(url)?).timeout_recv_response(Some(patience)).build());
        log::debug!(
            "{method} {}: {} after {} ms",
            shown(url),
            answer.as_ref().map_or_else(|_| "no answer".to_owned(), |answer| answer.status().as_u16().to_string()),
            began.elapsed().as_millis()
        );
        answer
    }
}

/// An address without what can be secret in it: storage has signatures in the query.
fn shown(url: &str) -> String {
    let Some(Address { scheme, host, port, rest, .. }) = Address::parse(url) else { return "an address".to_owned() };
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let query = if path.len() < rest.len() { "?..." } else { "" };
    format!("{scheme}://{host}:{port}{path}{query}")
}

/// What stands between us and an address.
fn proxy(url: &str) -> Result<Option<Proxy>, ureq::Error> {
    let address = Address::parse(url).ok_or_else(|| ureq::Error::BadUri(url.to_owned()))?;
    proxies::choose(address.scheme, address.host, address.port).map(|proxy| Proxy::new(&proxy)).transpose()
}

/// The beginning of a URL.
#[derive(Debug, PartialEq, Eq)]
struct Address<'a> {
    scheme: &'a str,
    host: &'a str,
    port: u16,
    /// From the first slash on.
    rest: &'a str,
    has_user: bool,
}

impl<'a> Address<'a> {
    fn parse(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (authority, has_user) = authority.rsplit_once('@').map_or((authority, false), |(_, host)| (host, true));
        let usual = match scheme {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, usual),
        };
        (!host.is_empty()).then_some(Self { scheme, host, port, rest, has_user })
    }
}

/// Whether two addresses are of one server: what may be known by the one may be known by the other.
#[must_use]
pub fn same_origin(one: &str, other: &str) -> bool {
    match (Address::parse(one), Address::parse(other)) {
        (Some(a), Some(b)) => a.scheme == b.scheme && a.host.eq_ignore_ascii_case(b.host) && a.port == b.port,
        _ => false,
    }
}

/// Where a `Location` leads to from the address that answered with it (RFC 3986, section 5).
///
/// # Errors
/// Nowhere, or to where [`may_lead`] lets nobody be sent.
pub fn follow(from: &str, location: &str) -> Result<String> {
    let nowhere = || Failure::new(format!("the registry redirects to {location:?}, which is no address"));
    let to = if location.contains("://") {
        location.to_owned()
    } else {
        let address = Address::parse(from).ok_or_else(nowhere)?;
        let origin = &from[..from.len() - address.rest.len()];
        let path = address.rest.split(['?', '#']).next().unwrap_or_default();
        if location.starts_with("//") {
            format!("{}:{location}", address.scheme)
        } else if location.starts_with('/') {
            format!("{origin}{location}")
        } else if location.starts_with('?') {
            format!("{origin}{path}{location}")
        } else {
            format!("{origin}{}/{location}", path.rsplit_once('/').map_or("", |(folder, _)| folder))
        }
    };
    may_lead(from, &to)?;
    Ok(to)
}

/// Whether a server may send us on to an address, by a redirect or as its token service: not out of TLS,
/// not from afar to what listens on this machine alone, and not with a password that it made up.
///
/// # Errors
/// It may not, and why; or it is no address.
pub fn may_lead(from: &str, to: &str) -> Result<()> {
    let refused = |why: &str| Failure::new(format!("the registry sends us on to {to:?}, which {why}"));
    let (Some(origin), Some(target)) = (Address::parse(from), Address::parse(to)) else {
        return Err(refused("is no address").into());
    };
    if target.has_user {
        return Err(refused("has a user name in it").into());
    }
    if origin.scheme == "https" && target.scheme != "https" {
        return Err(refused("is without TLS").into());
    }
    if config::is_of_machine(target.host) && !config::is_of_machine(origin.host) {
        return Err(refused("is an address of this machine or its nearest network").into());
    }
    Ok(())
}

/// Whether another try may go better: the connection broke, or nobody answered in time.
#[must_use]
pub fn is_passing(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Timeout(_) | ureq::Error::Protocol(_) => true,
        ureq::Error::Io(e) => matches!(
            e.kind(),
            ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof
                | ErrorKind::TimedOut
                | ErrorKind::Interrupted
        ),
        _ => false,
    }
}

/// Whether nobody takes the connection, which passes where somebody did a moment ago.
#[must_use]
pub fn is_refused(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::ConnectionFailed => true,
        ureq::Error::Io(e) => {
            matches!(
                e.kind(),
                ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
            )
        }
        _ => false,
    }
}

/// The other side has a certificate that is not believed. The library wraps these several times
/// deep, so the words are what there is to go by.
#[must_use]
pub fn is_certificate(error: &ureq::Error) -> bool {
    let text = error.to_string();
    text.contains("certificate") || text.contains("UnknownIssuer")
}

/// The other side asks for a certificate of ours: the alert of RFC 8446, section 6.2, and the one that
/// older servers send.
#[must_use]
pub fn wants_certificate(error: &ureq::Error) -> bool {
    let text = error.to_string();
    text.contains("alert: CertificateRequired") || text.contains("alert: BadCertificate")
}

/// The other side does not speak TLS.
#[must_use]
pub fn is_not_tls(error: &ureq::Error) -> bool {
    let text = error.to_string();
    text.contains("InvalidContentType") || text.contains("corrupt message") || text.contains("invalid message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_an_address_is_no_secret() {
        for (url, expected) in [
            ("https://ada:secret@r.io/v2/a?token=secret#secret", "https://r.io:443/v2/a?..."),
            ("http://r.io:5000/v2/#secret", "http://r.io:5000/v2/?..."),
            ("http://ada:secret@[::1]:5000", "http://[::1]:5000"),
            ("file://secret", "an address"),
        ] {
            assert_eq!(shown(url), expected);
        }
    }

    #[test]
    fn locations_are_joined() {
        let from = "https://a.io:5000/v2/x/blobs/uploads/?mount=y";
        for (location, to) in [
            ("https://b.io/z", "https://b.io/z"),
            ("/v2/z?a=b", "https://a.io:5000/v2/z?a=b"),
            ("//b.io/z", "https://b.io/z"),
            ("?a=b", "https://a.io:5000/v2/x/blobs/uploads/?a=b"),
            ("id", "https://a.io:5000/v2/x/blobs/uploads/id"),
        ] {
            assert_eq!(follow(from, location).expect(location), to);
        }
        assert!(follow(from, "ftp://b.io/z").is_err() && follow(from, "http:///z").is_err());
    }

    #[test]
    fn servers_are_told_apart() {
        assert!(same_origin("https://A.io/x", "https://a.io:443"));
        assert!(same_origin("http://[::1]:80/", "http://[::1]"));
        for other in ["http://a.io", "https://b.io", "https://a.io:444", "https://a.io.evil", "https://a.io@b.io", ""] {
            assert!(!same_origin("https://a.io/x", other), "{other}");
        }
    }
}
