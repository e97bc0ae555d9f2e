//! `docker-credential-NAME`, by the protocol of docker-credential-helpers: the verb is the argument,
//! the request stands on standard input, the answer on standard output.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Credentials;
use crate::error::Failure;

/// The user name that says that the secret is an identity token.
const TOKEN: &str = "<token>";
/// What every helper says of a server that it does not know.
const UNKNOWN: &str = "credentials not found in native keychain";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "ServerURL", default)]
    server: String,
    username: String,
    secret: String,
}

/// What the helper has for a server.
///
/// # Errors
/// It cannot be run, fails, or answers what is not of the protocol.
pub fn get(name: &str, server: &str) -> Result<Option<Credentials>> {
    let output = ask(name, "get", server)?;
    if !output.status.success() && said(&output).contains(UNKNOWN) {
        return Ok(None);
    }
    done(name, "get", &output)?;
    let answer: Entry = serde_json::from_slice(&output.stdout)
        .map_err(|e| super::damaged(&e))
        .with_context(|| format!("answer of {:?}", program(name)))?;
    Ok(match answer.username.as_str() {
        TOKEN => Some(Credentials::IdentityToken(answer.secret)),
        "" if answer.secret.is_empty() => None,
        _ => Some(Credentials::Password { user: answer.username, password: answer.secret }),
    })
}

/// Gives the helper what it is to keep.
///
/// # Errors
/// It cannot be run, or refuses.
pub fn store(name: &str, server: &str, credentials: &Credentials) -> Result<()> {
    let (username, secret) = match credentials {
        Credentials::Password { user, password } => (user.clone(), password.clone()),
        Credentials::IdentityToken(token) => (TOKEN.to_owned(), token.clone()),
    };
    let request = serde_json::to_string(&Entry { server: server.to_owned(), username, secret })?;
    done(name, "store", &ask(name, "store", &request)?).map(drop)
}

/// Lets the helper forget a server; false: it knew none.
///
/// # Errors
/// It cannot be run, or refuses.
pub fn erase(name: &str, server: &str) -> Result<bool> {
    let output = ask(name, "erase", server)?;
    if said(&output).contains(UNKNOWN) {
        return Ok(false);
    }
    done(name, "erase", &output)?;
    Ok(true)
}

fn program(name: &str) -> String {
    format!("docker-credential-{name}")
}

fn ask(name: &str, verb: &str, request: &str) -> Result<Output> {
    let program = program(name);
    if name.is_empty() || name.contains('/') {
        return Err(Failure::new(format!("{name:?} is not the name of a credential helper")).into());
    }
    // The request can be the secret itself.
    log::debug!("run {program} {verb}");
    let failed = |e| Failure::new(format!("run {program:?}")).source(e).hint(format!("install {program}"));
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may answer without reading.
        let _ = stdin.write_all(request.as_bytes());
    }
    Ok(child.wait_with_output()?)
}

fn done(name: &str, verb: &str, output: &Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let said = said(output);
    let why = if said.is_empty() { "it does not say why" } else { &said };
    Err(Failure::new(format!("{:?} fails to {verb}: {why}", program(name))).into())
}

/// What is wrong: most helpers say it on standard output, some on standard error.
fn said(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr].map(|stream| String::from_utf8_lossy(stream).trim().to_owned());
    let [out, err] = streams;
    if out.is_empty() { err } else { out }
}
