//! `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname` as the container sees them, written into its
//! directory at each start.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::container::config::{ContainerConfig, HostConfig, Ids};
use crate::container::image_files;
use crate::container::spec::{hostname, timezone};
use crate::error::Failure;
use crate::network::dns;
use crate::store::Store;

/// Most bytes of a hosts file that is edited: its owner is the container.
const LARGEST: u64 = 1 << 20;

/// What the container's network is, as far as these files tell it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The container's own, of all its networks; none: its loopback is all that it has.
    pub addresses: Vec<IpAddr>,
    /// Where the host is found: `host-gateway`, `host.docker.internal`, `host.containers.internal`.
    pub gateway: Option<IpAddr>,
    /// `--link`: names, with a space between them, and the address.
    pub links: Vec<(String, IpAddr)>,
    /// The monitor answers on [`dns::ADDRESS`].
    pub resolver: bool,
}

/// What the container's resolv.conf leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leads {
    /// The host's network is the container's.
    Host,
    /// The monitor.
    Monitor,
    /// The host's servers, as far as they are in reach.
    Servers,
}

/// Writes the three files; returns each with the place where it is mounted. A container in another
/// one's network has the other one's.
///
/// # Errors
/// A file cannot be written; the other container is not there; `host-gateway` is asked for where the
/// host cannot be reached.
pub fn write(store: &Store, container: &ContainerConfig, names: &Names) -> Result<Vec<(PathBuf, &'static str)>> {
    const PLACES: [(&str, &str); 3] =
        [("hosts", "/etc/hosts"), ("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname")];
    let host = &container.host_config;
    if let Some(other) = host.network_mode.strip_prefix("container:") {
        let directory = store.container(&other.parse()?);
        if !directory.join("hosts").exists() {
            return Err(Failure::new(format!("No such container: {other}")).into());
        }
        return Ok(PLACES.map(|(name, place)| (directory.join(name), place)).into());
    }
    let directory = store.container(&container.id);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let own = |base: &str| own_base(store, container, base);
    let (leads, base) = match host.network_mode.as_str() {
        "host" => (Leads::Host, own(&(read("/etc/hosts").trim_end().to_owned() + "\n"))?),
        _ if names.resolver => (Leads::Monitor, own(HOSTS)?),
        _ => (Leads::Servers, own(HOSTS)?),
    };
    let texts = [
        base + &own_lines(container, names)?.concat(),
        resolv_conf(host, &read("/etc/resolv.conf"), leads),
        format!("{}\n", hostname(container)),
    ];
    let is_wanted = |name: &str| match name {
        "hosts" => !host.extras.no_hosts,
        "hostname" => !host.extras.no_hostname,
        _ => true,
    };
    let wanted = PLACES.into_iter().zip(texts).filter(|((name, _), _)| is_wanted(name));
    wanted.map(|((name, place), text)| Ok((put(&directory, name, text.as_bytes(), host)?, place))).collect()
}

/// What the container's hosts file begins with, as `--hosts-file` has it.
fn own_base(store: &Store, container: &ContainerConfig, usual: &str) -> Result<String> {
    let bytes = match container.host_config.extras.hosts_file.as_str() {
        "" => return Ok(usual.to_owned()),
        "none" => Vec::new(),
        "image" => {
            image_files::read(store, container.root.directories(), Path::new("/etc/hosts"), LARGEST).unwrap_or_default()
        }
        path => fs::read(path).with_context(|| format!("--hosts-file {path:?}"))?,
    };
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    if !text.lines().any(|line| line.split_ascii_whitespace().skip(1).any(|name| name == "localhost")) {
        text.insert_str(0, LOCALHOST);
    }
    Ok(text)
}

/// Writes the rules of the container's time zone; returns the file.
///
/// # Errors
/// Nobody knows the zone.
pub fn timezone(store: &Store, container: &ContainerConfig) -> Result<PathBuf> {
    let host = &container.host_config;
    let rules = timezone::rules(store, container, &host.extras.timezone)?;
    put(&store.container(&container.id), "localtime", &rules, host)
}

/// The container joined or left a network while it runs: its hosts file loses the lines that are there
/// for `before` and is given those for `after`. What the container wrote there itself stays.
///
/// # Errors
/// The file cannot be read or written, or is larger than a hosts file can be.
pub fn rewrite_hosts(store: &Store, container: &ContainerConfig, before: &Names, after: &Names) -> Result<()> {
    if container.host_config.extras.no_hosts {
        return Ok(());
    }
    let path = store.container(&container.id).join("hosts");
    let edit = || -> Result<()> {
        let mut file = File::options().read(true).write(true).open(&path)?;
        let mut bytes = Vec::new();
        (&file).take(LARGEST + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LARGEST {
            bail!("the container made it larger than {LARGEST} bytes");
        }
        let text =
            edited(&String::from_utf8_lossy(&bytes), &own_lines(container, before)?, &own_lines(container, after)?);
        // Never empty in between: who reads it now sees the old text, the new one, or the seam of both.
        file.rewind()?;
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)?;
        Ok(())
    };
    edit().with_context(|| format!("edit {path:?}"))
}

/// The container is on networks from now on, and was not when it was started: its resolv.conf leads to
/// the monitor. One that is not as it was written then is somebody's own, and stays.
///
/// # Errors
/// The file cannot be written.
pub fn lead_to_monitor(store: &Store, container: &ContainerConfig) -> Result<()> {
    let directory = store.container(&container.id);
    let host = &container.host_config;
    let servers = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let written = resolv_conf(host, &servers, Leads::Servers);
    // No more than would be the same: the container may have made it as long as it likes.
    let mut now = Vec::new();
    let file = File::open(directory.join("resolv.conf")).context("open the container's resolv.conf")?;
    file.take(written.len() as u64 + 1).read_to_end(&mut now).context("read the container's resolv.conf")?;
    if now != written.as_bytes() {
        return Ok(());
    }
    let text = resolv_conf(host, &servers, Leads::Monitor);
    put(&directory, "resolv.conf", text.as_bytes(), host).map(drop)
}

/// In place, not by a rename: a running container's bind mount shows this very file.
fn put(directory: &Path, name: &str, text: &[u8], host: &HostConfig) -> Result<PathBuf> {
    let path = directory.join(name);
    fs::write(&path, text).with_context(|| format!("write {path:?}"))?;
    // Readable whatever umask ctr was called with, and by every user of the container.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(&path, mode).with_context(|| format!("set the mode of {path:?}"))?;
    if let Some((uid, gid)) = host.ids.as_ref().map(Ids::root) {
        chown(&path, Some(uid), Some(gid)).with_context(|| format!("give {path:?} to the container's root"))?;
    }
    Ok(path)
}

/// Whose absence from a hosts file surprises every program.
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost\n";

/// What every hosts file begins with, but the one of the host's network. Docker's.
const HOSTS: &str = "127.0.0.1\tlocalhost\n\
                     ::1\tlocalhost ip6-localhost ip6-loopback\n\
                     fe00::\tip6-localnet\n\
                     ff00::\tip6-mcastprefix\n\
                     ff02::1\tip6-allnodes\n\
                     ff02::2\tip6-allrouters\n";

/// The lines that are this container's: what the user asked for first, because the first line counts.
fn own_lines(container: &ContainerConfig, names: &Names) -> Result<Vec<String>> {
    let shares_network = container.host_config.network_mode == "host";
    // The host's loopback is the container's.
    let gateway = names.gateway.or(shares_network.then_some(Ipv4Addr::LOCALHOST.into()));
    let mut lines = Vec::new();
    let mut taken = Vec::new();
    for entry in &container.host_config.extra_hosts {
        // `name:address` or `name=address`; an IPv6 address has colons of its own.
        let Some((name, address)) = entry.split_once(['=', ':']) else { continue };
        let address = match (address, gateway) {
            ("host-gateway", Some(gateway)) => gateway.to_string(),
            ("host-gateway", None) => {
                return Err(Failure::new("unable to derive the IP value for host-gateway")
                    .hint("the container has no network that leads to the host")
                    .into());
            }
            (address, _) => address.trim_matches(['[', ']']).to_owned(),
        };
        lines.push(format!("{address}\t{name}\n"));
        taken.push(name);
    }
    for (names, address) in &names.links {
        lines.push(format!("{address}\t{names}\n"));
    }
    if let Some(gateway) = gateway {
        let free = dns::HOST.into_iter().filter(|name| !taken.iter().any(|taken| taken.eq_ignore_ascii_case(name)));
        let free: Vec<&str> = free.collect();
        if !free.is_empty() {
            lines.push(format!("{gateway}\t{}\n", free.join(" ")));
        }
    }
    if shares_network {
        return Ok(lines);
    }
    let name = match (hostname(container), container.config.domainname.as_str()) {
        // Docker: a name with dots is found by its first part too.
        (name, "") => match name.split_once('.') {
            Some((first, _)) if !first.is_empty() => format!("{name} {first}"),
            _ => name.to_owned(),
        },
        (name, domain) => format!("{name}.{domain} {name}"),
    };
    // Without an address of its own the container is to be found on its loopback.
    let loopback = [Ipv4Addr::LOCALHOST.into()];
    let addresses = if names.addresses.is_empty() { &loopback[..] } else { &names.addresses };
    lines.extend(addresses.iter().map(|address| format!("{address}\t{name}\n")));
    Ok(lines)
}

fn edited(text: &str, before: &[String], after: &[String]) -> String {
    let mut text: String = text.split_inclusive('\n').filter(|line| !before.iter().any(|b| b == line)).collect();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text + &after.concat()
}

/// The host's, with what was asked for in its place. Name servers on the host's loopback are out
/// of reach unless the network is shared, or the monitor asks them.
fn resolv_conf(host: &HostConfig, text: &str, leads: Leads) -> String {
    let values = |keys: &'static [&'static str]| {
        text.lines().filter_map(move |line| {
            let (key, rest) = line.trim().split_once([' ', '\t'])?;
            keys.contains(&key).then(|| rest.trim().to_owned())
        })
    };
    let is_loopback = |s: &String| s.starts_with("127.") || s == "::1";
    let (servers, source) = match &host.dns[..] {
        [] => (values(&["nameserver"]).collect(), "the host's /etc/resolv.conf"),
        given => (given.to_vec(), "--dns"),
    };
    let search = match &host.dns_search[..] {
        // One of them counts, the last: resolv.conf(5).
        [] => values(&["search", "domain"]).next_back(),
        // `--dns-search .`: none at all.
        [only] if only == "." => None,
        domains => Some(domains.join(" ")),
    };
    let mut options = match &host.dns_options[..] {
        [] => values(&["options"]).next_back().unwrap_or_default(),
        options => options.join(" "),
    };
    let mut text = String::new();
    if leads == Leads::Monitor {
        // The monitor finds containers by names without a dot: they are asked for as they are first.
        if !options.split_ascii_whitespace().any(|option| option.starts_with("ndots:")) {
            options.push_str(if options.is_empty() { "ndots:0" } else { " ndots:0" });
        }
        let now = if servers.is_empty() { "none now".to_owned() } else { servers.join(", ") };
        let _ = writeln!(
            text,
            "# Names of containers are answered by ctr; all others by the servers of {source} ({now})\n\
             nameserver {}",
            dns::ADDRESS
        );
    } else {
        let is_in_reach = |s: &&String| leads == Leads::Host || !host.dns.is_empty() || !is_loopback(s);
        for server in servers.iter().filter(is_in_reach) {
            let _ = writeln!(text, "nameserver {server}");
        }
    }
    for (key, value) in [("search", search), ("options", Some(options).filter(|options| !options.is_empty()))] {
        if let Some(value) = value {
            let _ = writeln!(text, "{key} {value}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::config::{Config, RootFs};
    use crate::store::Id;

    const HOST: &str =
        "# made by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch example.org\noptions edns0\n";

    fn container(id: &Id, host_config: HostConfig) -> ContainerConfig {
        ContainerConfig {
            id: id.clone(),
            created: jiff::Timestamp::UNIX_EPOCH,
            root: RootFs::Directory { path: "/".into() },
            config: Config { hostname: "web".into(), domainname: "example.org".into(), ..Config::default() },
            host_config,
            endpoints: Vec::new(),
            secrets: Vec::new(),
        }
    }

    fn names(addresses: &[&str]) -> Names {
        Names {
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            gateway: Some([10, 1, 0, 1].into()),
            links: vec![("db postgres".into(), [172, 17, 0, 4].into())],
            resolver: true,
        }
    }

    #[test]
    fn a_private_network_cannot_reach_the_hosts_loopback() {
        let text = resolv_conf(&HostConfig::default(), HOST, Leads::Servers);
        assert_eq!(text, "nameserver 192.0.2.1\nsearch example.org\noptions edns0\n");
        assert!(resolv_conf(&HostConfig::default(), HOST, Leads::Host).starts_with("nameserver 127.0.0.53\n"));
    }

    #[test]
    fn what_is_asked_for_takes_the_place_of_the_hosts() {
        let host = HostConfig {
            dns: vec!["192.0.2.9".into()],
            dns_search: vec![".".into()],
            dns_options: vec!["ndots:2".into(), "rotate".into()],
            ..HostConfig::default()
        };
        assert_eq!(resolv_conf(&host, HOST, Leads::Servers), "nameserver 192.0.2.9\noptions ndots:2 rotate\n");
        assert_eq!(
            resolv_conf(&host, HOST, Leads::Monitor),
            "# Names of containers are answered by ctr; all others by the servers of --dns (192.0.2.9)\n\
             nameserver 127.0.0.11\noptions ndots:2 rotate\n"
        );
    }

    #[test]
    fn on_a_network_the_monitor_answers() {
        assert_eq!(
            resolv_conf(&HostConfig::default(), "nameserver 127.0.0.53\ndomain a.example\n", Leads::Monitor),
            "# Names of containers are answered by ctr; all others by the servers of the host's /etc/resolv.conf \
             (127.0.0.53)\nnameserver 127.0.0.11\nsearch a.example\noptions ndots:0\n"
        );
        let options = resolv_conf(&HostConfig::default(), HOST, Leads::Monitor);
        assert!(options.ends_with("options edns0 ndots:0\n"), "{options}");
    }

    #[test]
    fn a_hosts_file_has_what_was_asked_for_first() {
        let id = Id::random().unwrap();
        let extra = ["a:host-gateway", "b:::1", "Host.Docker.Internal:192.0.2.3"].map(str::to_owned).to_vec();
        let host = HostConfig { extra_hosts: extra, ..HostConfig::default() };
        let lines = own_lines(&container(&id, host.clone()), &names(&["10.1.0.2", "fd00::2"])).unwrap();
        assert_eq!(
            lines.concat(),
            "10.1.0.1\ta\n::1\tb\n192.0.2.3\tHost.Docker.Internal\n172.17.0.4\tdb postgres\n\
             10.1.0.1\thost.containers.internal\n10.1.0.2\tweb.example.org web\nfd00::2\tweb.example.org web\n"
        );
        // No network: there is no way to the host, and no address but the loopback's.
        let refused = own_lines(&container(&id, host), &Names::default()).unwrap_err();
        assert_eq!(refused.to_string(), "unable to derive the IP value for host-gateway");
        let lines = own_lines(&container(&id, HostConfig::default()), &Names::default()).unwrap();
        assert_eq!(lines, ["127.0.0.1\tweb.example.org web\n"]);
    }

    #[test]
    fn a_running_container_keeps_what_it_wrote_itself() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::at(home.path().to_owned(), home.path().join("run"));
        let id = Id::random().unwrap();
        fs::create_dir_all(store.container(&id)).unwrap();
        let container = container(&id, HostConfig::default());
        let (before, after) = (names(&["10.1.0.2", "10.2.0.2"]), names(&["10.2.0.2", "10.3.0.2"]));
        let files = write(&store, &container, &before).unwrap();
        assert_eq!(
            files.iter().map(|(_, place)| *place).collect::<Vec<_>>(),
            ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"]
        );
        let path = &files[0].0;
        let inode = |path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let made = inode(path);
        fs::write(path, fs::read_to_string(path).unwrap() + "192.0.2.1\tmine").unwrap();
        rewrite_hosts(&store, &container, &before, &after).unwrap();
        let text = fs::read_to_string(path).unwrap();
        let expected = format!("{HOSTS}192.0.2.1\tmine\n{}", own_lines(&container, &after).unwrap().concat());
        assert_eq!((text, inode(path)), (expected, made));
        rewrite_hosts(&store, &container, &after, &Names::default()).unwrap();
        assert!(fs::read_to_string(path).unwrap().ends_with("mine\n127.0.0.1\tweb.example.org web\n"));
        fs::write(path, vec![b'#'; 2 << 20]).unwrap();
        assert!(rewrite_hosts(&store, &container, &after, &before).is_err());
    }

    #[test]
    fn in_anothers_network_the_files_are_the_others() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::at(home.path().to_owned(), home.path().join("run"));
        let (id, other) = (Id::random().unwrap(), Id::random().unwrap());
        let host = HostConfig { network_mode: format!("container:{other}"), ..HostConfig::default() };
        let container = container(&id, host);
        let missing = write(&store, &container, &Names::default()).unwrap_err();
        assert_eq!(missing.to_string(), format!("No such container: {other}"));
        fs::create_dir_all(store.container(&other)).unwrap();
        fs::write(store.container(&other).join("hosts"), "").unwrap();
        let files = write(&store, &container, &Names::default()).unwrap();
        assert_eq!(files[1], (store.container(&other).join("resolv.conf"), "/etc/resolv.conf"));
    }
}
