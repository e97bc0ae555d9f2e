//! The machine's accounts: `/etc/passwd` and `/etc/group`, and getent(1) for what a directory service
//! has. Not by the C library's functions: in a static binary those load modules that were made for
//! another copy of the library, and crash where a name is not in the files.

use std::process::{Command, Stdio};

/// An entry of passwd(5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub gecos: String,
    pub home: String,
    pub shell: String,
}

/// The user with this name, or with this number.
#[must_use]
pub fn user(wanted: &str) -> Option<User> {
    let number = wanted.parse().ok();
    entry("passwd", "/etc/passwd", wanted, |line| {
        parse(line).filter(|user| user.name == wanted || Some(user.uid) == number)
    })
}

/// The name of the group with this number.
#[must_use]
pub fn group_name(gid: u32) -> Option<String> {
    let wanted = gid.to_string();
    entry("group", "/etc/group", &wanted, |line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == wanted).then(|| name.to_owned())
    })
}

fn parse(line: &str) -> Option<User> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, gecos, home, shell] = fields[..] else { return None };
    let [name, gecos, home, shell] = [name, gecos, home, shell].map(str::to_owned);
    Some(User { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, gecos, home, shell })
}

fn entry<T>(database: &str, file: &str, wanted: &str, find: impl Fn(&str) -> Option<T>) -> Option<T> {
    let text = std::fs::read(file).unwrap_or_default();
    if let Some(found) = String::from_utf8_lossy(&text).lines().find_map(&find) {
        return Some(found);
    }
    // A word that begins with a hyphen would be an option.
    if wanted.starts_with('-') {
        return None;
    }
    let output =
        Command::new("getent").args([database, wanted]).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    String::from_utf8_lossy(&output.stdout).lines().find_map(&find)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name_and_by_number() {
        let root = user("root").unwrap();
        assert_eq!((root.uid, root.gid, root.home.as_str()), (0, 0, "/root"));
        assert_eq!(user("0"), Some(root));
        assert_eq!(group_name(0).as_deref(), Some("root"));
        assert_eq!((user("nosuchuser"), user("-x"), group_name(4_000_000_000)), (None, None, None));
        assert_eq!(parse("a:b"), None);
    }
}
