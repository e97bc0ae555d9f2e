//! References: how people and registries name images. The grammar and its limits are those of
//! Docker's `distribution/reference`, so that what one accepts the other does too.

use std::fmt;
use std::str::FromStr;

use crate::error::Failure;
use crate::image::digest::{self, Digest};

/// The registry of a name without a host.
const DEFAULT_DOMAIN: &str = "docker.io";
/// The folder of Docker Hub's own images.
const OFFICIAL: &str = "library/";
/// What a name without a tag means.
pub const DEFAULT_TAG: &str = "latest";
/// Bytes of the repository's path.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A normalised reference: `docker.io/library/busybox:1.36`, printed in full by `Display`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry's host and perhaps port.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository inside the registry, `library/busybox`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What the registry is asked for: the digest where there is one, else the tag.
    #[must_use]
    pub fn wanted(&self) -> &str {
        self.digest.as_ref().map_or_else(|| self.tag().unwrap_or(DEFAULT_TAG), Digest::as_str)
    }

    /// Host and repository, in full.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Host and repository as people write them: without what is Docker Hub's default.
    #[must_use]
    pub fn familiar_repository(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        let short = self.path.strip_prefix(OFFICIAL).filter(|name| !name.contains('/')).unwrap_or(&self.path);
        // Read again, it has to mean the same.
        let means_another = match short.split_once('/') {
            Some((first, _)) => is_host(first),
            None => short.len() == 64 && digest::is_hex(short),
        };
        if means_another { self.repository() } else { short.to_owned() }
    }

    /// The whole as people write it.
    #[must_use]
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_repository(), self.suffix())
    }

    /// With `latest` where neither tag nor digest was given.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The name under which the store keeps what this asks for: a digest makes the tag beside it
    /// meaningless.
    #[must_use]
    pub fn stored(&self) -> Self {
        let mut name = self.clone().or_latest();
        if name.digest.is_some() {
            name.tag = None;
        }
        name
    }

    /// The same repository with a digest alone.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The same tag and digest in another repository, given with its host: what `registries.conf` moves
    /// images to.
    ///
    /// # Errors
    /// It is not a host and a repository.
    pub fn at(&self, repository: &str) -> Result<Self, Failure> {
        let invalid = || Failure::new(format!("invalid location {repository:?}")).hint("write HOST[:PORT]/REPOSITORY");
        let (domain, path) = repository.split_once('/').ok_or_else(invalid)?;
        if !is_domain(domain) || !path.split('/').all(is_path_component) || path.len() > MAX_NAME {
            return Err(invalid());
        }
        Ok(Self { domain: domain.to_owned(), path: path.to_owned(), ..self.clone() })
    }

    /// The same repository with a tag alone.
    #[must_use]
    pub fn with_tag(&self, tag: &str) -> Self {
        Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() }
    }

    /// Whether a text names no registry.
    #[must_use]
    pub fn is_short(text: &str) -> bool {
        text.split_once('/').is_none_or(|(host, _)| !is_host(host))
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        tag + &digest
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.domain, self.path, self.suffix())
    }
}

impl FromStr for Reference {
    type Err = Failure;

    /// Reads what a person wrote. Docker's wording.
    fn from_str(text: &str) -> Result<Self, Failure> {
        let invalid = || Failure::new(format!("invalid reference format: {text:?}"));
        if text.len() == 64 && digest::is_hex(text) {
            return Err(Failure::new(format!(
                "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            )));
        }
        let (domain, rest) = split_domain(text);
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|e| invalid().source(e))?)),
            None => (rest, None),
        };
        let (name, tag) = match rest.split_once(':') {
            Some((name, tag)) => (name, Some(tag.to_owned())),
            None => (rest, None),
        };
        let path =
            if domain == DEFAULT_DOMAIN && !name.contains('/') { format!("{OFFICIAL}{name}") } else { name.to_owned() };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(Failure::new(format!("invalid reference format: repository name ({path}) must be lowercase")));
        }
        if !is_domain(domain) || !path.split('/').all(is_path_component) || !tag.as_deref().is_none_or(is_tag) {
            return Err(invalid());
        }
        if path.len() > MAX_NAME {
            return Err(Failure::new(format!(
                "invalid reference format: repository name must not be more than {MAX_NAME} characters"
            )));
        }
        Ok(Self { domain: domain.to_owned(), path, tag, digest })
    }
}

/// The first component is a host when it looks like one: a dot, a port, `localhost`, or capitals
/// (which no repository may have).
fn split_domain(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((host, rest)) if is_host(host) => (if host == "index.docker.io" { DEFAULT_DOMAIN } else { host }, rest),
        _ => (DEFAULT_DOMAIN, text),
    }
}

fn is_host(text: &str) -> bool {
    text.contains(['.', ':']) || text == "localhost" || text.bytes().any(|b| b.is_ascii_uppercase())
}

/// Host names, IPv4 addresses, IPv6 addresses in brackets; then perhaps a port.
fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match port.strip_prefix(':') {
                None if port.is_empty() => return true,
                None => return false,
                Some(port) => ("v6", Some(port)),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    host.split('.').all(|label| {
        let bytes = label.as_bytes();
        !bytes.is_empty()
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
            && bytes.first() != Some(&b'-')
            && bytes.last() != Some(&b'-')
    }) && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut rest = text.as_bytes();
    loop {
        let word = rest.iter().take_while(|b| is_word(**b)).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        if rest.is_empty() {
            return true;
        }
        let separator = rest.iter().take_while(|b| !is_word(**b)).count();
        match &rest[..separator] {
            b"." | b"_" | b"__" => {}
            dashes if dashes.iter().all(|b| *b == b'-') => {}
            _ => return false,
        }
        rest = &rest[separator..];
    }
}

/// `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`
#[must_use]
pub fn is_tag(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=MAX_TAG).contains(&bytes.len())
        && (bytes[0].is_ascii_alphanumeric() || bytes[0] == b'_')
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn full(text: &str) -> String {
        text.parse::<Reference>().map_or_else(|e| e.to_string(), |r| r.stored().to_string())
    }

    #[test]
    fn defaults_are_docker_hubs() {
        assert_eq!(full("busybox"), "docker.io/library/busybox:latest");
        assert_eq!(full("a/b:1"), "docker.io/a/b:1");
        assert_eq!(full("index.docker.io/a/b"), "docker.io/a/b:latest");
        assert_eq!(full("docker.io/busybox"), "docker.io/library/busybox:latest");
        assert_eq!(full("localhost/x"), "localhost/x:latest");
        assert_eq!(full("localhost:5000"), "docker.io/library/localhost:5000");
        assert_eq!(full("localhost:5000/x:y"), "localhost:5000/x:y");
        assert_eq!(full("127.0.0.1:5000/a/b/c"), "127.0.0.1:5000/a/b/c:latest");
        assert_eq!(full("[::1]:5000/x"), "[::1]:5000/x:latest");
        assert_eq!(full("Host/x"), "Host/x:latest");
        assert_eq!(full("a__b/c-----d/e.f_g"), "docker.io/a__b/c-----d/e.f_g:latest");
    }

    #[test]
    fn a_digest_outweighs_a_tag() {
        assert_eq!(full(&format!("x:1@sha256:{HEX}")), format!("docker.io/library/x@sha256:{HEX}"));
    }

    #[test]
    fn the_familiar_form_can_be_read_back() {
        for text in
            ["busybox:1", "a/b:latest", "quay.io/a/b:c", "localhost:5000/x:y", "library/a/b:1", "docker.io/a.b/c:1"]
        {
            let reference: Reference = text.parse().expect(text);
            assert_eq!(reference.familiar(), text);
            assert_eq!(reference.to_string().parse::<Reference>().expect(text), reference);
        }
    }

    #[test]
    fn bad_references_are_refused() {
        let long = "a".repeat(256);
        let tag = format!("a:{}", "b".repeat(129));
        let bad = [
            "",
            ":",
            "a:",
            "@",
            "a@",
            "a@sha256:1",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a/",
            "/a",
            "a//b",
            "../a",
            "a b",
            "a:b:c",
            "a:.b",
            "a\0",
            "é",
            HEX,
            "[::1/x",
            "h_st.com/x",
            "host.com:port/x",
            "-.com/x",
            &long,
            &tag,
        ];
        for text in bad {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
        let error = "Busy/box".parse::<Reference>().map(|r| r.to_string());
        assert_eq!(error.ok().as_deref(), Some("Busy/box"));
        let error = "busyBox".parse::<Reference>().expect_err("capitals").to_string();
        assert_eq!(error, "invalid reference format: repository name (library/busyBox) must be lowercase");
    }
}
