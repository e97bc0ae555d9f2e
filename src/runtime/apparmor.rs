//! AppArmor profiles: <https://docs.kernel.org/admin-guide/LSM/apparmor.html>.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use super::report::{At, Fault, Step};

/// Confines what this process executes next. `attr`: the folder of this process in a /proc that
/// can be trusted to be one.
pub fn set_exec_label(attr: &Path, profile: &str) -> Result<(), Fault> {
    // The module's own folder is newer (Linux 5.8) than the one that modules once had to share.
    let open = |file: &str| OpenOptions::new().write(true).open(attr.join(file));
    let file = open("apparmor/exec").or_else(|_| open("exec"));
    file.and_then(|mut f| f.write_all(format!("exec {profile}").as_bytes())).at(Step::Apparmor, profile)
}
