//! Docker's JSON format of profiles ("Seccomp security profiles for Docker"): the OCI spec's, with
//! conditions on capabilities, architectures and the kernel's version. Podman's and containerd's too.

use std::borrow::Cow;

use anyhow::{Context, Result};
use oci_spec::runtime::{Capability, LinuxSeccompOperator};
use serde::Deserialize;

use super::policy::{Facts, Policy, action, compare, operator, split};
use crate::error::Failure;

/// A profile's file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Profile {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    /// Of old profiles: as the OCI spec has it, instead of the map.
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<Architecture>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    #[serde(default)]
    syscalls: Option<Vec<Syscall>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscall {
    /// Of old profiles.
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: usize,
    value: u64,
    #[serde(default)]
    value_two: Option<u64>,
    op: LinuxSeccompOperator,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    /// `4.8`.
    #[serde(default)]
    min_kernel: Option<String>,
}

/// A profile from its text.
pub(super) fn parse(text: &str) -> Result<Profile> {
    let profile: Profile = serde_json::from_str(text).context("decoding seccomp profile failed")?;
    if profile.architectures.as_ref().is_some_and(|a| !a.is_empty())
        && profile.arch_map.as_ref().is_some_and(|a| !a.is_empty())
    {
        return Err(Failure::new("both architectures and archMap are specified in the seccomp profile").into());
    }
    Ok(profile)
}

impl Profile {
    /// Decides its conditions.
    pub(super) fn resolve(&self, facts: Facts<'_>) -> Result<Policy> {
        for flag in self.flags.iter().flatten() {
            if flag != "SECCOMP_FILTER_FLAG_TSYNC" {
                return Err(Failure::new(format!("seccomp flag {flag:?} is not supported")).into());
            }
        }
        let mut rules = Vec::new();
        for call in self.syscalls.iter().flatten() {
            let action = action(&call.action, call.errno_ret)?;
            let includes = call.includes.as_ref().is_none_or(|filter| filter.all(facts));
            let excludes = call.excludes.as_ref().is_some_and(|filter| filter.any(facts));
            let args = call.args.iter().flatten();
            let args = args.map(|a| compare(a.index, operator(a.op), a.value, a.value_two)).collect::<Result<_>>()?;
            if includes && !excludes {
                let names = call.names.iter().flatten().chain(&call.name);
                rules.extend(split(names.cloned().map(Cow::Owned).collect(), action, args));
            }
        }
        Ok(Policy {
            otherwise: action(&self.default_action, self.default_errno_ret)?,
            architectures: self.architectures_of(facts.arch),
            rules,
        })
    }

    fn architectures_of(&self, arch: &str) -> Vec<Cow<'static, str>> {
        let native = match arch {
            "amd64" => "SCMP_ARCH_X86_64",
            "arm64" => "SCMP_ARCH_AARCH64",
            "riscv64" => "SCMP_ARCH_RISCV64",
            "ppc64le" => "SCMP_ARCH_PPC64LE",
            _ => "SCMP_ARCH_S390X",
        };
        let listed = self.architectures.iter().flatten();
        let entries = self.arch_map.iter().flatten().filter(|entry| entry.architecture == native);
        let mapped = entries.flat_map(|entry| entry.sub_architectures.iter().flatten());
        listed.chain(mapped).cloned().map(Cow::Owned).collect()
    }
}

impl Filter {
    /// `includes`: every kind of condition that is there holds; of capabilities all.
    fn all(&self, facts: Facts<'_>) -> bool {
        let arches = self.arches.as_ref().is_none_or(|a| a.is_empty() || a.iter().any(|a| a == facts.arch));
        let caps = self.caps.iter().flatten().all(|name| has(facts, name));
        arches && caps && self.min_kernel.as_deref().is_none_or(|v| facts.kernel >= version(v))
    }

    /// `excludes`: one condition is enough.
    fn any(&self, facts: Facts<'_>) -> bool {
        let arches = self.arches.iter().flatten().any(|a| a == facts.arch);
        let caps = self.caps.iter().flatten().any(|name| has(facts, name));
        arches || caps || self.min_kernel.as_deref().is_some_and(|v| facts.kernel >= version(v))
    }
}

/// A capability that this binary does not know is one that nobody has.
fn has(facts: Facts<'_>, name: &str) -> bool {
    name.trim_start_matches("CAP_").parse::<Capability>().is_ok_and(|cap| facts.caps.contains(&cap))
}

/// `6.18.5-amd64` to (6, 18).
pub(super) fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
