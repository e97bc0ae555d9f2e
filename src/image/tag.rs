//! `tag`: a further name for an image.

use anyhow::Result;

use crate::error::Failure;
use crate::image::index::{Entry, Index, List};
use crate::image::reference::Reference;
use crate::image::{entry_for, no_such_image, note};
use crate::store::Store;

/// Calls the image `name` too; whatever was called so is not any more. A name that is for several
/// platforms stays so under the new one.
///
/// # Errors
/// There is no such image; a name with a digest, which is nobody's to give. Docker's wording.
pub fn tag(store: &Store, wanted: &str, name: &Reference) -> Result<()> {
    if name.digest().is_some() {
        return Err(Failure::new("refusing to create a tag with a digest reference").into());
    }
    let full = name.clone().or_latest().to_string();
    let image = Index::change(store, |index| {
        if let Some(list) = list(index, wanted) {
            let entries: Vec<Entry> = index.named(&list.name).map(|entry| elsewhere(entry, &full)).collect();
            let image = entries.first().map(|entry| entry.image.clone());
            if list.name != full {
                index.add_list(List { name: full.clone(), ..list }, entries);
            }
            return Ok(image);
        }
        let entry = entry_for(store, index, wanted, None)?.ok_or_else(|| no_such_image(wanted))?.clone();
        let image = entry.image.clone();
        // The image's own name again: nothing changes, not the entry's place either.
        if entry.name.as_deref() != Some(&full) {
            index.add(Entry { name: Some(full.clone()), ..elsewhere(&entry, &full) });
        }
        Ok(Some(image))
    })?;
    if let Some(image) = image {
        note(store, &image, "tag", Some(&name.clone().or_latest().familiar()));
    }
    Ok(())
}

/// An entry for another name. Only its own repository knows the digest: what another one has, nobody knows
/// before the image is pushed there.
fn elsewhere(entry: &Entry, name: &str) -> Entry {
    let repository = |name: &str| name.parse::<Reference>().ok().map(|name| name.repository());
    let is_same = entry.name.as_deref().is_some_and(|own| repository(own) == repository(name));
    Entry { repo_digest: entry.repo_digest.clone().filter(|_| is_same), ..entry.clone() }
}

fn list(index: &Index, wanted: &str) -> Option<List> {
    let name = wanted.parse::<Reference>().ok()?.stored().to_string();
    index.list(&name).cloned()
}
