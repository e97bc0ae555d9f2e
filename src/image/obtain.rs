//! What `run` and `create` need: the image, whatever it takes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use crate::cli::output::{self, progress};
use crate::error::{self, Failure, exit};
use crate::image::platform::Platform;
use crate::image::pull::{Report, candidates, first, pull};
use crate::image::reference::Reference;
use crate::image::{Image, PullPolicy, additional, disk_full, find, find_for};
use crate::store::Store;
use crate::sys::process::{Fork, exit_now, fork};
use crate::userns;

/// The image, pulled when the policy says so. Progress goes to standard error unless `quiet`.
///
/// The process stays what it was, with one thread and in its own namespaces: an ordinary user's
/// pull is done by a child.
///
/// # Errors
/// There is no such image and it may not be pulled, or pulling it failed. Docker's exit code, 125.
pub fn obtain(store: &Store, wanted: &str, policy: PullPolicy, platform: Option<&str>, quiet: bool) -> Result<Image> {
    let platform = platform.map(str::parse::<Platform>).transpose().map_err(engine)?;
    let mut found = find(store, wanted).map_err(engine)?;
    let fits = |image: &Image| platform.as_ref().map_or(Ok(()), |p| Platform::of(&image.config).check(p, wanted));
    let mut unfit = found.as_ref().and_then(|image| fits(image).err());
    // The name may be for several platforms that are here.
    if unfit.is_some()
        && let Ok(Some(image)) = find_for(store, wanted, platform.as_ref())
    {
        (found, unfit) = (Some(image), None);
    }
    let here = found.filter(|_| unfit.is_none());
    if let (PullPolicy::Never, Some(unfit)) = (policy, unfit) {
        return Err(engine(unfit));
    }
    match (policy, here) {
        (PullPolicy::Missing | PullPolicy::Never, Some(image)) => return own(store, image),
        (PullPolicy::Never, None) => {
            return Err(Failure::new(format!("No such image: {wanted}"))
                .hint(format!("get it with: ctr pull {wanted}"))
                .exit(exit::ENGINE)
                .into());
        }
        // An image that is only an id can come from nowhere.
        (PullPolicy::Always, Some(image)) if image.id.trim_start_matches("sha256:").starts_with(wanted) => {
            return own(store, image);
        }
        (PullPolicy::Missing, None) if !quiet => {
            let name = wanted.parse::<Reference>().map_or_else(|_| wanted.to_owned(), |n| n.or_latest().familiar());
            output::say(&format!("Unable to find image '{name}' locally"));
        }
        _ => {}
    }
    let report = progress::report(progress::Stream::Err, quiet);
    let name = first(&candidates(wanted).map_err(engine)?, |name| {
        pull_for_run(store, name, platform.as_ref(), report.as_ref(), quiet)?;
        Ok(name.clone())
    })?;
    find(store, &name.stored().to_string())
        .map_err(engine)?
        .ok_or_else(|| Failure::new(format!("No such image: {wanted}")).exit(exit::ENGINE).into())
}

/// The image as this user can run it.
fn own(store: &Store, image: Image) -> Result<Image> {
    if !additional::must_be_adopted(store, &image) {
        return Ok(image);
    }
    in_namespace(store, &image.id, || additional::adopt(store, &image).map_err(disk_full))?;
    find(store, &image.id)
        .map_err(engine)?
        .ok_or_else(|| Failure::new(format!("No such image: {}", image.id)).exit(exit::ENGINE).into())
}

fn engine(error: impl Into<anyhow::Error>) -> anyhow::Error {
    carry(&error.into()).into()
}

/// An error's sentence and hint, as they go from the child to its parent.
#[derive(Serialize, Deserialize)]
struct Outcome {
    message: String,
    hint: Option<String>,
}

fn carry(error: &anyhow::Error) -> Failure {
    failure(Outcome { message: error::message(error), hint: error::hint(error).map(str::to_owned) })
}

fn failure(outcome: Outcome) -> Failure {
    let failure = Failure::new(outcome.message).exit(exit::ENGINE);
    match outcome.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn pull_for_run(
    store: &Store,
    name: &Reference,
    platform: Option<&Platform>,
    report: &dyn Report,
    quiet: bool,
) -> Result<()> {
    let work = || -> Result<()> {
        if !quiet {
            output::say(&format!("{}: Pulling from {}", name.wanted(), name.path()));
        }
        let pulled = pull(store, name, platform, report).map_err(disk_full)?;
        if !quiet {
            output::say(&format!("Digest: {}", pulled.digest));
            output::say(&status(name, pulled.newer));
        }
        Ok(())
    };
    in_namespace(store, &name.to_string(), work)
}

/// Does it in the user's own namespace, and leaves this process where it is.
fn in_namespace(store: &Store, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    if geteuid().is_root() {
        return work().map_err(engine);
    }
    let (mut ours, mut theirs) = UnixStream::pair()?;
    match fork().context("fork")? {
        Fork::Child => {
            drop(ours);
            let done = userns::enter(store).and_then(|()| work());
            if let Err(error) = &done {
                let outcome = Outcome { message: error::message(error), hint: error::hint(error).map(str::to_owned) };
                // A parent that is gone has nobody to tell.
                let _ = theirs.write_all(&serde_json::to_vec(&outcome).unwrap_or_default());
            }
            exit_now(i32::from(done.is_err()));
        }
        Fork::Parent(child) => {
            drop(theirs);
            let mut text = Vec::new();
            ours.read_to_end(&mut text)?;
            let status = nix::sys::wait::waitpid(child, None)?;
            match serde_json::from_slice(&text) {
                Ok(outcome) => Err(failure(outcome).into()),
                Err(_) if matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0)) => Ok(()),
                Err(_) => Err(Failure::new(format!("the pull of {name} was killed")).exit(exit::ENGINE).into()),
            }
        }
    }
}

/// Docker's last word on a pull.
#[must_use]
pub fn status(name: &Reference, newer: bool) -> String {
    let what = if newer { "Downloaded newer image" } else { "Image is up to date" };
    format!("Status: {what} for {}", name.familiar())
}
