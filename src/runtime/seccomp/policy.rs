//! A policy with all its conditions decided: what every profile becomes before it is compiled.

use std::borrow::Cow;

use anyhow::{Result, bail};
use oci_spec::runtime::{Capabilities, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompOperator};

use super::default::{self, Condition};
use crate::error::Failure;

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Allow,
    Errno(u16),
    KillThread,
    KillProcess,
    Trap,
    Trace(u16),
    Log,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// `argument & value == value_two`.
    MaskedEqual,
}

/// A condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Compare {
    /// 0 to 5.
    pub(super) index: u32,
    pub(super) operator: Operator,
    pub(super) value: u64,
    pub(super) value_two: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) calls: Vec<Cow<'static, str>>,
    pub(super) action: Action,
    /// All must match.
    pub(super) args: Vec<Compare>,
}

#[derive(Debug, Clone)]
pub(super) struct Policy {
    pub(super) otherwise: Action,
    /// `SCMP_ARCH_X86_64` and so on, besides the machine's own.
    pub(super) architectures: Vec<Cow<'static, str>>,
    pub(super) rules: Vec<Rule>,
}

/// What conditions are decided by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) caps: &'a Capabilities,
    /// In Go's names: `amd64`.
    pub(super) arch: &'a str,
    /// Major and minor version.
    pub(super) kernel: (u32, u32),
}

/// The machine's architecture in Go's names, which Docker's profiles use.
pub(super) const fn machine() -> &'static str {
    if cfg!(target_arch = "x86_64") {
        "amd64"
    } else if cfg!(target_arch = "aarch64") {
        "arm64"
    } else if cfg!(target_arch = "riscv64") {
        "riscv64"
    } else if cfg!(target_arch = "powerpc64") {
        "ppc64le"
    } else {
        "s390x"
    }
}

impl Policy {
    /// Docker's default policy.
    pub(super) fn default(facts: Facts<'_>) -> Self {
        let holds = |condition: &Condition| match condition {
            Condition::Always => true,
            Condition::Cap(cap) => facts.caps.contains(cap),
            Condition::NotCap(cap) => !facts.caps.contains(cap),
            Condition::Arch(names) => names.contains(&facts.arch),
            Condition::NotArch(names) => !names.contains(&facts.arch),
        };
        let groups = default::GROUPS.iter().filter(|group| group.when.iter().all(holds));
        let mut rules: Vec<Rule> = groups
            .map(|group| Rule {
                calls: group.calls.iter().map(|&name| Cow::Borrowed(name)).collect(),
                action: group.action,
                args: group.args.to_vec(),
            })
            .collect();
        let one_of = |call: &'static str, values: &'static [u64]| {
            values.iter().map(move |&value| Rule {
                calls: vec![Cow::Borrowed(call)],
                action: Action::Allow,
                args: vec![Compare { index: 0, operator: Operator::Equal, value, value_two: 0 }],
            })
        };
        rules.extend(one_of("socket", default::SOCKET_FAMILIES));
        rules.extend(one_of("personality", default::PERSONALITIES));
        let architectures: &[&str] = match facts.arch {
            // Programs of the older ABIs run on these machines, filtered alike.
            "amd64" => &["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "arm64" => &["SCMP_ARCH_ARM"],
            "s390x" => &["SCMP_ARCH_S390"],
            _ => &[],
        };
        let architectures = architectures.iter().map(|&name| Cow::Borrowed(name)).collect();
        Self { otherwise: default::OTHERWISE, architectures, rules }
    }

    /// From the OCI runtime spec ("Seccomp" in config-linux.md).
    pub(super) fn from_oci(seccomp: &LinuxSeccomp) -> Result<Self> {
        use oci_spec::runtime::LinuxSeccompFilterFlag as Flag;
        for flag in seccomp.flags().iter().flatten() {
            // All threads are one thread where the filter is loaded.
            if !matches!(flag, Flag::SeccompFilterFlagTsync) {
                bail!(Failure::new(format!("seccomp flag {flag:?} is not supported")));
            }
        }
        let mut rules = Vec::new();
        for call in seccomp.syscalls().iter().flatten() {
            let args = call.args().iter().flatten().map(|arg| {
                let operator = operator(arg.op());
                compare(arg.index(), operator, arg.value(), arg.value_two())
            });
            let args: Vec<Compare> = args.collect::<Result<_>>()?;
            let action = oci_action(call.action(), call.errno_ret())?;
            let calls: Vec<Cow<'static, str>> = call.names().iter().cloned().map(Cow::Owned).collect();
            rules.extend(split(calls, action, args));
        }
        let mut architectures = Vec::new();
        for arch in seccomp.architectures().iter().flatten() {
            architectures.push(Cow::Owned(serde_json::from_value(serde_json::to_value(arch)?)?));
        }
        let otherwise = oci_action(seccomp.default_action(), seccomp.default_errno_ret())?;
        Ok(Self { otherwise, architectures, rules })
    }
}

/// One argument of a rule, its index checked.
pub(super) fn compare(index: usize, operator: Operator, value: u64, two: Option<u64>) -> Result<Compare> {
    let index = u32::try_from(index).ok().filter(|&i| i < 6);
    let index = index.ok_or_else(|| Failure::new("seccomp: the index of an argument is above 5"))?;
    Ok(Compare { index, operator, value, value_two: two.unwrap_or(0) })
}

/// A rule; or, where it has two conditions on one argument, which no filter can hold, a rule for
/// each condition: what runc and so Docker make of it.
pub(super) fn split(calls: Vec<Cow<'static, str>>, action: Action, args: Vec<Compare>) -> Vec<Rule> {
    let twice = args.iter().enumerate().any(|(i, a)| args[..i].iter().any(|b| a.index == b.index));
    if !twice {
        return vec![Rule { calls, action, args }];
    }
    args.into_iter().map(|arg| Rule { calls: calls.clone(), action, args: vec![arg] }).collect()
}

/// An action by its name in both JSON formats; EPERM where no error is named, as the OCI spec has it.
pub(super) fn action(name: &str, errno: Option<u32>) -> Result<Action> {
    let code = || {
        let code = u16::try_from(errno.unwrap_or(1)).ok().filter(|&code| code < 4096);
        code.ok_or_else(|| Failure::new(format!("seccomp: errnoRet {} is above 4095", errno.unwrap_or(1))))
    };
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_ERRNO" => Action::Errno(code()?),
        "SCMP_ACT_TRACE" => Action::Trace(code()?),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_NOTIFY" => bail!(Failure::new("seccomp action SCMP_ACT_NOTIFY is not supported")),
        other => bail!(Failure::new(format!("unknown seccomp action {other:?}"))),
    })
}

fn oci_action(oci: LinuxSeccompAction, errno: Option<u32>) -> Result<Action> {
    use LinuxSeccompAction as A;
    let name = match oci {
        A::ScmpActAllow => "SCMP_ACT_ALLOW",
        A::ScmpActErrno => "SCMP_ACT_ERRNO",
        A::ScmpActTrace => "SCMP_ACT_TRACE",
        A::ScmpActKill | A::ScmpActKillThread => "SCMP_ACT_KILL",
        A::ScmpActKillProcess => "SCMP_ACT_KILL_PROCESS",
        A::ScmpActTrap => "SCMP_ACT_TRAP",
        A::ScmpActLog => "SCMP_ACT_LOG",
        A::ScmpActNotify => "SCMP_ACT_NOTIFY",
    };
    action(name, errno)
}

pub(super) fn operator(oci: LinuxSeccompOperator) -> Operator {
    use LinuxSeccompOperator as O;
    match oci {
        O::ScmpCmpNe => Operator::NotEqual,
        O::ScmpCmpLt => Operator::Less,
        O::ScmpCmpLe => Operator::LessOrEqual,
        O::ScmpCmpEq => Operator::Equal,
        O::ScmpCmpGe => Operator::GreaterOrEqual,
        O::ScmpCmpGt => Operator::Greater,
        O::ScmpCmpMaskedEq => Operator::MaskedEqual,
    }
}
