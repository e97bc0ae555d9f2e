//! Compiled programs on disk: `<digest>.bpf`, the program and behind it its own SHA-256.

use std::io;
use std::path::Path;

use anyhow::Result;
use oci_spec::runtime::Capabilities;
use sha2::{Digest, Sha256};

use super::policy::machine;
use super::{Profile, kernel};
use crate::store::record::{self, Durability};

const CHECKSUM: usize = 32;
/// BPF_MAXINSNS instructions of eight bytes (linux/bpf_common.h).
const LONGEST: usize = 4096 * 8;

/// A fingerprint of the sources that programs come from, made when they are compiled: a change of
/// the policy's table changes the files' names, without a number that somebody has to raise.
const BUILT_FROM: u64 = {
    let sources: [&[u8]; 3] = [include_bytes!("default.rs"), include_bytes!("policy.rs"), include_bytes!("compile.rs")];
    // FNV-1a.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut source = 0;
    while source < sources.len() {
        let mut at = 0;
        while at < sources[source].len() {
            hash = (hash ^ sources[source][at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
            at += 1;
        }
        source += 1;
    }
    hash
};

/// The name of the file for all that the program depends on: this binary's version, whose part
/// libseccomp is, the policy, the capabilities, the architecture, and the kernel's version where
/// the policy can ask for it.
pub(super) fn name(profile: &Profile, caps: &Capabilities) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(concat!("ctr ", env!("CARGO_PKG_VERSION"), "\n"));
    hash.update(BUILT_FROM.to_le_bytes());
    hash.update(machine());
    let held = caps.iter().fold(0u64, |set, &cap| set | 1u64 << (cap as u32));
    hash.update(held.to_le_bytes());
    match profile {
        Profile::Unconfined => {}
        Profile::Default => hash.update("default"),
        Profile::Custom(text) => {
            hash.update(format!("docker {:?}\n", kernel()));
            hash.update(text);
        }
        Profile::Oci(seccomp) => {
            hash.update("oci\n");
            hash.update(serde_json::to_vec(seccomp)?);
        }
    }
    let mut name = String::with_capacity(68);
    for byte in hash.finalize() {
        use std::fmt::Write;
        let _ = write!(name, "{byte:02x}");
    }
    name.push_str(".bpf");
    Ok(name)
}

/// A program that was kept, whole and undamaged.
pub(super) fn load(file: &Path) -> Option<Vec<u8>> {
    let mut program = std::fs::read(file).ok()?;
    let length = program.len().checked_sub(CHECKSUM)?;
    if length == 0 || length > LONGEST || length % 8 != 0 {
        return None;
    }
    let checksum = program.split_off(length);
    (Sha256::digest(&program)[..] == checksum[..]).then_some(program)
}

/// Keeps a program. A full or read-only disk must not stop a container, so nothing is said.
pub(super) fn keep(file: &Path, program: &[u8]) {
    let content = [program, &Sha256::digest(program)[..]].concat();
    let written = record::replace(file, &content, Durability::Unsynced);
    if written.is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
        && let Some(dir) = file.parent()
        && std::fs::create_dir(dir).is_ok()
    {
        let _ = record::replace(file, &content, Durability::Unsynced);
    }
}
