//! `--volume`, `--mount` and `--tmpfs`: host directories and memory in the container's tree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{bad, pending, size};
use crate::container::bind::{Bind, clean, mount_point};
use crate::container::config::{BindOptions, Mount, TmpfsOptions};
use crate::error::{Failure, exit};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Files")]
pub struct MountOptions {
    /// A directory or file of the host's in the container (./site:/srv:ro)
    #[arg(short, long, value_name = "host:container[:opts]")]
    volume: Vec<String>,
    /// The same in words (type=bind,src=/a,dst=/b,readonly; type=tmpfs,dst=/c)
    #[arg(long, value_name = "key=value,…", value_parser = mount)]
    mount: Vec<Mount>,
    /// A directory in memory (/run:size=64m,mode=1777)
    #[arg(long, value_name = "path[:opts]")]
    tmpfs: Vec<String>,
    /// Make the container's root read-only
    #[arg(long)]
    read_only: bool,
}

/// What came of [`MountOptions`], in the fields of `HostConfig`.
pub struct Checked {
    pub binds: Vec<String>,
    pub mounts: Vec<Mount>,
    pub tmpfs: BTreeMap<String, String>,
    pub readonly_rootfs: bool,
}

impl MountOptions {
    /// # Errors
    /// Docker's, and a source that is not there.
    pub fn check(self) -> Result<Checked> {
        let here = || std::env::current_dir().context("the working directory");
        let mut targets = Vec::new();
        let mut binds = Vec::new();
        for text in &self.volume {
            let bind = volume(text, here)?;
            exists(Path::new(&bind.source))?;
            targets.push(bind.target.clone());
            binds.push(bind.to_string());
        }
        for mount in &self.mount {
            let config = |what: &str| format!("invalid mount config for type {:?}: {what}", mount.r#type);
            match mount.r#type.as_str() {
                "bind" if mount.source.is_empty() => return bad(config("field Source must not be empty")),
                "bind" if !mount.source.starts_with('/') => {
                    return bad(config(&format!("invalid mount path: '{}' mount path must be absolute", mount.source)));
                }
                "bind" => exists(Path::new(&mount.source))
                    .with_context(|| format!("invalid mount config for type {:?}", mount.r#type))?,
                "tmpfs" if !mount.source.is_empty() => return bad(config("field Source must not be specified")),
                _ => {}
            }
            targets.push(mount_point(&mount.target)?);
        }
        let mut tmpfs = BTreeMap::new();
        for text in &self.tmpfs {
            let (path, options) = text.split_once(':').unwrap_or((text, ""));
            for option in options.split(',').filter(|o| !o.is_empty()) {
                is_tmpfs_option(option)?;
            }
            // Given twice, the last one counts, as for each map of Docker's.
            tmpfs.insert(mount_point(path)?, options.to_owned());
        }
        targets.extend(tmpfs.keys().cloned());
        targets.sort_unstable();
        if let Some((twice, _)) = targets.iter().zip(targets.iter().skip(1)).find(|(a, b)| a == b) {
            return bad(format!("Duplicate mount point: {twice}"));
        }
        Ok(Checked { binds, mounts: self.mount, tmpfs, readonly_rootfs: self.read_only })
    }
}

fn exists(source: &Path) -> Result<()> {
    match std::fs::symlink_metadata(source) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(Failure::new(format!("bind source path does not exist: {}", source.display()))
                .hint(format!("make it first: mkdir -p {source:?}"))
                .exit(exit::ENGINE)
                .into())
        }
        // It is there; or it is where this user may not look: whether it can be mounted is then the
        // kernel's to say.
        _ => Ok(()),
    }
}

/// `--volume`, with the host's path made absolute.
fn volume(text: &str, here: impl Fn() -> Result<PathBuf>) -> Result<Bind> {
    let bind = Bind::parse(text)?;
    let source = &bind.source;
    let path = if source.starts_with('/') {
        PathBuf::from(source)
    } else if source.starts_with('.') {
        here()?.join(source)
    } else if source.contains('/') {
        return Err(Failure::new(format!(
            "create {source}: {source:?} includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed"
        ))
        .hint(format!("if you meant a directory of the host, write ./{source}"))
        .exit(exit::ENGINE)
        .into());
    } else {
        return pending::refused(&format!("--volume {text}"));
    };
    let source = clean(&path).to_string_lossy().into_owned();
    if source.contains(':') {
        return Err(Failure::new(format!("invalid volume specification: '{text}': the path has a colon"))
            .hint("use --mount type=bind,src=…,dst=…")
            .exit(exit::ENGINE)
            .into());
    }
    Ok(Bind { source, ..bind })
}

/// A mount flag, or one of tmpfs's own options.
fn is_tmpfs_option(option: &str) -> Result<()> {
    const FLAGS: [&str; 32] = [
        "defaults",
        "ro",
        "rw",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "exec",
        "noexec",
        "sync",
        "async",
        "dirsync",
        "remount",
        "mand",
        "nomand",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "bind",
        "rbind",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
        "private",
        "rprivate",
        "shared",
        "rshared",
        "slave",
        "rslave",
        "noswap",
    ];
    const VALUES: [&str; 7] = ["mode", "uid", "gid", "size", "nr_inodes", "nr_blocks", "mpol"];
    let valid = match option.split_once('=') {
        Some((name, _)) => VALUES.contains(&name),
        None => FLAGS.contains(&option),
    };
    if valid { Ok(()) } else { bad(format!("invalid tmpfs option {option:?}")) }
}

/// `--mount`: one line of CSV whose fields are keys with values.
fn mount(text: &str) -> Result<Mount, String> {
    let mut mount = Mount { r#type: "volume".into(), ..Mount::default() };
    let mut bind: Option<BindOptions> = None;
    let mut tmpfs: Option<TmpfsOptions> = None;
    let (mut has_bind, mut has_tmpfs, mut has_volume) = (false, false, false);
    for field in super::csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        has_bind |= key.starts_with("bind-");
        has_tmpfs |= key.starts_with("tmpfs-");
        has_volume |= key.starts_with("volume-") || key.starts_with("image-");
        let Some(value) = value else {
            match key.as_str() {
                "readonly" | "ro" => mount.read_only = true,
                "bind-nonrecursive" => bind.get_or_insert_default().non_recursive = true,
                "volume-nocopy" => {}
                _ => return Err(format!("invalid field '{field}' must be a key=value pair")),
            }
            continue;
        };
        let invalid = || format!("invalid value for {key}: {value}");
        match key.as_str() {
            "type" => mount.r#type = value.to_ascii_lowercase(),
            "source" | "src" => {
                value.clone_into(&mut mount.source);
                if value == "." || value.starts_with("./") || value.starts_with("../") || value == ".." {
                    let here = std::env::current_dir().map_err(|e| format!("the working directory: {e}"))?;
                    mount.source = clean(&here.join(value)).to_string_lossy().into_owned();
                }
            }
            "target" | "dst" | "destination" => value.clone_into(&mut mount.target),
            "readonly" | "ro" => mount.read_only = super::boolean(value).map_err(|_| invalid())?,
            // Only other systems give it a meaning.
            "consistency" => {}
            "bind-propagation" => {
                let value = value.to_ascii_lowercase();
                if !matches!(value.as_str(), "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave") {
                    return Err(format!("invalid propagation mode: {value}"));
                }
                bind.get_or_insert_default().propagation = value;
            }
            "bind-nonrecursive" => {
                bind.get_or_insert_default().non_recursive = super::boolean(value).map_err(|_| invalid())?;
            }
            "bind-recursive" => {
                let bind = bind.get_or_insert_default();
                match value {
                    "enabled" => {}
                    "disabled" => bind.non_recursive = true,
                    "writable" => bind.read_only_non_recursive = true,
                    "readonly" => bind.read_only_force_recursive = true,
                    _ => {
                        return Err(format!(
                            "{} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")",
                            invalid()
                        ));
                    }
                }
            }
            "tmpfs-size" => {
                let bytes = size::bytes(value).map_err(|_| invalid())?;
                tmpfs.get_or_insert_default().size_bytes = bytes.unsigned_abs();
            }
            "tmpfs-mode" => {
                tmpfs.get_or_insert_default().mode = u32::from_str_radix(value, 8).map_err(|_| invalid())?;
            }
            _ if key.starts_with("volume-") || key.starts_with("image-") => {}
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if mount.target.is_empty() {
        return Err("target is required".into());
    }
    let kind = mount.r#type.as_str();
    let mixed = [(has_bind, "bind", "bind"), (has_tmpfs, "tmpfs", "tmpfs"), (has_volume, "volume", "volume")];
    for (given, prefix, allowed) in mixed {
        if given && kind != allowed {
            return Err(format!("cannot mix '{prefix}-*' options with mount type '{kind}'"));
        }
    }
    match kind {
        "bind" | "tmpfs" => {}
        "volume" | "image" | "npipe" | "cluster" => {
            return Err(pending::message(&format!("--mount type={kind}")));
        }
        _ => return Err(format!("mount type unknown: {kind:?}")),
    }
    if let Some(bind) = &bind {
        for (asked, name) in [(bind.read_only_non_recursive, "writable"), (bind.read_only_force_recursive, "readonly")]
        {
            if asked && !mount.read_only {
                return Err(format!(
                    "option 'bind-recursive={name}' requires 'readonly' to be specified in conjunction"
                ));
            }
        }
        if bind.read_only_force_recursive && bind.propagation != "rprivate" {
            return Err("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in \
                        conjunction"
                .into());
        }
    }
    mount.bind_options = bind;
    mount.tmpfs_options = tmpfs;
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(text: &str) -> Result<Bind> {
        volume(text, || Ok("/here".into()))
    }

    #[test]
    fn volumes() {
        let cases = [
            ("/a:/b", "/a:/b"),
            ("/a/:/b/:ro", "/a:/b:ro"),
            ("./x:/y", "/here/x:/y"),
            ("../x:/y:ro,z,cached", "/x:/y:ro,z"),
            (".:/y", "/here:/y"),
        ];
        for (text, expected) in cases {
            assert_eq!(bind(text).unwrap().to_string(), expected, "{text}");
        }
        for (text, option) in [("name:/b", "--volume name:/b"), ("/b", "--volume /b")] {
            assert_eq!(bind(text).unwrap_err().to_string(), pending::message(option));
        }
        assert!(bind("a/b:/c").unwrap_err().to_string().starts_with("create a/b: \"a/b\" includes invalid"));
    }

    #[test]
    fn mounts() {
        let found = mount("type=bind,\"src=/a,b\",dst=/c,ro,bind-propagation=rshared").unwrap();
        assert_eq!((found.source.as_str(), found.target.as_str(), found.read_only), ("/a,b", "/c", true));
        assert_eq!(found.bind_options.unwrap().propagation, "rshared");
        let found = mount("type=tmpfs,destination=/x,tmpfs-size=1m,tmpfs-mode=1770").unwrap();
        assert_eq!(found.tmpfs_options, Some(TmpfsOptions { size_bytes: 1 << 20, mode: 0o1770 }));
        assert!(!mount("type=bind,src=/a,dst=/b,readonly=false").unwrap().read_only);
        assert!(mount("type=bind,src=/a,dst=/b,bind-recursive=disabled").unwrap().bind_options.unwrap().non_recursive);
    }

    #[test]
    fn wrong_mounts() {
        let cases = [
            ("", "EOF"),
            ("type=bind", "target is required"),
            ("type=bind,dst=/y,foo=bar", "unexpected key 'foo' in 'foo=bar'"),
            ("foo", "invalid field 'foo' must be a key=value pair"),
            ("type=bind,dst=/y,readonly=maybe", "invalid value for readonly: maybe"),
            ("type=tmpfs,dst=/x,tmpfs-size=1z", "invalid value for tmpfs-size: 1z"),
            ("type=bind,dst=/y,tmpfs-size=1", "cannot mix 'tmpfs-*' options with mount type 'bind'"),
            ("type=tmpfs,dst=/y,bind-propagation=shared", "cannot mix 'bind-*' options with mount type 'tmpfs'"),
            ("dst=/y", "the option \"--mount type=volume\" is not supported yet"),
            ("type=foo,dst=/y", "mount type unknown: \"foo\""),
            ("type=bind,\"src=/a", "extraneous or missing \" in quoted-field"),
        ];
        for (text, expected) in cases {
            assert_eq!(mount(text).unwrap_err(), expected, "{text}");
        }
    }
}
