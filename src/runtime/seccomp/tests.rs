use oci_spec::runtime::{Capabilities, Capability};

use super::compile::tests::run;
use super::policy::Facts;
use super::*;

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const KILL: u32 = 0;

/// Docker's default set ("Runtime privilege and Linux capabilities").
fn docker_caps() -> Capabilities {
    use Capability as C;
    [
        C::Chown,
        C::DacOverride,
        C::Fsetid,
        C::Fowner,
        C::Mknod,
        C::NetRaw,
        C::Setgid,
        C::Setuid,
        C::Setfcap,
        C::Setpcap,
        C::NetBindService,
        C::SysChroot,
        C::Kill,
        C::AuditWrite,
    ]
    .into()
}

fn docker_caps_and(more: &[Capability]) -> Capabilities {
    docker_caps().into_iter().chain(more.iter().copied()).collect()
}

fn compiled(profile: &Profile, caps: &Capabilities) -> Vec<u8> {
    program(None, profile, caps).unwrap().unwrap()
}

/// The number of a system call of this architecture, by libseccomp or by the kernel's table.
fn number(name: &str) -> u32 {
    let new = [("cachestat", 451), ("fchmodat2", 452), ("mseal", 462), ("removexattrat", 466), ("uretprobe", 335)];
    if let Some(&(_, number)) = new.iter().find(|(n, _)| *n == name) {
        return number;
    }
    let call = libseccomp::ScmpSyscall::from_name_by_arch(name, libseccomp::ScmpArch::X8664).unwrap();
    u32::try_from(call.as_raw_syscall()).unwrap()
}

#[cfg(target_arch = "x86_64")]
fn ask(program: &[u8], name: &str, args: &[u64]) -> u32 {
    let mut six = [0; 6];
    six[..args.len()].copy_from_slice(args);
    run(program, X86_64, number(name), six)
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_default_policy_is_dockers() {
    let p = compiled(&Profile::Default, &docker_caps());
    let mut wrong = Vec::new();
    let mut expect = |what: u32, names: &str| {
        for name in names.split_whitespace() {
            if ask(&p, name, &[]) != what {
                wrong.push(name.to_owned());
            }
        }
    };
    expect(
        ALLOW,
        "read write openat execve clone fork vfork mmap ptrace process_vm_readv chroot arch_prctl modify_ldt",
    );
    expect(ALLOW, "seccomp landlock_create_ruleset memfd_secret pidfd_open pidfd_send_signal process_mrelease rseq");
    expect(
        ALLOW,
        "cachestat fchmodat2 mseal removexattrat uretprobe futex_waitv io_setup vmsplice mknod fanotify_mark",
    );
    expect(ALLOW, "personality name_to_handle_at adjtimex setgroups");
    expect(
        EPERM,
        "mount umount2 unshare setns sethostname setdomainname bpf perf_event_open pivot_root open_tree fsopen",
    );
    expect(EPERM, "open_by_handle_at reboot init_module finit_module delete_module acct kcmp pidfd_getfd iopl ioperm");
    expect(
        EPERM,
        "settimeofday clock_settime vhangup mbind set_mempolicy syslog quotactl lookup_dcookie fanotify_init",
    );
    expect(EPERM, "io_uring_setup io_uring_enter io_uring_register userfaultfd keyctl add_key request_key kexec_load");
    expect(EPERM, "swapon swapoff nfsservctl ustat sysfs uselib move_pages migrate_pages process_madvise");
    expect(ENOSYS, "clone3");
    assert_eq!(wrong, [""; 0]);
    let always = |g: &&super::default::Group| {
        g.when.iter().all(|c| matches!(c, super::default::Condition::Always)) && g.args.is_empty()
    };
    let mut names: Vec<_> = super::default::GROUPS.iter().filter(always).flat_map(|g| g.calls).collect();
    names.sort_unstable();
    let before = names.len();
    names.dedup();
    // Docker's list of 361, and the three that it allows from Linux 4.8 on.
    assert_eq!((before, names.len()), (364, 364));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn arguments_are_looked_at() {
    let p = compiled(&Profile::Default, &docker_caps());
    for family in 0..50 {
        let blocked = matches!(family, 12 | 19 | 20 | 23 | 25 | 34 | 37 | 38 | 40 | 46..);
        assert_eq!(ask(&p, "socket", &[family]), if blocked { EPERM } else { ALLOW }, "family {family}");
    }
    for namespace in [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
        assert_eq!(ask(&p, "clone", &[namespace | 0x11]), EPERM, "namespace {namespace:#x}");
    }
    assert_eq!(ask(&p, "clone", &[0x003d_0f00]), ALLOW, "a thread");
    for (value, what) in [(0, ALLOW), (8, ALLOW), (0x20008, ALLOW), (0xffff_ffff, ALLOW), (0x0004_0000, EPERM)] {
        assert_eq!(ask(&p, "personality", &[value]), what, "personality {value:#x}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn capabilities_open_what_is_theirs() {
    use Capability as C;
    for (cap, names) in [
        (C::SysAdmin, "mount umount2 unshare setns clone3 bpf perf_event_open syslog quotactl move_mount sethostname"),
        (C::SysPtrace, "kcmp pidfd_getfd process_madvise"),
        (C::SysTime, "settimeofday clock_settime"),
        (C::SysModule, "init_module finit_module delete_module"),
        (C::SysNice, "mbind set_mempolicy get_mempolicy"),
        (C::SysBoot, "reboot"),
        (C::SysPacct, "acct"),
        (C::SysRawio, "iopl ioperm"),
        (C::SysTtyConfig, "vhangup"),
        (C::Syslog, "syslog"),
        (C::Bpf, "bpf"),
        (C::Perfmon, "perf_event_open"),
        (C::DacReadSearch, "open_by_handle_at"),
    ] {
        let p = compiled(&Profile::Default, &docker_caps_and(&[cap]));
        for name in names.split_whitespace() {
            assert_eq!(ask(&p, name, &[]), ALLOW, "{name} with {cap}");
        }
        assert_eq!(ask(&p, "keyctl", &[]), EPERM);
        assert_eq!(ask(&p, "clone", &[0x1000_0000]), if cap == C::SysAdmin { ALLOW } else { EPERM });
    }
    let without = compiled(&Profile::Default, &Capabilities::new());
    assert_eq!(ask(&without, "chroot", &[]), EPERM);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn every_abi_of_the_machine_is_filtered() {
    let p = compiled(&Profile::Default, &docker_caps());
    let six = [0; 6];
    assert_eq!(run(&p, X86, 3, six), ALLOW, "read of x86");
    assert_eq!(run(&p, X86, 21, six), EPERM, "mount of x86");
    assert_eq!(run(&p, X86, 451, six), ALLOW, "cachestat of x86");
    assert_eq!(run(&p, X86_64, 0x4000_0000, six), ALLOW, "read of x32");
    assert_eq!(run(&p, X86_64, 0x4000_00a5, six), EPERM, "mount of x32");
    assert_eq!(run(&p, X86_64, 467, six), ENOSYS, "newer than the policy");
    assert_eq!(run(&p, X86_64, 9999, six), ENOSYS);
    assert_eq!(run(&p, X86_64, u32::MAX, six), ENOSYS, "no number at all");
    assert_eq!(run(&p, 0xc000_00b7, 0, six), KILL, "another machine's");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn dockers_json_is_understood() {
    let text = r#"{
      "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
      "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
      "syscalls": [
        {"names": ["read", "cachestat", "no_such_call"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "x"},
        {"name": "write", "action": "SCMP_ACT_ALLOW"},
        {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["kill"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390x"]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
        {"names": ["swapon"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
          {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]},
        {"names": ["personality"], "action": "SCMP_ACT_KILL_PROCESS", "args": [
          {"index": 0, "value": 15, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ"}]}
      ]}"#;
    let p = compiled(&Profile::parse(text).unwrap(), &docker_caps());
    let asked: Vec<u32> = ["read", "cachestat", "write", "mkdir", "mount", "kill", "ptrace", "bpf", "swapon", "chmod"]
        .map(|name| ask(&p, name, &[]))
        .into();
    // The kernel answers ENOSYS for the newer call: the default action says the same.
    assert_eq!(asked[0], ALLOW);
    assert_eq!(asked[2..], [ALLOW, 0x0005_000d, ENOSYS, ALLOW, ALLOW, ENOSYS, ENOSYS, ENOSYS]);
    assert_eq!(asked[1], ALLOW);
    assert_eq!([ask(&p, "socket", &[1]), ask(&p, "socket", &[2]), ask(&p, "socket", &[3])], [ALLOW, ALLOW, ENOSYS]);
    assert_eq!(ask(&p, "personality", &[0x18]), 0x8000_0000);
    assert_eq!(ask(&p, "personality", &[0x17]), ENOSYS);
}

#[test]
fn a_bad_profile_is_told_with_its_reason() {
    for (text, reason) in [
        ("{", "decoding seccomp profile failed"),
        (r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#, "unknown seccomp action \"SCMP_ACT_MAYBE\""),
        (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY is not supported"),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}"#, "is not supported"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO",
             "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
            "the index of an argument is above 5",
        ),
    ] {
        let error = format!("{:#}", Profile::parse(text).unwrap_err());
        assert!(error.contains(reason), "{error}");
    }
    assert!(matches!(Profile::parse("unconfined").unwrap(), Profile::Unconfined));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn an_oci_specs_policy_is_understood() {
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30},
                     {"names": ["getcwd"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let p = compiled(&Profile::Oci(Box::new(serde_json::from_str(text).unwrap())), &Capabilities::new());
    assert_eq!([ask(&p, "mkdir", &[]), ask(&p, "getcwd", &[]), ask(&p, "read", &[])], [0x0005_001e, EPERM, ALLOW]);
    assert_eq!(run(&p, X86_64, 9999, [0; 6]), ALLOW, "a policy of what is forbidden allows the new");
}

#[test]
fn a_program_is_kept_and_a_damaged_one_made_anew() {
    let run = tempfile::tempdir().unwrap();
    let dir = run.path().join("seccomp");
    let caps = docker_caps();
    let first = program(Some(&dir), &Profile::Default, &caps).unwrap().unwrap();
    let files = || std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    let [file] = &files()[..] else { panic!("{:?}", files()) };
    let whole = std::fs::read(file).unwrap();
    assert_eq!(first, program(Some(&dir), &Profile::Default, &caps).unwrap().unwrap());
    for damage in
        [&whole[..whole.len() - 8], &whole[8..], b"", &[whole[..40].to_vec(), vec![0; whole.len() - 40]].concat()]
    {
        std::fs::write(file, damage).unwrap();
        assert_eq!(first, program(Some(&dir), &Profile::Default, &caps).unwrap().unwrap());
        assert_eq!(std::fs::read(file).unwrap(), whole, "repaired");
    }
    program(Some(&dir), &Profile::Default, &docker_caps_and(&[Capability::SysAdmin])).unwrap();
    assert_eq!(files().len(), 2, "other capabilities, another program");
    assert!(program(Some(&dir), &Profile::Unconfined, &caps).unwrap().is_none());
}

#[test]
fn a_cache_that_cannot_be_written_is_no_error() {
    assert!(program(Some("/proc/none/seccomp".as_ref()), &Profile::Default, &docker_caps()).unwrap().is_some());
}

#[test]
fn conditions_of_other_machines_are_decided() {
    let caps = docker_caps();
    let names = |arch| -> Vec<String> {
        let policy = Policy::default(Facts { caps: &caps, arch, kernel: (6, 1) });
        policy.rules.iter().flat_map(|r| &r.calls).map(ToString::to_string).collect()
    };
    assert!(names("arm64").contains(&"set_tls".into()) && !names("amd64").contains(&"set_tls".into()));
    assert!(names("riscv64").contains(&"riscv_flush_icache".into()));
    let clone = |arch| {
        let policy = Policy::default(Facts { caps: &caps, arch, kernel: (6, 1) });
        let rule = policy.rules.into_iter().find(|r| r.calls == ["clone"]).unwrap();
        rule.args[0].index
    };
    assert_eq!((clone("amd64"), clone("s390x")), (0, 1));
}

/// The times that the module's front page speaks of: `cargo test --release seccomp -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stderr, reason = "it is what the measurement is for")]
fn how_long_it_takes() {
    let run = tempfile::tempdir().unwrap();
    let caps = docker_caps();
    let start = std::time::Instant::now();
    let bytes = program(Some(run.path()), &Profile::Default, &caps).unwrap().unwrap();
    let cold = start.elapsed();
    let start = std::time::Instant::now();
    for _ in 0..1000 {
        program(Some(run.path()), &Profile::Default, &caps).unwrap();
    }
    eprintln!("{} instructions; cold {cold:?}, warm {:?}", bytes.len() / 8, start.elapsed() / 1000);
}
