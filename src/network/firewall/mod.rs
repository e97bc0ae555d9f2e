//! Rules of ctr's own, in tables of ctr's own.

pub mod dns;
pub mod uplink;

pub use dns::dns_redirect;
pub use uplink::{MARK, uplink_rules};

#[cfg(test)]
mod tests;
