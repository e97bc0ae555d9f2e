//! Whether an image that is about to be pulled or loaded is accepted: what the policy wants of it, and the
//! signatures that lie beside it in its registry, as cosign puts them there.
//!
//! A signature is a layer of the manifest with the tag `sha256-DIGEST.sig`: a text that names the image
//! and its digest ("simple signing"), and in an annotation the signature of just those bytes.

mod key;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use self::key::PublicKey;
use crate::config::policy::{Key, Policy, Requirement, Sigstore};
use crate::error::{self, Failure};
use crate::image::digest::Digest;
use crate::image::index::Descriptor;
use crate::image::reference::Reference;
use crate::registry::Repository;

/// What a signature's layer is.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const KIND: &str = "cosign container image signature";
/// Signatures of one image that are looked at.
const MAX_SIGNATURES: usize = 100;
/// Bytes of such a text; cosign writes some three hundred.
const MAX_PAYLOAD: usize = 64 << 10;

/// A text and the signature of it.
#[derive(Debug)]
struct Signature {
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// The text: containers-signature(5), section "JSON data format".
#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    identity: IdentityClaim,
    image: ImageClaim,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct IdentityClaim {
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ImageClaim {
    docker_manifest_digest: Digest,
}

/// Whether the image may be pulled. `name`: as it was asked for, wherever it comes from. `digests`: what
/// the name led to, an index perhaps, and the manifest that it led on to: a signature of either holds,
/// as the first names the second.
///
/// # Errors
/// The policy refuses, asks for what is not supported, or cannot be understood.
pub fn check(name: &Reference, repository: &Repository, digests: &[Digest]) -> Result<()> {
    let Some(policy) = Policy::read()? else { return Ok(()) };
    let mut signatures = None;
    for requirement in policy.of(name) {
        let refused = |why: String| refusal(&policy, &format!("image {:?}", name.familiar()), &why);
        match requirement {
            Requirement::AcceptAnything => {}
            Requirement::Reject => return Err(refused("it rejects it".to_owned()).into()),
            Requirement::Lacking(kind) => {
                return Err(refused(format!("it wants {kind:?}, which is not supported")).into());
            }
            Requirement::Sigstore(wanted) => {
                let keys = keys(wanted).with_context(|| format!("policy {:?}", policy.path))?;
                if signatures.is_none() {
                    signatures = Some(fetch(repository, digests)?);
                }
                accept(name, digests, wanted, &keys, signatures.as_deref().unwrap_or_default()).map_err(refused)?;
            }
        }
    }
    Ok(())
}

/// Whether the images of an archive may be loaded. `transport`: what kind of archive it is. There are no
/// signatures in one, so where the policy wants some, they may not.
///
/// # Errors
/// The policy refuses, or cannot be understood.
pub fn check_archive(transport: &str) -> Result<()> {
    let Some(policy) = Policy::read()? else { return Ok(()) };
    for requirement in policy.of_all(transport) {
        let why = match requirement {
            Requirement::AcceptAnything => continue,
            Requirement::Reject => format!("it rejects what comes by {transport:?}"),
            Requirement::Sigstore(_) => "it wants a signature, and an archive has none".to_owned(),
            Requirement::Lacking(kind) => format!("it wants {kind:?}, which is not supported"),
        };
        return Err(refusal(&policy, "the archive", &why).into());
    }
    Ok(())
}

fn refusal(policy: &Policy, what: &str, why: &str) -> Failure {
    Failure::new(format!("{what} is refused by the policy: {why}")).hint(format!("the policy is {:?}", policy.path))
}

/// Whether one of the signatures is what is wanted; else what is wrong with the last one.
fn accept(
    name: &Reference,
    digests: &[Digest],
    wanted: &Sigstore,
    keys: &[PublicKey],
    signatures: &[Signature],
) -> Result<(), String> {
    let mut why = "a signature is required, and there is none".to_owned();
    for signature in signatures {
        match fits(name, digests, wanted, keys, signature) {
            Ok(()) => return Ok(()),
            Err(reason) => why = error::message(&reason),
        }
    }
    Err(why)
}

fn fits(
    name: &Reference,
    digests: &[Digest],
    wanted: &Sigstore,
    keys: &[PublicKey],
    signature: &Signature,
) -> Result<()> {
    // Nothing that it says is looked at before it is known who says it.
    if !keys.iter().any(|key| key.has_signed(&signature.payload, &signature.signature)) {
        return Err(Failure::new("no signature is by a key that it trusts").into());
    }
    let payload: Payload = serde_json::from_slice(&signature.payload).context("damaged signature")?;
    let critical = payload.critical;
    if critical.kind != KIND {
        return Err(Failure::new(format!("a signature is of the unknown type {:?}", critical.kind)).into());
    }
    let signed = critical.image.docker_manifest_digest;
    if !digests.contains(&signed) {
        return Err(Failure::new(format!("a signature is for another image, {signed}")).into());
    }
    let claimed: Reference = critical.identity.docker_reference.parse()?;
    // cosign names a repository alone, which no name with a tag equals.
    if !wanted.identity.accepts(&name.stored(), &claimed)? {
        return Err(Failure::new(format!("it is signed as {:?}", claimed.to_string())).into());
    }
    Ok(())
}

fn keys(wanted: &Sigstore) -> Result<Vec<PublicKey>> {
    let mut keys = Vec::new();
    for key in &wanted.keys {
        let (pem, what) = match key {
            Key::File(path) => {
                (std::fs::read(path).with_context(|| format!("read {path:?}"))?, format!("key {path:?}"))
            }
            Key::Data(text) => (STANDARD.decode(text.trim()).context("keyData is not base64")?, "keyData".to_owned()),
        };
        keys.push(PublicKey::from_pem(&pem).with_context(|| what)?);
    }
    Ok(keys)
}

/// All signatures of these digests that lie in the repository.
fn fetch(repository: &Repository, digests: &[Digest]) -> Result<Vec<Signature>> {
    #[derive(Deserialize)]
    struct Signed {
        layers: Vec<Descriptor>,
    }
    let mut all = Vec::new();
    for digest in digests {
        let tag = format!("sha256-{}.sig", digest.hex());
        let Some((bytes, _)) = repository.manifest_if_any(&tag).context("look for signatures")? else { continue };
        let manifest: Signed = serde_json::from_slice(&bytes).with_context(|| format!("damaged signatures {tag:?}"))?;
        for layer in manifest.layers.iter().filter(|layer| layer.media_type == SIMPLE_SIGNING).take(MAX_SIGNATURES) {
            let note = layer.annotations.as_ref().and_then(|notes| notes.get(SIGNATURE));
            // One that is damaged is none; another may be good.
            let Some(Ok(signature)) = note.map(|text| STANDARD.decode(text.trim())) else { continue };
            let payload = repository.document(&layer.digest)?;
            if payload.len() <= MAX_PAYLOAD {
                all.push(Signature { payload, signature });
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
