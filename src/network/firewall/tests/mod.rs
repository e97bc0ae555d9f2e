//! The rules, loaded into network namespaces of their own and met by real packets.

mod bed;
mod dns;
mod drops;
mod foreign;
mod isolation;
mod lab;
mod listing;
mod published;
mod spoofing;
mod uplink;
