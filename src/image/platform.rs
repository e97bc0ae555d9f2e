//! Platforms: what an image's programs run on, and which manifest of an index is for this machine.

use std::fmt;
use std::str::FromStr;

use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::image::index::Descriptor;

/// What a manifest's programs run on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Architectures that may stand alone, in the normal form: those of Go, by containerd's `platforms`.
const ARCHITECTURES: [&str; 24] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "ppc64",
    "ppc64le",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

impl Platform {
    /// What an image's configuration says that it is for.
    #[must_use]
    pub fn of(config: &ImageConfiguration) -> Self {
        Self {
            architecture: config.architecture().to_string(),
            os: config.os().to_string(),
            variant: config.variant().clone(),
        }
    }

    /// Docker's refusal of an image that is not for `wanted`. A configuration without a variant is
    /// for any: many tools write the variant into the index alone.
    ///
    /// # Errors
    /// `self`, the image's platform, is another.
    pub fn check(&self, wanted: &Self, name: &str) -> Result<(), Failure> {
        let loose = Self { variant: wanted.variant.clone(), ..self.clone() };
        if (if self.variant.is_some() { self } else { &loose }).satisfies(wanted) {
            return Ok(());
        }
        Err(Failure::new(format!(
            "image with reference {name} was found but does not match the specified platform: wanted {wanted}, actual: {}",
            self.normal()
        )))
    }

    /// This machine's.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = normal(std::env::consts::ARCH, None);
        Self { architecture, os: "linux".to_owned(), variant }
    }

    /// Whether a program for `self` is one for `wanted`, compared in the normal form.
    #[must_use]
    pub fn satisfies(&self, wanted: &Self) -> bool {
        let (have, want) = (self.normal(), wanted.normal());
        have.os == want.os
            && have.architecture == want.architecture
            && (want.variant.is_none() || have.variant.is_none() || have.rank() <= want.rank())
    }

    fn normal(&self) -> Self {
        let (architecture, variant) = normal(&self.architecture, self.variant.as_deref());
        Self { architecture, os: self.os.to_lowercase(), variant }
    }

    /// The variant's number: `v8` runs what is for `v7`, and not the other way.
    fn rank(&self) -> u32 {
        self.variant.as_deref().and_then(|v| v.trim_start_matches('v').parse().ok()).unwrap_or(0)
    }
}

/// Names as Go has them, by containerd's `platforms` package; what is usual has no variant.
fn normal(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let variant = variant.filter(|v| !v.is_empty()).map(str::to_lowercase);
    let (architecture, variant) = match architecture.to_lowercase().as_str() {
        "x86_64" | "x86-64" | "amd64" => ("amd64".into(), variant.filter(|v| v != "v1")),
        "aarch64" | "arm64" => ("arm64".into(), variant.filter(|v| v != "8" && v != "v8")),
        "i386" | "i486" | "i586" | "i686" | "x86" | "386" => ("386".into(), None),
        "armhf" => ("arm".into(), Some("v7".into())),
        "armel" => ("arm".into(), Some("v6".into())),
        "arm" => ("arm".into(), Some(variant.map_or("v7".into(), |v| format!("v{}", v.trim_start_matches('v'))))),
        "powerpc64le" => ("ppc64le".into(), variant),
        other => (other.to_owned(), variant),
    };
    (architecture, variant)
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = Failure;

    /// `os/arch[/variant]`, or an operating system or an architecture alone, as `--platform` takes.
    fn from_str(text: &str) -> Result<Self, Failure> {
        let parts: Vec<&str> = text.split('/').collect();
        let ok =
            |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        if !parts.iter().all(ok) {
            return Err(Failure::new(format!("invalid platform {text:?}")).hint("write os/arch or os/arch/variant"));
        }
        let host = Self::host();
        let own = |s: &str| s.to_owned();
        let platform = match parts.as_slice() {
            ["linux"] => host,
            [os @ ("windows" | "darwin" | "freebsd")] => Self { os: own(os), ..host },
            [architecture] if ARCHITECTURES.contains(&&*normal(architecture, None).0) => {
                Self { os: host.os, architecture: own(architecture), variant: None }
            }
            [_] => {
                return Err(Failure::new(format!(
                    "{text:?}: unknown operating system or architecture: invalid argument"
                ))
                .hint("write os/arch or os/arch/variant"));
            }
            [os, architecture] => Self { os: own(os), architecture: own(architecture), variant: None },
            [os, architecture, variant] => {
                Self { os: own(os), architecture: own(architecture), variant: Some(own(variant)) }
            }
            _ => {
                return Err(Failure::new(format!("invalid platform {text:?}")).hint("write os/arch or os/arch/variant"));
            }
        };
        Ok(platform.normal())
    }
}

/// The manifest of an index that is for `wanted`: the best variant that it can run, the first one
/// where several are as good.
///
/// # Errors
/// None is; the message names those that are there.
pub fn choose<'a>(index: &'a [Descriptor], wanted: &Platform) -> Result<&'a Descriptor, Failure> {
    let mut best: Option<(&Descriptor, u32)> = None;
    for entry in index {
        // An entry without a platform is for any: a tool that did not care wrote it.
        let platform = entry.platform.clone().unwrap_or_else(|| wanted.clone());
        let rank = platform.normal().rank();
        if platform.satisfies(wanted) && best.is_none_or(|(_, old)| rank > old) {
            best = Some((entry, rank));
        }
    }
    best.map(|(entry, _)| entry).ok_or_else(|| {
        let there: Vec<String> = index
            .iter()
            .filter_map(|entry| entry.platform.as_ref())
            // BuildKit's attestations stand in the index as manifests of this platform.
            .filter(|platform| platform.os != "unknown")
            .map(ToString::to_string)
            .collect();
        Failure::new(format!("no matching manifest for {wanted} in the manifest list entries"))
            .hint(format!("it is there for {}", there.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::Digest;

    fn entry(platform: &str) -> Descriptor {
        let mut parts = platform.split('/').map(str::to_owned);
        let (os, architecture) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        Descriptor {
            media_type: String::new(),
            digest: Digest::of(platform.as_bytes()),
            size: 1,
            platform: Some(Platform { architecture, os, variant: parts.next() }),
            annotations: None,
        }
    }

    fn chosen(index: &[&str], wanted: &str) -> Option<usize> {
        let index: Vec<_> = index.iter().map(|p| entry(p)).collect();
        let best = choose(&index, &wanted.parse().expect(wanted)).ok()?;
        index.iter().position(|e| e.digest == best.digest)
    }

    #[test]
    fn the_best_variant_is_chosen() {
        let index =
            ["linux/amd64", "linux/arm/v5", "linux/arm/v7", "linux/arm64/v8", "unknown/unknown", "windows/amd64"];
        assert_eq!(chosen(&index, "linux/amd64"), Some(0));
        assert_eq!(chosen(&index, "linux/x86_64"), Some(0));
        assert_eq!(chosen(&index, "linux/arm"), Some(2));
        assert_eq!(chosen(&index, "linux/arm/v6"), Some(1));
        assert_eq!(chosen(&index, "linux/arm64"), Some(3));
        assert_eq!(chosen(&index, "aarch64"), Some(3));
        assert_eq!(chosen(&index, "windows/amd64"), Some(5));
        assert_eq!(chosen(&index, "linux/s390x"), None);
        assert_eq!(chosen(&["linux/amd64/v3", "linux/amd64"], "linux/amd64/v2"), Some(1));
    }

    #[test]
    fn an_image_that_says_no_variant_is_for_any() {
        let has = |variant: Option<&str>| Platform {
            architecture: "arm".to_owned(),
            os: "linux".to_owned(),
            variant: variant.map(str::to_owned),
        };
        let wanted = "linux/arm/v6".parse().expect("platform");
        assert!(has(None).check(&wanted, "x").is_ok());
        assert!(has(Some("v5")).check(&wanted, "x").is_ok());
        assert!(has(Some("v7")).check(&wanted, "x").is_err());
    }

    #[test]
    fn bad_platforms_are_refused() {
        for bad in ["", "/", "linux/", "a/b/c/d", "linux/am d64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
        let error = "foo".parse::<Platform>().expect_err("unknown").to_string();
        assert_eq!(error, "\"foo\": unknown operating system or architecture: invalid argument");
        assert_eq!("linux/arm64/v8".parse::<Platform>().expect("ok").to_string(), "linux/arm64");
    }
}
