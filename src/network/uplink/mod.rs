//! What leads from the containers of an ordinary user to the outside, and back.

pub mod datagram;
pub mod epoll;
mod flows;
pub mod inside;
mod log;
mod packet;
pub mod policy;
mod ports;
mod protocol;
mod run;
mod start;
mod tcp;
mod tun;
pub mod vnet;

pub use policy::Registration;
pub use protocol::Target;
pub use run::{NAME, run};
pub use start::{Listener, Uplink, connect};
