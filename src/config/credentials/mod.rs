//! Who we are to a registry: Docker's `config.json` and containers' `auth.json`, and the programs that
//! keep secrets for them.

mod helper;
mod keep;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use base64::Engine;
use serde::Deserialize;

use super::{read_text, variable};
use crate::error::Failure;

pub use self::keep::{Kept, Place};

/// The key of Docker Hub in Docker's file.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// What a registry is told of who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    Password {
        user: String,
        password: String,
    },
    /// Exchanged for an access token at the registry's authorization service.
    IdentityToken(String),
}

// Never printed, not even by a debugging line.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password",
            Self::IdentityToken(_) => "IdentityToken",
        })
    }
}

/// Docker's `config.json` and containers' `auth.json`, as far as they are the same.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AuthFile {
    auths: BTreeMap<String, Auth>,
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    #[serde(rename = "auth")]
    encoded: String,
    username: String,
    password: String,
    identitytoken: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auth")
    }
}

/// The credentials for a repository of a registry, from the first file that has some. A file that
/// cannot be used is warned of and passed over: most images need no credentials.
#[must_use]
pub fn find(domain: &str, repository: &str) -> Option<Credentials> {
    let found = auth_files().iter().find_map(|path| {
        let found = read_credentials(path, domain, repository).unwrap_or_else(|e| {
            crate::error::warn(&format!("credentials in {path:?} are not used: {e:#}"));
            None
        })?;
        log::debug!("credentials for {domain} are from {path:?}");
        Some(found)
    });
    if found.is_none() {
        log::debug!("there are no credentials for {domain}");
    }
    found
}

/// What one file has for a repository of a registry.
///
/// # Errors
/// A file that is there and cannot be read; a credential helper that fails.
fn read_credentials(path: &Path, domain: &str, repository: &str) -> Result<Option<Credentials>> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let file: AuthFile = serde_json::from_str(&text).map_err(|e| damaged(&e))?;
    file.find(domain, repository)
}

/// Where a file is damaged. What the reader says of it can be a secret.
fn damaged(error: &serde_json::Error) -> Failure {
    Failure::new(format!("damaged, in line {}, column {}", error.line(), error.column()))
}

/// Files that may have credentials, in the order in which they are asked: containers-auth.json(5),
/// and Docker's own.
fn auth_files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = variable("REGISTRY_AUTH_FILE").into_iter().collect();
    match variable("XDG_RUNTIME_DIR") {
        Some(dir) => files.push(dir.join("containers/auth.json")),
        None => files.push(format!("/run/containers/{}/auth.json", nix::unistd::geteuid()).into()),
    }
    files.extend(super::own("auth.json"));
    files.extend(super::docker().map(|dir| dir.join("config.json")));
    files
}

impl AuthFile {
    /// The program that keeps a registry's secrets.
    fn helper(&self, domain: &str) -> Option<&str> {
        let own = self.cred_helpers.get(domain).or_else(|| self.cred_helpers.get(key_of(domain)));
        own.or(Some(&self.creds_store)).map(String::as_str).filter(|name| !name.is_empty())
    }

    fn find(&self, domain: &str, repository: &str) -> Result<Option<Credentials>> {
        if let Some(helper) = self.cred_helpers.get(domain).or_else(|| self.cred_helpers.get(key_of(domain))) {
            return helper::get(helper, key_of(domain));
        }
        // A key may be a host, or a host and the beginning of a repository; the longest one counts.
        let mut keys = vec![format!("{domain}/{repository}").trim_end_matches('/').to_owned()];
        while let Some((shorter, _)) = keys.last().and_then(|key| key.rsplit_once('/')) {
            keys.push(shorter.to_owned());
        }
        for key in &keys {
            let auth = self.auths.iter().find(|(name, _)| normal(name) == *key);
            if let Some(found) = auth.map(|(_, auth)| auth.credentials()).transpose()?.flatten() {
                return Ok(Some(found));
            }
        }
        if self.creds_store.is_empty() {
            return Ok(None);
        }
        helper::get(&self.creds_store, key_of(domain))
    }
}

/// How Docker's file and the helpers call a registry.
#[must_use]
pub fn key_of(domain: &str) -> &str {
    if domain == "docker.io" { DOCKER_HUB } else { domain }
}

/// A key of `auths` without what some tools write around the host.
fn normal(key: &str) -> &str {
    if key == DOCKER_HUB || key == "index.docker.io" || key == "registry-1.docker.io" {
        return "docker.io";
    }
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key)
}

impl Auth {
    fn credentials(&self) -> Result<Option<Credentials>> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::IdentityToken(self.identitytoken.clone())));
        }
        if self.encoded.is_empty() {
            let (user, password) = (self.username.clone(), self.password.clone());
            return Ok((!user.is_empty()).then_some(Credentials::Password { user, password }));
        }
        let damaged = || Failure::new("\"auth\" is not base64 of user:password");
        let text = base64::engine::general_purpose::STANDARD.decode(&self.encoded).map_err(|_| damaged())?;
        let text = String::from_utf8(text).map_err(|_| damaged())?;
        let (user, password) = text.split_once(':').ok_or_else(damaged)?;
        let password = password.trim_end_matches('\0').to_owned();
        Ok(Some(Credentials::Password { user: user.to_owned(), password }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Credentials {
        Credentials::Password { user: user.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn credentials_are_found_by_host_and_repository() {
        let text = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "YTpi"},
            "quay.io": {"username": "q", "password": "1"},
            "quay.io/team/app": {"username": "t", "password": "2"},
            "http://reg:5000/v2/": {"auth": "dTpwOnE="},
            "token.io": {"identitytoken": "xyz"},
            "empty.io": {}
        }}"#;
        let file: AuthFile = serde_json::from_str(text).expect("json");
        let find = |domain, repository| file.find(domain, repository).expect("found or not");
        assert_eq!(find("docker.io", "library/busybox"), Some(password("a", "b")));
        assert_eq!(find("quay.io", "x"), Some(password("q", "1")));
        assert_eq!(find("quay.io", "team/app/sub"), Some(password("t", "2")));
        assert_eq!(find("quay.io", "team/apple"), Some(password("q", "1")));
        assert_eq!(find("reg:5000", "x"), Some(password("u", "p:q")));
        assert_eq!(find("token.io", "x"), Some(Credentials::IdentityToken("xyz".to_owned())));
        assert_eq!(find("empty.io", "x"), None);
        assert_eq!(find("reg", "x"), None);
    }

    #[test]
    fn what_is_wrong_with_a_file_of_credentials_is_said() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("config.json");
        assert_eq!(read_credentials(&path, "a.io", "x").expect("no file"), None);
        for (text, reason) in [
            ("{", "damaged"),
            (r#"{"credsStore": "there-is-none"}"#, "docker-credential-there-is-none"),
            (r#"{"auths": {"a.io": {"auth": "!"}}}"#, "not base64"),
        ] {
            std::fs::write(&path, text).expect("write");
            let error = read_credentials(&path, "a.io", "x").expect_err(text);
            assert!(format!("{error:#}").contains(reason), "{error:#}");
        }
        assert_eq!(read_credentials(&path, "b.io", "x").expect("another registry"), None);
    }

    #[test]
    fn a_password_is_never_printed() {
        assert_eq!(format!("{:?}", password("a", "secret")), "Password");
    }
}
