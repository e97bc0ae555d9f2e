//! Whose certificates a registry is believed with, on an address that is not loopback: where ctr
//! asks for no certificate, nothing could be learnt. Each test has a network of its own.

use std::net::Ipv4Addr;

use crate::support::{Entry, Image, Registry, Sandbox, Who, addresses, apart, base, log_in, registry};

/// Set aside for documentation (RFC 5737): no machine has it.
const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The same machine; the certificate does not name it.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

fn certificates_and_passwords(cx: &Sandbox) {
    let registry = Registry::elsewhere(&base().join("registry").join(&cx.account.name), HERE);
    let reference = registry.push(&Image::small("private/app:v1", [Entry::file("secret", 0o644, "s\n")]));
    let pull = format!("pull -q {reference}");
    let unknown = |line: &str| {
        let ran = cx.ctr(line);
        ran.refuses(1, "[..]ertificate[..]");
        ran.refuses(1, &format!("[..]{HERE}[..]"));
    };
    unknown(&pull);
    // The password is there, and stays here.
    registry.log_in(cx);
    unknown(&pull);
    // Nor does ctr fall back to speaking without encryption.
    assert!(!registry.log().contains("HTTP request to an HTTPS server"), "{}", registry.log());

    let trusted = registry.trust(cx);
    cx.ctr(&pull).prints(&format!("{reference}\n"));
    // It is trusted with its own name only.
    let other = reference.replace(&HERE.to_string(), &ELSEWHERE.to_string());
    std::fs::rename(&trusted, trusted.with_file_name(other.split('/').next().unwrap())).unwrap();
    log_in(cx, other.split('/').next().unwrap(), registry::USER, registry::PASSWORD);
    cx.ctr(&format!("pull -q {other}")).refuses(1, "[..]ertificate[..]");
    std::fs::remove_dir_all(trusted.parent().unwrap()).unwrap();
    registry.log_in(cx);
    unknown(&pull);

    cx.set("SSL_CERT_FILE", registry.authority.as_ref().unwrap());
    cx.ctr(&pull).prints(&format!("{reference}\n"));
    log_in(cx, &registry.host, registry::USER, "wrong");
    let ran = cx.ctr(&pull);
    ran.refuses(1, "[..]");
    assert!(ran.err().contains("were refused"), "{ran}");
    std::fs::remove_file(cx.home().join(".docker/config.json")).unwrap();
    cx.ctr(&pull).refuses(1, "[..]denied[..]");
}

#[test]
fn certificates_and_passwords_as_root() {
    apart(Who::Root, || addresses(&[HERE, ELSEWHERE]), certificates_and_passwords);
}

#[test]
fn certificates_and_passwords_as_user() {
    apart(Who::User, || addresses(&[HERE, ELSEWHERE]), certificates_and_passwords);
}
