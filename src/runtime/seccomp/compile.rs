//! From a policy to a program: libseccomp's, behind a few instructions of our own for what the
//! libseccomp that we are linked with is too old to know.
//!
//! Those instructions do two things (runc's filters, and so Docker's, do the second too):
//! - system calls that are named in the policy and were added to Linux after libseccomp's release
//!   get the policy's action;
//! - system calls that are newer than all that the policy's author knew fail with ENOSYS, so that
//!   the C library falls back on older ones. EPERM, the policy's answer to what it knows and does
//!   not want, makes new libraries on new kernels fail for no reason.

use std::fs::File;
use std::io::{Read, Seek};

use anyhow::{Context, Result};
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::policy::{Action, Operator, Policy, Rule};
use crate::error::Failure;

/// System calls that libseccomp 2.5.4 does not know, with their numbers: from 403 on the same on
/// every architecture of ctr (Linux, `scripts/syscall.tbl`).
const NEWER: &[(&str, u32)] = &[
    ("cachestat", 451),
    ("fchmodat2", 452),
    ("map_shadow_stack", 453),
    ("futex_wake", 454),
    ("futex_wait", 455),
    ("futex_requeue", 456),
    ("statmount", 457),
    ("listmount", 458),
    ("lsm_get_self_attr", 459),
    ("lsm_set_self_attr", 460),
    ("lsm_list_modules", 461),
    ("mseal", 462),
    ("setxattrat", 463),
    ("getxattrat", 464),
    ("listxattrat", 465),
    ("removexattrat", 466),
    ("open_tree_attr", 467),
    ("file_getattr", 468),
    ("file_setattr", 469),
];

/// The one newer call out of that order: x86-64 alone has it (Linux 6.11).
const URETPROBE: (&str, u32) = ("uretprobe", 335);

/// Compiles a policy to an array of `struct sock_filter` in the machine's byte order.
pub(super) fn compile(policy: &Policy) -> Result<Vec<u8>> {
    let mut program = prefix(policy);
    program.extend(by_libseccomp(policy).context("compile the seccomp policy")?);
    // BPF_MAXINSNS (linux/bpf_common.h).
    if program.len() > 4096 * 8 {
        return Err(Failure::new("the seccomp policy is too large for the kernel (more than 4096 instructions)").into());
    }
    Ok(program)
}

fn by_libseccomp(policy: &Policy) -> Result<Vec<u8>> {
    let mut context = ScmpFilterContext::new(scmp(policy.otherwise))?;
    for name in &policy.architectures {
        let arch = name.parse::<ScmpArch>().with_context(|| format!("architecture {name:?}"))?;
        context.add_arch(arch)?;
    }
    // A binary search instead of a chain of hundreds of comparisons for each system call.
    context.set_ctl_optimize(2)?;
    // The container does as it likes with no_new_privs; we load the program ourselves.
    context.set_ctl_nnp(false)?;
    // libseccomp refuses rules that say what happens anyway.
    for rule in policy.rules.iter().filter(|rule| rule.action != policy.otherwise) {
        let comparisons: Vec<ScmpArgCompare> = rule
            .args
            .iter()
            .map(|arg| match arg.operator {
                // The value of a masked comparison comes second here, and its mask first.
                Operator::MaskedEqual => {
                    ScmpArgCompare::new(arg.index, ScmpCompareOp::MaskedEqual(arg.value), arg.value_two)
                }
                operator => ScmpArgCompare::new(arg.index, scmp_operator(operator), arg.value),
            })
            .collect();
        for name in &rule.calls {
            // Unknown names are names of other architectures or of newer kernels.
            let Ok(call) = ScmpSyscall::from_name(name) else { continue };
            if comparisons.is_empty() {
                context.add_rule(scmp(rule.action), call)
            } else {
                context.add_rule_conditional(scmp(rule.action), call, &comparisons)
            }
            .with_context(|| format!("rule for {name:?}"))?;
        }
    }
    let mut file = File::from(memfd_create("seccomp", MFdFlags::MFD_CLOEXEC)?);
    context.export_bpf(&file)?;
    let mut program = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut program)?;
    Ok(program)
}

fn scmp(action: Action) -> ScmpAction {
    match action {
        Action::Allow => ScmpAction::Allow,
        Action::Errno(code) => ScmpAction::Errno(code.into()),
        Action::KillThread => ScmpAction::KillThread,
        Action::KillProcess => ScmpAction::KillProcess,
        Action::Trap => ScmpAction::Trap,
        Action::Trace(message) => ScmpAction::Trace(message),
        Action::Log => ScmpAction::Log,
    }
}

fn scmp_operator(operator: Operator) -> ScmpCompareOp {
    match operator {
        Operator::NotEqual => ScmpCompareOp::NotEqual,
        Operator::Less => ScmpCompareOp::Less,
        Operator::LessOrEqual => ScmpCompareOp::LessOrEqual,
        Operator::Equal => ScmpCompareOp::Equal,
        Operator::GreaterOrEqual => ScmpCompareOp::GreaterEqual,
        Operator::Greater => ScmpCompareOp::Greater,
        Operator::MaskedEqual => ScmpCompareOp::MaskedEqual(u64::MAX),
    }
}

// Instructions of classic BPF as seccomp(2) has them (linux/bpf_common.h, linux/seccomp.h).
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;
/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

const ENOSYS: u16 = 38;

/// `AUDIT_ARCH_*` of the architectures whose system calls are numbered alike (linux/audit.h).
const UNIFORM: &[u32] = if cfg!(target_arch = "x86_64") {
    &[AUDIT_X86_64, 0x4000_0003]
} else if cfg!(target_arch = "aarch64") {
    &[0xc000_00b7, 0x4000_0028]
} else if cfg!(target_arch = "riscv64") {
    &[0xc000_00f3]
} else {
    &[]
};
const AUDIT_X86_64: u32 = 0xc000_003e;

fn ret(action: Action) -> u32 {
    match action {
        Action::KillProcess => 0x8000_0000,
        Action::KillThread => 0,
        Action::Trap => 0x0003_0000,
        Action::Errno(code) => 0x0005_0000 | u32::from(code),
        Action::Trace(message) => 0x7ff0_0000 | u32::from(message),
        Action::Log => 0x7ffc_0000,
        Action::Allow => 0x7fff_0000,
    }
}

/// An instruction before its jumps are known: to `None`, the next one; to `Some(())`, libseccomp's.
struct Instruction {
    code: u16,
    k: u32,
    yes: Jump,
    no: Jump,
}

#[derive(Clone, Copy)]
enum Jump {
    /// Over so many instructions.
    Over(u8),
    /// To the first instruction behind the prefix.
    Out,
}

fn prefix(policy: &Policy) -> Vec<u8> {
    use Jump::{Out, Over};
    if UNIFORM.is_empty() || matches!(policy.otherwise, Action::Allow | Action::Log | Action::Errno(ENOSYS)) {
        // What the author did not know is allowed, or fails as it should.
        return Vec::new();
    }
    let listed = NEWER.iter().filter_map(|&(name, number)| Some((number, action_of(policy, name)?)));
    let listed: Vec<(u32, Action)> = listed.collect();
    let newest = newest_known(policy);

    let step = |code, k, yes, no| Instruction { code, k, yes, no };
    let next = Over(0);
    let mut code = vec![step(LOAD, ARCH, next, next)];
    for (i, &arch) in UNIFORM.iter().enumerate() {
        let left = u8::try_from(UNIFORM.len() - 1 - i).unwrap_or(0);
        code.push(step(JUMP_EQUAL, arch, Over(left), if left == 0 { Out } else { next }));
    }
    code.push(step(LOAD, NUMBER, next, next));
    if cfg!(target_arch = "x86_64") {
        // x32 has the same numbers with this bit set.
        code.push(step(AND, !0x4000_0000, next, next));
        if let Some(action) = action_of(policy, URETPROBE.0) {
            code.push(step(JUMP_EQUAL, URETPROBE.1, next, Over(3)));
            code.push(step(LOAD, ARCH, next, next));
            code.push(step(JUMP_EQUAL, AUDIT_X86_64, next, Out));
            code.push(step(RETURN, ret(action), next, next));
        }
    }
    if let Some(newest) = newest {
        // ARM has private calls from 0xf0000 on (asm/unistd.h), which libseccomp knows.
        if cfg!(target_arch = "aarch64") {
            code.push(step(JUMP_GREATER_OR_EQUAL, 0x000f_0000, Out, next));
        }
        code.push(step(JUMP_GREATER, newest, next, Over(1)));
        code.push(step(RETURN, ret(Action::Errno(ENOSYS)), next, next));
    }
    if let Some(&(first, _)) = listed.first() {
        code.push(step(JUMP_GREATER_OR_EQUAL, first, next, Out));
    }
    for (number, action) in listed {
        code.push(step(JUMP_EQUAL, number, next, Over(1)));
        code.push(step(RETURN, ret(action), next, next));
    }
    encode(&code)
}

fn encode(code: &[Instruction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(code.len() * 8);
    for (i, step) in code.iter().enumerate() {
        // The prefix has far fewer than 255 instructions: the table of newer calls is short.
        let out = u8::try_from(code.len() - 1 - i).unwrap_or(u8::MAX);
        let distance = |jump| match jump {
            Jump::Over(n) => n,
            Jump::Out => out,
        };
        bytes.extend(step.code.to_ne_bytes());
        bytes.extend([distance(step.yes), distance(step.no)]);
        bytes.extend(step.k.to_ne_bytes());
    }
    bytes
}

/// What the policy does with a call that it names, whatever its arguments.
fn action_of(policy: &Policy, name: &str) -> Option<Action> {
    let names = |rule: &&Rule| rule.args.is_empty() && rule.calls.iter().any(|call| call == name);
    policy.rules.iter().find(names).map(|rule| rule.action)
}

/// The highest number that the policy names: what its author knew of.
fn newest_known(policy: &Policy) -> Option<u32> {
    let number = |name: &str| match NEWER.iter().find(|(newer, _)| *newer == name) {
        Some(&(_, number)) => Some(number),
        None => u32::try_from(ScmpSyscall::from_name(name).ok()?.as_raw_syscall()).ok().filter(|&n| n < 0x000f_0000),
    };
    policy.rules.iter().flat_map(|rule| &rule.calls).filter_map(|name| number(name)).max()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Runs a program on a system call as the kernel would; what it returns.
    pub(in super::super) fn run(program: &[u8], arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let word = |offset: u32| match offset {
            0 => number,
            4 => arch,
            16..64 => {
                let value = args[(offset as usize - 16) / 8].to_ne_bytes();
                let half = if offset.is_multiple_of(8) { &value[..4] } else { &value[4..] };
                u32::from_ne_bytes(half.try_into().unwrap())
            }
            _ => 0,
        };
        let (mut a, mut at) = (0u32, 0usize);
        loop {
            let i = &program[at * 8..at * 8 + 8];
            let k = u32::from_ne_bytes(i[4..8].try_into().unwrap());
            at += 1;
            let test = match u16::from_ne_bytes([i[0], i[1]]) {
                LOAD => {
                    a = word(k);
                    continue;
                }
                AND => {
                    a &= k;
                    continue;
                }
                0x05 => {
                    at += k as usize;
                    continue;
                }
                RETURN => return k,
                JUMP_EQUAL => a == k,
                JUMP_GREATER => a > k,
                JUMP_GREATER_OR_EQUAL => a >= k,
                0x45 => a & k != 0,
                other => panic!("instruction {other:#x}"),
            };
            at += usize::from(if test { i[2] } else { i[3] });
        }
    }

    #[test]
    fn libseccomp_is_as_old_as_the_table_says() {
        // When this fails, libseccomp was renewed and the table may shrink.
        assert!(ScmpSyscall::from_name("set_mempolicy_home_node").is_ok());
        assert!(NEWER.is_sorted_by_key(|(_, number)| number));
    }
}
