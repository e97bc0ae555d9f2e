//! `--tz`: the container's /etc/localtime.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

use crate::container::config::ContainerConfig;
use crate::container::image_files;
use crate::error::{Failure, exit};
use crate::store::Store;

/// Where every system has them: tzfile(5).
const ZONES: &str = "/usr/share/zoneinfo";

/// Larger than any: the longest of 2025 has 4 KB.
const LONGEST: u64 = 1 << 20;

/// `local`, or something that can be the name of a zone.
///
/// # Errors
/// Neither.
pub fn check(zone: &str) -> Result<()> {
    let is_plain = Path::new(zone).components().all(|part| matches!(part, Component::Normal(_)));
    if is_plain && !zone.ends_with('/') && !zone.contains('\0') { Ok(()) } else { Err(unknown(zone)) }
}

/// The zone's rules, a file that tzfile(5) describes: the host's, or the image's where the host has
/// none of this name.
///
/// # Errors
/// Neither knows the zone.
pub fn rules(store: &Store, container: &ContainerConfig, zone: &str) -> Result<Vec<u8>> {
    let host = if zone == "local" { PathBuf::from("/etc/localtime") } else { Path::new(ZONES).join(zone) };
    let found = match File::open(&host) {
        Ok(file) => read(file),
        // A host without one keeps universal time: localtime(5).
        Err(_) if zone == "local" => return Ok(UTC.to_vec()),
        Err(_) => None,
    };
    let of_image = || {
        let path = Path::new(ZONES).join(zone);
        image_files::read(store, container.root.directories(), &path, LONGEST)
    };
    let rules = found.or_else(of_image).filter(|bytes| bytes.starts_with(b"TZif"));
    rules.ok_or_else(|| unknown(zone)).with_context(|| format!("--tz {zone}"))
}

fn read(file: File) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn unknown(zone: &str) -> anyhow::Error {
    Failure::new(format!("unknown time zone {zone}"))
        .hint("neither the host nor the image has it in /usr/share/zoneinfo; on Debian the package is tzdata")
        .exit(exit::ENGINE)
        .into()
}

/// Universal time, with no more than what the format wants (RFC 8536): version 2, one local time type.
const UTC: &[u8] = b"TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x04\
    \0\0\0\0\0\0UTC\0\
    TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x04\
    \0\0\0\0\0\0UTC\0\nUTC0\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_a_name_below_the_folder() {
        for good in ["local", "UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"] {
            check(good).unwrap();
        }
        for wrong in ["../../etc/shadow", "/etc/passwd", "Europe/", "a/../b"] {
            assert_eq!(check(wrong).unwrap_err().to_string(), format!("unknown time zone {wrong}"));
        }
    }

    #[test]
    fn universal_time_has_the_length_of_its_counts() {
        let header = 44;
        let body = 6 + 4;
        assert_eq!(UTC.len(), 2 * (header + body) + "\nUTC0\n".len());
    }
}
