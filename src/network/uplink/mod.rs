//! What leads from the containers of an ordinary user to the outside, and back.
//!
//! The interface of `datagram` with the loop (all in the thread that is in the host's network
//! namespace; `poll` is that thread's, and events of [`epoll::Kind::Datagram`] come to `ready`; index
//! and generation of the token are datagram's own):
//!
//! ```text
//! Datagrams::new(tun: OwnedFd /* a duplicate; non-blocking */, poll: Rc<Poll>, inside: Rc<Inside>) -> Self
//! packet(&mut self, policy: &Policy, header: vnet::Header, packet: &mut [u8])   anything but TCP
//! ready(&mut self, policy: &Policy, token: Token, events: EpollFlags)
//! deadline(&self) -> Option<Instant>;  expire(&mut self, now: Instant)
//! publish(&mut self, owner: Owner, published: Published, socket: OwnedFd, target: SocketAddr, keep_source: bool)
//! unpublish(&mut self, owner: Owner, published: &Published)
//! forget(&mut self, owner: Owner)      its container is gone: flows and published ports end
//! unreachable(&mut self, packet: &[u8], code)  is TCP's too: `icmp::{unreachable}` in icmp.rs of this folder
//! ```

pub mod epoll;
pub mod inside;
pub mod policy;
pub mod vnet;
