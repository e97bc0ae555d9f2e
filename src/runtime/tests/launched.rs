//! What a container's first process finds.

use serde_json::json;

use super::bed::{Bed, Who};

/// Runs a test as root and as a user.
fn for_both(test: impl Fn(&Bed)) {
    for who in [Who::Root, Who::User] {
        if let Some(bed) = Bed::new(who) {
            test(&bed);
        }
    }
}

#[test]
fn a_command_runs_in_namespaces_of_its_own() {
    for_both(|bed| {
        let out = bed.run(bed.launch("hostname; echo $$; id -u; pwd; echo $HOME; umask; ls /proc/self/fd"));
        assert_eq!(out.good(), "box\n1\n0\n/\n/root\n0022\n0\n1\n2\n3\n");
        assert!(!std::fs::read_to_string("/proc/self/mountinfo").expect("mounts").contains(" - overlay overlay"));
    });
}

#[test]
fn capabilities_are_those_of_the_spec() {
    for_both(|bed| {
        let mut draft = bed.launch("grep -E 'Cap|NoNewPrivs|Groups|Uid|Gid' /proc/self/status | tr '\\t\\n' ' ;'");
        draft.user = Some("ann".into());
        draft.spec["process"]["noNewPrivileges"] = json!(true);
        let text = bed.run(draft).good();
        assert!(text.contains("Uid: 1000 1000 1000 1000;Gid: 100 100 100 100;Groups: 10 ;"), "{text}");
        let bounding = 1u64 << 0 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 27;
        let none = format!("{:016x}", 0);
        assert!(
            text.contains(&format!(
                "CapInh: {none};CapPrm: {none};CapEff: {none};CapBnd: {bounding:016x};CapAmb: {none};NoNewPrivs: 1;"
            )),
            "{text}"
        );
        let text = bed.run(bed.launch("grep -E 'Cap' /proc/self/status | tr '\\t\\n' ' ;'")).good();
        assert!(text.contains(&format!("CapPrm: {bounding:016x};CapEff: {bounding:016x};CapBnd: {bounding:016x};")));
    });
}
