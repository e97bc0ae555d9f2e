//! What is known of an image, in the shape of Docker's API ("Inspect an image", v1.48).

use anyhow::Result;
use serde_json::{Value, json};

use crate::container::inspect::{DRIVER, shape};
use crate::image::Image;
use crate::image::reference::Reference;
use crate::store::Store;

/// The image that a person means, as `inspect` shows it; `None`: there is none.
///
/// # Errors
/// As [`super::find`].
pub fn inspect(store: &Store, wanted: &str) -> Result<Option<Value>> {
    let Some(image) = super::find(store, wanted)? else { return Ok(None) };
    let familiar = |name: &String| name.parse::<Reference>().map_or_else(|_| name.clone(), |name| name.familiar());
    let tags: Vec<String> = image.names.iter().filter(|name| !name.contains('@')).map(familiar).collect();
    let digests: Vec<String> = image.repo_digests.iter().map(familiar).collect();
    let Image { id, config, layers, size, .. } = &image;
    // The image's own settings, and for older scripts the members that only containers fill.
    let settings = match serde_json::to_value(config.config())? {
        Value::Null => json!({}),
        settings => settings,
    };
    let comment = config.history().iter().flatten().filter_map(|step| step.comment().as_deref()).next_back();
    let paths: Vec<String> = layers.iter().map(|l| store.layers().join(l).to_string_lossy().into_owned()).collect();
    let mut shown = json!({
        "Id": id,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Parent": "",
        "Comment": comment.unwrap_or_default(),
        "Created": config.created().as_deref().unwrap_or("0001-01-01T00:00:00Z"),
        "DockerVersion": "",
        "Author": config.author().as_deref().unwrap_or_default(),
        "Config": shape::shape(settings, shape::CONFIG),
        "Architecture": config.architecture().to_string(),
        "Variant": config.variant(),
        "Os": config.os().to_string(),
        "Size": size,
        "GraphDriver": { "Data": { "LowerDir": paths.join(":") }, "Name": DRIVER },
        "RootFS": { "Type": "layers", "Layers": config.rootfs().diff_ids() },
        "Metadata": { "LastTagTime": "0001-01-01T00:00:00Z" },
    });
    if let Value::Object(shown) = &mut shown
        && config.variant().is_none()
    {
        shown.shift_remove("Variant");
    }
    Ok(Some(shown))
}
