//! `ctr manifest`: names that lead to an image for each of several platforms. Docker's commands with
//! its words, and podman's further ones.

mod annotate;
mod create;
mod inspect;
mod push;
mod rm;

pub use self::annotate::{Add, Annotate, Remove};
pub use self::create::Create;
pub use self::inspect::Inspect;
pub use self::push::Push;
pub use self::rm::{Exists, Rm};

use crate::image::manifests::Notes;

/// What is said of an image beside its configuration.
#[derive(Debug, Default, clap::Args)]
struct Said {
    /// Set an annotation for the image
    #[arg(long, value_name = "name=value", value_parser = pair)]
    annotation: Vec<(String, String)>,
    /// Set architecture
    #[arg(long, value_name = "name")]
    arch: Option<String>,
    /// Set features that the processor has to have
    #[arg(long, value_name = "list", value_delimiter = ',')]
    features: Vec<String>,
    /// Set operating system
    #[arg(long, value_name = "name")]
    os: Option<String>,
    /// Set operating system feature
    #[arg(long, value_name = "list", value_delimiter = ',')]
    os_features: Vec<String>,
    /// Set operating system version
    #[arg(long, value_name = "text")]
    os_version: Option<String>,
    /// Set architecture variant
    #[arg(long, value_name = "name")]
    variant: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("no value: write key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl From<Said> for Notes {
    fn from(said: Said) -> Self {
        Self {
            architecture: said.arch,
            os: said.os,
            variant: said.variant,
            os_version: said.os_version,
            os_features: said.os_features,
            features: said.features,
            annotations: said.annotation,
        }
    }
}

/// Docker's flag for registries without TLS, of one command; here it is said once, for all.
fn warn_insecure(given: bool) {
    if given {
        crate::error::warn(
            "--insecure says nothing: a registry without TLS is named in registries.conf (insecure = true)",
        );
    }
}
