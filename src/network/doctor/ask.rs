//! Questions to others: does a name server answer, does a port, who listens where.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::network::Protocol;

/// A socket's state in tables of `/proc/net`.
const TCP_LISTEN: &str = "0A";

/// What a question may take.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// How a connection was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Connected,
    /// Nobody listens there, but somebody is there to say so.
    Refused,
    /// Nothing came back.
    Silence,
    /// No way leads there.
    NoRoute,
}

impl Answer {
    /// Whether packets went there and back.
    pub fn is_answer(self) -> bool {
        matches!(self, Self::Connected | Self::Refused)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "answers",
            Self::Refused => "refuses the connection",
            Self::Silence => "does not answer",
            Self::NoRoute => "cannot be reached",
        }
    }
}

/// Opens a connection and closes it at once.
pub fn connect(address: SocketAddr) -> Answer {
    match TcpStream::connect_timeout(&address, PATIENCE) {
        Ok(_) => Answer::Connected,
        Err(e) => match e.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Answer::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Answer::Silence,
            _ => Answer::NoRoute,
        },
    }
}

/// Which of the servers answer a question for the name, all asked at once: the code of each answer
/// (RFC 1035, 4.1.1), or `None`.
pub fn servers(servers: &[SocketAddr], name: &str) -> Vec<Option<u8>> {
    let asked: Vec<_> = servers.iter().map(|server| ask(*server, name).ok()).collect();
    let end = Instant::now() + PATIENCE;
    asked.iter().map(|socket| answer(socket.as_ref()?, end).ok()).collect()
}

fn ask(server: SocketAddr, name: &str) -> io::Result<UdpSocket> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    // So that a refusal comes back.
    socket.connect(server)?;
    socket.send(&question(name))?;
    Ok(socket)
}

fn answer(socket: &UdpSocket, end: Instant) -> io::Result<u8> {
    let mut packet = [0; 512];
    loop {
        let rest = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        socket.set_read_timeout(Some(rest))?;
        let length = socket.recv(&mut packet)?;
        let [a, b, flags, code, ..] = packet;
        if length >= 12 && [a, b] == NUMBER && flags & 0x80 != 0 {
            return Ok(code & 0x0f);
        }
    }
}

/// A socket has one question: their numbers may be alike.
const NUMBER: [u8; 2] = [0x63, 0x74];

/// A question for the addresses of `name`, to be answered by asking others: RFC 1035, 4.1.
fn question(name: &str) -> Vec<u8> {
    let mut packet = NUMBER.to_vec();
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let length = label.len().min(63);
        packet.extend(u8::try_from(length));
        packet.extend(&label.as_bytes()[..length]);
    }
    packet.extend([0, 0, 1, 0, 1]);
    packet
}

/// The addresses at which sockets of this network namespace listen on the port.
pub fn listeners(port: u16, protocol: Protocol) -> Vec<IpAddr> {
    let names: &[&str] = match protocol {
        Protocol::Tcp => &["tcp", "tcp6"],
        Protocol::Udp => &["udp", "udp6"],
        Protocol::Sctp => &["sctp/eps"],
    };
    // `self` would be the first thread's namespace.
    let read = |name: &&str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
    names.iter().map(read).flat_map(|table| listening(&table, port, protocol)).collect()
}

/// The TCP ports that somebody in this network namespace listens on.
pub fn listening_ports() -> Vec<u16> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
    let mut ports: Vec<u16> = ["tcp", "tcp6"].into_iter().map(read).flat_map(|table| tcp_ports(&table)).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Without those on loopback, the resolver's among them.
fn tcp_ports(table: &str) -> Vec<u16> {
    let lines = table.lines().skip(1).map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let listening = lines.filter(|fields| fields.get(3) == Some(&TCP_LISTEN));
    listening
        .filter_map(|fields| {
            let (at, port) = fields.get(1)?.rsplit_once(':')?;
            let at = address(at)?;
            u16::from_str_radix(port, 16).ok().filter(|_| !at.is_loopback())
        })
        .collect()
}

/// From a table of `/proc/net`: proc_net(5).
fn listening(table: &str, port: u16, protocol: Protocol) -> Vec<IpAddr> {
    let lines = table.lines().skip(1).map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    match protocol {
        // ` ENDPT SOCK STY SST HBKT LPORT UID INODE LADDRS`
        Protocol::Sctp => lines
            .filter(|fields| fields.get(5).and_then(|p| p.parse().ok()) == Some(port))
            .flat_map(|fields| fields.iter().skip(8).filter_map(|a| a.parse().ok()).collect::<Vec<_>>())
            .collect(),
        _ => lines
            .filter_map(|fields| {
                let (address, local_port) = fields.get(1)?.rsplit_once(':')?;
                let listens = protocol == Protocol::Udp || fields.get(3) == Some(&TCP_LISTEN);
                let fits = listens && u16::from_str_radix(local_port, 16) == Ok(port);
                fits.then(|| self::address(address)).flatten()
            })
            .collect(),
    }
}

/// Words of four bytes each, as this machine has them.
fn address(text: &str) -> Option<IpAddr> {
    let mut bytes = Vec::with_capacity(16);
    for at in (0..text.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let v4 = <[u8; 4]>::try_from(&bytes[..]).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(&bytes[..]).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_server_answers_or_not() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addresses = [server.local_addr().unwrap(), silent.local_addr().unwrap()];
        let thread = std::thread::spawn(move || {
            let mut packet = [0; 512];
            let (length, client) = server.recv_from(&mut packet).unwrap();
            assert_eq!(packet[12..length], *b"\x03www\x07example\x00\x00\x01\x00\x01");
            packet[2] |= 0x80;
            packet[3] = 3;
            server.send_to(&packet[..length], client).unwrap();
        });
        assert_eq!(servers(&addresses, "www.example"), [Some(3), None]);
        thread.join().unwrap();
    }

    #[test]
    fn a_port_answers_or_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(connect(address), Answer::Connected);
        assert_eq!(listeners(address.port(), Protocol::Tcp), [address.ip()]);
        drop(listener);
        assert_eq!(connect(address), Answer::Refused);
        assert_eq!(listeners(address.port(), Protocol::Tcp), Vec::<IpAddr>::new());
    }

    #[test]
    fn addresses_of_the_kernels_tables() {
        let shown = u32::from_ne_bytes([127, 0, 0, 1]);
        let table = format!("sl local rem st\n 0: {shown:08X}:0050 00000000:0000 0A\n 1: {:032X}:0050 0:0 0A\n", 0);
        let found = listening(&table, 80, Protocol::Tcp);
        assert_eq!(found, [IpAddr::from([127, 0, 0, 1]), Ipv6Addr::UNSPECIFIED.into()]);
        assert_eq!(tcp_ports(&table), [80]);
        assert_eq!(listening("x\n0 0 2 10 1 9899 0 1 192.0.2.1 ::1\n", 9899, Protocol::Sctp).len(), 2);
    }
}
