//! Secrets as containers have them: which ones, what each one becomes in the container, and the
//! content, in the container's own directory from its making on.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::container::config::ContainerConfig;
use crate::runtime;
use crate::secret;
use crate::store::Store;

/// Where a secret is found whose place is not given.
const FOLDER: &str = "/run/secrets";

/// A secret of a container's. Nothing of its content is here: this is in `config.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Given {
    /// Of the secret that had the name when the container was made.
    #[serde(rename = "ID")]
    pub id: String,
    pub name: String,
    #[serde(flatten)]
    pub becomes: Becomes,
}

/// What it becomes in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all_fields = "PascalCase", tag = "Type", rename_all = "lowercase")]
pub enum Becomes {
    /// A file: below `/run/secrets`, or at an absolute path.
    Mount {
        target: String,
        #[serde(rename = "UID")]
        uid: u32,
        #[serde(rename = "GID")]
        gid: u32,
        mode: u32,
    },
    /// A variable of every process.
    Env { target: String },
}

/// Gives the container that is made in `directory` contents of its own: second names of the files.
///
/// # Errors
/// One was removed meanwhile.
pub fn keep(store: &Store, directory: &Path, secrets: &[Given]) -> Result<()> {
    if secrets.is_empty() {
        return Ok(());
    }
    let folder = directory.join("secrets");
    fs::DirBuilder::new().mode(0o700).create(&folder).with_context(|| format!("make the directory {folder:?}"))?;
    for given in secrets {
        match fs::hard_link(secret::content(store, &given.id), folder.join(&given.id)) {
            // Given twice: as a file and as a variable.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => bail!("secret {} not found", given.name),
            other => other.with_context(|| format!("give the container the secret {:?}", given.name))?,
        }
    }
    Ok(())
}

/// The files that the runtime is to make.
///
/// # Errors
/// A content cannot be read.
pub fn files(store: &Store, container: &ContainerConfig) -> Result<Vec<runtime::Secret>> {
    let mut files = Vec::new();
    for given in &container.secrets {
        if let Becomes::Mount { target, uid, gid, mode } = &given.becomes {
            let path = Path::new(FOLDER).join(target);
            files.push(runtime::Secret {
                path,
                content: content(store, container, given)?,
                uid: *uid,
                gid: *gid,
                mode: *mode,
            });
        }
    }
    Ok(files)
}

/// `NAME=content` for those that are variables.
///
/// # Errors
/// A content cannot be read, or no variable can have it.
pub fn variables(store: &Store, container: &ContainerConfig) -> Result<Vec<String>> {
    let mut variables = Vec::new();
    for given in &container.secrets {
        if let Becomes::Env { target } = &given.becomes {
            let value = String::from_utf8(content(store, container, given)?).ok().filter(|text| !text.contains('\0'));
            let value =
                value.with_context(|| format!("secret {:?} is no text, and cannot be a variable", given.name))?;
            variables.push(format!("{target}={value}"));
        }
    }
    Ok(variables)
}

/// Names of those whose content is not there any more.
#[must_use]
pub fn missing(store: &Store, container: &ContainerConfig) -> Vec<String> {
    let folder = store.container(&container.id).join("secrets");
    container.secrets.iter().filter(|given| !folder.join(&given.id).exists()).map(|given| given.name.clone()).collect()
}

fn content(store: &Store, container: &ContainerConfig, given: &Given) -> Result<Vec<u8>> {
    let path: PathBuf = store.container(&container.id).join("secrets").join(&given.id);
    fs::read(&path).with_context(|| format!("read {path:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_record_is_nothing_but_what_it_is_called() {
        let mount = Becomes::Mount { target: "a".into(), uid: 1, gid: 2, mode: 0o400 };
        let given = Given { id: "1".into(), name: "x".into(), becomes: mount };
        let text = serde_json::to_string(&given).unwrap();
        assert_eq!(text, r#"{"ID":"1","Name":"x","Type":"mount","Target":"a","UID":1,"GID":2,"Mode":256}"#);
        assert_eq!(serde_json::from_str::<Given>(&text).unwrap(), given);
        let variable = Given { becomes: Becomes::Env { target: "A".into() }, ..given };
        let text = serde_json::to_string(&variable).unwrap();
        assert_eq!(text, r#"{"ID":"1","Name":"x","Type":"env","Target":"A"}"#);
    }
}
