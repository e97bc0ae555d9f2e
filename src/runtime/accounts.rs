//! Lines for the container's own /etc/passwd and /etc/group, written to the files themselves: a mount
//! over them would keep useradd(8) from replacing them.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;

use super::plan::Plan;
use super::report::{At, Fault, Step};
use super::rooted;

/// As in `user`.
const LONGEST: u64 = 16 << 20;

/// Adds the plan's lines, each unless there is one with its number.
pub fn add(root: BorrowedFd, plan: &Plan) -> Result<(), Fault> {
    for (file, lines) in [("/etc/passwd", &plan.passwd), ("/etc/group", &plan.group)] {
        // What is mounted there is somebody's, and not to be written to.
        let is_mounted = || plan.mounts.iter().any(|mount| Path::new(file).starts_with(&mount.target));
        if !lines.is_empty() && !is_mounted() {
            append(root, file, lines).at(Step::WriteAccounts, file)?;
        }
    }
    Ok(())
}

fn append(root: BorrowedFd, path: &str, lines: &[String]) -> std::io::Result<()> {
    let flags = OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = match rooted::open(root, Path::new(path), flags) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        opened => opened?,
    };
    if !rooted::is(&file, SFlag::S_IFREG)? {
        return Err(Errno::EINVAL.into());
    }
    let mut file = File::from(file);
    let mut bytes = Vec::new();
    (&file).take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(Errno::EFBIG.into());
    }
    let text = missing(&String::from_utf8_lossy(&bytes), lines);
    if text.is_empty() { Ok(()) } else { file.write_all(text.as_bytes()) }
}

/// What is to be written behind `present`: the lines whose number, the third field, no line there has.
fn missing(present: &str, lines: &[String]) -> String {
    let number = |line: &str| line.split(':').nth(2).map(str::to_owned);
    let mut text = String::new();
    for line in lines {
        if present.lines().chain(text.lines()).all(|other| number(other) != number(line)) {
            if text.is_empty() && !present.is_empty() && !present.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_added_once() {
        let lines = ["me:*:1000:1000::/:/bin/sh".to_owned(), "you:*:7:7::/:/bin/sh".to_owned()];
        let added = missing("root:x:0:0::/:", &lines);
        assert_eq!(added, "\nme:*:1000:1000::/:/bin/sh\nyou:*:7:7::/:/bin/sh\n");
        assert_eq!(missing("a:x:7:7::/:\n", &lines), "me:*:1000:1000::/:/bin/sh\n");
        assert_eq!(missing(&added, &lines), "");
        assert_eq!(missing("", &lines[..1]), "me:*:1000:1000::/:/bin/sh\n");
    }
}
