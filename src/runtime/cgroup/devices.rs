//! Which devices a container's processes may open and make: lines for v1's `devices` controller, a
//! program of extended BPF for v2 (kernel documentation, `cgroup-v1/devices.rst` and "Device
//! controller" in `cgroup-v2.rst`). Rules come in order, and the last one that matches decides.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

/// `BPF_DEVCG_ACC_*` (linux/bpf.h).
const MAKE: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
/// `BPF_DEVCG_DEV_*`.
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;

fn letter(rule: &LinuxDeviceCgroup) -> char {
    match rule.typ() {
        Some(LinuxDeviceType::B) => 'b',
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => 'c',
        _ => 'a',
    }
}

fn access(rule: &LinuxDeviceCgroup) -> &str {
    rule.access().as_deref().filter(|a| !a.is_empty()).unwrap_or("rwm")
}

/// v1: `devices.allow` or `devices.deny`, and the line.
pub(super) fn v1(rule: &LinuxDeviceCgroup) -> (&'static str, String) {
    let file = if rule.allow() { "devices.allow" } else { "devices.deny" };
    let number = |n: Option<i64>| n.filter(|&n| n >= 0).map_or("*".into(), |n| n.to_string());
    let line = match letter(rule) {
        // `a` stands for all, and numbers after it are not looked at.
        'a' => "a".to_owned(),
        letter => format!("{letter} {}:{} {}", number(rule.major()), number(rule.minor()), access(rule)),
    };
    (file, line)
}

// Instructions of extended BPF: linux/bpf.h, kernel documentation `bpf/standardization`.
const LOAD_WORD: u8 = 0x61;
const MOVE_WORD: u8 = 0xbc;
const SET: u8 = 0xb7;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_EQUAL: u8 = 0x16;
const JUMP_NOT_EQUAL: u8 = 0x56;
const JUMP_OTHER: u8 = 0x5e;
const EXIT: u8 = 0x95;

fn instruction(code: u8, to: u8, from: u8, offset: i16, value: u32) -> u64 {
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    let offset = offset.to_ne_bytes();
    let value = value.to_ne_bytes();
    u64::from_ne_bytes([code, registers, offset[0], offset[1], value[0], value[1], value[2], value[3]])
}

/// v2: the program, which returns 1 for what is allowed. It is given (linux/bpf.h, `struct
/// bpf_cgroup_dev_ctx`) the access and the type in one word, then major and minor number.
pub(super) fn v2(rules: &[LinuxDeviceCgroup]) -> Vec<u64> {
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE_WORD, 3, 2, 0, 0),
        instruction(AND, 2, 0, 0, 0xffff),     // r2: type
        instruction(SHIFT_RIGHT, 3, 0, 0, 16), // r3: access
        instruction(LOAD_WORD, 4, 1, 4, 0),    // r4: major
        instruction(LOAD_WORD, 5, 1, 8, 0),    // r5: minor
    ];
    // The last rule that matches decides, so they are asked from the last to the first. What is
    // behind a rule for everything is never asked.
    for rule in rules.iter().rev() {
        let mut mask = 0;
        for c in access(rule).chars() {
            mask |= match c {
                'r' => READ,
                'w' => WRITE,
                'm' => MAKE,
                _ => 0,
            };
        }
        // Code, registers and value; a jump leads over what is left of the rule, to the next one.
        let mut tests: Vec<(u8, u8, u8, u32)> = Vec::new();
        if mask != READ | WRITE | MAKE {
            tests.push((MOVE_WORD, 1, 3, 0));
            tests.push((AND, 1, 0, mask));
            // To be allowed, all that is asked for must be in the rule; to be denied, any of it.
            tests.push(if rule.allow() { (JUMP_OTHER, 1, 3, 0) } else { (JUMP_EQUAL, 1, 0, 0) });
        }
        let kind = letter(rule);
        if kind != 'a' {
            tests.push((JUMP_NOT_EQUAL, 2, 0, if kind == 'b' { BLOCK } else { CHARACTER }));
            for (register, number) in [(4, rule.major()), (5, rule.minor())] {
                if let Some(number) = number.and_then(|n| u32::try_from(n).ok()) {
                    tests.push((JUMP_NOT_EQUAL, register, 0, number));
                }
            }
        }
        let everything = tests.is_empty();
        for (i, &(code, to, from, value)) in tests.iter().enumerate() {
            let jumps = matches!(code, JUMP_OTHER | JUMP_EQUAL | JUMP_NOT_EQUAL);
            let over = if jumps { i16::try_from(tests.len() - i + 1).unwrap_or(0) } else { 0 };
            program.push(instruction(code, to, from, over, value));
        }
        program.push(instruction(SET, 0, 0, 0, u32::from(rule.allow())));
        program.push(instruction(EXIT, 0, 0, 0, 0));
        if everything {
            return program;
        }
    }
    program.push(instruction(SET, 0, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(json: &str) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_str(json).unwrap()
    }

    const DOCKER: &str = r#"[{"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
        {"allow": true, "type": "c", "access": "m"},
        {"allow": true, "type": "c", "major": 136, "minor": -1, "access": "rw"},
        {"allow": false, "type": "c", "major": 10, "minor": 229, "access": "w"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"}]"#;

    /// What the kernel's interpreter makes of a program.
    fn run(program: &[u64], kind: u32, access: u32, major: u32, minor: u32) -> u32 {
        let context = [access << 16 | kind, major, minor];
        let (mut r, mut at) = ([0u32; 6], 0usize);
        loop {
            let i = program[at].to_ne_bytes();
            let (code, to, from) = (i[0], usize::from(i[1] & 15), usize::from(i[1] >> 4));
            let offset = i16::from_ne_bytes([i[2], i[3]]);
            let value = u32::from_ne_bytes([i[4], i[5], i[6], i[7]]);
            at += 1;
            let jump = match code {
                LOAD_WORD => {
                    r[to] = context[usize::try_from(offset).unwrap() / 4];
                    false
                }
                MOVE_WORD => {
                    r[to] = r[from];
                    false
                }
                SET => {
                    r[to] = value;
                    false
                }
                AND => {
                    r[to] &= value;
                    false
                }
                SHIFT_RIGHT => {
                    r[to] >>= value;
                    false
                }
                JUMP_NOT_EQUAL => r[to] != value,
                JUMP_OTHER => r[to] != r[from],
                JUMP_EQUAL => r[to] == value,
                EXIT => return r[0],
                other => panic!("{other:#x}"),
            };
            if jump {
                at += usize::try_from(offset).unwrap();
            }
        }
    }

    #[test]
    fn the_last_rule_that_matches_decides() {
        let p = v2(&rules(DOCKER));
        let ask = |kind, access, major, minor| run(&p, kind, access, major, minor) == 1;
        assert!(ask(CHARACTER, READ | WRITE, 1, 3), "null");
        assert!(!ask(CHARACTER, READ, 1, 1), "mem");
        assert!(ask(CHARACTER, MAKE, 1, 1), "any may be made");
        assert!(!ask(CHARACTER, MAKE | READ, 1, 1), "but not made and read");
        assert!(!ask(BLOCK, MAKE, 8, 0));
        assert!(ask(CHARACTER, WRITE, 136, 7), "any terminal");
        assert!(ask(CHARACTER, READ, 10, 229) && !ask(CHARACTER, READ | WRITE, 10, 229));
        assert_eq!(run(&v2(&[]), CHARACTER, READ, 1, 3), 0, "nothing was allowed");
        assert_eq!(run(&v2(&rules(r#"[{"allow": true, "access": "rwm"}]"#)), BLOCK, READ, 8, 0), 1);
    }

    #[test]
    fn lines_of_v1() {
        let lines: Vec<_> = rules(DOCKER).iter().map(v1).collect();
        assert_eq!(lines[0], ("devices.deny", "a".into()));
        assert_eq!(lines[1], ("devices.allow", "c 1:3 rwm".into()));
        assert_eq!(lines[2], ("devices.allow", "c *:* m".into()));
        assert_eq!(lines[3], ("devices.allow", "c 136:* rw".into()));
    }
}
