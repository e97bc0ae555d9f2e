//! The rules, loaded into network namespaces of their own and met by real packets.

mod bed;
mod dns;
mod uplink;
