//! What a registry answers besides what was asked for: its complaints, small bodies, rests.

use std::io::{self, Read};

use anyhow::{Context, Result};
use ureq::Body;
use ureq::http::Response;

use super::pace::Paced;
use crate::error::Failure;

/// Characters of what a registry says that are passed on.
const MAX_SAID: usize = 400;
/// Bytes of what a registry says of an error.
const MAX_COMPLAINT: u64 = 64 << 10;

/// What a registry says of what is wrong (OCI distribution specification, "Error Codes"); empty: nothing.
pub fn complaint(response: Response<Body>) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<Complaint>,
    }
    #[derive(serde::Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Complaint {
        code: String,
        message: String,
    }
    let mut bytes = Vec::new();
    // Half of it says as much.
    let _ = Paced::new(response.into_body().into_reader()).take(MAX_COMPLAINT).read_to_end(&mut bytes);
    let errors: Option<Errors> = serde_json::from_slice(&bytes).ok();
    let said = errors.into_iter().flat_map(|it| it.errors).map(|it| {
        let code = it.code.to_lowercase().replace('_', " ");
        if it.message.is_empty() { code } else { format!("{code}: {}", it.message) }
    });
    one_line(&said.take(3).collect::<Vec<_>>().join("; "))
}

/// A stranger's words within a sentence of ours: no line of its own, no order to a terminal, and an end.
fn one_line(said: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut line: String = said.trim().chars().map(clean).take(MAX_SAID).collect();
    if said.trim().chars().nth(MAX_SAID).is_some() {
        line.push('\u{2026}');
    }
    line
}

/// An answer that is none of those that were expected.
pub fn unexpected(what: &str, response: Response<Body>) -> anyhow::Error {
    let status = response.status();
    let said = complaint(response);
    let reason = status.canonical_reason().unwrap_or("an unknown status");
    let failure = Failure::new(format!("{what}: the registry answers with status {} ({reason})", status.as_u16()));
    if said.is_empty() { failure.into() } else { failure.source(said).into() }
}

/// A small answer's bytes.
pub fn body(response: Response<Body>, what: impl FnOnce() -> String) -> Result<Vec<u8>> {
    crate::image::blobs::bounded(Paced::new(response.into_body().into_reader())).with_context(what)
}

/// Reads what an answer says besides its status, if that is little: the connection serves the next request
/// only when nothing of this one is left in it.
pub fn finish(response: Response<Body>) {
    let mut rest = response.into_body().into_reader().take(16 << 10);
    let _ = io::copy(&mut rest, &mut io::sink());
}
