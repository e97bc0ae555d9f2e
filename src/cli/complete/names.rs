//! Candidates that are names: of what the store has, of signals, of variables.

use caps::Capability;
use nix::sys::signal::Signal;

use super::kind::{Kind, Which};
use super::line::Line;
use super::{Answer, Candidate, candidate, directive, paths};
use crate::cli::output::units;
use crate::cli::ps;
use crate::container::list::{self, Container, Status};
use crate::image::index::Index;
use crate::image::reference::Reference;
use crate::network::record as networks;
use crate::secret;
use crate::store::Store;

/// From so many digits on, ids are offered too.
const DIGITS: usize = 2;

/// What of this kind there is. `typed`: what is there of the word already; candidates need not begin so,
/// as some shells match otherwise.
pub fn answer(kind: Kind, line: &Line, typed: &str, store: impl Fn() -> Option<Store>) -> Answer {
    let words = |words: &[&str]| words.iter().filter_map(|word| candidate(word, "")).collect::<Vec<_>>();
    let candidates = match kind {
        Kind::Nothing => Vec::new(),
        Kind::Files => return Answer::files(0),
        Kind::Directories => return Answer::files(directive::DIRECTORIES),
        Kind::Words(all) => words(all),
        Kind::Signals => signals(),
        Kind::Capabilities => {
            let all = caps::all().into_iter().map(|one: Capability| one.to_string().replacen("CAP_", "", 1));
            let mut all: Vec<String> = all.chain(["ALL".to_owned()]).collect();
            all.sort();
            all.iter().filter_map(|name| candidate(name, "")).collect()
        }
        Kind::Variables => std::env::vars_os().filter_map(|(name, _)| candidate(name.to_str()?, "")).collect(),
        Kind::Containers(which) => store().map(|s| containers(&s, which, line, typed)).unwrap_or_default(),
        Kind::Images if line.has("rootfs") => return Answer::files(directive::DIRECTORIES),
        Kind::Images => store().map(|store| images(&store, typed)).unwrap_or_default(),
        Kind::Networks => store().map(|store| nets(&store, false)).unwrap_or_default(),
        Kind::OwnNetworks => store().map(|store| nets(&store, true)).unwrap_or_default(),
        Kind::Secrets => store().map(|store| secrets(&store)).unwrap_or_default(),
        Kind::Objects => objects(line, typed, store),
        Kind::NetworkModes(also) => {
            let nets = store().map(|store| nets(&store, false)).unwrap_or_default();
            [nets, words(also), joined(line, typed, store)].concat()
        }
        Kind::Modes(also) => [words(also), joined(line, typed, store)].concat(),
        Kind::ContainerPaths => return container_paths(line, typed, store),
    };
    let goes_on = |candidate: &Candidate| candidate.word.ends_with(['=', ':']);
    let mut fitting = candidates.iter().filter(|candidate| candidate.word.starts_with(typed)).peekable();
    let no_space = fitting.peek().is_some() && fitting.all(goes_on);
    Answer { candidates, directive: directive::NO_FILES | if no_space { directive::NO_SPACE } else { 0 } }
}

/// As `kill` shows them, without their common beginning.
fn signals() -> Vec<Candidate> {
    let has_prefix = |signal: Signal| candidate(signal.as_str().strip_prefix("SIG")?, "");
    Signal::iterator().filter_map(has_prefix).collect()
}

fn fits(which: Which, status: Status, line: &Line) -> bool {
    match which {
        Which::Any => true,
        Which::Running => status.is_running(),
        Which::Active => status == Status::Running,
        Which::Paused => status == Status::Paused,
        Which::Stopped => !status.is_running(),
        Which::Removable => line.has("force") || !status.is_running(),
    }
}

fn listed(store: &Store) -> Vec<Container> {
    // A damaged record is said by the commands.
    list::all(store, |_, _| {}).unwrap_or_default()
}

/// By name; by id where digits of one are there.
fn containers(store: &Store, which: Which, line: &Line, typed: &str) -> Vec<Candidate> {
    let mut all = Vec::new();
    let is_id = typed.len() >= DIGITS && typed.bytes().all(|b| b.is_ascii_hexdigit());
    for container in listed(store).iter().filter(|container| fits(which, container.status(), line)) {
        let state = &container.state;
        let status = ps::status(&state.phase);
        all.extend(candidate(&state.name, &format!("{}, {status}", state.image)));
        if is_id && container.id.as_str().starts_with(typed) {
            let id =
                if typed.len() > container.id.short().len() { container.id.as_str() } else { container.id.short() };
            all.extend(candidate(id, &format!("{}, {status}", state.name)));
        }
    }
    all
}

fn images(store: &Store, typed: &str) -> Vec<Candidate> {
    let mut all = Vec::new();
    let is_id = typed.len() >= DIGITS && typed.bytes().all(|b| b.is_ascii_hexdigit());
    for entry in Index::read(store).unwrap_or_default().entries {
        let size = units::size(entry.size);
        let name = entry.name.as_deref().and_then(|name| name.parse::<Reference>().ok());
        all.extend(name.and_then(|name| candidate(&name.familiar(), &size)));
        let id = entry.image.as_str().trim_start_matches("sha256:");
        if is_id && id.starts_with(typed) {
            all.extend(candidate(if typed.len() > 12 { id } else { &id[..12.min(id.len())] }, &size));
        }
    }
    all.sort_by(|a, b| a.word.cmp(&b.word));
    all.dedup_by(|a, b| a.word == b.word);
    all
}

fn nets(store: &Store, own: bool) -> Vec<Candidate> {
    let all = networks::list(store).unwrap_or_default();
    let wanted = all.iter().filter(|network| !(own && network.is_predefined()));
    wanted.filter_map(|network| candidate(&network.name, network.driver.as_str())).collect()
}

fn secrets(store: &Store) -> Vec<Candidate> {
    secret::list(store).unwrap_or_default().iter().filter_map(|secret| candidate(&secret.name, "secret")).collect()
}

/// Of the kind that `--type` asks for, or of any.
fn objects(line: &Line, typed: &str, store: impl Fn() -> Option<Store>) -> Vec<Candidate> {
    let Some(store) = store() else { return Vec::new() };
    let wanted = line.values.iter().rfind(|(arg, _)| arg.get_long() == Some("type")).map(|(_, value)| *value);
    let is = |kind| wanted.is_none_or(|wanted| wanted == kind);
    let mut all = Vec::new();
    if is("container") {
        all.extend(containers(&store, Which::Any, line, typed));
    }
    if is("image") {
        all.extend(images(&store, typed));
    }
    if is("network") {
        all.extend(nets(&store, false));
    }
    if is("secret") {
        all.extend(secrets(&store));
    }
    all
}

/// `container:NAME`, of those that run; the beginning alone until it is there.
fn joined(line: &Line, typed: &str, store: impl Fn() -> Option<Store>) -> Vec<Candidate> {
    if !typed.starts_with("container:") {
        return candidate("container:", "What another container has").into_iter().collect();
    }
    let Some(store) = store() else { return Vec::new() };
    let running = containers(&store, Which::Running, line, "");
    running.into_iter().filter_map(|one| candidate(&format!("container:{}", one.word), &one.about)).collect()
}

/// `NAME:`, until that is there, and then what is in it; files beside it.
fn container_paths(line: &Line, typed: &str, store: impl Fn() -> Option<Store>) -> Answer {
    if typed.starts_with(['.', '/', '~']) {
        return Answer::files(0);
    }
    // Only one of both can be a container's.
    if line.plain.first().is_some_and(|source| source.contains(':')) {
        return Answer::files(0);
    }
    if let Some((name, path)) = typed.split_once(':') {
        let candidates = store().map(|store| paths::of(store, name, path)).unwrap_or_default();
        let goes_on = !candidates.is_empty() && candidates.iter().all(|candidate| candidate.word.ends_with('/'));
        return Answer { candidates, directive: directive::NO_FILES | if goes_on { directive::NO_SPACE } else { 0 } };
    }
    let all = store().map(|store| containers(&store, Which::Any, line, typed)).unwrap_or_default();
    let candidates = all.into_iter().filter_map(|one| candidate(&format!("{}:", one.word), &one.about)).collect();
    Answer { candidates, directive: directive::NO_SPACE }
}
