//! `--secret`: which secrets a container is given, and as what.

use anyhow::{Context, Result};

use super::bad;
use crate::container::secret::{Becomes, Given};
use crate::error::exit;
use crate::secret;
use crate::store::Store;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Files")]
pub struct SecretOptions {
    /// A secret as a file of /run/secrets or as a variable (key; key,type=env,target=KEY)
    #[arg(long, value_name = "name[,opt=value,…]", value_parser = wanted)]
    pub secret: Vec<Wanted>,
}

/// One of them: the secret's name, and what it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    name: String,
    becomes: Becomes,
}

/// Podman's: `name[,type=mount|env][,target=…][,uid=…][,gid=…][,mode=…]`, the name also as `source=`.
fn wanted(text: &str) -> Result<Wanted, String> {
    let (mut name, mut kind, mut target) = (None, None, None);
    let (mut uid, mut gid, mut mode) = (None, None, None);
    for (at, part) in text.split(',').enumerate() {
        let Some((key, value)) = part.split_once('=') else {
            if at == 0 && !part.is_empty() {
                name = Some(part);
                continue;
            }
            return Err(format!("error parsing secret: option {part:?} is not key=value"));
        };
        let number = || value.parse::<u32>().map_err(|_| format!("error parsing secret: {key} {value:?} is no number"));
        match key.to_ascii_lowercase().as_str() {
            "source" | "src" => name = Some(value),
            "type" if matches!(value, "mount" | "env") => kind = Some(value),
            "type" => return Err(format!("error parsing secret: type {value:?} is invalid: must be mount or env")),
            "target" => target = Some(value),
            "uid" => uid = Some(number()?),
            "gid" => gid = Some(number()?),
            "mode" => {
                let parsed = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
                mode = Some(parsed.ok_or_else(|| format!("error parsing secret: mode {value:?} is invalid"))?);
            }
            _ => return Err(format!("error parsing secret: option {key:?} is invalid")),
        }
    }
    let name = name.filter(|name| !name.is_empty()).ok_or("error parsing secret: no source found")?;
    let target = target.filter(|target| !target.is_empty()).unwrap_or(name).to_owned();
    let becomes = if kind == Some("env") {
        if uid.is_some() || gid.is_some() || mode.is_some() {
            return Err("error parsing secret: UID, GID, Mode options cannot be set with secret type env".into());
        }
        if target.contains('=') {
            return Err(format!("error parsing secret: {target:?} is no name of a variable"));
        }
        Becomes::Env { target }
    } else {
        let is_inside = !target.split('/').any(|part| part == "..") && !target.ends_with('/');
        if !is_inside {
            return Err(format!("error parsing secret: target {target:?} is invalid"));
        }
        Becomes::Mount { target, uid: uid.unwrap_or(0), gid: gid.unwrap_or(0), mode: mode.unwrap_or(0o444) }
    };
    Ok(Wanted { name: name.to_owned(), becomes })
}

/// The secrets that have these names now.
///
/// # Errors
/// There is none, or two of them are to be one file.
pub fn find(store: &Store, wanted: &[Wanted]) -> Result<Vec<Given>> {
    let mut given: Vec<Given> = Vec::new();
    for Wanted { name, becomes } in wanted {
        let found = secret::find(store, name).context(crate::error::Failure::new("--secret").exit(exit::ENGINE))?;
        let is_same = |other: &Given| match (&other.becomes, becomes) {
            (Becomes::Mount { target: a, .. }, Becomes::Mount { target: b, .. })
            | (Becomes::Env { target: a }, Becomes::Env { target: b }) => a == b,
            _ => false,
        };
        if given.iter().any(is_same) {
            return bad(format!("--secret: {name} is given twice for the same target"));
        }
        given.push(Given { id: found.id, name: found.name, becomes: becomes.clone() });
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podmans_words() {
        let mount = |target: &str, uid, gid, mode| Becomes::Mount { target: target.into(), uid, gid, mode };
        for (text, name, becomes) in [
            ("key", "key", mount("key", 0, 0, 0o444)),
            ("key,target=a/b,uid=1,gid=2,mode=0400", "key", mount("a/b", 1, 2, 0o400)),
            ("source=key,target=/etc/key", "key", mount("/etc/key", 0, 0, 0o444)),
            ("key,type=env", "key", Becomes::Env { target: "key".into() }),
            ("key,type=env,target=KEY", "key", Becomes::Env { target: "KEY".into() }),
        ] {
            assert_eq!(wanted(text), Ok(Wanted { name: name.into(), becomes }), "{text}");
        }
        for text in [
            "",
            "type=env",
            "key,foo=1",
            "key,foo",
            "key,mode=9",
            "key,type=env,uid=1",
            "key,type=x",
            "key,target=../x",
            "key,uid=x",
            "key,target=a/",
        ] {
            assert!(wanted(text).is_err(), "{text}");
        }
    }
}
