//! Public keys, in the form that cosign and openssl write: PEM of a `SubjectPublicKeyInfo` (RFC 5280,
//! section 4.1.2.7).

use anyhow::Result;
use base64::Engine;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};

use crate::error::Failure;

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

/// Object identifiers, encoded.
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EDWARDS: &[u8] = &[0x2b, 0x65, 0x70];

const SEQUENCE: u8 = 0x30;
const OBJECT: u8 = 0x06;
const BITS: u8 = 0x03;

/// A key that can tell whose a signature is.
pub struct PublicKey {
    algorithm: &'static dyn VerificationAlgorithm,
    key: Vec<u8>,
}

impl PublicKey {
    /// # Errors
    /// It is not PEM of a public key, or of a kind that is not supported.
    pub fn from_pem(pem: &[u8]) -> Result<Self> {
        let none = || Failure::new("it is not a public key in PEM").hint("it begins with -----BEGIN PUBLIC KEY-----");
        let text = std::str::from_utf8(pem).map_err(|_| none())?;
        let (_, rest) = text.split_once(BEGIN).ok_or_else(none)?;
        let (inside, _) = rest.split_once(END).ok_or_else(none)?;
        let inside: String = inside.split_whitespace().collect();
        let der = base64::engine::general_purpose::STANDARD.decode(inside).map_err(|_| none())?;
        let (algorithm, key) = info(&der).ok_or_else(none)?;
        let algorithm = algorithm.ok_or_else(|| {
            Failure::new("the key is of a kind that is not supported")
                .hint("supported are ECDSA on P-256 and P-384, RSA, Ed25519")
        })?;
        Ok(Self { algorithm, key: key.to_vec() })
    }

    /// Whether `signature` is this key's of these bytes.
    #[must_use]
    pub fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm, &self.key).verify(bytes, signature).is_ok()
    }
}

type Info<'a> = (Option<&'static dyn VerificationAlgorithm>, &'a [u8]);

/// `SEQUENCE { SEQUENCE { algorithm, parameters }, BIT STRING }`.
fn info(der: &[u8]) -> Option<Info<'_>> {
    let (whole, rest) = element(der, SEQUENCE)?;
    let (algorithm, whole) = element(whole, SEQUENCE).filter(|_| rest.is_empty())?;
    let (name, parameters) = element(algorithm, OBJECT)?;
    let (bits, rest) = element(whole, BITS)?;
    // The first byte says how many bits of the last one are none.
    let (0, key) = bits.split_first().map(|(unused, key)| (*unused, key)).filter(|_| rest.is_empty())? else {
        return None;
    };
    let curve = element(parameters, OBJECT).map(|(curve, _)| curve);
    let algorithm: Option<&'static dyn VerificationAlgorithm> = match (name, curve) {
        (EC, Some(P256)) => Some(&ECDSA_P256_SHA256_ASN1),
        (EC, Some(P384)) => Some(&ECDSA_P384_SHA256_ASN1),
        (RSA, _) => Some(&RSA_PKCS1_2048_8192_SHA256),
        (EDWARDS, _) => Some(&ED25519),
        _ => None,
    };
    Some((algorithm, key))
}

/// The content of the element that comes next, and what is behind it (X.690, section 8.1).
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ 0..=0x7f => (usize::from(short), rest),
        // The length of a key takes two bytes at most.
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), rest.get(2..)?),
        _ => return None,
    };
    (*first == tag && rest.len() >= length).then(|| rest.split_at(length))
}
