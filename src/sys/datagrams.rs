//! Datagrams with what the kernel knows of them beside their bytes: many received by one call, many
//! sent as one, addresses of both ends, and errors that came back. recvmmsg(2), sendmsg(2), cmsg(3),
//! udp(7), ip(7), ipv6(7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// Datagrams that are received at once.
pub const BATCH: usize = 32;

/// Room for each: no datagram is longer, and no row of datagrams that came as one.
const ROOM: usize = 1 << 16;

/// Room for the largest set of control messages that is asked for: error and offender.
const CONTROL: usize = 128;

/// Bytes of `struct cmsghdr`: a length as long as a pointer, level, type.
const CONTROL_HEAD: usize = size_of::<libc::cmsghdr>();

/// A socket address as the kernel reads and writes it.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(8))]
struct Address([u8; 28]);

impl Address {
    fn new(address: &SocketAddr) -> (Self, usize) {
        let mut bytes = [0; 28];
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        let (family, length) = match address {
            SocketAddr::V4(v4) => {
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                (libc::AF_INET, 16)
            }
            SocketAddr::V6(v6) => {
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                (libc::AF_INET6, 28)
            }
        };
        bytes[..2].copy_from_slice(&u16::try_from(family).unwrap_or_default().to_ne_bytes());
        (Self(bytes), length)
    }

    fn get(&self) -> Option<SocketAddr> {
        socket_address(&self.0)
    }
}

/// From the bytes of a `struct sockaddr_in` or `sockaddr_in6`.
fn socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    match family {
        libc::AF_INET => {
            let address: [u8; 4] = *bytes.get(4..)?.first_chunk()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(address), port).into())
        }
        libc::AF_INET6 => {
            let address: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
            let scope = u32::from_ne_bytes(*bytes.get(24..)?.first_chunk()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(address), port, 0, scope).into())
        }
        _ => None,
    }
}

/// Control messages, aligned as the kernel wants them.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

impl Control {
    const EMPTY: Self = Self([0; CONTROL]);

    /// Appends a message at `at` and returns where the next one begins.
    fn put(&mut self, at: usize, level: i32, kind: i32, data: &[u8]) -> usize {
        let end = at + CONTROL_HEAD + data.len();
        self.0[at..at + size_of::<usize>()].copy_from_slice(&(end - at).to_ne_bytes());
        self.0[at + CONTROL_HEAD - 8..at + CONTROL_HEAD - 4].copy_from_slice(&level.to_ne_bytes());
        self.0[at + CONTROL_HEAD - 4..at + CONTROL_HEAD].copy_from_slice(&kind.to_ne_bytes());
        self.0[at + CONTROL_HEAD..end].copy_from_slice(data);
        end.next_multiple_of(size_of::<usize>())
    }

    /// Level, type and data of each message in the first `length` bytes.
    fn each(&self, length: usize) -> impl Iterator<Item = (i32, i32, &[u8])> {
        let mut rest = &self.0[..length.min(CONTROL)];
        std::iter::from_fn(move || {
            let length = usize::from_ne_bytes(*rest.first_chunk()?);
            let data = rest.get(CONTROL_HEAD..length)?;
            let int = |at: usize| rest.get(at..)?.first_chunk().map(|four| i32::from_ne_bytes(*four));
            let (level, kind) = (int(CONTROL_HEAD - 8)?, int(CONTROL_HEAD - 4)?);
            rest = rest.get(length.next_multiple_of(size_of::<usize>())..).unwrap_or_default();
            Some((level, kind, data))
        })
    }
}

/// A datagram that was received.
#[derive(Debug)]
pub struct Arrival<'b> {
    pub from: SocketAddr,
    /// The address it was sent to, with `IP_PKTINFO` or `IPV6_RECVPKTINFO`.
    pub local: Option<IpAddr>,
    /// With `UDP_GRO`: `bytes` are several datagrams of this length each, the last may be shorter. 0:
    /// they are one.
    pub segment: usize,
    /// Type of service or traffic class, with `IP_RECVTOS` or `IPV6_RECVTCLASS`.
    pub class: u8,
    pub bytes: &'b [u8],
}

/// Room to receive up to [`BATCH`] datagrams, of which only what was once used is memory.
pub struct Batch {
    bytes: Vec<u8>,
    addresses: [Address; BATCH],
    controls: [Control; BATCH],
    /// Of each: bytes received, bytes of its control messages.
    lengths: [(usize, usize); BATCH],
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            // Zeroed memory comes from the kernel page by page as it is touched.
            bytes: vec![0; BATCH * ROOM],
            addresses: [Address::default(); BATCH],
            controls: [Control::EMPTY; BATCH],
            lengths: [(0, 0); BATCH],
        }
    }
}

impl Batch {
    /// Receives what is there, without waiting, and returns how many datagrams that is.
    ///
    /// # Errors
    /// As recvmmsg(2): `EAGAIN`: none; an error that came back for something sent earlier.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> nix::Result<usize> {
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
        // SAFETY: all zero is a valid `mmsghdr`: null pointers with lengths of 0.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        for (index, room) in self.bytes.chunks_exact_mut(ROOM).enumerate() {
            vectors[index] = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
            let header = &mut headers[index].msg_hdr;
            header.msg_name = self.addresses[index].0.as_mut_ptr().cast();
            header.msg_namelen = 28;
            header.msg_iov = &raw mut vectors[index];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[index].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL as _;
        }
        let count = libc::c_uint::try_from(BATCH).unwrap_or_default();
        // SAFETY: `headers` has `count` entries, whose pointers are to memory of `self` and of this
        // frame that lives on, with its lengths; nobody else uses it meanwhile.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(Errno::result(count)?).unwrap_or_default();
        for (length, header) in self.lengths.iter_mut().zip(&headers).take(count) {
            *length = ((header.msg_len as usize).min(ROOM), header.msg_hdr.msg_controllen);
        }
        Ok(count)
    }

    /// The datagram `index` of those received last; `None`: not from an address of IP.
    pub fn get(&self, index: usize) -> Option<Arrival<'_>> {
        let (length, control) = *self.lengths.get(index)?;
        let bytes = self.bytes.get(index * ROOM..index * ROOM + length)?;
        let mut arrival = Arrival { from: self.addresses[index].get()?, local: None, segment: 0, class: 0, bytes };
        for (level, kind, data) in self.controls[index].each(control) {
            match (level, kind) {
                // `struct in_pktinfo`: interface, the local address, the destination in the header, which
                // may be a broadcast address.
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    arrival.local = data.get(4..).and_then(|d| d.first_chunk::<4>()).map(|four| IpAddr::from(*four));
                }
                // `struct in6_pktinfo`: address, interface.
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    arrival.local = data.first_chunk::<16>().map(|octets| IpAddr::from(*octets));
                }
                (libc::IPPROTO_IP, libc::IP_TOS) => arrival.class = data.first().copied().unwrap_or_default(),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    let class = data.first_chunk().map(|four| i32::from_ne_bytes(*four)).unwrap_or_default();
                    arrival.class = u8::try_from(class).unwrap_or_default();
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let segment = data.first_chunk().map(|four| i32::from_ne_bytes(*four)).unwrap_or_default();
                    arrival.segment = usize::try_from(segment).unwrap_or_default();
                }
                _ => {}
            }
        }
        Some(arrival)
    }
}

/// Sends `bytes` without waiting. `to`: `None` where the socket is connected; `from`: the local
/// address, `None`: the kernel chooses; `segment`: cut into datagrams of this length, 0: one.
///
/// # Errors
/// As sendmsg(2), and an error that came back for something sent earlier. With a segment: `EINVAL`,
/// `EIO`, `EMSGSIZE` where the kernel cannot cut these.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    to: Option<&SocketAddr>,
    from: Option<IpAddr>,
    segment: usize,
) -> nix::Result<()> {
    let mut control = Control::EMPTY;
    let mut used = 0;
    match from {
        Some(IpAddr::V4(v4)) => {
            let mut info = [0; 12];
            info[4..8].copy_from_slice(&v4.octets());
            used = control.put(used, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
        }
        Some(IpAddr::V6(v6)) => {
            let mut info = [0; 20];
            info[..16].copy_from_slice(&v6.octets());
            used = control.put(used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
        }
        None => {}
    }
    if let Ok(segment @ 1..) = u16::try_from(segment) {
        used = control.put(used, libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
    }
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut name = to.map(Address::new);
    // SAFETY: all zero is a valid `msghdr`: null pointers with lengths of 0.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    if let Some((address, length)) = &mut name {
        header.msg_name = address.0.as_mut_ptr().cast();
        header.msg_namelen = libc::socklen_t::try_from(*length).unwrap_or_default();
    }
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    if used > 0 {
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = used as _;
    }
    // SAFETY: the pointers in `header` are to memory of this frame and to `bytes`, with its lengths, and
    // sendmsg(2) writes to none of them.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    Errno::result(sent).map(drop)
}

/// An error that came back for something sent: `struct sock_extended_err`, ip(7) under `IP_RECVERR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    pub errno: Errno,
    /// `SO_EE_ORIGIN_LOCAL`, `…_ICMP`, `…_ICMP6`.
    pub origin: u8,
    /// Of the ICMP message.
    pub kind: u8,
    pub code: u8,
    /// The MTU where something was too long.
    pub info: u32,
    /// Who said so.
    pub offender: Option<IpAddr>,
    /// Where it had been sent to.
    pub destination: Option<SocketAddr>,
    /// Bytes of it that came back, in the caller's buffer.
    pub length: usize,
}

/// Takes the oldest error from a socket with `IP_RECVERR` or `IPV6_RECVERR`, and the beginning of what
/// it is about into `buffer`.
///
/// # Errors
/// As recvmsg(2): `EAGAIN`: none.
pub fn trouble(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<Trouble> {
    let mut control = Control::EMPTY;
    let mut address = Address::default();
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zero is a valid `msghdr`: null pointers with lengths of 0.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = address.0.as_mut_ptr().cast();
    header.msg_namelen = 28;
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL as _;
    // SAFETY: the pointers in `header` are to memory of this frame and to `buffer`, with its lengths.
    let received =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
    let length = usize::try_from(Errno::result(received)?).unwrap_or_default().min(buffer.len());
    let mut trouble = Trouble {
        errno: Errno::UnknownErrno,
        origin: 0,
        kind: 0,
        code: 0,
        info: 0,
        offender: None,
        destination: address.get(),
        length,
    };
    for (level, kind, data) in control.each(header.msg_controllen) {
        let wanted =
            matches!((level, kind), (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR));
        if let (true, Some(error)) = (wanted, data.first_chunk::<16>()) {
            let [e0, e1, e2, e3, origin, kind, code, _, i0, i1, i2, i3, ..] = *error;
            trouble.errno = Errno::from_raw(i32::from_ne_bytes([e0, e1, e2, e3]));
            (trouble.origin, trouble.kind, trouble.code) = (origin, kind, code);
            trouble.info = u32::from_ne_bytes([i0, i1, i2, i3]);
            trouble.offender = data.get(16..).and_then(socket_address).map(|address| address.ip());
        }
    }
    Ok(trouble)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::sockets::set_int;

    #[test]
    fn a_row_is_sent_as_one_and_arrives_with_both_addresses() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let receiver = UdpSocket::bind(host).unwrap();
            let sender = UdpSocket::bind(host).unwrap();
            let to = receiver.local_addr().unwrap();
            set_int(receiver.as_fd(), libc::IPPROTO_IP, libc::IP_PKTINFO, 1).unwrap();
            if to.is_ipv6() {
                set_int(receiver.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1).unwrap();
            }
            set_int(receiver.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1).unwrap();
            send(sender.as_fd(), &[7; 250], Some(&to), Some(to.ip()), 100).unwrap();
            send(sender.as_fd(), &[], Some(&to), None, 0).unwrap();
            let mut batch = Batch::default();
            assert_eq!(batch.receive(receiver.as_fd()), Ok(2));
            let first = batch.get(0).unwrap();
            assert_eq!((first.from, first.local), (sender.local_addr().unwrap(), Some(to.ip())));
            assert_eq!((first.segment, first.bytes.len()), (100, 250));
            let second = batch.get(1).unwrap();
            assert_eq!((second.segment, second.bytes.len()), (0, 0));
            assert_eq!(batch.receive(receiver.as_fd()), Err(Errno::EAGAIN));
        }
    }

    #[test]
    fn a_closed_port_comes_back_as_trouble() {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        set_int(sender.as_fd(), libc::IPPROTO_IP, libc::IP_RECVERR, 1).unwrap();
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        send(sender.as_fd(), b"anyone?", Some(&closed), None, 0).unwrap();
        let mut buffer = [0; 64];
        let trouble = trouble(sender.as_fd(), &mut buffer).unwrap();
        assert_eq!((trouble.errno, trouble.kind, trouble.code), (Errno::ECONNREFUSED, 3, 3));
        assert_eq!((trouble.destination, trouble.offender), (Some(closed), Some(closed.ip())));
        assert_eq!(&buffer[..trouble.length], b"anyone?");
    }
}
