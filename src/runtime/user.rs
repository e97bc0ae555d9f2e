//! Who `user[:group]` is, by the container's own /etc/passwd and /etc/group.
//!
//! Those files are the image's, hence hostile: opened inside the root, without waiting for a pipe's
//! other end, regular files only, and read up to a bound. A line that is no entry is not an error.
//! The rules are Docker's (moby/sys/user, `GetExecUser`).

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;

use super::plan::Identity;
use super::report::{At, Fault, Step};
use super::rooted;

/// A large site's passwd file has tens of thousands of lines of 80 characters.
const LONGEST: u64 = 16 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

/// Looks an identity up, with further `groups` by name or number. Reads only the files that matter.
pub fn look_up(root: BorrowedFd, identity: &Identity, groups: &[String], want_home: bool) -> Result<Account, Fault> {
    let read = |path: &str| read(root, Path::new(path)).at(Step::ReadAccounts, path);
    let named = matches!(identity, Identity::Named(_));
    let passwd = if named || want_home { read("/etc/passwd")? } else { String::new() };
    let group =
        if named || groups.iter().any(|g| g.parse::<u32>().is_err()) { read("/etc/group")? } else { String::new() };
    find(identity, groups, &passwd, &group)
}

fn find(identity: &Identity, further: &[String], passwd: &str, group: &str) -> Result<Account, Fault> {
    let users = || passwd.lines().filter_map(User::parse);
    let of_uid = |uid| users().find(|u| u.uid == uid);
    let mut account = match identity {
        Identity::Ids { uid, gid, groups } => Account {
            uid: *uid,
            gid: *gid,
            groups: groups.clone(),
            home: of_uid(*uid).map(|u| u.home.to_owned()).unwrap_or_default(),
        },
        Identity::Named(name) => {
            let (user, group_name) = name.split_once(':').unwrap_or((name, ""));
            let number = id(user)?;
            // A name that looks like a number is one only if no entry has it.
            let entry = if user.is_empty() { of_uid(0) } else { users().find(|u| u.name == user) };
            let entry = entry.or_else(|| of_uid(number?));
            let uid = match (&entry, number) {
                (Some(entry), _) => entry.uid,
                (None, Some(number)) => number,
                (None, None) if user.is_empty() => 0,
                (None, None) => return Err(Fault::new(Step::NoSuchUser, Errno::UnknownErrno, user)),
            };
            let mut groups = Vec::new();
            let gid = if group_name.is_empty() {
                if let Some(entry) = &entry {
                    groups.extend(group.lines().filter_map(Group::parse).filter(|g| g.has(entry.name)).map(|g| g.gid));
                }
                entry.as_ref().map_or(0, |e| e.gid)
            } else {
                group_id(group, group_name)?
            };
            // Its main group is one of them, as Docker has it: CVE-2022-36109.
            groups.insert(0, gid);
            Account { uid, gid, groups, home: entry.map(|e| e.home.to_owned()).unwrap_or_default() }
        }
    };
    for name in further {
        account.groups.push(group_id(group, name)?);
    }
    // Each once; the order is kept, for who compares with Docker.
    let mut seen = std::collections::HashSet::new();
    account.groups.retain(|g| seen.insert(*g));
    if account.home.is_empty() {
        account.home = "/".into();
    }
    Ok(account)
}

fn group_id(file: &str, name: &str) -> Result<u32, Fault> {
    let number = id(name)?;
    let entry = file.lines().filter_map(Group::parse).find(|g| g.name == name);
    entry.map(|g| g.gid).or(number).ok_or_else(|| Fault::new(Step::NoSuchGroup, Errno::UnknownErrno, name))
}

/// The number that a name is, if it is one.
fn id(name: &str) -> Result<Option<u32>, Fault> {
    match name.parse::<i64>() {
        Ok(number) if (0..1 << 31).contains(&number) => Ok(u32::try_from(number).ok()),
        Ok(_) => Err(Fault::new(Step::IdOutOfRange, Errno::UnknownErrno, name)),
        Err(_) => Ok(None),
    }
}

/// A line of passwd(5).
struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> User<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim().split(':');
        let (name, _password) = (fields.next().filter(|n| !n.is_empty())?, fields.next()?);
        let (uid, gid) = (id(fields.next()?).ok()??, id(fields.next()?).ok()??);
        Some(Self { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    }
}

/// A line of group(5).
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl<'a> Group<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.trim().split(':');
        let (name, _password) = (fields.next().filter(|n| !n.is_empty())?, fields.next()?);
        Some(Self { name, gid: id(fields.next()?).ok()??, members: fields.next().unwrap_or_default() })
    }

    fn has(&self, user: &str) -> bool {
        self.members.split(',').any(|m| m == user)
    }
}

/// The file's text; empty where there is none.
fn read(root: BorrowedFd, path: &Path) -> nix::Result<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = match rooted::open(root, path, flags) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(String::new()),
        result => result?,
    };
    if !rooted::is(&file, SFlag::S_IFREG)? {
        return Err(Errno::EINVAL);
    }
    let mut bytes = Vec::new();
    let read = File::from(file).take(LONGEST + 1).read_to_end(&mut bytes);
    read.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
    if bytes.len() as u64 > LONGEST {
        return Err(Errno::EFBIG);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\n# no entry\nbroken\nann:x:1000:100::/home/ann:\n99:x:7:8::/nine:\nbig:x:99999999999:1::/:\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nwheel:x:10:bob,ann\naudio:x:29:ann\nbad:x:\n";

    fn named(name: &str, further: &[&str]) -> Result<(u32, u32, Vec<u32>, String), Step> {
        let further: Vec<String> = further.iter().map(ToString::to_string).collect();
        let account = find(&Identity::Named(name.into()), &further, PASSWD, GROUP).map_err(|f| f.step)?;
        Ok((account.uid, account.gid, account.groups, account.home))
    }

    #[test]
    fn users_and_groups_are_found_as_docker_finds_them() {
        assert_eq!(named("ann", &[]), Ok((1000, 100, vec![100, 10, 29], "/home/ann".into())));
        assert_eq!(named("1000", &[]), Ok((1000, 100, vec![100, 10, 29], "/home/ann".into())));
        assert_eq!(named("ann:wheel", &[]), Ok((1000, 10, vec![10], "/home/ann".into())));
        assert_eq!(named("ann:4711", &["audio", "29", "5"]), Ok((1000, 4711, vec![4711, 29, 5], "/home/ann".into())));
        assert_eq!(named("1234", &[]), Ok((1234, 0, vec![0], "/".into())));
        assert_eq!(named("99", &[]), Ok((7, 8, vec![8], "/nine".into())), "a name before a number");
        assert_eq!(named(":wheel", &[]), Ok((0, 10, vec![10], "/root".into())));
        assert_eq!(named("eve", &[]), Err(Step::NoSuchUser));
        assert_eq!(named("big", &[]), Err(Step::NoSuchUser));
        assert_eq!(named("ann:none", &[]), Err(Step::NoSuchGroup));
        assert_eq!(named("ann", &["none"]), Err(Step::NoSuchGroup));
        assert_eq!(named("-1", &[]), Err(Step::IdOutOfRange));
        assert_eq!(named("2147483648", &[]), Err(Step::IdOutOfRange));
    }
}
