use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::image::Image;
use super::*;
use crate::image::manifest;
use crate::image::platform::Platform;

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn image(media_type: &str, layer: &str) -> Image {
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"{D}","size":2}},"layers":[{{"mediaType":"{layer}","digest":"{D}","size":3,"annotations":{{"a":"b"}}}}],"annotations":{{"x":"y"}}}}"#
    );
    let Ok(manifest::Document::Manifest(manifest)) = manifest::parse(text.as_bytes()) else { panic!("{text}") };
    Image {
        id: Digest::of(b"i"),
        bytes: text.into_bytes(),
        manifest,
        media_type: media_type.to_owned(),
        config: Vec::new(),
        platform: Platform::host(),
        labels: BTreeMap::new(),
        diffs: vec![Digest::of(b"d")],
    }
}

fn packed(format: Compression) -> Descriptor {
    Descriptor {
        media_type: manifest::layer_type(format).to_owned(),
        digest: Digest::of(b"packed"),
        size: 9,
        platform: None,
        annotations: None,
    }
}

#[test]
fn a_manifest_that_needs_no_change_keeps_its_bytes() {
    let image = image(manifest::DOCKER_MANIFEST, "application/vnd.docker.image.rootfs.diff.tar.gzip");
    let (bytes, kind) = image.manifest_with(&image.manifest.layers).expect("same");
    assert!(bytes == image.bytes && kind == manifest::DOCKER_MANIFEST);
}

#[test]
fn new_layers_are_called_as_the_manifests_format_has_it() {
    let docker = image(manifest::DOCKER_MANIFEST, "application/vnd.docker.image.rootfs.diff.tar");
    let (bytes, kind) = docker.manifest_with(&[packed(Compression::Gzip)]).expect("made");
    let whole: Value = serde_json::from_slice(&bytes).expect("json");
    assert_eq!(kind, manifest::DOCKER_MANIFEST);
    assert_eq!(whole["layers"][0]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    // What was said of the old bytes is gone, what is said of the image stays.
    assert!(whole["layers"][0].get("annotations").is_none() && whole["annotations"]["x"] == "y");

    let (bytes, kind) = docker.manifest_with(&[packed(Compression::Zstd)]).expect("made");
    let whole: Value = serde_json::from_slice(&bytes).expect("json");
    assert_eq!((kind.as_str(), &whole["mediaType"]), (manifest::OCI_MANIFEST, &json!(manifest::OCI_MANIFEST)));
    assert_eq!(whole["config"]["mediaType"], manifest::OCI_CONFIG);
    assert_eq!(whole["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
}
