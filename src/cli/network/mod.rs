//! `ctr network …`: a file for each command.

mod connect;
mod create;
mod doctor;
mod filter;
mod inspect;
mod ls;
mod prune;
mod rm;

pub use connect::{Connect, Disconnect};
pub use create::Create;
pub use doctor::Doctor;
pub use filter::Filters;
pub use inspect::{Inspect, one};
pub use ls::Ls;
pub use prune::{Prune, networks as prune_networks};
pub use rm::Rm;
