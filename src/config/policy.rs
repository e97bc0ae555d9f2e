//! `policy.json`: which images are accepted, and by whose signature (containers-policy.json(5)). It is
//! read strictly: what is not understood refuses all images, since ignoring it could accept one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::{own, read_text};
use crate::error::Failure;
use crate::image::reference::Reference;

/// The machine's, where the user has none.
const SYSTEM: &str = "/etc/containers/policy.json";

/// What has to be true of an image; all requirements of a scope at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    AcceptAnything,
    Reject,
    Sigstore(Sigstore),
    /// A kind that is not supported: it refuses.
    Lacking(String),
}

/// Signed by one of these keys, as cosign does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sigstore {
    pub keys: Vec<Key>,
    pub identity: Identity,
}

/// A public key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    File(PathBuf),
    /// In base64.
    Data(String),
}

/// What a signature has to say of the image's name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Identity {
    MatchExact,
    MatchRepoDigestOrExact,
    MatchRepository,
    ExactReference { docker_reference: String },
    ExactRepository { docker_repository: String },
    RemapIdentity { prefix: String, signed_prefix: String },
}

/// Which requirements hold for which images.
#[derive(Debug)]
pub struct Policy {
    pub path: PathBuf,
    default: Vec<Requirement>,
    /// Requirements by the way that images come by, and by scope.
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    default: Vec<Value>,
    #[serde(default)]
    transports: Unique<Unique<Vec<Value>>>,
}

/// A map in which no name stands twice.
struct Unique<T>(BTreeMap<String, T>);

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Each<T> {
            type Value = Unique<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, T>()? {
                    if all.contains_key(&name) {
                        return Err(serde::de::Error::custom(format!("{name:?} stands there twice")));
                    }
                    all.insert(name, value);
                }
                Ok(Unique(all))
            }
        }
        deserializer.deserialize_map(Each(std::marker::PhantomData))
    }
}

impl Policy {
    /// The user's, or the machine's. `None`: there is neither, and all images are accepted, as Docker
    /// accepts them.
    ///
    /// # Errors
    /// A file that cannot be read or understood: its name, and where.
    pub fn read() -> Result<Option<Self>> {
        for path in own("policy.json").into_iter().chain([PathBuf::from(SYSTEM)]) {
            if let Some(text) = read_text(&path)? {
                return Self::parse(&path, &text).map(Some);
            }
        }
        Ok(None)
    }

    /// What one file says.
    ///
    /// # Errors
    /// It cannot be understood: its name, and where.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let context = || format!("read {path:?}");
        let written: Written = serde_json::from_str(text).with_context(context)?;
        let default = requirements(&written.default).context("\"default\"").with_context(context)?;
        let mut transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>> = BTreeMap::new();
        for (transport, scopes) in written.transports.0 {
            for (scope, values) in scopes.0 {
                let all = requirements(&values)
                    .with_context(|| format!("scope {scope:?} of transport {transport:?}"))
                    .with_context(context)?;
                transports.entry(transport.clone()).or_default().insert(scope, all);
            }
        }
        Ok(Self { path: path.to_owned(), default, transports })
    }

    /// What holds for an image of a registry: the requirements of the narrowest scope that has any.
    #[must_use]
    pub fn of(&self, name: &Reference) -> &[Requirement] {
        let docker = self.transports.get("docker");
        let found = scopes(name).into_iter().chain([String::new()]).find_map(|scope| docker?.get(&scope));
        found.unwrap_or(&self.default)
    }

    /// What holds for all that comes by `transport`, such as `docker-archive`. Narrower scopes of it are
    /// paths and names of files, which say nothing when it comes through a pipe.
    #[must_use]
    pub fn of_all(&self, transport: &str) -> &[Requirement] {
        self.transports.get(transport).and_then(|scopes| scopes.get("")).unwrap_or(&self.default)
    }
}

/// Scopes of an image, the narrowest first: itself, its repository, the folders above, the host, and
/// the domains of the host.
fn scopes(name: &Reference) -> Vec<String> {
    let mut scopes = vec![name.stored().to_string()];
    let mut rest = name.repository();
    loop {
        scopes.push(rest.clone());
        match rest.rsplit_once('/') {
            Some((above, _)) => rest = above.to_owned(),
            None => break,
        }
    }
    let mut domain = name.domain();
    while let Some((_, above)) = domain.split_once('.') {
        scopes.push(format!("*.{above}"));
        domain = above;
    }
    scopes
}

fn requirements(values: &[Value]) -> Result<Vec<Requirement>> {
    if values.is_empty() {
        return Err(Failure::new("the list of requirements is empty").into());
    }
    values.iter().map(requirement).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenSigstore {
    #[serde(rename = "type")]
    _kind: String,
    key_path: Option<PathBuf>,
    key_paths: Option<Vec<PathBuf>>,
    key_data: Option<String>,
    key_datas: Option<Vec<String>>,
    signed_identity: Option<Identity>,
}

/// Members that ask for more than a public key.
const MORE: &[&str] =
    &["fulcio", "pki", "rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas"];

fn requirement(value: &Value) -> Result<Requirement> {
    let members = value.as_object().ok_or_else(|| Failure::new("a requirement is not an object"))?;
    let kind =
        members.get("type").and_then(Value::as_str).ok_or_else(|| Failure::new("a requirement has no \"type\""))?;
    let alone = |requirement| match members.keys().find(|name| *name != "type") {
        Some(name) => Err(Failure::new(format!("{kind:?} has nothing called {name:?}")).into()),
        None => Ok(requirement),
    };
    match kind {
        "insecureAcceptAnything" => alone(Requirement::AcceptAnything),
        "reject" => alone(Requirement::Reject),
        "sigstoreSigned" => {
            if let Some(more) = MORE.iter().find(|name| members.contains_key(**name)) {
                return Ok(Requirement::Lacking(format!("{kind} with {more}")));
            }
            let written: WrittenSigstore = serde_json::from_value(value.clone()).with_context(|| kind.to_owned())?;
            let given = [
                written.key_path.map(|path| vec![Key::File(path)]),
                written.key_paths.map(|paths| paths.into_iter().map(Key::File).collect()),
                written.key_data.map(|data| vec![Key::Data(data)]),
                written.key_datas.map(|datas| datas.into_iter().map(Key::Data).collect()),
            ];
            let mut given = given.into_iter().flatten();
            let (Some(keys), None) = (given.next(), given.next()) else {
                return Err(Failure::new("\"sigstoreSigned\" wants one of keyPath, keyPaths, keyData, keyDatas").into());
            };
            if keys.is_empty() {
                return Err(Failure::new("\"sigstoreSigned\" has no key").into());
            }
            let identity = written.signed_identity.unwrap_or(Identity::MatchRepoDigestOrExact);
            Ok(Requirement::Sigstore(Sigstore { keys, identity }))
        }
        other => Ok(Requirement::Lacking(other.to_owned())),
    }
}

impl Identity {
    /// Whether a signature for `signed` is one for the image that was asked for as `wanted`.
    ///
    /// # Errors
    /// A name in the policy that is none.
    pub fn accepts(&self, wanted: &Reference, signed: &Reference) -> Result<bool> {
        let exact_or_digest = |wanted: &Reference| {
            if wanted.digest().is_some() { wanted.repository() == signed.repository() } else { wanted == signed }
        };
        Ok(match self {
            Self::MatchExact => wanted == signed,
            Self::MatchRepoDigestOrExact => exact_or_digest(wanted),
            Self::MatchRepository => wanted.repository() == signed.repository(),
            Self::ExactReference { docker_reference } => docker_reference.parse::<Reference>()? == *signed,
            Self::ExactRepository { docker_repository } => {
                docker_repository.parse::<Reference>()?.repository() == signed.repository()
            }
            Self::RemapIdentity { prefix, signed_prefix } => {
                let repository = wanted.repository();
                match repository.strip_prefix(prefix.as_str()).filter(|rest| rest.is_empty() || rest.starts_with('/')) {
                    Some(rest) => exact_or_digest(&wanted.at(&format!("{signed_prefix}{rest}"))?),
                    None => exact_or_digest(wanted),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Policy> {
        Policy::parse(Path::new("/p.json"), text)
    }

    fn name(text: &str) -> Reference {
        text.parse::<Reference>().expect(text).or_latest()
    }

    #[test]
    fn the_narrowest_scope_counts() {
        let accept = r#"[{"type":"insecureAcceptAnything"}]"#;
        let policy = parse(&format!(
            r#"{{"default":[{{"type":"reject"}}],"transports":{{
                "docker":{{"docker.io/library":{accept},"docker.io/library/bad:1":[{{"type":"reject"}}],
                    "*.example.com":{accept},"localhost:5000/a":[{{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}}]}},
                "docker-daemon":{{"":{accept}}}}}}}"#
        ))
        .expect("good");
        assert_eq!(policy.of(&name("busybox")), [Requirement::AcceptAnything]);
        assert_eq!(policy.of(&name("bad:1")), [Requirement::Reject]);
        assert_eq!(policy.of(&name("bad:2")), [Requirement::AcceptAnything]);
        assert_eq!(policy.of(&name("me/app")), [Requirement::Reject]);
        assert_eq!(policy.of(&name("x.y.example.com/a")), [Requirement::AcceptAnything]);
        assert_eq!(policy.of(&name("example.com/a")), [Requirement::Reject]);
        assert_eq!(policy.of(&name("localhost:5000/a/b")), [Requirement::Lacking("signedBy".to_owned())]);
        assert_eq!(policy.of(&name("localhost:5000/ab")), [Requirement::Reject]);
        assert_eq!(policy.of_all("docker-daemon"), [Requirement::AcceptAnything]);
        assert_eq!(policy.of_all("docker-archive"), [Requirement::Reject]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (text, why) in [
            ("{}", "missing field `default`"),
            (r#"{"default":[]}"#, "empty"),
            (r#"{"default":[{"type":"reject","x":1}]}"#, "nothing called \"x\""),
            (r#"{"default":[{"type":"reject"}],"more":1}"#, "unknown field"),
            (r#"{"default":[{}]}"#, "no \"type\""),
            (r#"{"default":[{"type":"sigstoreSigned"}]}"#, "wants one of"),
            (r#"{"default":[{"type":"sigstoreSigned","keyPath":"a","keyData":"b"}]}"#, "wants one of"),
            (r#"{"default":[{"type":"sigstoreSigned","keyPath":"a","x":1}]}"#, "unknown field"),
            (
                r#"{"default":[{"type":"sigstoreSigned","keyPath":"a","signedIdentity":{"type":"matchAll"}}]}"#,
                "unknown variant",
            ),
            (
                r#"{"default":[{"type":"reject"}],"transports":{"docker":{"a":[{"type":"reject"}],"a":[{"type":"reject"}]}}}"#,
                "twice",
            ),
        ] {
            let error = format!("{:#}", parse(text).expect_err(text));
            assert!(error.contains(why) && error.contains("\"/p.json\""), "{text}: {error}");
        }
        let lacking = parse(r#"{"default":[{"type":"sigstoreSigned","fulcio":{}}]}"#).expect("good");
        assert_eq!(lacking.of(&name("a")), [Requirement::Lacking("sigstoreSigned with fulcio".to_owned())]);
    }

    #[test]
    fn names_in_signatures_are_compared_as_the_policy_wants() {
        let identity = |text: &str| serde_json::from_str::<Identity>(text).expect(text);
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let by_digest = format!("a.io/x@{digest}");
        let accepts = |text: &str, wanted: &str, signed: &str| {
            identity(text).accepts(&name(wanted), &name(signed)).expect("names")
        };
        let either = r#"{"type":"matchRepoDigestOrExact"}"#;
        assert!(accepts(either, "a.io/x:1", "a.io/x:1") && !accepts(either, "a.io/x:1", "a.io/x:2"));
        assert!(accepts(either, &by_digest, "a.io/x:2") && !accepts(either, &by_digest, "a.io/y:2"));
        let exact = r#"{"type":"matchExact"}"#;
        assert!(accepts(exact, "a.io/x:1", "a.io/x:1") && !accepts(exact, &by_digest, "a.io/x:2"));
        let repository = r#"{"type":"matchRepository"}"#;
        assert!(accepts(repository, "a.io/x:1", "a.io/x:2") && !accepts(repository, "a.io/x:1", "a.io/xy:1"));
        let reference = r#"{"type":"exactReference","dockerReference":"b.io/x:3"}"#;
        assert!(accepts(reference, "a.io/x:1", "b.io/x:3") && !accepts(reference, "b.io/x:3", "b.io/x:4"));
        let repository = r#"{"type":"exactRepository","dockerRepository":"b.io/x"}"#;
        assert!(accepts(repository, "a.io/x:1", "b.io/x:3") && !accepts(repository, "a.io/x:1", "b.io/y:3"));
        let remap = r#"{"type":"remapIdentity","prefix":"mirror.io/of","signedPrefix":"b.io"}"#;
        assert!(accepts(remap, "mirror.io/of/x:1", "b.io/x:1") && !accepts(remap, "mirror.io/of/x:1", "b.io/x:2"));
        assert!(accepts(remap, "a.io/x:1", "a.io/x:1") && !accepts(remap, "mirror.io/off/x:1", "b.io/x:1"));
    }
}
