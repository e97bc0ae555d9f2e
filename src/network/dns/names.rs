//! The names that ctr knows itself: of the containers on the networks that the asker is on.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::container::state;
use crate::network::dns::message::{self, Data};
use crate::network::dns::{Joined, View};
use crate::network::member::Member;
use crate::store::{Id, Store};

/// A directory's mtime moves in steps of the kernel's tick, 10 ms where it is longest: what was read
/// so soon after a change may be followed by another that looks the same.
const COARSE: Duration = Duration::from_millis(20);

/// The host, as the container may call it.
pub const HOST: [&str; 2] = ["host.docker.internal", "host.containers.internal"];

/// What a container is asked by: only this of its [`Member`] is kept.
#[derive(Debug)]
struct Known {
    id: Id,
    name: Box<str>,
    aliases: Box<[Box<str>]>,
    addresses: Box<[IpAddr]>,
    /// `CONTAINER:ALIAS`, which it alone is to know.
    links: Box<[Box<str>]>,
}

/// The members of one network as last read.
#[derive(Debug)]
struct Members {
    /// The directory's mtime; `None`: not to be trusted again.
    mtime: Option<(i64, i64)>,
    known: Vec<Known>,
}

#[derive(Debug, Default)]
pub struct Names {
    networks: HashMap<Id, Members>,
    /// Answers with several addresses begin with another one each time. Of each family, because a
    /// client asks for both in turn.
    turns: [usize; 2],
}

impl Names {
    /// What is known of `name`, which is lower case: records of type `kind`, perhaps none; `None`: it
    /// is no name of ours.
    pub fn look_up(&mut self, view: &View, name: &str, kind: u16) -> Option<Vec<Data>> {
        if let Some(address) = message::reversed(name) {
            let found = self.who_has(view, address)?;
            let answers = matches!(kind, message::PTR | message::ANY).then_some(Data::Name(found));
            return Some(answers.into_iter().collect());
        }
        let wanted = |address: &IpAddr| match kind {
            message::A => address.is_ipv4(),
            message::AAAA => address.is_ipv6(),
            message::ANY => true,
            _ => false,
        };
        let mut is_ours = HOST.contains(&name) && !view.gateways.is_empty();
        let mut found: Vec<IpAddr> = Vec::new();
        if is_ours {
            found.extend(view.gateways.iter().filter(|a| wanted(a)));
        }
        for network in &view.networks {
            // The first network that has it, in the order in which the container joined them, as Docker.
            if !found.is_empty() {
                break;
            }
            let members = self.members(&view.store, &network.id);
            let link = links(view, members).find(|(alias, _)| alias.eq_ignore_ascii_case(name));
            for known in members {
                let is_it = match link {
                    Some((_, container)) => known.is_container(container),
                    None => !network.links_only && known.is_called(name, network),
                };
                // Of one whose monitor was killed the record stays until somebody puts it in order.
                if is_it && state::is_alive(&view.store, &known.id) {
                    is_ours = true;
                    found.extend(known.addresses.iter().filter(|a| wanted(a)));
                }
            }
        }
        if found.len() > 1 {
            let turn = &mut self.turns[usize::from(kind == message::AAAA)];
            *turn = turn.wrapping_add(1);
            let middle = *turn % found.len();
            found.rotate_left(middle);
        }
        is_ours.then(|| found.into_iter().map(Data::Address).collect())
    }

    /// The full name of the one with this address.
    fn who_has(&mut self, view: &View, address: IpAddr) -> Option<String> {
        for network in &view.networks {
            let members = self.members(&view.store, &network.id);
            let is_it = |known: &&Known| known.addresses.contains(&address) && state::is_alive(&view.store, &known.id);
            let Some(known) = members.iter().find(is_it) else { continue };
            if !network.links_only {
                return Some(format!("{}.{}", known.name, network.name));
            }
            if let Some((alias, _)) = links(view, members).find(|(_, container)| known.is_container(container)) {
                return Some(alias.to_owned());
            }
        }
        None
    }

    /// Frees what was read.
    pub fn forget(&mut self) {
        self.networks = HashMap::new();
    }

    fn members(&mut self, store: &Store, network: &Id) -> &[Known] {
        let directory = store.network(network).join("members");
        let read_at = SystemTime::now();
        let meta = fs::metadata(&directory).ok();
        let mtime = meta.map(|meta| (meta.mtime(), meta.mtime_nsec()));
        let members = self.networks.entry(network.clone()).or_insert(Members { mtime: None, known: Vec::new() });
        if mtime.is_none() || mtime != members.mtime {
            members.known = read(&directory);
            members.mtime = mtime.filter(|mtime| is_past(*mtime, read_at));
        }
        &members.known
    }
}

impl Known {
    fn new(member: Member) -> Self {
        let addresses = member.ipv4.map(IpAddr::from).into_iter().chain(member.ipv6.map(IpAddr::from));
        Self {
            addresses: addresses.collect(),
            id: member.container,
            name: member.name.into(),
            aliases: member.aliases.into_iter().map(Into::into).collect(),
            links: member.links.into_iter().map(Into::into).collect(),
        }
    }

    /// `container`: its name or its id, long or short.
    fn is_container(&self, container: &str) -> bool {
        self.name.eq_ignore_ascii_case(container) || self.id.short() == container || self.id.as_str() == container
    }

    fn is_called(&self, name: &str, network: &Joined) -> bool {
        // Not the whole id: the DNS has no room for 64 bytes between two dots.
        let bare =
            |name: &str| self.is_container(name) || self.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name));
        if bare(name) {
            return true;
        }
        // `name.network`, of which both may have dots.
        let split = name.len().checked_sub(network.name.len() + 1).and_then(|at| name.split_at_checked(at));
        split.is_some_and(|(name, rest)| {
            rest.starts_with('.') && rest[1..].eq_ignore_ascii_case(&network.name) && bare(name)
        })
    }
}

/// The aliases that the asker alone knows, each with the container that it means: its own, and those
/// for the network with these members.
fn links<'a>(view: &'a View, members: &'a [Known]) -> impl Iterator<Item = (&'a str, &'a str)> {
    let own = members.iter().filter(|known| known.id == view.container).flat_map(|known| known.links.iter());
    let here = own.map(|link| {
        let (container, alias) = link.split_once(':').unwrap_or((link, link));
        (alias, container)
    });
    view.links.iter().map(|(alias, container)| (alias.as_str(), container.as_str())).chain(here)
}

/// All that can be read: a record that is damaged, or of a newer ctr, hides no other.
fn read(directory: &Path) -> Vec<Known> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let records = entries.filter(|entry| {
        // Not what is on its way to be renamed.
        entry
            .file_name()
            .to_str()
            .and_then(|name| name.strip_suffix(".json"))
            .is_some_and(|id| id.parse::<Id>().is_ok())
    });
    let mut known: Vec<Known> = records
        .filter_map(|entry| crate::store::record::read::<Member>(&entry.path()).ok().flatten().map(Known::new))
        .collect();
    known.sort_by(|a, b| a.id.cmp(&b.id));
    known
}

/// The mtime is so long ago that a later change has another one.
pub fn is_past((seconds, nanoseconds): (i64, i64), now: SystemTime) -> bool {
    let since = Duration::new(seconds.try_into().unwrap_or(0), nanoseconds.try_into().unwrap_or(0));
    now.duration_since(UNIX_EPOCH + since).is_ok_and(|age| age > COARSE)
}
