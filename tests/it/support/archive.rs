//! Images put together byte by byte: configuration, manifest, blobs, and the archives that hold
//! them. Formats: OCI image specification 1.1 (image layout, manifest, configuration), and Docker's
//! image specification 1.2 for the archives of `docker save`.

use std::fmt::Write;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::tar::{Entry, Layer};
use super::who::base;

/// How a layer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// A layer: what unpacks to it, and its digest once unpacked.
#[derive(Debug, Clone)]
struct Packed {
    blob: Vec<u8>,
    digest: String,
    diff_id: String,
    packing: Packing,
}

#[derive(Debug, Clone)]
pub struct Image {
    /// `busybox:latest`.
    pub name: String,
    layers: Vec<Packed>,
    /// The `config` part of the image configuration.
    config: Value,
    packing: Packing,
}

/// Bytes that do not compress, the same ones each time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Bytes that do not compress, others each time.
pub fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut random = std::fs::File::open("/dev/urandom").unwrap();
    std::io::Read::read_exact(&mut random, &mut bytes).unwrap();
    bytes
}

/// `sha256:` and 64 digits.
pub fn digest(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

impl Image {
    /// An image without layers.
    pub fn new(name: &str) -> Self {
        let config = json!({"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]});
        Self { name: name.to_owned(), layers: Vec::new(), config, packing: Packing::Gzip }
    }

    /// How the layers that follow are packed.
    pub fn packed(mut self, packing: Packing) -> Self {
        self.packing = packing;
        self
    }

    /// Adds a layer on top.
    pub fn layer(self, layer: &Layer) -> Self {
        self.layer_tar(&layer.tar())
    }

    /// Adds a layer that is an archive already.
    pub fn layer_tar(self, tar: &[u8]) -> Self {
        let blob = match self.packing {
            Packing::Plain => tar.to_vec(),
            Packing::Gzip => {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(tar).unwrap();
                gzip.finish().unwrap()
            }
            Packing::Zstd => zstd::encode_all(tar, 1).unwrap(),
        };
        let diff_id = digest(tar);
        self.layer_blob(blob, diff_id)
    }

    /// Adds a layer as it travels, true or false.
    pub fn layer_blob(mut self, blob: Vec<u8>, diff_id: String) -> Self {
        self.layers.push(Packed { digest: digest(&blob), blob, diff_id, packing: self.packing });
        self
    }

    /// Sets a member of the configuration's `config`.
    pub fn config(mut self, name: &str, value: Value) -> Self {
        self.config[name] = value;
        self
    }

    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// The image configuration, whose digest is the image's id.
    pub fn configuration(&self) -> Vec<u8> {
        let diff_ids: Vec<_> = self.layers.iter().map(|layer| &layer.diff_id).collect();
        let created = "2024-02-03T04:05:06Z";
        let history: Vec<_> = diff_ids.iter().map(|_| json!({"created": created, "created_by": "test"})).collect();
        serde_json::to_vec(&json!({
            "created": created,
            "architecture": architecture(),
            "os": "linux",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        }))
        .unwrap()
    }

    /// `sha256:…`.
    pub fn id(&self) -> String {
        digest(&self.configuration())
    }

    pub fn diff_ids(&self) -> Vec<String> {
        self.layers.iter().map(|layer| layer.diff_id.clone()).collect()
    }

    /// The OCI manifest.
    pub fn manifest(&self) -> Vec<u8> {
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|layer| {
                let suffix = match layer.packing {
                    Packing::Plain => "",
                    Packing::Gzip => "+gzip",
                    Packing::Zstd => "+zstd",
                };
                let media_type = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
                json!({"mediaType": media_type, "digest": layer.digest, "size": layer.blob.len()})
            })
            .collect();
        serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &self.configuration()),
            "layers": layers,
        }))
        .unwrap()
    }

    /// Every blob but the manifest, by its digest.
    pub fn blobs(&self) -> Vec<(String, Vec<u8>)> {
        let layers = self.layers.iter().map(|layer| (layer.digest.clone(), layer.blob.clone()));
        layers.chain([(self.id(), self.configuration())]).collect()
    }

    /// An archive of an OCI image layout, as a file that everybody can read.
    pub fn oci_archive(&self) -> PathBuf {
        let manifest = self.manifest();
        let tag = self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        let mut described = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        described["annotations"] = json!({
            "io.containerd.image.name": full_name(&self.name),
            "org.opencontainers.image.ref.name": tag,
        });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [described],
        });
        let mut files = vec![
            Entry::file("oci-layout", 0o644, r#"{"imageLayoutVersion":"1.0.0"}"#),
            Entry::file("index.json", 0o644, index.to_string()),
            Entry::dir("blobs", 0o755),
            Entry::dir("blobs/sha256", 0o755),
        ];
        for (digest, blob) in self.blobs().into_iter().chain([(digest(&manifest), manifest)]) {
            files.push(Entry::file(digest.replace("sha256:", "blobs/sha256/"), 0o644, blob));
        }
        publish("oci", &Layer(files).tar())
    }

    /// An archive as `docker save` wrote it before it wrote OCI layouts.
    pub fn docker_archive(&self) -> PathBuf {
        let config = format!("{}.json", self.id().replace("sha256:", ""));
        let names: Vec<_> =
            self.layers.iter().map(|layer| format!("{}/layer.tar", layer.diff_id.replace("sha256:", ""))).collect();
        let manifest = json!([{"Config": config, "RepoTags": [self.name], "Layers": names}]);
        let mut files = Vec::new();
        for (name, layer) in names.iter().zip(&self.layers) {
            files.push(Entry::dir(name.trim_end_matches("/layer.tar"), 0o755));
            files.push(Entry::file(name, 0o644, &layer.blob));
        }
        files.push(Entry::file(&config, 0o644, self.configuration()));
        files.push(Entry::file("manifest.json", 0o644, manifest.to_string()));
        publish("docker", &Layer(files).tar())
    }
}

/// A file for every sandbox of this process, named after its content.
pub fn publish(kind: &str, bytes: &[u8]) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let dir = base().join("images");
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join(format!("{kind}-{}.tar", &digest(bytes)[7..19]));
    if !path.exists() {
        std::fs::write(&path, bytes).unwrap();
    }
    path
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(blob), "size": blob.len()})
}

fn full_name(name: &str) -> String {
    let host = name.split_once('/').map(|(host, _)| host).filter(|host| host.contains(['.', ':']));
    match (host, name.contains('/')) {
        (Some(_), _) => name.to_owned(),
        (None, true) => format!("docker.io/{name}"),
        (None, false) => format!("docker.io/library/{name}"),
    }
}

/// The machine's architecture, as Go names it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
