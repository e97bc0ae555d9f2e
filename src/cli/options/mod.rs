//! The flags that `run` and `create` share, and what comes of them: a [`Request`], checked, that an
//! image's configuration is then laid under.
//!
//! Each file holds one subject's flags as clap has them and their `check`, with Docker's rules and
//! words; `pending` refuses by name what is not there yet.

pub mod csv;
pub mod endpoints;
mod environment;
pub mod extras;
pub mod lines;
mod merge;
mod mounts;
pub mod network;
pub mod pending;
pub mod process;
pub mod publish;
pub mod rate;
pub mod resources;
pub mod secrets;
mod security;
pub mod size;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::cli::complete::Kind;
use crate::container::accounts::Accounts;
use crate::container::config::{Config, Endpoint, Extras, HostConfig, LogConfig};
use crate::error::{Failure, exit};
use crate::image::PullPolicy;
use crate::image::platform::Platform;
use crate::monitor::log::Driver;

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub identity: Identity,
    #[command(flatten)]
    pub process: process::ProcessOptions,
    #[command(flatten)]
    mounts: mounts::MountOptions,
    #[command(flatten)]
    secrets: secrets::SecretOptions,
    #[command(flatten)]
    network: network::NetworkOptions,
    #[command(flatten)]
    resources: resources::ResourceOptions,
    #[command(flatten)]
    security: security::SecurityOptions,
    #[command(flatten)]
    pub extras: extras::ExtraOptions,
    #[command(flatten)]
    pending: pending::Pending,
    /// Print this help
    #[arg(long, action = clap::ArgAction::Help, help_heading = "Options")]
    help: Option<bool>,
    // One list, because flags end at its first word: what follows is the command's own.
    /// The image, then the command and its arguments
    #[arg(value_name = "IMAGE [COMMAND] [ARG...]", trailing_var_arg = true, hide = true)]
    words: Vec<OsString>,
}

/// What a container is called, from where it comes, and where it is written down.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Container")]
pub struct Identity {
    /// Name of the container
    #[arg(long, value_name = "name")]
    name: Option<String>,
    /// Remove a container that has the name already
    #[arg(long)]
    pub replace: bool,
    /// Remove the container when it ends
    #[arg(long)]
    pub rm: bool,
    /// Write the container's id to a file
    #[arg(long, value_name = "file", value_parser = path_or_none())]
    pub cidfile: Option<PathBuf>,
    /// When to pull the image: always, missing, never
    #[arg(long, value_name = "policy",
        add = Kind::Words(&["always", "missing", "never"]), default_value = "missing", hide_default_value = true)]
    pull: String,
    /// Show nothing of the pull
    #[arg(short, long)]
    pub quiet: bool,
    /// Platform of the image (linux/arm64)
    #[arg(long, value_name = "os/arch")]
    pub platform: Option<String>,
    /// The first word is a directory to be used as the root, not an image; with :O an overlay above it
    #[arg(long)]
    pub rootfs: bool,
    /// Labels
    #[arg(short, long, value_name = "name[=value]", value_parser = lines::label)]
    label: Vec<String>,
    /// Labels from a file, one on a line
    #[arg(long, value_name = "file")]
    label_file: Vec<PathBuf>,
    /// Annotations
    #[arg(long, value_name = "name[=value]")]
    annotation: Vec<String>,
    /// Where output is kept: json-file, local, journald, none
    #[arg(long, value_name = "driver", default_value = "json-file", hide_default_value = true,
        add = Kind::Words(&["journald", "json-file", "local", "none"]))]
    log_driver: String,
    /// Options of the log (max-size=10m, max-file=3, compress=true, labels=a,b, env=X, tag={{.Name}})
    #[arg(long, value_name = "name=value",
        add = Kind::Words(&["compress=", "env=", "env-regex=", "labels=", "labels-regex=", "max-file=",
            "max-size=", "tag="]))]
    log_opt: Vec<String>,
    // There is no health check yet, so not to have one asks for nothing.
    #[arg(long, hide = true)]
    no_healthcheck: bool,
    // Docker verifies no image unless told to; only telling it asks for something.
    #[arg(long, action = clap::ArgAction::Set, hide = true, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean)]
    disable_content_trust: bool,
}

/// What the flags came to.
pub struct Request {
    pub name: Option<String>,
    pub source: Source,
    pub pull: PullPolicy,
    pub config: Config,
    pub host_config: HostConfig,
    /// What is wanted of each network, in the order of the command line.
    pub endpoints: Vec<Endpoint>,
    /// What becomes of the image's variables.
    inherited: environment::Inherited,
    pub accounts: Accounts,
    pub secrets: Vec<secrets::Wanted>,
}

/// Where the root comes from.
#[derive(Debug, Clone)]
pub enum Source {
    Image(String),
    /// `overlay`: what is written lies above it.
    Directory {
        path: PathBuf,
        overlay: bool,
    },
}

impl Options {
    /// Checks everything that needs no image. `command`: `run` or `create`, for messages; `detach`:
    /// nobody attaches.
    ///
    /// # Errors
    /// Docker's sentences, exit code 125.
    pub fn check(self, command: &str, detach: bool) -> Result<(Request, Identity, process::ProcessOptions)> {
        let mut words = Vec::with_capacity(self.words.len());
        for word in &self.words {
            match word.to_str() {
                Some(word) => words.push(word.to_owned()),
                None => return bad(format!("{word:?} is not UTF-8")),
            }
        }
        let Some((image, command_words)) = words.split_first() else {
            return Err(super::usage::too_few(command, 1));
        };
        let identity = self.identity;
        if identity.rm && self.pending.restarts {
            return bad("conflicting options: cannot specify both --restart and --rm");
        }
        self.pending.check()?;
        if !identity.disable_content_trust {
            return pending::refused("--disable-content-trust=false");
        }
        let name = identity.name.clone().map(|n| n.strip_prefix('/').map(str::to_owned).unwrap_or(n));
        let pull = match identity.pull.as_str() {
            "always" | "true" => PullPolicy::Always,
            "missing" | "" | "false" => PullPolicy::Missing,
            "never" => PullPolicy::Never,
            other => {
                return bad(format!(
                    "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
                ));
            }
        };
        if let Some(platform) = identity.platform.as_deref().filter(|platform| !platform.is_empty()) {
            platform.parse::<Platform>().context("error parsing specified platform")?;
        }
        let mut config = self.process.check(command_words, detach)?;
        config.labels = lines::labels(&identity.label_file, &identity.label)?;
        let source = if identity.rootfs { rootfs(image)? } else { Source::Image(image.clone()) };
        if let Source::Image(image) = &source {
            config.image.clone_from(image);
        }
        let mut network = self.network.check()?;
        let endpoints = std::mem::take(&mut network.endpoints);
        let host_config = host_config(
            &identity,
            &mut config,
            self.mounts.check()?,
            network,
            self.resources.check()?,
            self.security.check()?,
        )?;
        let (extras, accounts) = self.extras.check(!host_config.extra_hosts.is_empty())?;
        let host_config = HostConfig {
            extras: Extras {
                proc_options: host_config.extras.proc_options.clone(),
                writable_cgroups: host_config.extras.writable_cgroups,
                ..extras
            },
            group_add: self.process.group_add.clone(),
            init: Some(self.process.init).filter(|init| *init),
            ..host_config
        };
        if let Some(file) = identity.cidfile.as_deref().filter(|file| file.exists()) {
            return bad(format!(
                "container ID file found, make sure the other container isn't running or delete {}",
                file.display()
            ));
        }
        let name = name.filter(|name| !name.is_empty());
        let inherited = self.process.environment.inherited()?;
        let secrets = self.secrets.secret;
        let request = Request { name, source, pull, config, host_config, endpoints, inherited, accounts, secrets };
        Ok((request, identity, self.process))
    }
}

fn host_config(
    identity: &Identity,
    config: &mut Config,
    mounts: mounts::Checked,
    network: network::Checked,
    resources: resources::Checked,
    security: security::Checked,
) -> Result<HostConfig> {
    config.hostname = network.hostname;
    config.domainname = network.domainname;
    config.exposed_ports = network.exposed_ports;
    if security.uts_mode == "host" && !config.hostname.is_empty() {
        return bad("conflicting options: hostname and the UTS mode");
    }
    if network.mode == "host" && security.sysctls.iter().any(|(name, _)| name.starts_with("net.")) {
        let name = security.sysctls.iter().find(|(name, _)| name.starts_with("net."));
        let name = name.map(|(name, _)| name.as_str()).unwrap_or_default();
        return bad(format!("sysctl {name:?} not allowed in host network namespace"));
    }
    Ok(HostConfig {
        binds: mounts.binds,
        mounts: mounts.mounts,
        tmpfs: mounts.tmpfs,
        readonly_rootfs: mounts.readonly_rootfs,
        container_id_file: identity.cidfile.as_deref().unwrap_or(Path::new("")).to_string_lossy().into_owned(),
        log_config: log_config(&identity.log_driver, &identity.log_opt)?,
        network_mode: network.mode,
        port_bindings: network.port_bindings,
        publish_all_ports: network.publish_all_ports,
        links: network.links,
        host_loopback: network.host_loopback,
        extra_hosts: network.extra_hosts,
        dns: network.dns,
        dns_options: network.dns_options,
        dns_search: network.dns_search,
        auto_remove: identity.rm,
        annotations: identity.annotation.iter().map(|text| lines::pair(text)).collect(),
        masked_paths: security.masked_paths,
        readonly_paths: security.readonly_paths,
        extras: Extras {
            proc_options: security.proc_options,
            writable_cgroups: security.writable_cgroups,
            ..Extras::default()
        },
        cap_add: security.cap_add,
        cap_drop: security.cap_drop,
        privileged: security.privileged,
        security_opt: security.security_opt,
        sysctls: security.sysctls.into_iter().collect(),
        cgroupns_mode: security.cgroupns_mode,
        ipc_mode: security.ipc_mode,
        pid_mode: security.pid_mode,
        uts_mode: security.uts_mode,
        userns_mode: security.userns_mode,
        cgroup_parent: resources.cgroup_parent,
        oom_score_adj: resources.oom_score_adj,
        shm_size: resources.shm_size,
        resources: resources.resources,
        ..HostConfig::default()
    })
}

/// `DIR[:O]`.
fn rootfs(text: &str) -> Result<Source> {
    let (path, overlay) = match text.rsplit_once(':') {
        _ if Path::new(text).is_dir() => (text, false),
        Some((path, "O")) => (path, true),
        Some((_, "idmap")) => return bad(format!("--rootfs {text:?}: :idmap is not supported; :O is")),
        _ => (text, false),
    };
    let path = std::fs::canonicalize(path).with_context(|| format!("--rootfs {path:?}"))?;
    if !path.is_dir() {
        return bad(format!("--rootfs {path:?}: not a directory"));
    }
    if path == Path::new("/") && !overlay {
        return Err(Failure::new("--rootfs: the host's own root cannot be a container's")
            .hint("with an overlay above it, it can: --rootfs /:O")
            .exit(exit::ENGINE)
            .into());
    }
    Ok(Source::Directory { path, overlay })
}

fn log_config(driver: &str, options: &[String]) -> Result<LogConfig> {
    let driver = if driver.is_empty() { "json-file" } else { driver };
    if let "syslog" | "gelf" | "fluentd" | "awslogs" | "splunk" | "gcplogs" | "k8s-file" | "passthrough" = driver {
        return pending::refused(&format!("--log-driver {driver}"));
    }
    let config =
        LogConfig { r#type: driver.to_owned(), config: options.iter().map(|text| lines::pair(text)).collect() };
    Driver::check(&config).map_err(|e| Failure::new(e.to_string()).exit(exit::ENGINE))?;
    Ok(config)
}

/// A path that may be empty, for "none": clap's own parser of paths refuses that.
fn path_or_none() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// A failed check: the engine's exit code.
fn bad<T>(message: impl Into<String>) -> Result<T> {
    Err(Failure::new(message).exit(exit::ENGINE).into())
}

/// Docker's spellings of yes and no (Go's `strconv.ParseBool`).
///
/// # Errors
/// Go's sentence.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}
