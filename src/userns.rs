//! The user's own user namespace, in which an ordinary user is root over the subordinate ids of
//! `/etc/subuid` and `/etc/subgid`: joined where a live monitor of this user's is in one, made where
//! there is none. So nothing has to keep it alive, and a second container pays nothing for it.
//!
//! Called by whatever touches files of subordinate ids (`pull`, `rm`, `unshare`: [`enter`]) and by
//! the start of a monitor (the two sides of [`Plan`]). Root of the machine has no use for it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Pid, Uid, getegid, geteuid, getpid};
use serde::{Deserialize, Serialize};

use crate::container::state;
use crate::error::{self, Failure};
use crate::passwd;
use crate::store::{Id, Store};
use crate::sys::process::{Fork, exit_now, fork};

/// A line of `/proc/PID/uid_map`: user_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

/// How this user gets into the namespace.
#[derive(Debug)]
pub enum Plan {
    /// Nothing to do: root of the machine, or root of a namespace already.
    Here,
    /// The namespace of a live monitor.
    Join(OwnedFd),
    /// A new one.
    Make { uids: Vec<IdMap>, gids: Vec<IdMap> },
}

/// Whether this process is root in the machine's first user namespace.
#[must_use]
pub fn is_host_root() -> bool {
    geteuid().is_root() && in_first()
}

/// Whether this is the machine's first user namespace. A kernel that can make no others has no map.
#[must_use]
pub fn in_first() -> bool {
    !Path::new("/proc/self/uid_map").exists() || is_initial(&map_of("self", "uid_map"))
}

/// The effective user id as the namespace that this one was made in has it: the user's own, in the
/// user's own namespace.
#[must_use]
pub fn outer_uid() -> u32 {
    outer(geteuid().as_raw(), &map_of("self", "uid_map"))
}

/// What turns this namespace's ids, users' and groups', into those that they are outside of it. An id
/// that is none here stays as it is.
pub fn outer_ids() -> (impl Fn(u64) -> u64, impl Fn(u64) -> u64) {
    let outward = |file| {
        let maps = map_of("self", file);
        move |id: u64| u32::try_from(id).map_or(id, |id| outer(id, &maps).into())
    };
    (outward("uid_map"), outward("gid_map"))
}

/// The maps of the user namespace of a process that is in one below this one, as this one counts:
/// uids, then gids.
#[must_use]
pub fn maps_of(pid: i32) -> (Vec<IdMap>, Vec<IdMap>) {
    (map_of(&pid.to_string(), "uid_map"), map_of(&pid.to_string(), "gid_map"))
}

fn outer(id: u32, maps: &[IdMap]) -> u32 {
    let above = |m: &IdMap| id.checked_sub(m.inside).filter(|n| *n < m.count).map(|n| m.outside + n);
    maps.iter().find_map(above).unwrap_or(id)
}

/// Whether more than one id is mapped here: without that, ownership of an image's files cannot
/// be kept.
#[must_use]
pub fn has_ranges() -> bool {
    map_of("self", "uid_map").iter().map(|m| u64::from(m.count)).sum::<u64>() > 1
}

/// The maps of a child namespace with the same ids as this one: a line for each of this one's,
/// since a line may not cross two of the parent's (user_namespaces(7)). Uids, then gids.
#[must_use]
pub fn same_ids() -> (Vec<IdMap>, Vec<IdMap>) {
    let same = |file| map_of("self", file).into_iter().map(|m| IdMap { outside: m.inside, ..m }).collect();
    (same("uid_map"), same("gid_map"))
}

/// The ids that there are in the namespace that a monitor of this user's is in; `outside` says nothing.
/// Uids, then gids.
#[must_use]
pub fn available() -> (Vec<IdMap>, Vec<IdMap>) {
    let me = geteuid();
    if me.is_root() {
        return same_ids();
    }
    let one = || vec![IdMap { inside: 0, outside: 0, count: 1 }];
    let (mut uids, mut gids) = (one(), one());
    if let Some(ranges) = Ranges::of_user(me) {
        append(&mut uids, &ranges.uids);
        append(&mut gids, &ranges.gids);
    }
    (uids, gids)
}

/// How many ids maps have.
#[must_use]
pub fn count(maps: &[IdMap]) -> u32 {
    maps.iter().fold(0, |sum, map| sum.saturating_add(map.count))
}

/// Ranges of ids, `(start, count)` each: of users, then of groups.
pub type Subordinate = (Vec<(u32, u32)>, Vec<(u32, u32)>);

/// The subordinate ids of a user who need not exist; `None` where either file has none.
#[must_use]
pub fn subordinate(name: &str) -> Option<Subordinate> {
    let of = |file: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        // By a number that nobody has.
        parse_ranges(&text, name, Uid::from_raw(u32::MAX))
    };
    let (uids, gids) = (of("/etc/subuid"), of("/etc/subgid"));
    (!uids.is_empty() && !gids.is_empty()).then_some((uids, gids))
}

/// Puts this process into the namespace; it must have one thread still.
///
/// # Errors
/// The namespace cannot be made; the hint says which setting is in the way.
pub fn enter(store: &Store) -> Result<()> {
    let plan = plan(store)?;
    if !matches!(plan, Plan::Make { .. }) {
        return plan.go_in(None);
    }
    // The maps are written from outside: by a child that stays where this process is now.
    let (mut ours, mut theirs) = UnixStream::pair()?;
    let me = getpid();
    match fork().context("fork")? {
        Fork::Child => {
            drop(ours);
            exit_now(i32::from(plan.map(me, &mut theirs).is_err()));
        }
        Fork::Parent(child) => {
            drop(theirs);
            let went = plan.go_in(Some(&mut ours));
            let _ = nix::sys::wait::waitpid(child, None);
            went
        }
    }
}

/// Does something in the namespace, in a child: this process stays what it is. Root needs no child.
///
/// # Errors
/// What went wrong there, as a sentence.
pub fn within(store: &Store, work: impl FnOnce() -> Result<()>) -> Result<()> {
    if geteuid().is_root() {
        return work();
    }
    let (mut ours, mut theirs) = UnixStream::pair()?;
    match fork().context("fork")? {
        Fork::Child => {
            drop(ours);
            let done = enter(store).and_then(|()| work());
            let told = match &done {
                Ok(()) => "ok".to_owned(),
                Err(e) => error::message(e),
            };
            // A parent that is gone has nobody to tell.
            let _ = theirs.write_all(told.as_bytes());
            exit_now(i32::from(done.is_err()));
        }
        Fork::Parent(child) => {
            drop(theirs);
            let mut told = String::new();
            let heard = ours.read_to_string(&mut told);
            let _ = nix::sys::wait::waitpid(child, None);
            heard?;
            match told.as_str() {
                "ok" => Ok(()),
                "" => anyhow::bail!("the process that did it was killed"),
                problem => Err(Failure::new(problem.to_owned()).into()),
            }
        }
    }
}

/// Looks what has to be done.
///
/// # Errors
/// The user's entries cannot be read.
pub fn plan(store: &Store) -> Result<Plan> {
    let me = geteuid();
    if me.is_root() {
        return Ok(Plan::Here);
    }
    let ranges = || Ranges::of_user(me);
    if let Some((namespace, has_ranges)) = live_namespace(store) {
        // One that was made before the user was given ids is of no use to the next image.
        if has_ranges || ranges().is_none() {
            return Ok(Plan::Join(namespace));
        }
    }
    let single = |id: u32| vec![IdMap { inside: 0, outside: id, count: 1 }];
    let (mut uids, mut gids) = (single(me.as_raw()), single(getegid().as_raw()));
    match ranges() {
        Some(ranges) => {
            append(&mut uids, &ranges.uids);
            append(&mut gids, &ranges.gids);
        }
        None => warn_once(
            store,
            &format!(
                "no subordinate ids for {name}: files of an image keep no owner but you, and programs that change their \
                 user fail\nhint: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}",
                name = user_name(me)
            ),
        ),
    }
    Ok(Plan::Make { uids, gids })
}

impl Plan {
    /// The side of the process that goes in. `link` leads to the one that runs [`Plan::map`];
    /// only `Make` needs it.
    ///
    /// # Errors
    /// Joining or making failed, or the other side could not write the maps.
    pub fn go_in(&self, link: Option<&mut UnixStream>) -> Result<()> {
        match self {
            Self::Here => Ok(()),
            Self::Join(namespace) => {
                setns(namespace, CloneFlags::CLONE_NEWUSER).context("join your user namespace")?;
                Ok(())
            }
            Self::Make { .. } => {
                unshare(CloneFlags::CLONE_NEWUSER).map_err(refused)?;
                let link = link.context("no process to write the id maps")?;
                link.write_all(&[0])?;
                let mut problem = String::new();
                link.read_to_string(&mut problem)?;
                match problem.strip_prefix("ok") {
                    Some(_) => Ok(()),
                    None => Err(Failure::new("cannot map your subordinate ids")
                        .source(anyhow::anyhow!("{}", problem.trim()))
                        .hint("install newuidmap and newgidmap (Debian, Ubuntu: apt-get install uidmap)")
                        .into()),
                }
            }
        }
    }

    /// The other side: waits until `pid` is in its new namespace, writes the maps, and says so.
    /// It must be the user's own process outside of the namespace.
    ///
    /// # Errors
    /// What went wrong has been told to the other side too.
    pub fn map(&self, pid: Pid, link: &mut UnixStream) -> Result<()> {
        let Self::Make { uids, gids } = self else { return Ok(()) };
        let mut ready = [0u8];
        link.read_exact(&mut ready)?;
        let outcome = write_maps(pid, uids, gids);
        let told = match &outcome {
            Ok(()) => "ok".to_owned(),
            Err(e) => error::message(e),
        };
        link.write_all(told.as_bytes())?;
        link.shutdown(std::net::Shutdown::Write)?;
        outcome
    }
}

fn write_maps(pid: Pid, uids: &[IdMap], gids: &[IdMap]) -> Result<()> {
    if uids.len() == 1 && gids.len() == 1 {
        // One's own id may be mapped without help, once setgroups is denied: user_namespaces(7).
        let proc = format!("/proc/{pid}");
        for (file, text) in [("setgroups", "deny".to_owned()), ("uid_map", lines(uids)), ("gid_map", lines(gids))] {
            let path = format!("{proc}/{file}");
            std::fs::write(&path, text).with_context(|| format!("write {path:?}"))?;
        }
        return Ok(());
    }
    // Both at once: each is a program of its own, and a start waits for them.
    let run = |program: &str, maps: &[IdMap]| {
        let numbers: Vec<String> =
            maps.iter().flat_map(|m| [m.inside, m.outside, m.count]).map(|n| n.to_string()).collect();
        log::debug!("run {program} {pid} {}", numbers.join(" "));
        Command::new(program)
            .arg(pid.to_string())
            .args(numbers)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("run {program:?}"))
    };
    let children = [("newuidmap", run("newuidmap", uids)?), ("newgidmap", run("newgidmap", gids)?)];
    for (program, child) in children {
        let output = child.wait_with_output().with_context(|| format!("wait for {program:?}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            anyhow::bail!("{}", if said.trim().is_empty() { program } else { said.trim() });
        }
    }
    Ok(())
}

fn lines(maps: &[IdMap]) -> String {
    use std::fmt::Write as _;
    maps.iter().fold(String::new(), |mut text, m| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {} {}", m.inside, m.outside, m.count);
        text
    })
}

/// [`plan`] for a process that stays in the namespace, a monitor. The file that comes with it is
/// locked: keep it until that process is in the namespace and its number is in its container's
/// `alive`. Whoever makes a namespace waits for all who are about to join one, and the other way
/// round, so all of a user's monitors are in one; between two, no network could be shared.
///
/// # Errors
/// As [`plan`].
pub fn plan_to_stay(store: &Store) -> Result<(Plan, Option<File>)> {
    if geteuid().is_root() {
        return Ok((Plan::Here, None));
    }
    let lock = File::open(store.root()).with_context(|| format!("open {:?}", store.root()))?;
    lock.lock_shared()?;
    let joins = plan(store)?;
    if !matches!(joins, Plan::Make { .. }) {
        return Ok((joins, Some(lock)));
    }
    lock.unlock()?;
    lock.lock()?;
    Ok((plan(store)?, Some(lock)))
}

/// The user namespace of a live monitor, and whether it maps more than one id.
fn live_namespace(store: &Store) -> Option<(OwnedFd, bool)> {
    // The run directory has only those that run. The same user may have a second one (with and
    // without a login session), so before a namespace is made all containers are looked at.
    [store.run().join("containers"), store.containers()].iter().find_map(|directory| {
        std::fs::read_dir(directory).ok()?.flatten().find_map(|entry| {
            let id: Id = entry.file_name().to_str()?.parse().ok()?;
            let monitor = state::monitor(store, &id)?;
            let namespace = File::open(format!("/proc/{monitor}/ns/user")).ok()?;
            let maps = map_of(&monitor.to_string(), "uid_map");
            // Asked last: while the monitor lives, the number that was opened above is its own.
            let is_ours = state::is_alive(store, &id) && !maps.is_empty() && !is_initial(&maps);
            is_ours.then_some((namespace.into(), maps.len() > 1))
        })
    })
}

fn map_of(pid: &str, file: &str) -> Vec<IdMap> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    text.lines().filter_map(parse_map).collect()
}

fn parse_map(line: &str) -> Option<IdMap> {
    let mut numbers = line.split_ascii_whitespace().map(|n| n.parse().ok());
    Some(IdMap { inside: numbers.next()??, outside: numbers.next()??, count: numbers.next()?? })
}

fn is_initial(maps: &[IdMap]) -> bool {
    maps == [IdMap { inside: 0, outside: 0, count: u32::MAX }]
}

/// The user's subordinate ids, `(start, count)` each.
#[derive(Debug)]
struct Ranges {
    uids: Vec<(u32, u32)>,
    gids: Vec<(u32, u32)>,
}

impl Ranges {
    /// `None` where either file has none for this user.
    fn of_user(me: Uid) -> Option<Self> {
        let name = user_name(me);
        let of = |file: &str, group: bool| {
            let found = parse_ranges(&std::fs::read_to_string(file).unwrap_or_default(), &name, me);
            if found.is_empty() { from_directory_service(&name, group) } else { found }
        };
        let ranges = Self { uids: of("/etc/subuid", false), gids: of("/etc/subgid", true) };
        (!ranges.uids.is_empty() && !ranges.gids.is_empty()).then_some(ranges)
    }
}

/// The lines of subuid(5) that are this user's, by name or by number.
fn parse_ranges(text: &str, name: &str, me: Uid) -> Vec<(u32, u32)> {
    let number = me.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let owner = fields.next()?;
            let (start, count) = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
            (count > 0 && (owner == name || owner == number)).then_some((start, count))
        })
        .collect()
}

/// Where subordinate ids come from a directory (`subid: sss` in nsswitch.conf), only shadow's own
/// program knows them: getsubids(1).
fn from_directory_service(name: &str, group: bool) -> Vec<(u32, u32)> {
    let switched = std::fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    if !switched.lines().any(|line| line.starts_with("subid:")) || !Path::new("/usr/bin/getsubids").exists() {
        return Vec::new();
    }
    log::debug!("run getsubids {name}");
    let output = Command::new("getsubids").args(group.then_some("-g")).arg(name).stderr(Stdio::null()).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    // `0: name 100000 65536`
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace().skip(2);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        })
        .collect()
}

/// Puts the ranges behind what is mapped already, one after the other from the next free id on.
fn append(maps: &mut Vec<IdMap>, ranges: &[(u32, u32)]) {
    for &(outside, count) in ranges {
        let inside = maps.last().map_or(0, |m| m.inside.saturating_add(m.count));
        let count = count.min(u32::MAX - inside);
        maps.push(IdMap { inside, outside, count });
    }
}

/// A user's name, or number where there is none.
#[must_use]
pub fn user_name(me: Uid) -> String {
    passwd::user(&me.to_string()).map_or_else(|| me.to_string(), |user| user.name)
}

/// What the kernel's refusal of a user namespace means, and what lifts it.
fn refused(errno: Errno) -> anyhow::Error {
    let failure = Failure::new("cannot create a user namespace").source(errno);
    let is_off = |path: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "0");
    let failure = if is_off("/proc/sys/kernel/unprivileged_userns_clone") {
        failure.hint("allow it: sudo sysctl -w kernel.unprivileged_userns_clone=1")
    } else if errno == Errno::ENOSPC || errno == Errno::EUSERS || is_off("/proc/sys/user/max_user_namespaces") {
        failure.hint("raise the limit: sudo sysctl -w user.max_user_namespaces=28633")
    } else {
        failure.hint("in another engine's container, run that one with --security-opt seccomp=unconfined")
    };
    failure.into()
}

/// Warns, but not again until the next reboot.
fn warn_once(store: &Store, text: &str) {
    if File::create_new(store.run().join("warned-no-subordinate-ids")).is_ok() {
        error::warn(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_we_are_outside() {
        let maps = |text: &str| text.lines().filter_map(parse_map).collect::<Vec<_>>();
        let own = maps("         0       1000          1\n         1     100000      65536\n");
        let all = maps("         0          0 4294967295\n");
        assert!(is_initial(&all) && !is_initial(&own));
        assert_eq!([outer(0, &all), outer(1000, &all)], [0, 1000]);
        assert_eq!([outer(0, &own), outer(5, &own), outer(70_000, &own)], [1000, 100_004, 70_000]);
    }

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "root:1:2\nann:100000:65536\n1000:300000:10\nbad\nann:5:0\nann:400000:1";
        let found = parse_ranges(text, "ann", Uid::from_raw(1000));
        assert_eq!(found, [(100_000, 65_536), (300_000, 10), (400_000, 1)]);
    }

    #[test]
    fn ranges_follow_each_other_inside() {
        let mut maps = vec![IdMap { inside: 0, outside: 1000, count: 1 }];
        append(&mut maps, &[(100_000, 65_536), (300_000, 10)]);
        assert_eq!(lines(&maps), "0 1000 1\n1 100000 65536\n65537 300000 10\n");
    }
}
