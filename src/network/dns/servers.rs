//! Who is asked what ctr does not know itself: resolv.conf(5) of the host, read anew when it has
//! changed (a VPN goes up or down), or what `--dns` says.

use std::fs::{self, Metadata};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::network::dns::names::is_past;

pub const PORT: u16 = 53;

/// As glibc's `MAXNS`.
const MOST: usize = 3;

/// What a question is given before the next server is asked. The client that waits for us does so for
/// 5 s as a rule: within that another server must have had its chance.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The same where there is no other: glibc's.
const ALONE: Duration = Duration::from_secs(5);

/// Where systemd-resolved says what it would ask itself; its stub is one of [`STUBS`].
const BEHIND_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
const STUBS: [&str; 2] = ["127.0.0.53", "127.0.0.54"];

/// A list of servers and how they are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    /// In this order.
    pub addresses: Vec<SocketAddr>,
    /// From here on only where those before give no answer at all: what stands behind
    /// systemd-resolved must not be asked because it refuses (DNSSEC, a name that belongs to a VPN).
    pub reserve: usize,
    /// What each is given.
    pub timeout: Duration,
    /// How often the list is gone through.
    pub attempts: usize,
    /// Every question begins with another server.
    pub rotate: bool,
}

impl Servers {
    /// `options`: words of resolv.conf's `options`, later ones winning.
    pub fn new<'a>(addresses: Vec<SocketAddr>, options: impl IntoIterator<Item = &'a str>) -> Self {
        let reserve = addresses.len();
        let timeout = if reserve > 1 { TIMEOUT } else { ALONE };
        let mut servers = Self { addresses, reserve, timeout, attempts: 2, rotate: false };
        for option in options {
            match option.split_once(':') {
                // The bounds of resolv.conf(5).
                Some(("timeout", seconds)) => {
                    if let Ok(seconds) = seconds.parse::<u64>() {
                        servers.timeout = Duration::from_secs(seconds.clamp(1, 30));
                    }
                }
                Some(("attempts", count)) => {
                    if let Ok(count) = count.parse::<usize>() {
                        servers.attempts = count.clamp(1, 5);
                    }
                }
                None if option == "rotate" => servers.rotate = true,
                _ => {}
            }
        }
        servers
    }

    /// How a question goes on its `step`th try, from 0; `None`: it has been everywhere. `turn` differs
    /// from question to question.
    pub fn step(&self, turn: usize, step: usize) -> Option<SocketAddr> {
        let count = self.addresses.len();
        if count == 0 || step >= count * self.attempts {
            return None;
        }
        let place = step % count;
        let place = if self.rotate && place < self.reserve { (place + turn) % self.reserve } else { place };
        Some(self.addresses[place])
    }

    /// A server of the reserve is at this step.
    pub fn is_reserve(&self, step: usize) -> bool {
        step % self.addresses.len().max(1) >= self.reserve
    }
}

/// The host's resolv.conf, kept as long as it stays as it is.
#[derive(Debug)]
pub struct Host {
    path: PathBuf,
    behind: PathBuf,
    seen: Option<Seen>,
    servers: Arc<Servers>,
}

/// Which file it was: device, inode, size, mtime, ctime.
type Seen = [i64; 7];

impl Host {
    pub fn new() -> Self {
        Self::at("/etc/resolv.conf".into(), BEHIND_RESOLVED.into())
    }

    pub(super) fn at(path: PathBuf, behind: PathBuf) -> Self {
        Self { path, behind, seen: None, servers: Arc::new(Servers::new(Vec::new(), [])) }
    }

    /// The servers as of now; `further`: options that win over the file's. One stat(2) when nothing
    /// has changed.
    pub fn servers(&mut self, further: &[String]) -> Arc<Servers> {
        let now = SystemTime::now();
        let meta = fs::metadata(&self.path).ok();
        let seen = meta.as_ref().map(seen);
        if seen != self.seen || seen.is_none() {
            // Without a file there is no server; glibc would ask this machine itself.
            let text = fs::read_to_string(&self.path).unwrap_or_else(|_| "nameserver 127.0.0.1\n".to_owned());
            let mut servers = parse(&text, further);
            if servers.addresses.iter().all(is_stub) && !servers.addresses.is_empty() {
                let behind = fs::read_to_string(&self.behind).unwrap_or_default();
                servers.addresses.extend(parse(&behind, &[]).addresses.into_iter().filter(|a| !is_stub(a)));
            }
            self.servers = Arc::new(servers);
            self.seen = seen.filter(|_| meta.is_some_and(|meta| is_past((meta.mtime(), meta.mtime_nsec()), now)));
        }
        self.servers.clone()
    }

    /// What was kept is read anew at the next question.
    pub fn forget(&mut self) {
        self.seen = None;
    }
}

fn seen(meta: &Metadata) -> Seen {
    let of = |n: u64| n.cast_signed();
    [of(meta.dev()), of(meta.ino()), of(meta.size()), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()]
}

fn is_stub(address: &SocketAddr) -> bool {
    STUBS.contains(&address.ip().to_string().as_str())
}

fn parse(text: &str, further: &[String]) -> Servers {
    let words = |key: &'static str| {
        text.lines().filter_map(move |line| {
            let mut words = line.split_ascii_whitespace();
            (words.next()? == key).then_some(words)
        })
    };
    let addresses = words("nameserver").filter_map(|mut words| address(words.next()?)).take(MOST).collect();
    let options = words("options").flatten().chain(further.iter().map(String::as_str));
    Servers::new(addresses, options)
}

/// An address as resolv.conf has it: IPv6 with `%` and the interface where it is link-local.
fn address(text: &str) -> Option<SocketAddr> {
    let Some((address, zone)) = text.split_once('%') else {
        return text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, PORT));
    };
    let zone = zone.parse().or_else(|_| nix::net::if_::if_nametoindex(zone)).ok()?;
    Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, zone).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(servers: &Servers) -> Vec<String> {
        servers.addresses.iter().map(|a| a.ip().to_string()).collect()
    }

    #[test]
    fn the_file_is_understood_as_the_c_library_does() {
        let text = "# nameserver 9.9.9.9\n nameserver 192.0.2.1 # x\nnameserver\t2001:db8::1\nnameserver nonsense\n\
                    options timeout:7 edns0\noptions attempts:9 rotate\nnameserver fe80::1%lo\nnameserver 192.0.2.4\n";
        let servers = parse(text, &["timeout:1".to_owned()]);
        assert_eq!(addresses(&servers), ["192.0.2.1", "2001:db8::1", "fe80::1"]);
        assert!(matches!(servers.addresses[2], SocketAddr::V6(a) if a.scope_id() == 1));
        assert_eq!((servers.timeout, servers.attempts, servers.rotate), (Duration::from_secs(1), 5, true));
        assert_eq!(parse("", &[]), Servers::new(Vec::new(), []));
    }

    #[test]
    fn every_server_has_its_turn() {
        let servers = parse("nameserver 192.0.2.1\nnameserver 192.0.2.2\n", &[]);
        let order = |servers: &Servers, turn| (0..9).map_while(|n| servers.step(turn, n)).collect::<Vec<_>>();
        let [one, two] = [servers.addresses[0], servers.addresses[1]];
        assert_eq!(order(&servers, 1), [one, two, one, two]);
        assert_eq!(order(&Servers { rotate: true, ..servers }, 1), [two, one, two, one]);
        assert_eq!(order(&Servers::new(Vec::new(), []), 0), []);
    }

    #[test]
    fn a_change_is_noticed() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        let mut host = Host::at(path("resolv.conf"), path("behind"));
        assert_eq!(addresses(&host.servers(&[])), ["127.0.0.1"]);
        fs::write(path("resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
        assert_eq!(addresses(&host.servers(&[])), ["192.0.2.1"]);
        // As NetworkManager does it, and what a program behind it may do.
        fs::write(path("new"), "nameserver 192.0.2.2\n").unwrap();
        fs::rename(path("new"), path("resolv.conf")).unwrap();
        assert_eq!(addresses(&host.servers(&[])), ["192.0.2.2"]);
        fs::write(path("resolv.conf"), "").unwrap();
        assert!(host.servers(&[]).addresses.is_empty());
    }

    #[test]
    fn behind_resolved_stand_its_own_servers() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        fs::write(path("resolv.conf"), "nameserver 127.0.0.53\n").unwrap();
        fs::write(path("behind"), "nameserver 192.0.2.7\n").unwrap();
        let mut host = Host::at(path("resolv.conf"), path("behind"));
        let servers = host.servers(&[]);
        assert_eq!((addresses(&servers), servers.reserve), (vec!["127.0.0.53".into(), "192.0.2.7".into()], 1));
        assert_eq!([0, 1, 2, 3].map(|step| servers.is_reserve(step)), [false, true, false, true]);
    }
}
