//! Who we are: the answer to `WWW-Authenticate` (RFC 9110, section 11, and the distribution
//! specification's token authentication).

use std::io::Read;

use anyhow::{Context, Result};
use base64::Engine;
use serde::Deserialize;
use ureq::http::Method;

use super::pace::Paced;
use super::web::{Outgoing, Web, may_lead};
use crate::config::Credentials;
use crate::error::Failure;

/// Bytes of an answer with a token.
const MAX_ANSWER: u64 = 1 << 20;
/// What Docker calls itself to an authorization service.
const CLIENT: &str = "ctr";

/// What a registry wants to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
        /// What was wrong with the token that was sent (RFC 6750, section 3.1).
        error: Option<String>,
    },
}

impl Challenge {
    /// The strongest challenge of a header that we can answer.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let all = split(header);
        let bearer = all.iter().find_map(|(scheme, parameters)| {
            let get =
                |name: &str| parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone());
            let bearer = || {
                let (service, scope, error) = (get("service"), get("scope"), get("error"));
                Some(Self::Bearer { realm: get("realm")?, service, scope, error })
            };
            scheme.eq_ignore_ascii_case("bearer").then(bearer)?
        });
        bearer.or_else(|| all.iter().any(|(scheme, _)| scheme.eq_ignore_ascii_case("basic")).then_some(Self::Basic))
    }
}

type Parameters = Vec<(String, String)>;

/// A header's challenges: `Scheme key=value, key="quoted, \" value", Scheme …`.
fn split(header: &str) -> Vec<(String, Parameters)> {
    let mut challenges: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',']);
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',']).unwrap_or(rest.len());
        let word = rest[..end].to_owned();
        let behind = rest[end..].trim_start();
        if let Some(value) = behind.strip_prefix('=') {
            let (value, tail) = take_value(value.trim_start());
            if let Some((_, parameters)) = challenges.last_mut() {
                parameters.push((word, value));
            }
            rest = tail;
        } else {
            challenges.push((word, Vec::new()));
            rest = behind;
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    challenges
}

fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// The `Authorization` header for a name and a password.
#[must_use]
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// What a token is for.
pub struct Wanted<'a> {
    pub realm: &'a str,
    pub service: Option<&'a str>,
    pub scopes: &'a [String],
    /// A token that stands for the password is wanted, too.
    pub offline: bool,
}

/// What the service gave.
pub struct Given {
    pub access: String,
    /// The identity token.
    pub refresh: Option<String>,
}

/// Asks for a token. `base`: where the registry is; where it is spoken to over TLS, its authorization
/// service must be too, or the password would go over the wire as it is.
///
/// # Errors
/// The service refuses, or is not to be trusted with a password.
pub fn token(
    web: &Web,
    wanted: &Wanted<'_>,
    credentials: Option<&Credentials>,
    base: &str,
    domain: &str,
) -> Result<Given> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
        refresh_token: Option<String>,
    }
    let realm = wanted.realm;
    may_lead(base, realm).context("ask for a token")?;
    let mut fields: Vec<(&str, &str)> = wanted.service.iter().map(|service| ("service", *service)).collect();
    let answer = match credentials {
        Some(Credentials::IdentityToken(token)) => {
            let scope = wanted.scopes.join(" ");
            fields.extend([("grant_type", "refresh_token"), ("client_id", CLIENT), ("refresh_token", token)]);
            fields.push(("scope", &scope));
            let form = [("Content-Type", "application/x-www-form-urlencoded")];
            web.call(&Method::POST, realm, &form, Outgoing::Bytes(encode(&fields).as_bytes()))
        }
        other => {
            fields.extend(wanted.scopes.iter().map(|scope| ("scope", scope.as_str())));
            let mut headers = Vec::new();
            let authorization;
            if let Some(Credentials::Password { user, password }) = other {
                fields.push(("account", user));
                if wanted.offline {
                    fields.extend([("client_id", CLIENT), ("offline_token", "true")]);
                }
                authorization = basic(user, password);
                headers.push(("Authorization", authorization.as_str()));
            }
            let separator = if realm.contains('?') { '&' } else { '?' };
            let url =
                if fields.is_empty() { realm.to_owned() } else { format!("{realm}{separator}{}", encode(&fields)) };
            web.call(&Method::GET, &url, &headers, Outgoing::Nothing)
        }
    };
    let answer = answer.with_context(|| format!("ask {realm:?} for a token"))?;
    let status = answer.status().as_u16();
    if status != 200 {
        return Err(match (status, credentials) {
            (401 | 403, Some(_)) => Failure::new("unauthorized: incorrect username or password")
                .hint(format!("the credentials for {domain} were refused; correct them with: ctr login {domain}")),
            (401 | 403, None) => Failure::new("unauthorized: the registry wants a user name and a password")
                .hint(format!("give them with: ctr login {domain}")),
            _ => Failure::new(format!("{realm:?} answers with status {status} when asked for a token")),
        }
        .into());
    }
    let mut bytes = Vec::new();
    Paced::new(answer.into_body().into_reader()).take(MAX_ANSWER).read_to_end(&mut bytes)?;
    let answer: Answer = serde_json::from_slice(&bytes).with_context(|| format!("token of {realm:?}"))?;
    let access = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
    // It becomes part of a header.
    let access = access
        .filter(|token| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()))
        .ok_or_else(|| Failure::new(format!("{realm:?} gives no token")))?;
    Ok(Given { access, refresh: answer.refresh_token.filter(|token| !token.is_empty()) })
}

/// Fields as a query or a form has them.
pub fn encode(fields: &[(&str, &str)]) -> String {
    let pairs = fields.iter().map(|(name, value)| format!("{name}={}", escape(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// RFC 3986: all but what may stand anywhere.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.extend(format!("%{byte:02X}").chars());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_with_their_quotes() {
        let header = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.docker.io/token".to_owned(),
            service: Some("registry.docker.io".to_owned()),
            scope: Some("repository:a/b:pull,push".to_owned()),
            error: None,
        };
        assert_eq!(Challenge::parse(header), Some(expected));
        assert_eq!(Challenge::parse(r#"Basic realm="x y, Bearer realm=z""#), Some(Challenge::Basic));
        let both = r#"Basic realm="a", bearer realm=b"#;
        assert_eq!(
            Challenge::parse(both),
            Some(Challenge::Bearer { realm: "b".to_owned(), service: None, scope: None, error: None })
        );
        assert_eq!(
            Challenge::parse(r#"Bearer realm="a\"b""#),
            Some(Challenge::Bearer { realm: "a\"b".to_owned(), service: None, scope: None, error: None })
        );
        for none in ["", "Negotiate", "Bearer service=x", "=", "Bearer realm"] {
            assert_eq!(Challenge::parse(none), None, "{none}");
        }
    }
}
