//! Ids, groups, capabilities, and what else a process gives up for good. credentials(7),
//! capabilities(7).

use nix::errno::Errno;
use nix::sys::resource::{getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid, setgroups, setresgid, setresuid};

use super::plan::{Capabilities, Limit};
use super::report::{At, Fault, Step};
use super::user::Account;
use crate::sys::credentials::{self as api, Sets};

/// Makes the first process of a new user namespace its root: until then its ids are unmapped, and
/// what it made would belong to nobody.
pub fn become_root() -> Result<(), Fault> {
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    match setgroups(&[]) {
        // A user without subordinate ids may not leave groups: user_namespaces(7), "/proc/PID/setgroups".
        Err(Errno::EPERM) => {}
        done => done.at(Step::BecomeRoot, "setgroups")?,
    }
    setresgid(gid, gid, gid).at(Step::BecomeRoot, "setresgid")?;
    setresuid(uid, uid, uid).at(Step::BecomeRoot, "setresuid")
}

/// Does something with the files of another user, and all capabilities. An overlay works for ever with
/// the ids that it was mounted with, and they must be ids of the file systems that it writes to.
pub fn with_files_of<T>((uid, gid): (u32, u32), work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    let own = api::capabilities().at(Step::Capabilities, "read")?;
    let (uid, gid) = (setfsuid(Uid::from_raw(uid)), setfsgid(Gid::from_raw(gid)));
    // The first of both took those away that are about files: capabilities(7).
    let done = api::set_capabilities(own).at(Step::Capabilities, "for the overlay").and_then(|()| work());
    setfsuid(uid);
    setfsgid(gid);
    api::set_capabilities(own).at(Step::Capabilities, "after the overlay")?;
    done
}

/// Sets resource limits; what may not be raised is set as high as it may be.
pub fn limit(limits: &[Limit]) -> Result<(), Fault> {
    for limit in limits {
        match setrlimit(limit.resource, limit.soft, limit.hard) {
            Err(Errno::EPERM) => {
                let (_, most) = getrlimit(limit.resource).at(Step::ResourceLimit, limit.name)?;
                setrlimit(limit.resource, limit.soft.min(most), limit.hard.min(most))
            }
            done => done,
        }
        .at(Step::ResourceLimit, limit.name)?;
    }
    Ok(())
}

/// Becomes the account, keeping the permitted capabilities for [`confine`] to divide. Bounds them
/// first, while `CAP_SETPCAP` is effective. `groups_asked`: some of its groups are the user's wish, and
/// not only what the image says.
pub fn become_account(account: &Account, bounding: u64, groups_asked: bool) -> Result<(), Fault> {
    api::bound_capabilities(bounding).at(Step::Capabilities, "bounding")?;
    if account.uid != 0 {
        api::keep_capabilities().at(Step::Capabilities, "keep")?;
    }
    let groups: Vec<Gid> = account.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    match setgroups(&groups) {
        Err(Errno::EPERM) if groups.is_empty() => {}
        // One id alone, without subordinate ones, can have no group but its own. With the capability
        // there is no other reason: setgroups(2), user_namespaces(7).
        Err(Errno::EPERM) if !groups_asked && has_setgid().at(Step::Groups, "")? => {}
        done => done.at(Step::Groups, format_args!("{:?}", account.groups))?,
    }
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    setresgid(gid, gid, gid).at(Step::Group, gid)?;
    setresuid(uid, uid, uid).at(Step::User, uid)
}

fn has_setgid() -> std::io::Result<bool> {
    const CAP_SETGID: u64 = 6;
    Ok(api::capabilities()?.effective >> CAP_SETGID & 1 == 1)
}

/// The last steps before the exec, which `ready` is called right before: the capability sets,
/// `no_new_privs`, the filter.
///
/// Loading a filter needs either `no_new_privs` or CAP_SYS_ADMIN (seccomp(2)). With the one it is
/// the very last thing, and has only the exec to let through. With the other it must come before
/// the capability goes, and has to let capset(2), prctl(2) and sendmsg(2) through too, as Docker's policy does.
pub fn confine(
    asked: &Capabilities,
    no_new_privileges: bool,
    filter: Option<&[u8]>,
    ready: impl FnOnce() -> Result<(), Fault>,
) -> Result<(), Fault> {
    let have = api::capabilities().at(Step::Capabilities, "read")?;
    let load = |program: Option<&[u8]>| program.map_or(Ok(()), api::filter_syscalls).at(Step::Seccomp, "");
    if no_new_privileges {
        nix::sys::prctl::set_no_new_privs().at(Step::NoNewPrivileges, "")?;
    } else if filter.is_some() {
        let all = Sets { effective: have.permitted, ..have };
        api::set_capabilities(all).at(Step::Capabilities, "for the filter")?;
        load(filter)?;
    }
    // What this process never had it cannot give: root of a container around this one has less than all.
    let permitted = asked.sets.permitted & have.permitted;
    let inheritable = asked.sets.inheritable & have.permitted;
    let sets = Sets { effective: asked.sets.effective & permitted, permitted, inheritable };
    api::set_capabilities(sets).at(Step::Capabilities, "set")?;
    api::set_ambient(asked.ambient & permitted & inheritable).at(Step::Capabilities, "ambient")?;
    ready()?;
    if no_new_privileges { load(filter) } else { Ok(()) }
}
