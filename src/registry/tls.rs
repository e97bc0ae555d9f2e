//! Whose certificates are believed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::config::certificates;

/// Where distributions keep the certificates of all authorities, Debian's first.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What holds for one registry: the machine's authorities, and those of its folder in `certs.d`.
/// A machine without any gets Mozilla's, which are part of the binary.
///
/// # Errors
/// A certificate file that is there and damaged.
pub fn config(domain: &str, verify: bool) -> Result<TlsConfig> {
    let builder = TlsConfig::builder();
    let mut authorities = Vec::new();
    let mut client = None;
    for folder in certificates::folders(domain) {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in files {
            match file.extension().and_then(|e| e.to_str()) {
                Some("crt") => authorities.extend(certificates(&file)?),
                // A client's certificate, its key beside it: docker.com, "certificates".
                Some("cert") if client.is_none() => {
                    let key = file.with_extension("key");
                    let pem = std::fs::read(&key).with_context(|| format!("read {key:?}"))?;
                    let key = PrivateKey::from_pem(&pem).with_context(|| format!("read {key:?}"))?;
                    client = Some(ClientCert::new_with_certs(&certificates(&file)?, key));
                }
                _ => {}
            }
        }
    }
    if !verify {
        return Ok(builder.disable_verification(true).client_cert(client).build());
    }
    authorities.extend(of_machine()?);
    let roots = if authorities.is_empty() { RootCerts::WebPki } else { RootCerts::new_with_certs(&authorities) };
    Ok(builder.root_certs(roots).client_cert(client).build())
}

fn of_machine() -> Result<Vec<Certificate<'static>>> {
    if let Some(file) = std::env::var_os("SSL_CERT_FILE").filter(|f| !f.is_empty()) {
        return certificates(Path::new(&file));
    }
    match BUNDLES.iter().map(Path::new).find(|path| path.exists()) {
        Some(bundle) => certificates(bundle),
        None => Ok(Vec::new()),
    }
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>> {
    let pem = std::fs::read(file).with_context(|| format!("read certificates {file:?}"))?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.with_context(|| format!("read certificates {file:?}"))? {
            found.push(certificate);
        }
    }
    Ok(found)
}
