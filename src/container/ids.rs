//! Which ids a container has (`--userns`), in terms of those of the namespace that its monitor is in:
//! the machine's for root, for anybody else the user's own namespace, in which 0 is the user and the
//! subordinate ids follow from 1 on ([`userns`]).
//!
//! What a mode comes to is written into the container's record and never changes. The ranges that
//! `auto` gave away are those in the records: whoever looks for a free one holds a lock until its
//! container has a record.

use std::str::FromStr;

use anyhow::{Context, Result};

use crate::container::config::{Config, ContainerConfig, HostConfig, Ids, RootFs};
use crate::container::image_files;
use crate::error::{Failure, exit};
use crate::store::{Lock, Store, names, record};
use crate::userns::{self, IdMap};
use std::path::Path;

/// Ids that `auto` gives at least.
const SMALLEST: u32 = 1024;

/// And at most, unless it is told to: all that a passwd file of an ordinary system can name.
const LARGEST: u32 = 65_536;

/// The user whose subordinate ids root gives to containers, Podman's.
const OWNER: &str = "containers";

/// `--userns`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Mode {
    /// The machine's for root, the user's own namespace's for others, in a namespace of its own.
    #[default]
    Usual,
    Host,
    /// The caller has the same number inside, or `uid`.
    KeepId {
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u32>,
    },
    /// Ids that no other container has. The maps are of what shall be where.
    Auto {
        size: Option<u32>,
        uids: Vec<IdMap>,
        gids: Vec<IdMap>,
    },
    /// All of the user's but their own.
    NoMap,
}

impl FromStr for Mode {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, options) = text.split_once(':').unwrap_or((text, ""));
        let options = || options.split(',').filter(|o| !o.is_empty()).map(|o| o.split_once('=').unwrap_or((o, "")));
        let number = |option: &str, value: &str| {
            let number = value.parse::<u32>().ok().filter(|n| *n <= i32::MAX.cast_unsigned());
            number.ok_or_else(|| bad(format!("--userns {text}: {option}={value:?} is not a number")))
        };
        let unknown = |option: &str| Err(bad(format!("--userns {text}: unknown option {option:?}")));
        match name {
            "" => Ok(Self::Usual),
            "host" if text == "host" => Ok(Self::Host),
            "nomap" if text == "nomap" => Ok(Self::NoMap),
            "keep-id" => {
                let (mut uid, mut gid, mut size) = (None, None, None);
                for (option, value) in options() {
                    let place = match option {
                        "uid" => &mut uid,
                        "gid" => &mut gid,
                        "size" => &mut size,
                        _ => return unknown(option),
                    };
                    *place = Some(number(option, value)?);
                }
                Ok(Self::KeepId { uid, gid, size })
            }
            "auto" => {
                let (mut size, mut uids, mut gids) = (None, Vec::new(), Vec::new());
                for (option, value) in options() {
                    let map = || map(value).ok_or_else(|| bad(format!("--userns {text}: {option}={value:?} is not CONTAINER:HOST:SIZE")));
                    match option {
                        "size" => size = Some(number(option, value)?.max(1)),
                        "uidmapping" => uids.push(map()?),
                        "gidmapping" => gids.push(map()?),
                        _ => return unknown(option),
                    }
                }
                Ok(Self::Auto { size, uids, gids })
            }
            "private" | "container" | "ns" | "pod" => Err(Failure::new(format!("--userns {text}: not supported"))
                .hint("ctr has host, keep-id, auto and nomap; a container's namespace is shared with --network container:NAME")
                .exit(exit::ENGINE)
                .into()),
            _ => Err(bad("--userns: invalid USER mode")),
        }
    }
}

fn bad(message: impl Into<String>) -> anyhow::Error {
    Failure::new(message).exit(exit::ENGINE).into()
}

fn map(text: &str) -> Option<IdMap> {
    let mut numbers = text.split(':').map(|n| n.parse::<u32>().ok());
    let map = IdMap { inside: numbers.next()??, outside: numbers.next()??, count: numbers.next()?? };
    (numbers.next().is_none() && map.count > 0 && map.inside.checked_add(map.count).is_some()).then_some(map)
}

/// What a mode came to. Kept until the container has its record.
#[derive(Debug, Default)]
pub struct Planned {
    pub ids: Option<Ids>,
    /// The caller's ids in the container, where they are kept.
    pub caller: Option<(u32, u32)>,
    _lock: Option<Lock>,
}

impl Planned {
    /// Ids that are given already: another container's, whose namespace is shared.
    #[must_use]
    pub fn of(ids: Option<Ids>) -> Self {
        Self { ids, ..Self::default() }
    }
}

/// Finds the ids of a container that is about to be made.
///
/// # Errors
/// This user has not the ids that are asked for; the hint says who gives them.
pub fn plan(store: &Store, host: &HostConfig, config: &Config, root: &RootFs) -> Result<Planned> {
    let mode: Mode = host.userns_mode.parse()?;
    let (uids, gids) = userns::available();
    let is_root = userns::is_host_root();
    let few = |flag: &str| {
        Failure::new(format!("--userns {flag} needs subordinate ids"))
            .hint(format!(
                "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {}",
                userns::user_name(nix::unistd::geteuid())
            ))
            .exit(exit::ENGINE)
    };
    let has_few = userns::count(&uids) < 2 || userns::count(&gids) < 2;
    match mode {
        Mode::Usual | Mode::Host => Ok(Planned::default()),
        Mode::KeepId { .. } if has_few => Err(few("keep-id").into()),
        Mode::KeepId { uid, gid, size } => {
            let uid = uid.unwrap_or_else(|| nix::unistd::geteuid().as_raw());
            let gid = gid.unwrap_or_else(|| nix::unistd::getegid().as_raw());
            let ids = Ids {
                uid_map: split(&keep(uid, userns::count(&uids), size), &uids)?,
                gid_map: split(&keep(gid, userns::count(&gids), size), &gids)?,
            };
            Ok(Planned { ids: Some(ids), caller: Some((uid, gid)), _lock: None })
        }
        Mode::NoMap if is_root => {
            Err(bad("--userns nomap is for containers of ordinary users: root has no id of its own to leave out"))
        }
        Mode::NoMap if has_few => Err(few("nomap").into()),
        Mode::NoMap => {
            let all = |available: &[IdMap]| [IdMap { inside: 0, outside: 1, count: userns::count(available) - 1 }];
            let ids = Ids { uid_map: split(&all(&uids), &uids)?, gid_map: split(&all(&gids), &gids)? };
            Ok(Planned { ids: Some(ids), ..Planned::default() })
        }
        Mode::Auto { .. } if has_few => Err(few("auto").into()),
        Mode::Auto { size, uids: fixed_uids, gids: fixed_gids } => {
            let containers = store.containers();
            let lock = Lock::exclusive(&containers).with_context(|| format!("lock {containers:?}"))?;
            let size = size.unwrap_or_else(|| needed(store, config, root));
            let (uid_pool, gid_pool) = if is_root {
                userns::subordinate(OWNER).ok_or_else(|| {
                    Failure::new(format!(
                        "--userns auto: user {OWNER:?} has no subordinate ids in /etc/subuid and /etc/subgid"
                    ))
                    .hint(format!("echo {OWNER}:2147483647:2147483648 | sudo tee -a /etc/subuid /etc/subgid"))
                    .exit(exit::ENGINE)
                })?
            } else {
                let own = |available: &[IdMap]| vec![(1, userns::count(available) - 1)];
                (own(&uids), own(&gids))
            };
            let (used_uids, used_gids) = given_away(store)?;
            let ids = Ids {
                uid_map: split(&auto(size, &fixed_uids, &uid_pool, &used_uids)?, &uids)?,
                gid_map: split(&auto(size, &fixed_gids, &gid_pool, &used_gids)?, &gids)?,
            };
            Ok(Planned { ids: Some(ids), caller: None, _lock: Some(lock) })
        }
    }
}

/// 0 of the monitor's namespace, who is the caller, as `id`; all others move up to make room.
fn keep(id: u32, all: u32, size: Option<u32>) -> Vec<IdMap> {
    let below = id.min(all - 1);
    let mut maps = Vec::new();
    if below > 0 {
        maps.push(IdMap { inside: 0, outside: 1, count: below });
    }
    maps.push(IdMap { inside: id, outside: 0, count: 1 });
    if all - 1 > below {
        maps.push(IdMap { inside: id + 1, outside: below + 1, count: all - 1 - below });
    }
    let Some(size) = size else { return maps };
    maps.retain_mut(|map| {
        if map.inside != id {
            map.count = map.count.min(size.saturating_sub(map.inside));
        }
        map.count > 0
    });
    maps
}

/// `size` ids in a row that are in the pool and in nobody's use; those of `fixed` lie elsewhere.
fn auto(size: u32, fixed: &[IdMap], pool: &[(u32, u32)], used: &[(u32, u32)]) -> Result<Vec<IdMap>> {
    let ends = |(start, count): &(u32, u32)| start.saturating_add(*count);
    let is_free = |base: u32| {
        let fits =
            pool.iter().any(|range| range.0 <= base && base.checked_add(size).is_some_and(|end| end <= ends(range)));
        let own = fixed.iter().map(|map| (map.outside, map.count));
        fits && used.iter().copied().chain(own).all(|range| base >= ends(&range) || base + size <= range.0)
    };
    // A free row begins where a range of the pool does, or where one that is used ends.
    let own = fixed.iter().map(|map| (map.outside, map.count));
    let mut bases: Vec<u32> =
        pool.iter().map(|range| range.0).chain(used.iter().copied().chain(own).map(|range| ends(&range))).collect();
    bases.sort_unstable();
    let base = bases.into_iter().find(|base| is_free(*base)).ok_or_else(|| {
        Failure::new(format!("--userns auto: there are not {size} free ids in a row"))
            .hint("remove containers that were made with --userns auto, ask for fewer (auto:size=1024), or add subordinate ids")
            .exit(exit::ENGINE)
    })?;
    let mut maps = fixed.to_vec();
    maps.sort_unstable_by_key(|map| map.inside);
    if maps.iter().zip(maps.iter().skip(1)).any(|(a, b)| a.inside + a.count > b.inside) {
        return Err(bad("--userns auto: two mappings are of the same ids"));
    }
    // Between the fixed ones.
    let mut at = 0;
    for map in maps.clone().into_iter().chain([IdMap { inside: size, outside: 0, count: 0 }]) {
        let end = map.inside.min(size);
        if end > at {
            maps.push(IdMap { inside: at, outside: base + at, count: end - at });
        }
        at = at.max(map.inside + map.count);
    }
    maps.sort_unstable_by_key(|map| map.inside);
    Ok(maps)
}

/// Cuts maps where the parent's change, since a line may not cross two of them: `user_namespaces(7)`.
fn split(maps: &[IdMap], parent: &[IdMap]) -> Result<Vec<IdMap>> {
    let mut lines = Vec::new();
    for map in maps {
        let mut rest = *map;
        while rest.count > 0 {
            let holder = parent.iter().find(|p| rest.outside >= p.inside && rest.outside - p.inside < p.count);
            let holder =
                holder.ok_or_else(|| bad(format!("--userns: the id {} is not yours to give", rest.outside)))?;
            let count = rest.count.min(holder.count - (rest.outside - holder.inside));
            lines.push(IdMap { count, ..rest });
            rest = IdMap {
                inside: rest.inside + count,
                outside: rest.outside.saturating_add(count),
                count: rest.count - count,
            };
        }
    }
    if lines.len() > 340 {
        return Err(bad("--userns: the kernel has no room for so many ranges of ids"));
    }
    Ok(lines)
}

/// Ranges that containers of this store have.
type Ranges = Vec<(u32, u32)>;

fn given_away(store: &Store) -> Result<(Ranges, Ranges)> {
    let (mut uids, mut gids) = (Vec::new(), Vec::new());
    for id in names::ids(store)? {
        let Some(config) = record::read::<ContainerConfig>(&store.container(&id).join("config.json"))? else {
            continue;
        };
        if let Some(ids) = config.host_config.ids.filter(|_| config.host_config.userns_mode.starts_with("auto")) {
            uids.extend(ids.uid_map.iter().map(|map| (map.outside, map.count)));
            gids.extend(ids.gid_map.iter().map(|map| (map.outside, map.count)));
        }
    }
    Ok((uids, gids))
}

/// As many ids as the image's own accounts need, and the user it is run as.
fn needed(store: &Store, config: &Config, root: &RootFs) -> u32 {
    let of = |file: &str, fields: &[usize]| {
        let bytes = image_files::read(store, root.directories(), Path::new(file), 16 << 20).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lines = text.lines().filter(|line| !line.starts_with("nobody:") && !line.starts_with("nogroup:"));
        lines
            .flat_map(|line| {
                fields.iter().filter_map(|at| line.split(':').nth(*at)?.parse::<u32>().ok()).collect::<Vec<_>>()
            })
            .max()
            .unwrap_or(0)
    };
    let user = config.user.split(':').filter_map(|id| id.parse::<u32>().ok()).max().unwrap_or(0);
    let most = of("/etc/passwd", &[2, 3]).max(of("/etc/group", &[2])).max(user);
    most.saturating_add(1).clamp(SMALLEST, LARGEST)
}

impl Ids {
    /// The container's root in the monitor's namespace, user and group.
    #[must_use]
    pub fn root(&self) -> (u32, u32) {
        (outside(&self.uid_map, 0).unwrap_or(0), outside(&self.gid_map, 0).unwrap_or(0))
    }

    /// Whether each id that there is stands for itself.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.uid_map.iter().chain(&self.gid_map).all(|map| map.inside == map.outside)
    }
}

/// What an id of the container's is in the monitor's namespace.
#[must_use]
pub fn outside(maps: &[IdMap], id: u32) -> Option<u32> {
    maps.iter().find_map(|map| id.checked_sub(map.inside).filter(|n| *n < map.count).map(|n| map.outside + n))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn line(inside: u32, outside: u32, count: u32) -> IdMap {
        IdMap { inside, outside, count }
    }

    #[test]
    fn modes() {
        let mode = |text: &str| text.parse::<Mode>().map_err(|e| e.to_string());
        assert_eq!(mode(""), Ok(Mode::Usual));
        assert_eq!(mode("host"), Ok(Mode::Host));
        assert_eq!(mode("keep-id"), Ok(Mode::KeepId { uid: None, gid: None, size: None }));
        assert_eq!(mode("keep-id:uid=5,gid=6"), Ok(Mode::KeepId { uid: Some(5), gid: Some(6), size: None }));
        let auto = Mode::Auto { size: Some(4096), uids: vec![line(0, 5, 1)], gids: Vec::new() };
        assert_eq!(mode("auto:size=4096,uidmapping=0:5:1"), Ok(auto));
        assert_eq!(mode("x"), Err("--userns: invalid USER mode".into()));
        assert_eq!(mode("host:x"), Err("--userns: invalid USER mode".into()));
        assert_eq!(mode("keep-id:uid=x"), Err("--userns keep-id:uid=x: uid=\"x\" is not a number".into()));
        assert_eq!(mode("auto:foo=1"), Err("--userns auto:foo=1: unknown option \"foo\"".into()));
        assert!(mode("auto:uidmapping=1:2").is_err() && mode("private").is_err());
    }

    #[test]
    fn the_caller_keeps_its_number() {
        assert_eq!(keep(1000, 65_537, None), [line(0, 1, 1000), line(1000, 0, 1), line(1001, 1001, 64_536)]);
        assert_eq!(keep(0, 100, None), [line(0, 0, 1), line(1, 1, 99)]);
        assert_eq!(keep(1_000_000, 100, None), [line(0, 1, 99), line(1_000_000, 0, 1)]);
        assert_eq!(keep(1000, 65_537, Some(10)), [line(0, 1, 10), line(1000, 0, 1)]);
        let machine = [line(0, 0, u32::MAX)];
        assert_eq!(split(&keep(0, u32::MAX, None), &machine).unwrap(), [line(0, 0, 1), line(1, 1, u32::MAX - 1)]);
    }

    #[test]
    fn lines_end_where_the_parent_s_do() {
        let parent = [line(0, 1000, 1), line(1, 100_000, 10), line(11, 300_000, 10)];
        assert_eq!(split(&[line(5, 0, 15)], &parent).unwrap(), [line(5, 0, 1), line(6, 1, 10), line(16, 11, 4)]);
        assert!(split(&[line(0, 15, 10)], &parent).is_err());
    }

    #[test]
    fn a_free_range_is_the_first_that_fits() {
        let pool = [(1, 10_000)];
        assert_eq!(auto(1024, &[], &pool, &[]).unwrap(), [line(0, 1, 1024)]);
        assert_eq!(auto(1024, &[], &pool, &[(1, 1024), (2048, 10)]).unwrap(), [line(0, 2058, 1024)]);
        assert_eq!(auto(100, &[], &pool, &[(1, 1024), (2048, 10)]).unwrap(), [line(0, 1025, 100)]);
        assert!(auto(9000, &[], &pool, &[(1500, 1)]).is_err());
        let fixed = [line(10, 0, 1)];
        assert_eq!(auto(20, &fixed, &pool, &[]).unwrap(), [line(0, 1, 10), line(10, 0, 1), line(11, 12, 9)]);
        let found = auto(20, &[line(5, 3, 2)], &pool, &[]).unwrap();
        assert_eq!(found, [line(0, 5, 5), line(5, 3, 2), line(7, 12, 13)]);
        assert_eq!((outside(&found, 6), outside(&found, 20)), (Some(4), None));
    }
}
