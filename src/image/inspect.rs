//! What is known of an image, in the shape of Docker's API ("Inspect an image", v1.48).

use anyhow::Result;
use serde_json::{Value, json};

use crate::container::inspect::{DRIVER, shape};
use crate::image::Image;
use crate::image::blobs;
use crate::image::index::{Descriptor, Index};
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::store::Store;

/// The image that a person means, as `inspect` shows it; `None`: there is none.
///
/// # Errors
/// As [`super::find_for`].
pub fn inspect(store: &Store, wanted: &str, platform: Option<&Platform>) -> Result<Option<Value>> {
    let Some(image) = super::find_for(store, wanted, platform)? else { return Ok(None) };
    let familiar = |name: &String| name.parse::<Reference>().map_or_else(|_| name.clone(), |name| name.familiar());
    let tags: Vec<String> = image.names.iter().filter(|name| !name.contains('@')).map(familiar).collect();
    let digests: Vec<String> = image.repo_digests.iter().map(familiar).collect();
    let Image { id, config, layers, size, home, .. } = &image;
    // As it is in the blob: the specification's type knows none of Docker's own members.
    let raw = blobs::read(home, &id.parse()?)?.map(|bytes| serde_json::from_slice::<Value>(&bytes)).transpose()?;
    let raw = raw.unwrap_or_default();
    // The image's own settings, and for older scripts the members that only containers fill.
    let mut settings = raw.get("config").filter(|settings| settings.is_object()).cloned().unwrap_or_else(|| json!({}));
    if let Some(Value::Object(labels)) = settings.get_mut("Labels") {
        labels.sort_keys();
    }
    let text = |name: &str| raw.get(name).and_then(Value::as_str).unwrap_or_default();
    let last = config.history().iter().flatten().next_back().and_then(|step| step.comment().as_deref());
    let comment = Some(text("comment")).filter(|comment| !comment.is_empty()).or(last);
    let driver = |layers: &[String]| -> Value {
        let paths: Vec<String> =
            layers.iter().map(|layer| home.layers().join(layer).to_string_lossy().into_owned()).collect();
        match paths.split_first() {
            None => json!({}),
            Some((top, [])) => json!({"UpperDir": top}),
            Some((top, below)) => json!({"LowerDir": below.join(":"), "UpperDir": top}),
        }
    };
    let index = Index::read(home)?;
    let entry = index.entries.iter().find(|entry| entry.image.as_str() == id);
    let mut shown = json!({
        "Id": id,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Parent": "",
        "Comment": comment.unwrap_or_default(),
        "Created": config.created().as_deref().unwrap_or("0001-01-01T00:00:00Z"),
        "DockerVersion": text("docker_version"),
        "Author": config.author().as_deref().unwrap_or_default(),
        "Config": shape::shape(settings, shape::CONFIG),
        "Architecture": config.architecture().to_string(),
        "Variant": config.variant(),
        "Os": config.os().to_string(),
        "OsVersion": config.os_version(),
        "Size": size,
        "GraphDriver": { "Data": driver(layers), "Name": DRIVER },
        "RootFS": { "Type": "layers", "Layers": config.rootfs().diff_ids() },
        "Metadata": { "LastTagTime": "0001-01-01T00:00:00Z" },
        "Descriptor": entry.map(|entry| descriptor(&entry.manifest)),
    });
    if let Value::Object(shown) = &mut shown {
        for key in ["Variant", "OsVersion", "Descriptor"] {
            if shown.get(key).is_some_and(Value::is_null) {
                shown.shift_remove(key);
            }
        }
    }
    Ok(Some(shown))
}

/// What the index points with, as the API has it (v1.48).
fn descriptor(of: &Descriptor) -> Value {
    let mut shown = json!({"mediaType": of.media_type, "digest": of.digest.as_str(), "size": of.size});
    if let Some(platform) = &of.platform {
        shown["platform"] = json!(platform);
    }
    shown
}
