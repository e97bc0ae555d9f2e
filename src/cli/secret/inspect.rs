//! `ctr secret inspect`.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cli::{Globals, Run, inspect, output};
use crate::error;
use crate::secret::{self, Secret};
use crate::store::Store;

/// Show what is known of secrets, but not their content
#[derive(Debug, clap::Parser)]
#[command(after_help = "Examples:
  ctr secret inspect key
  ctr secret inspect --showsecret -f '{{.SecretData}}' key")]
pub struct Inspect {
    /// json, or a Go template
    #[arg(short, long, value_name = "format")]
    format: Option<String>,
    /// In lines for people
    #[arg(long)]
    pretty: bool,
    /// The content too
    #[arg(long)]
    showsecret: bool,
    /// Names or ids
    #[arg(required = true, value_name = "SECRET")]
    names: Vec<String>,
}

impl Run for Inspect {
    fn run(self, globals: &Globals) -> Result<u8> {
        let store = globals.store()?;
        if self.pretty {
            return Ok(self.pretty(&store));
        }
        inspect::print(self.format.as_deref(), &self.names, |name| {
            let secret = secret::find(&store, name)?;
            let mut known = known(&secret);
            if self.showsecret {
                known["SecretData"] = content(&store, &secret)?.into();
            }
            Ok(known)
        })
    }
}

impl Inspect {
    fn pretty(&self, store: &Store) -> u8 {
        let mut code = 0;
        for name in &self.names {
            match secret::find(store, name) {
                Ok(secret) => output::print(&lines(&secret)),
                Err(failure) => {
                    output::say(&error::render(&failure));
                    code = 1;
                }
            }
        }
        code
    }
}

fn content(store: &Store, secret: &Secret) -> Result<String> {
    let path = secret::content(store, &secret.id);
    let bytes = std::fs::read(&path).with_context(|| format!("read {path:?}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A secret as it is shown, without its content.
///
/// # Errors
/// There is none of that name.
pub fn one(store: &Store, name: &str) -> Result<Value> {
    secret::find(store, name).map(|secret| known(&secret))
}

/// Docker's and Podman's shape.
fn known(secret: &Secret) -> Value {
    json!({
        "ID": secret.id,
        "CreatedAt": secret.created.to_string(),
        "UpdatedAt": secret.updated.to_string(),
        "Spec": {
            "Name": secret.name,
            "Driver": { "Name": "file", "Options": secret.options },
            "Labels": secret.labels,
        },
    })
}

fn lines(secret: &Secret) -> String {
    let mut text = format!("ID:              {}\nName:            {}\n", secret.id, secret.name);
    if !secret.labels.is_empty() {
        text.push_str("Labels:\n");
    }
    for (name, value) in &secret.labels {
        // Writing to a string cannot fail.
        let _ = writeln!(text, " - {name}={value}");
    }
    let _ = writeln!(text, "Driver:          file\nCreated at:      {}", secret.created);
    let _ = writeln!(text, "Updated at:      {}", secret.updated);
    text
}
