//! What `login` keeps and `logout` forgets: an entry of the file, or of the program that the file names
//! for it. All else that is in the file stays as it is.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use base64::Engine;
use serde_json::{Map, Value, json};

use super::{AuthFile, Credentials, helper, key_of, normal};
use crate::config::{docker, read_text, variable};
use crate::error::Failure;
use crate::store::Lock;
use crate::store::record::{self, Durability};

/// A file with credentials.
#[derive(Debug, Clone)]
pub struct Place {
    path: PathBuf,
    /// It is Docker's, where Docker Hub has another name.
    is_dockers: bool,
}

/// Where credentials went.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    /// Into the file, readable for whoever can read it.
    InFile(PathBuf),
    ByHelper,
}

impl Place {
    /// `--authfile`, `REGISTRY_AUTH_FILE`, or Docker's own.
    ///
    /// # Errors
    /// There is no home folder for it.
    pub fn choose(authfile: Option<PathBuf>) -> Result<Self> {
        if let Some(path) = authfile.or_else(|| variable("REGISTRY_AUTH_FILE")) {
            return Ok(Self { path, is_dockers: false });
        }
        let dir = docker().ok_or_else(|| {
            Failure::new("there is no home folder for credentials")
                .hint("give --config, or set HOME, DOCKER_CONFIG or REGISTRY_AUTH_FILE")
        })?;
        Ok(Self { path: dir.join("config.json"), is_dockers: true })
    }

    /// What is kept here for a registry.
    ///
    /// # Errors
    /// The file is there and cannot be read, or the helper fails.
    pub fn find(&self, domain: &str) -> Result<Option<Credentials>> {
        super::read_credentials(&self.path, domain, "")
    }

    /// Keeps credentials. `user`: who the identity token is for.
    ///
    /// # Errors
    /// The file cannot be written, or the helper refuses.
    pub fn keep(&self, domain: &str, user: &str, credentials: &Credentials) -> Result<Kept> {
        self.change(|file, whole| {
            let helper = file.helper(domain);
            let entry = match (helper, credentials) {
                (Some(helper), credentials) => {
                    helper::store(helper, key_of(domain), credentials)?;
                    json!({})
                }
                (None, Credentials::Password { user, password }) => json!({"auth": encoded(user, password)}),
                (None, Credentials::IdentityToken(token)) => {
                    json!({"auth": encoded(user, ""), "identitytoken": token})
                }
            };
            let auths = auths(whole)?;
            auths.retain(|key, _| normal(key) != domain);
            auths.insert(self.key(domain).to_owned(), entry);
            Ok(if helper.is_some() { Kept::ByHelper } else { Kept::InFile(self.path.clone()) })
        })
    }

    /// Forgets a registry; false: nothing was known of it.
    ///
    /// # Errors
    /// As [`Self::keep`].
    pub fn forget(&self, domain: &str) -> Result<bool> {
        if read_text(&self.path)?.is_none() {
            return Ok(false);
        }
        self.change(|file, whole| {
            let mut known = match file.helper(domain) {
                Some(helper) => helper::erase(helper, key_of(domain))?,
                None => false,
            };
            let auths = auths(whole)?;
            let before = auths.len();
            auths.retain(|key, _| normal(key) != domain);
            known |= auths.len() != before;
            Ok(known)
        })
    }

    /// How Docker's message and file call the registry.
    #[must_use]
    pub fn key<'a>(&self, domain: &'a str) -> &'a str {
        if self.is_dockers { key_of(domain) } else { domain }
    }

    fn change<T>(&self, change: impl FnOnce(&AuthFile, &mut Map<String, Value>) -> Result<T>) -> Result<T> {
        // A link stays one: the file that it leads to is replaced.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let dir =
            path.parent().filter(|dir| !dir.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), Into::into);
        if !dir.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).with_context(|| format!("make {dir:?}"))?;
        }
        let _lock = Lock::exclusive(&dir).with_context(|| format!("lock {dir:?}"))?;
        let text = read_text(&path)?.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| "{}".to_owned());
        let damaged = || format!("{path:?} is damaged");
        let file: AuthFile = serde_json::from_str(&text).with_context(damaged)?;
        let mut whole: Map<String, Value> = serde_json::from_str(&text).with_context(damaged)?;
        let outcome = change(&file, &mut whole)?;
        let text = serde_json::to_string_pretty(&whole)? + "\n";
        record::replace(&path, text.as_bytes(), Durability::Synced).with_context(|| format!("write {path:?}"))?;
        Ok(outcome)
    }
}

fn auths(whole: &mut Map<String, Value>) -> Result<&mut Map<String, Value>> {
    let auths = whole.entry("auths").or_insert_with(|| json!({}));
    Ok(auths.as_object_mut().ok_or_else(|| Failure::new("\"auths\" is not an object"))?)
}

fn encoded(user: &str, password: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn password(user: &str, password: &str) -> Credentials {
        Credentials::Password { user: user.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn what_is_kept_is_found_and_forgotten_and_all_else_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("docker/config.json");
        let place = Place { path: path.clone(), is_dockers: true };
        assert!(!place.forget("a.io").expect("nothing there"));
        place.keep("a.io", "me", &password("me", "p:w")).expect("kept");
        assert_eq!(fs::metadata(&path).expect("made").permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).expect("read").replacen('{', "{\"HttpHeaders\": {\"b\": 1, \"a\": 2},", 1);
        fs::write(&path, text).expect("write");
        place.keep("docker.io", "hub", &Credentials::IdentityToken("t".to_owned())).expect("kept");
        let text = fs::read_to_string(&path).expect("read");
        assert!(text.contains("https://index.docker.io/v1/") && text.contains("\"b\": 1"), "{text}");
        assert_eq!(place.find("a.io").expect("read"), Some(password("me", "p:w")));
        assert_eq!(place.find("docker.io").expect("read"), Some(Credentials::IdentityToken("t".to_owned())));
        assert!(place.forget("docker.io").expect("forgotten"));
        assert!(!place.forget("docker.io").expect("gone"));
        assert_eq!(place.find("docker.io").expect("read"), None);
        assert!(fs::read_to_string(&path).expect("read").contains("HttpHeaders"));
    }

    #[test]
    fn a_link_to_the_file_stays_a_link() {
        let dir = tempfile::tempdir().expect("a folder");
        let (real, link) = (dir.path().join("real.json"), dir.path().join("config.json"));
        fs::write(&real, "").expect("write");
        std::os::unix::fs::symlink(&real, &link).expect("link");
        let place = Place { path: link.clone(), is_dockers: false };
        place.keep("docker.io", "me", &password("me", "x")).expect("kept");
        assert!(link.is_symlink() && fs::read_to_string(&real).expect("read").contains("\"docker.io\""));
    }
}
