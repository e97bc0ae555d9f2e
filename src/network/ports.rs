//! Published ports as people read them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::network::{Protocol, Published};

/// What `ps` shows in PORTS, as Docker words and orders it: `80/tcp`, `0.0.0.0:80->80/tcp`. Neighbours
/// are one: `0.0.0.0:8000-8010->80-90/tcp`. `exposed`: `80/tcp` and so on, of which those that are
/// published are not shown twice.
#[must_use]
pub fn shown<'a>(published: &[Published], exposed: impl IntoIterator<Item = &'a str>) -> String {
    let ports: BTreeSet<(u16, String, Option<IpAddr>, u16, &str)> = published
        .iter()
        .map(|p| (p.container_port, p.host.to_string(), Some(p.host), p.host_port, p.protocol.as_str()))
        .collect();
    let is_published = |port: u16, protocol: &str| ports.iter().any(|p| p.0 == port && p.4 == protocol);
    let exposed = exposed.into_iter().filter_map(|text| {
        let (port, protocol) = text.split_once('/')?;
        Some((port.parse().ok()?, protocol))
    });
    let alone = exposed.filter(|(port, protocol)| !is_published(*port, protocol));
    let mut all: Vec<_> = alone.map(|(port, protocol)| (port, String::new(), None, port, protocol)).collect();
    all.extend(ports.iter().cloned());
    all.sort();
    // Docker's order: runs as they end, those that end with the list by where they began, then ports
    // that are others outside, of which Docker makes no runs.
    let (mut ended, mut open, mut moved) = (Vec::new(), Vec::<Run>::new(), Vec::<Run>::new());
    for (port, _, host, host_port, protocol) in all {
        let new = Run { host, host_first: host_port, first: port, last: port, protocol };
        let is_moved = host_port != port;
        let runs = if is_moved { &mut moved } else { &mut open };
        if let Some(run) = runs.iter_mut().find(|run| run.is_followed_by(&new)) {
            run.last = port;
        } else if let Some(run) = runs.iter_mut().find(|run| !is_moved && run.is_like(&new)) {
            ended.push(std::mem::replace(run, new));
        } else {
            runs.push(new);
        }
    }
    ended.iter().chain(&open).chain(&moved).map(Run::shown).collect::<Vec<_>>().join(", ")
}

/// Ports in a row.
struct Run<'a> {
    host: Option<IpAddr>,
    host_first: u16,
    first: u16,
    last: u16,
    protocol: &'a str,
}

impl Run<'_> {
    fn is_like(&self, next: &Self) -> bool {
        self.host == next.host && self.protocol == next.protocol
    }

    fn is_followed_by(&self, next: &Self) -> bool {
        let shift = |run: &Self| i32::from(run.host_first) - i32::from(run.first);
        self.is_like(next) && u32::from(self.last) + 1 == u32::from(next.first) && shift(self) == shift(next)
    }

    fn shown(&self) -> String {
        let range = |first: u16| match self.last - self.first {
            0 => first.to_string(),
            more => format!("{first}-{}", u32::from(first) + u32::from(more)),
        };
        let inside = format!("{}/{}", range(self.first), self.protocol);
        match self.host {
            None => inside,
            Some(IpAddr::V4(host)) => format!("{host}:{}->{inside}", range(self.host_first)),
            Some(IpAddr::V6(host)) => format!("[{host}]:{}->{inside}", range(self.host_first)),
        }
    }
}

/// Whether one of the ports that [`shown`] shows lies in the range, inside or, where it is published,
/// outside. `published`: those that are only exposed do not count.
#[must_use]
pub fn matches(shown: &str, published: bool, ports: &RangeInclusive<u16>, protocol: Protocol) -> bool {
    let lies_in = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { return false };
        first <= *ports.end() && *ports.start() <= last
    };
    shown.split(", ").any(|item| {
        let (outside, inside) = item.split_once("->").map_or((None, item), |(outside, inside)| (Some(outside), inside));
        let Some((inside, of)) = inside.split_once('/') else { return false };
        let outside = outside.and_then(|outside| Some(outside.rsplit_once(':')?.1));
        of == protocol.as_str()
            && (!published || outside.is_some())
            && (lies_in(inside) || (published && outside.is_some_and(lies_in)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(host: &str, host_port: u16, container_port: u16) -> Published {
        Published { host: host.parse().unwrap(), host_port, container_port, protocol: Protocol::Tcp }
    }

    #[test]
    fn ports_are_shown_as_docker_shows_them() {
        let both = |host_port, port| [published("0.0.0.0", host_port, port), published("::", host_port, port)];
        assert_eq!(shown(&both(8080, 80), []), "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp");
        assert_eq!(shown(&both(80, 80), ["80/tcp", "443/tcp"]), "0.0.0.0:80->80/tcp, [::]:80->80/tcp, 443/tcp");
        assert_eq!(shown(&[], ["80/tcp", "81/tcp", "53/udp"]), "53/udp, 80-81/tcp");
        assert_eq!(shown(&[], ["1/tcp", "5/udp", "9/tcp"]), "1/tcp, 9/tcp, 5/udp");
        let range: Vec<Published> = (0..=10).flat_map(|n| both(8000 + n, 80 + n)).collect();
        assert_eq!(shown(&range, []), "0.0.0.0:8000-8010->80-90/tcp, [::]:8000-8010->80-90/tcp");
        let mixed = [published("127.0.0.1", 8080, 80), published("0.0.0.0", 90, 90), published("0.0.0.0", 91, 91)];
        assert_eq!(shown(&mixed, []), "0.0.0.0:90-91->90-91/tcp, 127.0.0.1:8080->80/tcp");
        assert_eq!(shown(&[], []), "");
    }

    #[test]
    fn ports_are_found_in_what_is_shown() {
        let text = "443/tcp, 0.0.0.0:8000-8010->80-90/tcp, [::]:8000-8010->80-90/tcp";
        let tcp = |published, range| matches(text, published, &range, Protocol::Tcp);
        assert!(tcp(true, 8005..=8005) && tcp(true, 7000..=8000) && tcp(true, 85..=85));
        assert!(!tcp(true, 443..=443) && !matches(text, true, &(8005..=8005), Protocol::Udp));
        assert!(tcp(false, 443..=443) && tcp(false, 85..=85) && !tcp(false, 8005..=8005));
        assert!(!matches("", false, &(1..=65535), Protocol::Tcp));
    }
}
