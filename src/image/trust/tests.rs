use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

use super::*;
use crate::config::policy::Identity;

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
}

/// A key pair, its public half in PEM.
fn pair() -> (EcdsaKeyPair, String) {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("made");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random).expect("read");
    let mut der = vec![0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    der.extend([0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00]);
    der.extend(pair.public_key().as_ref());
    let text = pem(&der);
    (pair, text)
}

fn signed(pair: &EcdsaKeyPair, name: &str, digest: &Digest, kind: &str) -> Signature {
    let payload = format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"{name}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"{kind}"}},"optional":{{"creator":"x"}}}}"#
    );
    let signature = pair.sign(&SystemRandom::new(), payload.as_bytes()).expect("signed").as_ref().to_vec();
    Signature { payload: payload.into_bytes(), signature }
}

#[test]
fn a_signature_counts_for_its_image_and_name_and_key() {
    let ((ours, key), (theirs, _)) = (pair(), pair());
    let name: Reference = "a.io/x:1".parse().expect("a name");
    let digest = Digest::of(b"manifest");
    let keys = [PublicKey::from_pem(key.as_bytes()).expect("a key")];
    let wanted = |identity| Sigstore { keys: Vec::new(), identity };
    let repository = wanted(Identity::MatchRepository);
    let try_one = |wanted: &Sigstore, signature: Signature| {
        accept(&name, std::slice::from_ref(&digest), wanted, &keys, &[signature])
    };
    assert_eq!(try_one(&repository, signed(&ours, "a.io/x", &digest, KIND)), Ok(()));
    assert_eq!(try_one(&wanted(Identity::MatchRepoDigestOrExact), signed(&ours, "a.io/x:1", &digest, KIND)), Ok(()));
    let refused = |wanted: &Sigstore, signature, why: &str| {
        let reason = try_one(wanted, signature).expect_err(why);
        assert!(reason.contains(why), "{reason}");
    };
    refused(&repository, signed(&theirs, "a.io/x", &digest, KIND), "no signature is by a key");
    refused(&repository, signed(&ours, "a.io/y", &digest, KIND), "signed as \"a.io/y\"");
    refused(&repository, signed(&ours, "a.io/x", &Digest::of(b"other"), KIND), "for another image");
    refused(&repository, signed(&ours, "a.io/x", &digest, "atomic container signature"), "unknown type");
    refused(&wanted(Identity::MatchRepoDigestOrExact), signed(&ours, "a.io/x", &digest, KIND), "signed as");
    // A word that was changed.
    let mut forged = signed(&ours, "a.io/x", &digest, KIND);
    forged.payload.push(b' ');
    refused(&repository, forged, "no signature is by a key");
    assert!(accept(&name, &[digest], &repository, &keys, &[]).expect_err("none").contains("there is none"));
}

#[test]
fn keys_of_other_kinds() {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("made");
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("read");
    let mut der = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    der.extend(pair.public_key().as_ref());
    let key = PublicKey::from_pem(pem(&der).as_bytes()).expect("a key");
    assert!(
        key.has_signed(b"text", pair.sign(b"text").as_ref()) && !key.has_signed(b"texts", pair.sign(b"text").as_ref())
    );
    // DSA.
    let der = [0x30, 0x0e, 0x30, 0x09, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01, 0x03, 0x01, 0x00];
    let error = PublicKey::from_pem(pem(&der).as_bytes()).err().expect("unknown").to_string();
    assert!(error.contains("not supported"), "{error}");
    for text in ["", "-----BEGIN PUBLIC KEY-----", &pem(b"x"), &pem(&[0x30, 0x82]), &pem(&[0x30, 0x84, 1, 1, 1, 1])] {
        assert!(PublicKey::from_pem(text.as_bytes()).is_err(), "{text}");
    }
}
