//! Lines for the container's /etc/passwd and /etc/group: `--passwd-entry`, `--group-entry`,
//! `--hostuser`, and the caller's own with `--userns keep-id`.

use anyhow::Result;
use nix::unistd::{getegid, geteuid};

use crate::container::bind::Bind;
use crate::container::config::{Config, HostConfig};
use crate::error::{Failure, exit};
use crate::passwd;

/// What is asked of both files.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    /// A line with `$USERNAME`, `$UID`, `$GID`, `$NAME` and `$HOME` in it.
    pub passwd_entry: Option<String>,
    /// One with `$GROUPNAME`, `$GID` and `$USERLIST`.
    pub group_entry: Option<String>,
    /// Names or numbers.
    pub host_users: Vec<String>,
    /// Nothing is added.
    pub none: bool,
}

/// Someone whom a line is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Person {
    name: String,
    uid: u32,
    gid: u32,
    gecos: String,
    home: String,
    shell: String,
    group: String,
}

impl Accounts {
    /// The lines of passwd and of group. `caller`: whose ids are kept, as the container has them.
    ///
    /// # Errors
    /// The host has no such user.
    pub fn entries(
        &self,
        config: &Config,
        host: &HostConfig,
        caller: Option<(u32, u32)>,
    ) -> Result<(Vec<String>, Vec<String>)> {
        if self.none {
            return Ok((Vec::new(), Vec::new()));
        }
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        let asked = self.passwd_entry.is_some() || self.group_entry.is_some();
        let person = caller.map(|ids| of_caller(ids, config, host)).or_else(|| asked.then(|| of_user(config)));
        if let Some(person) = person {
            let template = self.passwd_entry.as_deref().unwrap_or("$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/sh");
            if caller.is_some() || self.passwd_entry.is_some() {
                users.push(person.passwd(template));
            }
            if caller.is_some() || self.group_entry.is_some() {
                groups.push(person.group(self.group_entry.as_deref().unwrap_or("$GROUPNAME:x:$GID:$USERLIST")));
            }
        }
        for wanted in &self.host_users {
            let user = passwd::user(wanted).ok_or_else(|| {
                Failure::new(format!("--hostuser: the host has no user {wanted:?}")).exit(exit::ENGINE)
            })?;
            let person = Person::of(&user);
            users.push(person.passwd(&format!("$USERNAME:*:$UID:$GID:$NAME:$HOME:{}", person.shell)));
            groups.push(person.group("$GROUPNAME:x:$GID:$USERLIST"));
        }
        Ok((users, groups))
    }
}

impl Person {
    fn of(user: &passwd::User) -> Self {
        let passwd::User { name, uid, gid, gecos, home, shell } = user.clone();
        let group = passwd::group_name(gid).unwrap_or_else(|| name.clone());
        Self { name, uid, gid, gecos, home, shell, group }
    }

    fn passwd(&self, template: &str) -> String {
        let values = [
            ("$USERNAME", self.name.clone()),
            ("$UID", self.uid.to_string()),
            ("$GID", self.gid.to_string()),
            ("$NAME", self.gecos.clone()),
            ("$HOME", self.home.clone()),
        ];
        filled_in(template, &values)
    }

    fn group(&self, template: &str) -> String {
        let values =
            [("$GROUPNAME", self.group.clone()), ("$GID", self.gid.to_string()), ("$USERLIST", self.name.clone())];
        filled_in(template, &values)
    }
}

/// A value in which the file's own signs stand would be more fields, or more lines.
fn filled_in(template: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, &value.replace([':', '\n'], "")))
}

fn of_caller((uid, gid): (u32, u32), config: &Config, host: &HostConfig) -> Person {
    let user = passwd::user(&geteuid().to_string());
    let mut person = user.as_ref().map(Person::of).unwrap_or_default();
    if person.name.is_empty() {
        person.name = uid.to_string();
    }
    person.group = passwd::group_name(getegid().as_raw()).unwrap_or_else(|| person.name.clone());
    // Their home is one only where it is there.
    let is_mounted = |target: &str| !person.home.is_empty() && std::path::Path::new(&person.home).starts_with(target);
    let binds = host.binds.iter().filter_map(|text| Bind::parse(text).ok()).map(|bind| bind.target);
    if !binds.chain(host.mounts.iter().map(|mount| mount.target.clone())).any(|target| is_mounted(&target)) {
        person.home = directory(config);
    }
    Person { uid, gid, ..person }
}

fn of_user(config: &Config) -> Person {
    let (user, group) = config.user.split_once(':').unwrap_or((&config.user, ""));
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    let name = if user.is_empty() { "root" } else { user };
    Person {
        name: name.to_owned(),
        uid: number(user),
        gid: number(group),
        gecos: "container user".into(),
        home: directory(config),
        shell: String::new(),
        group: if group.is_empty() { name.to_owned() } else { group.to_owned() },
    }
}

fn directory(config: &Config) -> String {
    if config.working_dir.is_empty() { "/".to_owned() } else { config.working_dir.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_s_words_are_the_person_s() {
        let person = Person {
            name: "ann".into(),
            uid: 1000,
            gid: 100,
            gecos: "Ann: x".into(),
            home: "/home/ann".into(),
            group: "users".into(),
            ..Person::default()
        };
        assert_eq!(
            person.passwd("$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/sh"),
            "ann:*:1000:100:Ann x:/home/ann:/bin/sh"
        );
        assert_eq!(person.group("$GROUPNAME:x:$GID:$USERLIST"), "users:x:100:ann");
    }

    #[test]
    fn nobody_gets_a_line_unasked() {
        let config = Config { user: "1234:5".into(), working_dir: "/w".into(), ..Config::default() };
        let host = HostConfig::default();
        assert_eq!(Accounts::default().entries(&config, &host, None).unwrap(), (Vec::new(), Vec::new()));
        let line = "$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/false".to_owned();
        let asked = Accounts { passwd_entry: Some(line), ..Accounts::default() };
        let (passwd, group) = asked.entries(&config, &host, None).unwrap();
        assert_eq!((passwd.concat().as_str(), group.len()), ("1234:*:1234:5:container user:/w:/bin/false", 0));
        let (passwd, group) = Accounts::default().entries(&config, &host, Some((1, 2))).unwrap();
        assert!(passwd[0].contains(":*:1:2:") && group[0].contains(":x:2:"));
        assert!(
            Accounts { host_users: vec!["nosuchuser".into()], ..Accounts::default() }
                .entries(&config, &host, None)
                .is_err()
        );
    }
}
