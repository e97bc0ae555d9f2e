//! System call filters: Docker's default policy as data of our own, profiles in Docker's JSON and
//! in the OCI runtime spec's, and their way to a BPF program that the kernel takes.
//!
//! Compiling costs milliseconds, so a program is kept as a file below `RUN/seccomp` under the
//! digest of all that it depends on; a container's start reads that file and nothing else.

use std::path::Path;

use anyhow::Result;
use oci_spec::runtime::{Capabilities, LinuxSeccomp};

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
    /// or the text of a profile, which is checked.
    pub fn parse(option: &str) -> Result<Self> {
        Ok(match option {
            "" | "builtin" => Self::Default,
            "unconfined" => Self::Unconfined,
            text => Self::Custom(text.into()),
        })
    }
}

/// The program for a process with `caps` in its bounding set: an array of `struct sock_filter`,
/// as seccomp(2) takes it. `None`: no filter. `cache`: `RUN/seccomp`, made when missing.
pub fn program(_cache: Option<&Path>, _profile: &Profile, _caps: &Capabilities) -> Result<Option<Vec<u8>>> {
    anyhow::bail!("not built yet")
}
