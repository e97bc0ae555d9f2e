//! What leads from the containers of an ordinary user to the outside, and from published ports to
//! them: one process beside all of a user's containers, `ctr-uplink`, started by the first monitor
//! that needs it ([`connect`]) and gone with the last. Containers are behind real bridges in a
//! network namespace of the user's own; **that namespace's kernel terminates their connections**, and
//! the uplink joins each to an ordinary socket of the host's. It has no TCP of its own.
//!
//! The way of a connection that a container makes:
//!
//! ```text
//! container ── bridge ── default route ── tun0        1. its SYN is read from the TUN and kept
//!                                          │
//!                         connect(2) ──────┘          2. a host socket connects to the destination
//!                                          │
//! listener ◂── rules ◂── the same SYN ── tun0         3. only then it is written back: the rules
//!    │                                                   (`firewall::uplink_rules`) hand it to a
//!    └─ accept(2): flow of two sockets                   transparent listener
//! ```
//!
//! A refusal or a missing route is answered with a reset or the fitting ICMP, a destination that says
//! nothing with nothing, so a container sees the truth about a connection. The flow's later packets
//! match `socket transparent` and never reach the TUN. A published port is the other way round: the
//! host's listener, bound and held by a monitor, accepts, and a socket inside connects to the
//! container, with the client's own address where that can be. Datagrams and ICMP have no end to
//! terminate and are answered packet by packet: [`datagram`].
//!
//! | file | what |
//! | --- | --- |
//! | `start` | a monitor's side: joins or starts the uplink, registers, publishes |
//! | `protocol` | what monitors ask it |
//! | `run` | the process: its loop, its clients, its end |
//! | `fence` | root's bridges on the host, which nobody is led to |
//! | `policy` | who may use it, and what a destination is on the host |
//! | `tun` | the TUN, routes, settings and listeners inside |
//! | `tcp`, `packet` | connections that containers make |
//! | `ports` | published TCP ports: threads that are inside |
//! | `flow` | two sockets joined |
//! | `flows` | all of a thread's, and whose turn it is |
//! | `datagram` | UDP, ICMP, published UDP ports |
//!
//! Root needs none of this, except for published ports that the kernel's translation cannot serve
//! (`[::1]`, clients of IPv6 for containers without it): with [`Space::Here`] there is no TUN, and
//! ports are relayed by plain sockets.
//!
//! Promises: nothing of the host's loopback is reached but by a container that asked for it; root's
//! containers are reached by the ports that root published, not by their own addresses; only
//! addresses that a monitor registered are served; a monitor that dies takes its registration with
//! it, and what its container had sent still arrives; when the uplink is killed, its flows end, its
//! TUN and routes vanish, and monitors, which see the hang-up, start another. It needs nft_tproxy and
//! nft_socket in the kernel (since 5.0, `CONFIG_NFT_TPROXY`, `CONFIG_NFT_SOCKET`), and says so where
//! they are missing.
//!
//! [`Space::Here`]: crate::network::space::Space::Here

pub mod datagram;
pub mod epoll;
mod fence;
mod flow;
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
