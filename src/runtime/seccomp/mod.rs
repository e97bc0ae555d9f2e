//! System call filters: Docker's default policy as data of our own, profiles in Docker's JSON and
//! in the OCI runtime spec's, and their way to a BPF program that the kernel takes.
//!
//! Compiling costs milliseconds, so a program is kept as a file below `RUN/seccomp` under the
//! digest of all that it depends on; a container's start reads that file and nothing else.

mod cache;
mod compile;
mod default;
mod docker;
mod policy;

use std::path::Path;

use anyhow::Result;
use oci_spec::runtime::{Capabilities, LinuxSeccomp};

use self::policy::{Facts, Policy, machine};

/// What a container was told to be filtered by.
#[derive(Debug, Clone)]
pub enum Profile {
    /// Docker's default policy.
    Default,
    /// No filter at all.
    Unconfined,
    /// A profile in Docker's JSON format, as text.
    Custom(String),
    /// From an OCI runtime spec.
    Oci(Box<LinuxSeccomp>),
}

impl Profile {
    /// From what follows `seccomp=` in `HostConfig.SecurityOpt`: `unconfined`, `builtin` or empty,
    /// or the text of a profile.
    ///
    /// # Errors
    /// A text that is no profile, or one that this engine cannot apply: to be told when the
    /// container is made, not each time that it starts.
    pub fn parse(option: &str) -> Result<Self> {
        Ok(match option {
            "" | "builtin" => Self::Default,
            "unconfined" => Self::Unconfined,
            text => {
                let facts = Facts { caps: &Capabilities::new(), arch: machine(), kernel: (u32::MAX, 0) };
                docker::parse(text)?.resolve(facts)?;
                Self::Custom(text.into())
            }
        })
    }

    fn resolve(&self, caps: &Capabilities) -> Result<Option<Policy>> {
        let facts = Facts { caps, arch: machine(), kernel: kernel() };
        Ok(match self {
            Self::Unconfined => None,
            Self::Default => Some(Policy::default(facts)),
            Self::Custom(text) => Some(docker::parse(text)?.resolve(facts)?),
            Self::Oci(seccomp) => Some(Policy::from_oci(seccomp)?),
        })
    }
}

/// The program for a process with `caps` in its bounding set: an array of `struct sock_filter`,
/// as seccomp(2) takes it. `None`: no filter.
///
/// `cache` is `RUN/seccomp`, made when missing; a cache that cannot be read or written costs time
/// and is no error, a damaged file is compiled anew.
///
/// # Errors
/// A policy that cannot be compiled.
pub fn program(cache: Option<&Path>, profile: &Profile, caps: &Capabilities) -> Result<Option<Vec<u8>>> {
    if matches!(profile, Profile::Unconfined) {
        return Ok(None);
    }
    let file = match cache {
        Some(dir) => Some(dir.join(cache::name(profile, caps)?)),
        None => None,
    };
    if let Some(program) = file.as_deref().and_then(cache::load) {
        return Ok(Some(program));
    }
    let Some(policy) = profile.resolve(caps)? else { return Ok(None) };
    let program = compile::compile(&policy)?;
    if let Some(file) = file {
        cache::keep(&file, &program);
    }
    Ok(Some(program))
}

/// The running kernel's version.
fn kernel() -> (u32, u32) {
    let release = nix::sys::utsname::uname();
    release.as_ref().ok().and_then(|u| u.release().to_str()).map_or((0, 0), docker::version)
}

#[cfg(test)]
mod tests;
