//! `ctr manifest inspect`.

use anyhow::{Context, Result};
use base64::Engine;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::{Globals, Run, output};
use crate::image::digest::Digest;
use crate::image::manifest::{self, Document};
use crate::image::manifests;
use crate::image::reference::Reference;
use crate::store::Store;

/// Display an image manifest, or manifest list
#[derive(Debug, clap::Parser)]
#[command(after_help = "A list that was made here is shown, else an image of the store, else what a registry has.

Examples:
  ctr manifest inspect web:1
  ctr manifest inspect -v registry.example.com/web:1")]
pub struct Inspect {
    /// What registries.conf and daemon.json say of a registry counts in any case
    #[arg(long, hide = true)]
    insecure: bool,
    /// Output additional info including layers and platform
    #[arg(short, long)]
    verbose: bool,
    /// The list, if two words are given, and the manifest
    #[arg(value_name = "MANIFEST", num_args = 1..=2, required = true)]
    names: Vec<String>,
}

impl Run for Inspect {
    fn run(self, globals: &Globals) -> Result<u8> {
        super::warn_insecure(self.insecure);
        let store = globals.store()?;
        if let [list, manifest] = &self.names[..] {
            let list: Reference = list.parse()?;
            let text = show(&store, &manifests::member(&store, &list, manifest)?, manifest, self.verbose)?;
            output::print(&text);
            return Ok(0);
        }
        let name = &self.names[0];
        output::print(&show(&store, &manifests::document(&store, name)?, name, self.verbose)?);
        Ok(0)
    }
}

fn show(store: &Store, bytes: &[u8], name: &str, verbose: bool) -> Result<String> {
    let document: Value = serde_json::from_slice(bytes)?;
    let entries = match manifest::parse(bytes)? {
        // As Docker: a list's own form is indented by three, all else by tabs.
        Document::Index(_) if !verbose => return indented(&document, b"   "),
        Document::Manifest(_) if !verbose => return indented(&document, b"\t"),
        Document::Index(_) => document["manifests"].as_array().cloned().unwrap_or_default(),
        Document::Manifest(manifest) => {
            let media_type = if manifest.media_type.is_empty() { manifest::OCI_MANIFEST } else { &manifest.media_type };
            let own = json!({"mediaType": media_type, "digest": Digest::of(bytes).as_str(), "size": bytes.len()});
            return indented(&whole(name, &own, bytes)?, b"\t");
        }
    };
    let name: Reference = name.strip_prefix("docker://").unwrap_or(name).parse()?;
    let mut all = Vec::new();
    for entry in entries {
        let digest: Digest = entry["digest"].as_str().unwrap_or_default().parse()?;
        let bytes = manifests::by_digest(store, &name, &digest)
            .with_context(|| format!("manifest {:?} of {}", digest.short(), name.familiar()))?;
        all.push(whole(&name.with_digest(digest).to_string(), &entry, &bytes)?);
    }
    indented(&Value::from(all), b"\t")
}

/// The descriptor, the bytes, and what they say.
fn whole(name: &str, descriptor: &Value, bytes: &[u8]) -> Result<Value> {
    let is_dockers = descriptor["mediaType"] == manifest::DOCKER_MANIFEST;
    let mut shown = json!({
        "Ref": name,
        "Descriptor": descriptor,
        "Raw": base64::engine::general_purpose::STANDARD.encode(bytes),
    });
    shown[if is_dockers { "SchemaV2Manifest" } else { "OCIManifest" }] = serde_json::from_slice(bytes)?;
    Ok(shown)
}

fn indented(value: &Value, by: &[u8]) -> Result<String> {
    let mut out = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(by);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, format))?;
    Ok(String::from_utf8(out)? + "\n")
}
