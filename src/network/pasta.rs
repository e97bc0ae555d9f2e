//! The program `pasta` as a container's way outside (`--network pasta`), for those who want that and
//! not ctr's own uplink. It runs beside the container, in the monitor's place among the namespaces,
//! and ends with the container or the monitor.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;

use crate::error::Failure;
use crate::network::link;
use crate::network::netlink::Socket;
use crate::network::{Protocol, Published};
use crate::sys::{netns, process};

/// What it is given to make the container's interface.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where it is looked for when nobody says where programs are.
const PATHS: &str = "/usr/local/bin:/usr/bin:/bin";

/// The program at work. Dropped, it is ended.
#[derive(Debug)]
pub struct Pasta {
    child: Child,
}

impl Drop for Pasta {
    fn drop(&mut self) {
        // It has ended by itself, or another of the monitor's waits reaped it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connects the network namespace of `pid`, and comes back when its interface is up. Called by the
/// monitor's first thread: the program dies with it.
///
/// `published`: their host ports are bound by pasta itself, so nobody may have them when this is
/// called, not even the caller that chose them. `options`: what stands behind `pasta:`, words of
/// pasta's command line, joined by commas. `place`: a directory where the namespace is mounted meanwhile,
/// in the caller's own mount namespace: pasta gives up what it would need to look into another process.
///
/// # Errors
/// There is no such program, or what it says.
pub fn start(pid: Pid, published: &[Published], options: &str, place: &Path) -> Result<Pasta> {
    let program = find()?;
    let errors = memfd_create(c"pasta", MFdFlags::MFD_CLOEXEC).context("make a file for what pasta says")?;
    let errors = File::from(errors);
    let mut command = Command::new(&program);
    command.args(["--foreground", "--quiet", "--config-net"]).args(arguments(published, options)?);
    let namespace = Mounted::at(pid, place)?;
    // By itself it would end with the path.
    command.args(["--no-netns-quit", "--netns-only", "--netns"]).arg(&namespace.0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors.try_clone()?);
    process::die_with_parent(&mut command);
    let child = command.spawn().with_context(|| format!("execute {program:?}"))?;
    let mut pasta = Pasta { child };
    pasta.wait_for_interface(pid).map_err(|e| match said(errors) {
        text if text.is_empty() => e,
        text => Failure::new("connect the container by pasta").source(text).into(),
    })?;
    Ok(pasta)
}

/// A network namespace with a path. Dropped, it has none.
struct Mounted(PathBuf);

impl Mounted {
    fn at(pid: Pid, place: &Path) -> Result<Self> {
        let path = place.join("netns");
        File::create(&path).with_context(|| format!("make {path:?}"))?;
        let mounted = Self(path);
        let namespace = PathBuf::from(format!("/proc/{pid}/ns/net"));
        mount(Some(&namespace), &mounted.0, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("mount {namespace:?}"))?;
        Ok(mounted)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.0);
    }
}

impl Pasta {
    /// It says nothing when it is ready; ports are bound before it makes the interface.
    fn wait_for_interface(&mut self, pid: Pid) -> Result<()> {
        let namespace = File::open(format!("/proc/{pid}/ns/net")).context("open the container's network namespace")?;
        let mut socket = netns::inside(namespace.as_fd(), Socket::route)
            .and_then(|socket| socket)
            .context("look into the container's network namespace")?;
        let begin = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = self.child.try_wait().context("wait for pasta")? {
                bail!("pasta ended at once: {status}");
            }
            let links = link::list(&mut socket)?;
            if links.iter().any(|link| link.up && link.name != "lo")
                && link::route::tables(&mut socket)?.iter().any(|route| route.destination.prefix_len() == 0)
            {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                bail!("pasta made no interface within {} seconds", PATIENCE.as_secs());
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

/// The program in `PATH`.
fn find() -> Result<PathBuf> {
    let paths = env::var_os("PATH").filter(|paths| !paths.is_empty()).unwrap_or_else(|| PATHS.into());
    let is_program =
        |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    env::split_paths(&paths).map(|dir| dir.join("pasta")).find(is_program).ok_or_else(|| {
        Failure::new("there is no program \"pasta\"")
            .source(std::io::Error::from(ErrorKind::NotFound))
            .hint("install it (the package is called passt), or leave --network out: the default network needs no program")
            .into()
    })
}

/// What it wrote, without what does not matter.
fn said(mut errors: File) -> String {
    let mut text = String::new();
    // Nobody but pasta itself could have made it unreadable.
    let _ = errors.rewind().and_then(|()| errors.read_to_string(&mut text));
    let noise = |line: &&str| line.contains("to syslog") || line.starts_with("No external routable interface");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !noise(line)).collect();
    lines.join("; ")
}

/// The user's words, and ours where the user has none: nothing of the host's loopback is reached,
/// nothing but the published ports is forwarded.
fn arguments(published: &[Published], options: &str) -> Result<Vec<OsString>> {
    let mut words: Vec<String> = options.split(',').filter(|word| !word.is_empty()).map(ToOwned::to_owned).collect();
    let has = |words: &[String], short: &str, long: &str| {
        words.iter().any(|word| {
            word.strip_prefix(long).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
                || (word.starts_with(short) && !word.starts_with("--"))
        })
    };
    if published.iter().any(|port| port.protocol == Protocol::Sctp) {
        return Err(Failure::new("pasta publishes no sctp ports").hint("use one of ctr's networks").into());
    }
    // Podman's word for leaving out what stands here otherwise.
    let wanted = words.iter().position(|word| word == "--map-gw");
    match wanted {
        Some(at) => drop(words.remove(at)),
        None if words.iter().any(|word| word == "--no-map-gw") => {}
        None => words.push("--no-map-gw".to_owned()),
    }
    for (protocol, short, long) in [(Protocol::Tcp, "-t", "--tcp-ports"), (Protocol::Udp, "-u", "--udp-ports")] {
        let ports = specifications(published, protocol);
        if ports.is_empty() && !has(&words, short, long) {
            words.extend([short.to_owned(), "none".to_owned()]);
        }
        words.extend(ports.into_iter().flat_map(|ports| [short.to_owned(), ports]));
    }
    for (short, long) in [("-T", "--tcp-ns"), ("-U", "--udp-ns")] {
        if !has(&words, short, long) {
            words.extend([short.to_owned(), "none".to_owned()]);
        }
    }
    Ok(words.into_iter().map(OsString::from).collect())
}

/// `ADDRESS/8000-8010:80-90` for each row of neighbours, without the address where it is any.
fn specifications(published: &[Published], protocol: Protocol) -> Vec<String> {
    let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let mut ports: Vec<&Published> = published.iter().filter(|port| port.protocol == protocol).collect();
    let twin = |port: &Published, host: IpAddr| published.contains(&Published { host, ..*port });
    // Both families at once, where both are wanted.
    let both = |port: &Published| any.iter().all(|host| twin(port, *host)) && any.contains(&port.host);
    ports.retain(|port| !(both(port) && port.host.is_ipv6()));
    ports.sort();
    let mut rows: Vec<(&Published, u16, bool)> = Vec::new();
    for port in ports {
        let both = both(port);
        match rows.last_mut() {
            Some((first, count, of_both))
                if first.host == port.host
                    && *of_both == both
                    && first.host_port.checked_add(*count) == Some(port.host_port)
                    && first.container_port.checked_add(*count) == Some(port.container_port) =>
            {
                *count += 1;
            }
            _ => rows.push((port, 1, both)),
        }
    }
    let range = |first: u16, count: u16| match count {
        1 => first.to_string(),
        _ => format!("{first}-{}", first + (count - 1)),
    };
    rows.into_iter()
        .map(|(first, count, both)| {
            let address = if both { String::new() } else { format!("{}/", first.host) };
            format!("{address}{}:{}", range(first.host_port, count), range(first.container_port, count))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(host: &str, host_port: u16, container_port: u16, protocol: Protocol) -> Published {
        Published { host: host.parse().unwrap(), host_port, container_port, protocol }
    }

    fn words(published: &[Published], options: &str) -> String {
        let words = arguments(published, options).unwrap();
        words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn nothing_is_forwarded_unasked() {
        assert_eq!(words(&[], ""), "--no-map-gw -t none -u none -T none -U none");
        assert_eq!(words(&[], "--map-gw,-T,22"), "-T 22 -t none -u none -U none");
        assert_eq!(
            words(&[], "--tcp-ports=auto,--mtu,1500"),
            "--tcp-ports=auto --mtu 1500 --no-map-gw -u none -T none -U none"
        );
    }

    #[test]
    fn published_ports_are_few_words() {
        let mut ports: Vec<Published> = (0..1000)
            .flat_map(|n| ["0.0.0.0", "::"].map(|host| published(host, 20_000 + n, 8000 + n, Protocol::Tcp)))
            .collect();
        ports.push(published("127.0.0.1", 53, 53, Protocol::Udp));
        ports.push(published("::1", 80, 8080, Protocol::Tcp));
        let tcp = specifications(&ports, Protocol::Tcp);
        assert_eq!(tcp, ["20000-20999:8000-8999", "::1/80:8080"]);
        assert_eq!(specifications(&ports, Protocol::Udp), ["127.0.0.1/53:53"]);
        // One family alone.
        assert_eq!(specifications(&ports[..1], Protocol::Tcp), ["0.0.0.0/20000:8000"]);
        let sctp = arguments(&[published("0.0.0.0", 1, 1, Protocol::Sctp)], "").unwrap_err();
        assert_eq!(sctp.to_string(), "pasta publishes no sctp ports");
    }
}
