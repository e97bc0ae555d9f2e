//! Container ids.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// 64 lower-case hexadecimal digits, random, as Docker's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Id(String);

impl Id {
    /// Digits that tables show.
    pub const SHORT: usize = 12;

    /// A new one, from the kernel's random numbers.
    ///
    /// # Errors
    /// The kernel has none yet (`getrandom(2)` was interrupted).
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0u8; 32];
        crate::sys::random(&mut bytes)?;
        // Docker refuses ids whose short form is all digits: they are taken for process ids.
        let mut hex = String::with_capacity(64);
        for byte in bytes {
            use fmt::Write;
            write!(hex, "{byte:02x}").map_err(std::io::Error::other)?;
        }
        if hex[..Self::SHORT].bytes().all(|b| b.is_ascii_digit()) {
            return Self::random();
        }
        Ok(Self(hex))
    }

    /// All 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..Self::SHORT]
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Not an id.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an id of 64 hexadecimal digits")]
pub struct NotAnId(String);

impl FromStr for Id {
    type Err = NotAnId;
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAnId(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Id {
    type Error = NotAnId;
    fn try_from(text: String) -> Result<Self, NotAnId> {
        text.parse()
    }
}
