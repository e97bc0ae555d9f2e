//! Who is asked what ctr does not know itself: resolv.conf(5) of the host, read anew when it has
//! changed (a VPN goes up or down), or what `--dns` says.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::network::dns::names::is_past;

pub const PORT: u16 = 53;

/// As glibc's `MAXNS`.
const MOST: usize = 3;

/// The client that waits for us does so for 5 s as a rule (glibc's and musl's timeout). By then each
/// server has had its chance, or the client has been told that nobody can help.
const PATIENCE: Duration = Duration::from_millis(4500);
/// What a question is given at most before the next server is asked.
const TIMEOUT: Duration = Duration::from_secs(2);

/// So long a server that said nothing is asked after the others; then one question tries it again.
const SILENT: Duration = Duration::from_secs(60);

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
    /// What all are given together.
    pub patience: Duration,
    /// How often the list is gone through.
    pub attempts: usize,
    /// Every question begins with another server.
    pub rotate: bool,
}

impl Servers {
    /// `options`: words of resolv.conf's `options`, later ones winning.
    pub fn new<'a>(addresses: Vec<SocketAddr>, options: impl IntoIterator<Item = &'a str>) -> Self {
        let reserve = addresses.len();
        let share = PATIENCE / u32::try_from(reserve.max(1)).unwrap_or(u32::MAX);
        let timeout = if reserve > 1 { share.min(TIMEOUT) } else { share };
        let mut servers = Self { addresses, reserve, timeout, patience: PATIENCE, attempts: 2, rotate: false };
        for option in options {
            match option.split_once(':') {
                // The bounds of resolv.conf(5).
                Some(("timeout", seconds)) => {
                    if let Ok(seconds) = seconds.parse::<u64>() {
                        servers.timeout = Duration::from_secs(seconds.clamp(1, 30));
                        // The client has been told the same.
                        servers.patience = servers.timeout.max(PATIENCE);
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

    /// In which order a question asks them, and whether each is of the reserve. `turn` differs from
    /// question to question. Those that said nothing lately come last in their part of the list:
    /// [`Silence::rank`].
    pub fn order(&self, turn: usize, mut rank: impl FnMut(SocketAddr) -> Rank) -> Vec<(SocketAddr, bool)> {
        let (usual, reserve) = self.addresses.split_at(self.reserve.min(self.addresses.len()));
        let first = if self.rotate { turn % usual.len().max(1) } else { 0 };
        let usual = usual[first..].iter().chain(&usual[..first]).map(|server| (*server, false));
        let all = usual.chain(reserve.iter().map(|server| (*server, true)));
        let mut all: Vec<_> = all.map(|(server, reserve)| (server, reserve, rank(server))).collect();
        all.sort_by_key(|(_, reserve, rank)| (*reserve, *rank));
        all.into_iter().map(|(server, reserve, _)| (server, reserve)).collect()
    }
}

/// Whether a server is silent, and if so when it was not: of silent ones the last to fall silent is the
/// likeliest to answer.
pub type Rank = (bool, Reverse<Option<Instant>>);

/// Which servers did not answer lately.
#[derive(Debug, Default)]
pub struct Silence(HashMap<SocketAddr, Word>);

/// What is known of a server.
#[derive(Debug, Default)]
struct Word {
    /// When it said something.
    heard: Option<Instant>,
    /// Until then it is not asked first.
    until: Option<Instant>,
}

impl Silence {
    /// Servers are asked by this, the least first. When a silent one's time is over, the one who asks this
    /// is the one who tries it again; for all others it stays silent until that one is answered.
    pub fn rank(&mut self, server: SocketAddr, now: Instant) -> Rank {
        let Some(word) = self.0.get_mut(&server) else { return Rank::default() };
        match word.until {
            None => Rank::default(),
            Some(until) if now < until => (true, Reverse(word.heard)),
            Some(_) => {
                word.until = Some(now + SILENT);
                Rank::default()
            }
        }
    }

    /// It answered, whatever it was.
    pub fn heard(&mut self, server: SocketAddr, now: Instant) {
        self.0.insert(server, Word { heard: Some(now), until: None });
    }

    /// A question of the time `asked` was not answered. One that answered others since is only slow
    /// with that one.
    pub fn unheard(&mut self, server: SocketAddr, asked: Instant, now: Instant) {
        let word = self.0.entry(server).or_default();
        if word.heard.is_none_or(|heard| heard < asked) {
            word.until = Some(now + SILENT);
        }
    }

    pub fn forget(&mut self) {
        self.0 = HashMap::new();
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
        let order = |servers: &Servers, turn| {
            servers.order(turn, |_| Rank::default()).into_iter().map(|(s, _)| s).collect::<Vec<_>>()
        };
        let [one, two] = [servers.addresses[0], servers.addresses[1]];
        assert_eq!(order(&servers, 1), [one, two]);
        assert_eq!(servers.order(0, |server| (server == one, Reverse(None))), [(two, false), (one, false)]);
        assert_eq!(order(&Servers { rotate: true, ..servers }, 1), [two, one]);
        assert_eq!(order(&Servers::new(Vec::new(), []), 0), []);
    }

    #[test]
    fn all_have_had_their_chance_before_the_client_gives_up() {
        for count in 1..6u8 {
            let addresses: Vec<SocketAddr> = (0..count).map(|n| ([192, 0, 2, n], PORT).into()).collect();
            let servers = Servers::new(addresses, []);
            assert!(servers.timeout * u32::from(count) <= servers.patience, "{count}");
            assert!(servers.patience < Duration::from_secs(5));
        }
    }

    #[test]
    fn silence_is_remembered_for_a_while() {
        let (server, other) = (SocketAddr::from(([192, 0, 2, 1], PORT)), SocketAddr::from(([192, 0, 2, 2], PORT)));
        let mut silence = Silence::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let is_silent = |silence: &mut Silence, seconds| silence.rank(server, at(seconds)).0;
        assert!(!is_silent(&mut silence, 0));
        silence.unheard(server, at(0), at(2));
        assert!(is_silent(&mut silence, 3) && is_silent(&mut silence, 61));
        // One tries it again, the others do not wait for that.
        assert!(!is_silent(&mut silence, 63) && is_silent(&mut silence, 63));
        silence.heard(server, at(64));
        assert!(!is_silent(&mut silence, 65));
        // Asked before it was heard, and not answered: that name's matter.
        silence.unheard(server, at(63), at(66));
        assert!(!is_silent(&mut silence, 66));
        silence.unheard(server, at(65), at(67));
        silence.unheard(other, at(65), at(67));
        assert!(is_silent(&mut silence, 67));
        assert!(silence.rank(server, at(67)) < silence.rank(other, at(67)), "the one that ever spoke");
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
        // Silent or not, the stub is asked first: what it refuses, the others must not be asked.
        let order = servers.order(0, |server| (is_stub(&server), Reverse(None)));
        assert_eq!(order, [(servers.addresses[0], false), (servers.addresses[1], true)]);
    }
}
