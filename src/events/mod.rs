//! What happened, without a daemon to tell it: each process that does something appends a line to
//! `ROOT/events/log`, and who wants to know reads the file (`ctr events`).
//!
//! Called where the thing happens, after it is true for whoever looks; by `cli::events` to read.
//! Promises: recording costs a handful of system calls and never fails or holds up a command, not
//! on a full disk and not beside a stopped process; the lines are in the order of their times; a
//! reader that keeps up loses none and gets none twice, whichever file they are in ([`follow`]).

pub mod filter;
pub mod follow;
mod log;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::container::state::State;
use crate::network::record::Network;
use crate::store::{Id, Store, record};

/// An event in the shape of Docker's API ("Monitor events", v1.48); the first three fields are those
/// that older clients know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The action again, of containers and images.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// The actor's id again, of containers and images.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// A container's image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// `container`, `image`, `network`.
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: Actor,
    pub scope: String,
    /// Seconds since 1970.
    pub time: i64,
    /// Nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub nanos: i64,
}

/// What it happened to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

/// Records what happened to a container. `more`: Docker's attributes of this action, beside the
/// container's labels, image and name.
pub fn container(store: &Store, id: &Id, state: &State, action: &str, more: &[(&str, &str)]) {
    let mut attributes = state.labels.clone();
    attributes.extend(owned(more));
    attributes.insert("image".into(), state.image.clone());
    attributes.insert("name".into(), state.name.clone());
    record_event(store, "container", action, id.as_str(), attributes);
}

/// [`container`] for who has not read its state; nothing where there is none (any more).
pub fn of_container(store: &Store, id: &Id, action: &str, more: &[(&str, &str)]) {
    if let Ok(Some(state)) = record::read::<State>(&store.container(id).join("state.json")) {
        container(store, id, &state, action, more);
    }
}

/// Records that a container's process ended, after its state says so.
pub fn died(store: &Store, id: &Id, state: &State, code: u8, started: Timestamp) {
    let seconds = (Timestamp::now().as_second() - started.as_second()).max(0);
    container(store, id, state, "die", &[("execDuration", &seconds.to_string()), ("exitCode", &code.to_string())]);
}

/// Records what happened to an image. `id`: `sha256:…`, but for `pull` the name; `name`: as Docker
/// has it for the action.
pub fn image(store: &Store, id: &str, name: &str, action: &str, labels: &BTreeMap<String, String>) {
    let mut attributes = labels.clone();
    attributes.insert("name".into(), name.to_owned());
    record_event(store, "image", action, id, attributes);
}

/// Records what happened to a network. `container`: whose connection it was.
pub fn network(store: &Store, network: &Network, action: &str, container: Option<&Id>) {
    let mut attributes = owned(&[("name", &network.name), ("type", network.driver.as_str())]);
    attributes.extend(container.map(|id| ("container".to_owned(), id.to_string())));
    record_event(store, "network", action, network.id.as_str(), attributes);
}

/// Records that all unused things of a kind were removed, and how many bytes that gave back.
pub fn pruned(store: &Store, kind: &str, reclaimed: u64) {
    record_event(store, kind, "prune", "", owned(&[("reclaimed", &reclaimed.to_string())]));
}

fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn record_event(store: &Store, kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) {
    let has_old_fields = matches!(kind, "container" | "image");
    let old = |text: &str| if has_old_fields { text.to_owned() } else { String::new() };
    let mut event = Event {
        status: old(action),
        id: old(id),
        from: if kind == "container" { attributes.get("image").cloned().unwrap_or_default() } else { String::new() },
        kind: kind.to_owned(),
        action: action.to_owned(),
        actor: Actor { id: id.to_owned(), attributes },
        scope: "local".to_owned(),
        time: 0,
        nanos: 0,
    };
    // What cannot be written down happened all the same.
    let _ = log::append(store, &mut event);
}

#[cfg(test)]
mod tests;
