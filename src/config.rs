//! What the machine and the user have set up for other tools of the field, read as those do:
//! credentials for registries, registries without TLS, certificates of registries.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use base64::Engine;
use serde::Deserialize;

use crate::error::Failure;

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
pub fn credentials(domain: &str, repository: &str) -> Option<Credentials> {
    auth_files().iter().find_map(|path| {
        read_credentials(path, domain, repository).unwrap_or_else(|e| {
            crate::error::warn(&format!("credentials in {path:?} are not used: {e:#}"));
            None
        })
    })
}

/// What one file has for a repository of a registry.
///
/// # Errors
/// A file that is there and cannot be read; a credential helper that fails.
fn read_credentials(path: &Path, domain: &str, repository: &str) -> Result<Option<Credentials>> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let file: AuthFile = serde_json::from_str(&text).context("damaged")?;
    file.find(domain, repository)
}

/// Files that may have credentials, in the order in which they are asked: containers-auth.json(5),
/// and Docker's own.
fn auth_files() -> Vec<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let mut files: Vec<PathBuf> = variable("REGISTRY_AUTH_FILE").into_iter().collect();
    match variable("XDG_RUNTIME_DIR") {
        Some(dir) => files.push(dir.join("containers/auth.json")),
        None => files.push(format!("/run/containers/{}/auth.json", nix::unistd::geteuid()).into()),
    }
    if let Some(dir) = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config"))) {
        files.push(dir.join("containers/auth.json"));
    }
    if let Some(dir) = variable("DOCKER_CONFIG").or_else(|| Some(variable("HOME")?.join(".docker"))) {
        files.push(dir.join("config.json"));
    }
    files
}

impl AuthFile {
    fn find(&self, domain: &str, repository: &str) -> Result<Option<Credentials>> {
        if let Some(helper) = self.cred_helpers.get(domain) {
            return ask_helper(helper, domain);
        }
        // A key may be a host, or a host and the beginning of a repository; the longest one counts.
        let mut keys = vec![format!("{domain}/{repository}")];
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
        ask_helper(&self.creds_store, if domain == "docker.io" { DOCKER_HUB } else { domain })
    }
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

/// Asks `docker-credential-NAME`, by the protocol of docker-credential-helpers.
fn ask_helper(name: &str, server: &str) -> Result<Option<Credentials>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let program = format!("docker-credential-{name}");
    let failed = |e| Failure::new(format!("run {program:?}")).source(e).hint(format!("install {program}"));
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may answer without reading.
        let _ = stdin.write_all(server.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        // This is how it says that it has none.
        return Ok(None);
    }
    let answer: Answer = serde_json::from_slice(&output.stdout).with_context(|| format!("answer of {program:?}"))?;
    Ok(Some(if answer.username == "<token>" {
        Credentials::IdentityToken(answer.secret)
    } else {
        Credentials::Password { user: answer.username, password: answer.secret }
    }))
}

/// `registries.conf`, version 2, as far as pulls need it: containers-registries.conf(5).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Registries {
    registry: Vec<RegistryTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RegistryTable {
    prefix: String,
    location: String,
    insecure: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Daemon {
    insecure_registries: Vec<String>,
}

/// Whether the registry may be talked to without a certificate that is known, or without TLS:
/// loopback addresses, and what is marked so in `registries.conf` or Docker's `daemon.json`.
///
/// # Errors
/// A file that is there and cannot be understood.
pub fn is_insecure(domain: &str, repository: &str) -> Result<bool> {
    let host = host(domain);
    if is_loopback(host) {
        return Ok(true);
    }
    let mut insecure = false;
    for path in registries_files() {
        let Some(text) = read_text(&path)? else { continue };
        let file: Registries = toml::from_str(&text).with_context(|| format!("read {path:?}"))?;
        // Later files go before earlier ones.
        insecure = file.is_insecure(domain, repository).unwrap_or(insecure);
    }
    if let Some(text) = read_text(Path::new("/etc/docker/daemon.json"))? {
        let daemon: Daemon = serde_json::from_str(&text).context("read \"/etc/docker/daemon.json\"")?;
        insecure |= daemon.insecure_registries.iter().any(|entry| entry == domain || in_network(host, entry));
    }
    Ok(insecure)
}

impl Registries {
    /// What the longest prefix that fits says.
    fn is_insecure(&self, domain: &str, repository: &str) -> Option<bool> {
        let whole = format!("{domain}/{repository}");
        let fits = |prefix: &str| {
            prefix == domain
                || whole == prefix
                || whole.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
                || prefix
                    .strip_prefix('*')
                    .is_some_and(|suffix| suffix.starts_with('.') && host(domain).ends_with(suffix))
        };
        self.registry
            .iter()
            .map(|table| (if table.prefix.is_empty() { &table.location } else { &table.prefix }, table.insecure))
            .filter(|(prefix, _)| fits(prefix))
            .max_by_key(|(prefix, _)| prefix.len())
            .and_then(|(_, insecure)| insecure)
    }
}

fn registries_files() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/etc/containers/registries.conf")];
    let mut folders = vec![PathBuf::from("/etc/containers/registries.conf.d")];
    if let Some(home) = std::env::var_os("HOME") {
        let own = Path::new(&home).join(".config/containers");
        if own.join("registries.conf").exists() {
            files = vec![own.join("registries.conf")];
        }
        folders.push(own.join("registries.conf.d"));
    }
    for folder in folders {
        let mut inside: Vec<PathBuf> =
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        inside.retain(|path| path.extension().is_some_and(|e| e == "conf"));
        inside.sort();
        files.extend(inside);
    }
    files
}

fn read_text(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e).with_context(|| format!("read {path:?}")),
    }
}

/// A domain without its port and brackets.
fn host(domain: &str) -> &str {
    if let Some(rest) = domain.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    domain.split(':').next().unwrap_or(domain)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a host is an address in a network such as `10.0.0.0/8`.
fn in_network(host: &str, network: &str) -> bool {
    let Some((base, bits)) = network.split_once('/') else { return false };
    let number = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    match (host.parse().map(number), base.parse().map(number), bits.parse::<u32>()) {
        (Ok((host, width)), Ok((base, other)), Ok(bits)) if width == other && bits <= width => {
            bits == 0 || (host ^ base) >> (128 - bits) == 0
        }
        _ => false,
    }
}

/// Folders that may hold certificates for one registry: Docker's and containers' `certs.d`.
#[must_use]
pub fn certificate_folders(domain: &str) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        ["/etc/containers/certs.d", "/etc/docker/certs.d"].iter().map(|d| Path::new(d).join(domain)).collect();
    if let Some(home) = std::env::var_os("HOME") {
        folders.push(Path::new(&home).join(".config/containers/certs.d").join(domain));
        folders.push(Path::new(&home).join(".docker/certs.d").join(domain));
    }
    folders
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

    #[test]
    fn loopback_is_insecure() {
        for (domain, is) in [
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("localhost.example.com", false),
            ("128.0.0.1", false),
        ] {
            assert_eq!(is_loopback(host(domain)), is, "{domain}");
        }
    }

    #[test]
    fn registries_conf_is_understood() {
        let text = "unqualified-search-registries = ['docker.io']\n[[registry]]\nlocation = \"reg.lan:5000\"\ninsecure = true\n\
                    [[registry]]\nprefix = \"reg.lan:5000/safe\"\nlocation = \"x\"\ninsecure = false\n\
                    [[registry]]\nprefix = \"*.test\"\ninsecure = true\n";
        let file: Registries = toml::from_str(text).expect("toml");
        assert_eq!(file.is_insecure("reg.lan:5000", "a"), Some(true));
        assert_eq!(file.is_insecure("reg.lan:5000", "safe/a"), Some(false));
        assert_eq!(file.is_insecure("a.b.test:80", "x"), Some(true));
        assert_eq!(file.is_insecure("reg.lan", "a"), None);
    }

    #[test]
    fn networks_are_compared_by_their_bits() {
        assert!(in_network("10.1.2.3", "10.0.0.0/8"));
        assert!(!in_network("11.1.2.3", "10.0.0.0/8"));
        assert!(in_network("fd00::1", "fd00::/16"));
        assert!(in_network("1.2.3.4", "0.0.0.0/0"));
        assert!(!in_network("host", "10.0.0.0/8") && !in_network("10.0.0.1", "10.0.0.0/99"));
    }
}
