//! Hardware addresses.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An Ethernet address; in records and on screen `02:42:ac:11:00:02`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Docker's for an address: two bytes that say "given locally", then the address. Neighbours'
    /// caches stay right when a container comes back with the address of one that left.
    #[must_use]
    pub fn of(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }

    /// One for an interface without an IPv4 address.
    ///
    /// # Errors
    /// As `getrandom(2)`.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0x02, 0x42, 0, 0, 0, 0];
        crate::sys::random(&mut bytes[2..])?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if n > 0 { ":" } else { "" })?;
        }
        Ok(())
    }
}

/// Not a hardware address that an interface can have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a valid mac address")]
pub struct NotAMac(String);

impl FromStr for Mac {
    type Err = NotAMac;

    /// Six pairs of digits with colons or hyphens between, as Go's `net.ParseMAC` takes them; no
    /// group's address and not zero, which the kernel refuses.
    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let wrong = || NotAMac(text.to_owned());
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut pairs = text.split(separator);
        for byte in &mut bytes {
            let pair = pairs.next().filter(|pair| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(wrong)?;
        }
        if pairs.next().is_some() || bytes[0] & 1 != 0 || bytes == [0; 6] {
            return Err(wrong());
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Mac {
    type Error = NotAMac;
    fn try_from(text: String) -> Result<Self, NotAMac> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_read_and_written() {
        assert_eq!(Mac::of(Ipv4Addr::new(172, 17, 0, 2)).to_string(), "02:42:ac:11:00:02");
        assert_eq!("92-D0-c6-0A-29-33".parse::<Mac>().unwrap().to_string(), "92:d0:c6:0a:29:33");
        for wrong in ["", "92:d0", "92:d0:c6:0a:29:33:44", "9:d0:c6:0a:29:33", "+2:d0:c6:0a:29:33", "01:00:5e:00:00:01"]
        {
            assert_eq!(wrong.parse::<Mac>(), Err(NotAMac(wrong.into())));
        }
    }
}
