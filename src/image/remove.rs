//! `rmi`: an image's names, and the image with its last one.
//!
//! The order closes the races. First the index loses the image, under its lock. Then, the lock still
//! held, all that remains is looked through for what it needs: the other images, and the containers'
//! records, and the mounts ([`super::garbage`]). A `create` that wrote its record before that look is seen; one that writes it later finds
//! the image gone from the index ([`super::Image::is_there`]) and takes its record back. A pull that
//! is at work holds what it needs by shared locks, and what is locked stays.

use std::collections::HashSet;

use anyhow::Result;

use crate::container::config::RootFs;
use crate::container::state;
use crate::error::Failure;
use crate::image::digest::{Digest, chain_id, is_hex};
use crate::image::garbage::{collect, containers, diffs_of};
use crate::image::index::{Entry, Index};
use crate::image::mount::Namespace;
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::image::{additional, entry_for, lookup, mount, no_such_image, note};
use crate::store::{Id, Store};

/// What was done, in Docker's lines: `Untagged: …`, `Deleted: …`.
pub type Report = Vec<String>;

/// Removes a name of an image, and the image with its last name. `platforms`: only those images of a name
/// that is for several; empty: all of them.
///
/// # Errors
/// `No such image`, or a container needs it; Docker's wording.
pub fn remove(store: &Store, wanted: &str, platforms: &[Platform], force: bool) -> Result<Report> {
    let mut untagged = None;
    let (mut report, gone) = Index::change(store, |index| {
        let listed = wanted.parse::<Reference>().ok().map(|name| name.stored().to_string());
        if let Some(list) = listed.as_deref().and_then(|name| index.list(name)).filter(|list| list.is_made).cloned() {
            index.untag(&list.name);
            let name = list.name.parse::<Reference>()?.familiar();
            return Ok((vec![format!("Untagged: {name}"), format!("Deleted: {}", list.descriptor.digest)], Vec::new()));
        }
        if !platforms.is_empty() {
            let done = platforms_of(store, index, wanted, platforms, force)?;
            untagged = done.1.last().cloned();
            return Ok(done);
        }
        let entry = lookup(index, wanted)?.cloned().ok_or_else(|| read_only_or_absent(store, wanted))?;
        untagged = Some(entry.image.clone());
        take_out(store, index, &entry, wanted, force)
    })?;
    for image in report.iter().filter(|line| line.starts_with("Untagged: ")).filter_map(|_| untagged.as_ref()) {
        note(store, image, "untag", None);
    }
    // The configurations are blobs too, and needed to tell what the layers were.
    let diffs: Vec<Vec<Digest>> = gone.iter().map(|image| diffs_of(store, image)).collect();
    for image in &gone {
        note(store, image, "delete", None);
    }
    // A list that was made here leaves blobs too.
    let mut removed = if gone.is_empty() && report.len() < 2 { HashSet::new() } else { collect(store)?.layers };
    for (image, diffs) in gone.iter().zip(diffs) {
        report.push(format!("Deleted: {image}"));
        report.extend(chains(&diffs, &removed));
        // A layer of two of them went once.
        for diff in diffs {
            removed.remove(diff.hex());
        }
    }
    Ok(report)
}

fn read_only_or_absent(store: &Store, wanted: &str) -> Failure {
    match additional::holder(store, wanted) {
        Some(dir) => Failure::new(format!("image {wanted:?} is in the read-only store {dir:?} and cannot be removed")),
        None => no_such_image(wanted),
    }
}

/// `--platform`: the images of these platforms go, under all their names, as with Docker since 28; a name whose
/// last image it was goes too.
fn platforms_of(
    store: &Store,
    index: &mut Index,
    wanted: &str,
    platforms: &[Platform],
    force: bool,
) -> Result<(Report, Vec<Digest>)> {
    let (mut report, mut gone) = (Report::new(), Vec::new());
    for platform in platforms {
        let entry = entry_for(store, index, wanted, Some(platform))?.cloned().ok_or_else(|| no_such_image(wanted))?;
        let image = &entry.image;
        let of_image = index.entries.iter().filter(|other| other.image == *image);
        let named: Vec<Entry> = of_image.filter(|other| other.name.is_some()).cloned().collect();
        if !force && named.len() > 1 && !is_single(&named) {
            let names = named.iter().filter_map(|e| Some(e.name.as_ref()?.parse::<Reference>().ok()?.familiar()));
            let names = names.collect::<Vec<_>>().join(", ");
            return Err(Failure::new(
                "Content will be removed from all images referencing this variant. Use --force to force delete.",
            )
            .hint(format!("they are {names}; to take one name away, with all its platforms: ctr rmi NAME"))
            .into());
        }
        in_use(image, &Users::of(store, image)?, force)?;
        unmounted(store, image, wanted, force)?;
        index.entries.retain(|other| other.image != *image);
        for entry in &named {
            let Some(name) = entry.name.as_deref().filter(|name| index.named(name).next().is_none()) else { continue };
            index.untag(name);
            report.extend(name.parse::<Reference>().map(|name| format!("Untagged: {}", name.familiar())));
        }
        gone.push(entry.image);
    }
    Ok((report, gone))
}

/// A line for each layer of an image that went, the topmost first.
pub(super) fn chains(diffs: &[Digest], removed: &HashSet<String>) -> Vec<String> {
    (1..=diffs.len())
        .rev()
        .filter(|n| removed.contains(diffs[n - 1].hex()))
        .filter_map(|n| Some(format!("Deleted: {}", chain_id(&diffs[..n])?)))
        .collect()
}

/// Containers of an image.
#[derive(Default)]
struct Users {
    running: Option<Id>,
    stopped: Option<Id>,
}

impl Users {
    fn of(store: &Store, image: &Digest) -> Result<Self> {
        let mut users = Self::default();
        for (id, root) in containers(store)? {
            if matches!(&root, RootFs::Image { id, .. } if id == image.as_str()) {
                let slot = if state::is_alive(store, &id) { &mut users.running } else { &mut users.stopped };
                slot.get_or_insert(id);
            }
        }
        Ok(users)
    }

    fn any(&self) -> Option<&Id> {
        self.running.as_ref().or(self.stopped.as_ref())
    }
}

/// Docker's rules (moby, `daemon/images/image_delete.go`, its documented conflicts): by name, the
/// name goes, and the image with its last one; by id, all names go if they are of one repository and
/// at most one of them is a tag.
/// Returns the lines, and the images that the index has no longer.
fn take_out(
    store: &Store,
    index: &mut Index,
    entry: &Entry,
    wanted: &str,
    force: bool,
) -> Result<(Report, Vec<Digest>)> {
    let image = &entry.image;
    let users = &Users::of(store, image)?;
    let of_image = |index: &Index| -> Vec<Entry> {
        index.entries.iter().filter(|e| e.image == *image && e.name.is_some()).cloned().collect()
    };
    let named = of_image(index);
    let by_id = is_id_of(wanted, image);
    let mut report = Vec::new();

    if by_id {
        if !force && named.len() > 1 && !is_single(&named) {
            return Err(conflict(image, "must be forced", "image is referenced in multiple repositories"));
        }
        in_use(image, users, force)?;
        unmounted(store, image, wanted, force)?;
        for entry in &named {
            untag(index, entry, &mut report);
        }
        index.entries.retain(|e| e.image != *image);
        return Ok((report, vec![image.clone()]));
    }
    if let (true, false, Some(user)) = (is_single(&named), force, users.any()) {
        let why = format!(
            "conflict: unable to remove repository reference \"{wanted}\" (must force) - container {} is using its \
             referenced image {}",
            user.short(),
            image.short()
        );
        return Err(Failure::new(why)
            .hint("remove the container first, or take the name away with: ctr rmi -f")
            .into());
    }
    // Those for other platforms lose the name with it.
    let mut images: Vec<Digest> = vec![image.clone()];
    if let Some(name) = &entry.name {
        images.extend(index.named(name).map(|e| e.image.clone()).filter(|other| other != image));
        match wanted.parse::<Reference>().ok().filter(|name| name.digest().is_some()) {
            Some(by_digest) => report.push(untag_digest(index, &by_digest).ok_or_else(|| no_such_image(wanted))?),
            None => untag(index, entry, &mut report),
        }
    }
    images.dedup();
    let mut gone = Vec::new();
    for image in images {
        let has_name = index.entries.iter().any(|e| e.image == image && e.name.is_some());
        // A running container keeps the image, without a name.
        if !has_name && in_use(&image, &Users::of(store, &image)?, force).is_ok() {
            unmounted(store, &image, wanted, force)?;
            index.entries.retain(|e| e.image != image);
            gone.push(image);
        }
    }
    Ok((report, gone))
}

/// Whether names are one tag at most, and digests of its repository.
fn is_single(named: &[Entry]) -> bool {
    let names: Vec<Reference> = named.iter().filter_map(|e| e.name.as_ref()?.parse().ok()).collect();
    let repositories: HashSet<String> = names.iter().map(Reference::repository).collect();
    // By one name there can be two manifests of an image.
    let tags: HashSet<String> = names.iter().filter(|n| n.digest().is_none()).map(Reference::to_string).collect();
    repositories.len() == 1 && tags.len() <= 1
}

/// Takes a name away from all images that have it. The digests that its repository knows them by go with the last
/// tag there.
pub(super) fn untag(index: &mut Index, entry: &Entry, report: &mut Report) {
    let Some(name) = entry.name.as_deref().filter(|name| index.named(name).next().is_some()) else { return };
    let images: HashSet<Digest> = index.named(name).map(|e| e.image.clone()).collect();
    index.untag(name);
    let Ok(reference) = name.parse::<Reference>() else { return };
    let mut say = |name: &Reference| {
        let line = format!("Untagged: {}", name.familiar());
        if !report.contains(&line) {
            report.push(line);
        }
    };
    say(&reference);
    let same = index.entries.iter().filter(|e| images.contains(&e.image));
    let same: Vec<Reference> = same.filter_map(|e| e.name.as_ref()?.parse().ok()).collect();
    let same: Vec<&Reference> = same.iter().filter(|name| name.repository() == reference.repository()).collect();
    if reference.digest().is_some() || same.iter().any(|name| name.digest().is_none()) {
        return;
    }
    if let Some(digest) = entry.repo_digest.clone() {
        say(&reference.with_digest(digest));
    }
    for name in same {
        index.untag(&name.to_string());
        say(name);
    }
}

/// Takes away that images of a repository are known by a digest, not their tags there; the line that says so.
/// `None`: none is.
fn untag_digest(index: &mut Index, wanted: &Reference) -> Option<String> {
    let (name, repository) = (wanted.stored(), wanted.repository());
    let is_same = |entry: &Entry| {
        let own = entry.name.as_ref().and_then(|name| name.parse::<Reference>().ok());
        own.is_some_and(|own| own.repository() == repository)
    };
    let mut is_known = index.named(&name.to_string()).next().is_some();
    index.untag(&name.to_string());
    let known = index.entries.iter_mut().filter(|entry| entry.repo_digest.as_ref() == wanted.digest());
    for entry in known.filter(|entry| is_same(entry)) {
        entry.repo_digest = None;
        is_known = true;
    }
    is_known.then(|| format!("Untagged: {}", name.familiar()))
}

/// Whether what was written is the image's id rather than a name.
pub(super) fn is_id_of(wanted: &str, image: &Digest) -> bool {
    let hex = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    is_hex(hex) && image.hex().starts_with(hex)
}

fn in_use(image: &Digest, users: &Users, force: bool) -> Result<()> {
    if let Some(id) = &users.running {
        let why = format!("image is being used by running container {}", id.short());
        return Err(conflict(image, "cannot be forced", &why));
    }
    match &users.stopped {
        Some(id) if !force => {
            let why = format!("image is being used by stopped container {}", id.short());
            Err(conflict(image, "must be forced", &why))
        }
        _ => Ok(()),
    }
}

/// An image that is to go is mounted nowhere: whoever looks there would see its files vanish. With `force` its
/// mounts end first.
fn unmounted(store: &Store, image: &Digest, wanted: &str, force: bool) -> Result<()> {
    let found = mount::whereabouts(store, image.hex())?;
    // Nothing: the folder of a mount that ended with its namespace goes.
    let (Some(namespace), false) = (found, force) else { return mount::detach(store, image.hex()) };
    let place = mount::place(store, image.hex());
    let (whose, there) = match namespace {
        Namespace::Own => (String::new(), ""),
        Namespace::Of(pid) => (format!(" in the mount namespace of process {pid}"), " there"),
    };
    let why = format!("image is mounted at {place:?}{whose}");
    let hint = format!("unmount it{there} with: ctr image unmount {wanted}, or do both at once: ctr rmi -f {wanted}");
    let failure = format!("conflict: unable to delete {} (must be forced) - {why}", image.short());
    Err(Failure::new(failure).hint(hint).into())
}

fn conflict(image: &Digest, how: &str, why: &str) -> anyhow::Error {
    Failure::new(format!("conflict: unable to delete {} ({how}) - {why}", image.short())).into()
}
