//! A machine with networks and containers, and a machine outside.
//!
//! ```text
//! outside 198.51.100.2, 2001:db8::2 ---- up0: host 198.51.100.1, 2001:db8::1
//!   br-a 172.30.1.1, fd30:1::1   a 172.30.1.2, fd30:1::2   neighbour 172.30.1.3, fd30:1::3
//!   br-b 172.30.2.1              b 172.30.2.2              (no masquerade)
//!   br-i 172.30.3.1              inner 172.30.3.2          (internal)
//! ```

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::bed::{Net, PATIENCE, able};
use crate::network::firewall::{All, MemberRules, NetworkRules, Publication, Way, load_all};
use crate::network::space::Space;

#[derive(Debug)]
pub struct Lab {
    pub host: Net,
    pub outside: Net,
    pub a: Net,
    pub neighbour: Net,
    pub b: Net,
    pub inner: Net,
}

impl Lab {
    /// `None`, said aloud, where this machine cannot do it.
    pub fn new() -> Option<Self> {
        if !able(&["ip", "nft"]) {
            return None;
        }
        let lab = Self {
            host: Net::new(),
            outside: Net::new(),
            a: Net::new(),
            neighbour: Net::new(),
            b: Net::new(),
            inner: Net::new(),
        };
        let host = &lab.host;
        host.sysctl("ipv4/ip_forward", "1");
        host.sysctl("ipv6/conf/all/forwarding", "1");
        host.join("up0", &lab.outside, "eth0");
        host.ip("addr add 198.51.100.1/24 dev up0");
        host.ip("addr add 2001:db8::1/64 dev up0 nodad");
        lab.outside.ip("addr add 198.51.100.2/24 dev eth0");
        lab.outside.ip("addr add 2001:db8::2/64 dev eth0 nodad");
        // It knows the way to the containers, and tries it.
        lab.outside.ip("route add 172.30.0.0/16 via 198.51.100.1");
        lab.outside.ip("route add fd30::/16 via 2001:db8::1");
        for (n, bridge) in ["br-a", "br-b", "br-i"].iter().enumerate() {
            host.ip(&format!("link add {bridge} type bridge"));
            host.ip(&format!("link set {bridge} up"));
            host.ip(&format!("addr add 172.30.{}.1/24 dev {bridge}", n + 1));
        }
        host.ip("addr add fd30:1::1/64 dev br-a nodad");
        for (net, member, bridge) in lab.containers() {
            host.join(&member.port, net, "eth0");
            host.ip(&format!("link set {} master {bridge}", member.port));
            // Where bridged packets pass iptables' hooks, what goes back to its sender needs it.
            host.ip(&format!("link set {} type bridge_slave hairpin on", member.port));
            let [_, _, _, _, _, last] = member.mac;
            net.ip(&format!("link set eth0 address 02:00:00:00:00:{last:02x}"));
            let ip = member.ipv4.unwrap();
            net.ip(&format!("addr add {ip}/24 dev eth0"));
            net.ip(&format!("route add default via 172.30.{}.1", ip.octets()[2]));
            if let Some(ip) = member.ipv6 {
                net.ip(&format!("addr add {ip}/64 dev eth0 nodad"));
                net.ip("route add default via fd30:1::1");
            }
        }
        Some(lab)
    }

    fn containers(&self) -> [(&Net, MemberRules, &'static str); 4] {
        let member = |port: &str, last, ipv4: [u8; 4], ipv6: Option<Ipv6Addr>| MemberRules {
            port: port.into(),
            mac: [2, 0, 0, 0, 0, last],
            ipv4: Some(Ipv4Addr::from(ipv4)),
            ipv6,
            loopback: None,
        };
        let v6 = |last| Some(Ipv6Addr::new(0xfd30, 1, 0, 0, 0, 0, 0, last));
        [
            (&self.a, member("pa", 0xa, [172, 30, 1, 2], v6(2)), "br-a"),
            (&self.neighbour, member("pn", 0xb, [172, 30, 1, 3], v6(3)), "br-a"),
            (&self.b, member("pb", 0xc, [172, 30, 2, 2], None), "br-b"),
            (&self.inner, member("pi", 0xd, [172, 30, 3, 2], None), "br-i"),
        ]
    }

    pub fn networks() -> [NetworkRules; 3] {
        let network = |bridge: &str, internal, masquerade| NetworkRules {
            bridge: bridge.into(),
            internal,
            ways: [Way { masquerade, ..Way::default() }; 2],
            trusted: Vec::new(),
        };
        [network("br-a", false, true), network("br-b", false, false), network("br-i", true, true)]
    }

    pub fn members(&self) -> Vec<MemberRules> {
        self.containers().map(|(_, member, _)| member).to_vec()
    }

    /// Does something on the host as root does.
    pub fn here<T: Send>(&self, body: impl FnOnce(&Space) -> T + Send) -> T {
        self.host.inside(|| body(&Space::Here))
    }

    /// Whether packets between two ports of a bridge meet our rules too: module br_netfilter.
    pub fn bridged_packets_pass(&self, pass: bool) {
        let there = || Path::new("/proc/sys/net/bridge").exists();
        if self.host.inside(there) {
            for family in ["ip", "ip6"] {
                self.host.sysctl(&format!("bridge/bridge-nf-call-{family}tables"), if pass { "1" } else { "0" });
            }
        }
    }

    pub fn all(&self, published: &[Publication]) -> All {
        All { networks: Self::networks().to_vec(), members: self.members(), published: published.to_vec() }
    }

    pub fn load(&self, published: &[Publication]) {
        self.here(|space| load_all(space, || Ok(self.all(published)))).unwrap();
    }
}

/// Listens on all addresses and tells each client which address it has.
pub fn serve(net: &Net, port: u16) {
    let listener = net.inside(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))).unwrap();
    thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let _ = write!(stream, "{}", peer.ip().to_canonical());
        }
    });
}

fn connect(net: &Net, to: &str, patience: Duration) -> Option<IpAddr> {
    let to: SocketAddr = to.parse().unwrap();
    net.inside(|| {
        let mut stream = TcpStream::connect_timeout(&to, patience).ok()?;
        stream.set_read_timeout(Some(patience)).unwrap();
        let mut seen = String::new();
        stream.read_to_string(&mut seen).ok()?;
        seen.parse().ok()
    })
}

/// The address that the server at `to` sees.
pub fn seen(net: &Net, to: &str) -> String {
    connect(net, to, PATIENCE).map_or_else(|| format!("no way to {to}"), |ip| ip.to_string())
}

/// Whether there is no way to `to`.
pub fn shut(net: &Net, to: &str) -> bool {
    connect(net, to, Duration::from_millis(200)).is_none()
}
