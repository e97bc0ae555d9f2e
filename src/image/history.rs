//! `history`: the steps that an image was made in, and what each of them added.

use jiff::Timestamp;

use crate::image::{Image, layers, manifest};

/// A step of an image's making.
#[derive(Debug)]
pub struct Step {
    /// `sha256:…`: of the newest step, which is the image itself; nobody knows the others' any more.
    pub id: Option<String>,
    pub created: Option<Timestamp>,
    pub created_by: String,
    pub comment: String,
    /// Bytes of its layer's files.
    pub size: u64,
}

/// The steps, newest first. A layer that the history says nothing of is one all the same.
#[must_use]
pub fn history(image: &Image) -> Vec<Step> {
    let diffs = manifest::diff_ids(&image.config).unwrap_or_default();
    let mut sizes = diffs
        .iter()
        // A damaged layer is no reason to keep silent about the others.
        .map(|diff| layers::find(&image.home, diff).ok().flatten().map_or(0, |record| record.size));
    let mut steps: Vec<Step> = image
        .config
        .history()
        .iter()
        .flatten()
        .map(|step| Step {
            id: None,
            created: step.created().as_deref().and_then(|time| time.parse().ok()),
            created_by: step.created_by().clone().unwrap_or_default(),
            comment: step.comment().clone().unwrap_or_default(),
            size: if step.empty_layer() == Some(true) { 0 } else { sizes.next().unwrap_or_default() },
        })
        .collect();
    steps.extend(sizes.map(|size| Step {
        id: None,
        created: None,
        created_by: String::new(),
        comment: String::new(),
        size,
    }));
    steps.reverse();
    if let Some(newest) = steps.first_mut() {
        newest.id = Some(image.id.clone());
    }
    steps
}
