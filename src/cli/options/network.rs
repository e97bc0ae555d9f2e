//! Names and network: host name, hosts, resolvers, and which network there is.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;

use super::{bad, pending};
use crate::container::config::Empty;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkOptions {
    /// none or host; by default a network of its own with loopback alone
    #[arg(long, visible_alias = "net", value_name = "network")]
    network: Vec<String>,
    /// Host name (the short id)
    #[arg(short = 'h', long, value_name = "name")]
    hostname: Option<String>,
    /// NIS domain name
    #[arg(long, value_name = "name")]
    domainname: Option<String>,
    /// A line for /etc/hosts
    #[arg(long, value_name = "name:address", value_parser = host)]
    add_host: Vec<String>,
    /// Name servers
    #[arg(long, value_name = "address", value_parser = address)]
    dns: Vec<String>,
    /// Options for resolv.conf
    #[arg(long, visible_alias = "dns-opt", value_name = "option")]
    dns_option: Vec<String>,
    /// Domains in which names are looked up
    #[arg(long, value_name = "domain", value_parser = domain)]
    dns_search: Vec<String>,
    /// Ports that the container listens on, for others to know (80, 8000-8010/udp)
    #[arg(long, value_name = "port")]
    expose: Vec<String>,
}

/// What came of [`NetworkOptions`].
pub struct Checked {
    /// `none`, `host` or `default`.
    pub mode: String,
    pub hostname: String,
    pub domainname: String,
    pub extra_hosts: Vec<String>,
    pub dns: Vec<String>,
    pub dns_options: Vec<String>,
    pub dns_search: Vec<String>,
    pub exposed_ports: BTreeMap<String, Empty>,
}

impl NetworkOptions {
    /// # Errors
    /// Networks that there are not, wrong ports, a host name that cannot be one.
    pub fn check(self) -> Result<Checked> {
        let mut mode = "default".to_owned();
        for network in &self.network {
            match network.as_str() {
                "" => return bad("no name set for network"),
                "none" | "host" if self.network.len() > 1 => {
                    return bad(
                        "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
                    );
                }
                "none" | "host" | "default" => mode.clone_from(network),
                other => return pending::refused(&format!("--network {other}")),
            }
        }
        if let Some(entry) = self.add_host.iter().find(|entry| entry.ends_with(":host-gateway")) {
            return pending::refused(&format!("--add-host {entry}"));
        }
        let mut exposed_ports = BTreeMap::new();
        for text in &self.expose {
            exposed_ports.extend(ports(text)?.into_iter().map(|port| (port, Empty {})));
        }
        let hostname = self.hostname.unwrap_or_default();
        // sethostname(2) takes 64 bytes; a slash or a space is no name anywhere.
        let has_edge = hostname.starts_with('-') || hostname.ends_with('-');
        if hostname.len() > 64 || has_edge || hostname.contains(|c: char| c.is_whitespace() || c == '/' || c == '\0') {
            return bad(format!("invalid hostname: {hostname:?}"));
        }
        Ok(Checked {
            mode,
            hostname,
            domainname: self.domainname.unwrap_or_default(),
            extra_hosts: self.add_host,
            dns: self.dns,
            dns_options: self.dns_option,
            dns_search: self.dns_search,
            exposed_ports,
        })
    }
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`, an IPv6 address in brackets or without; kept with a colon.
fn host(text: &str) -> Result<String, String> {
    let bad_format = || format!("bad format for add-host: {text:?}");
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(bad_format)?;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(bad_format());
    }
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    if bare != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(format!("{name}:{bare}"))
}

fn address(text: &str) -> Result<String, String> {
    match text.trim().parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(format!("IP address is not correctly formatted: {text}")),
    }
}

/// A domain to search in; `.` for none at all.
fn domain(text: &str) -> Result<String, String> {
    let text = text.trim();
    let name = text.strip_suffix('.').filter(|name| !name.is_empty()).unwrap_or(text);
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if text == "." || (name.len() <= 255 && name.split('.').all(is_label)) {
        return Ok(text.to_owned());
    }
    Err(format!("{text} is not a valid domain"))
}

/// `80`, `80/udp`, `8000-8010`: each port with its protocol.
fn ports(text: &str) -> Result<Vec<String>> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let wrong = |why: &str| bad(format!("invalid range format for --expose: {text}, error: {why}"));
    let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
        return wrong(&format!("strconv.ParseUint: parsing {range:?}: invalid syntax"));
    };
    if last < first {
        return wrong(&format!("invalid port range: {range}"));
    }
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return wrong(&format!("invalid proto: {protocol}"));
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let cases = [
            ("a:1.2.3.4", Ok("a:1.2.3.4")),
            ("a=::1", Ok("a:::1")),
            ("a:[::1]", Ok("a:::1")),
            ("a:::1", Ok("a:::1")),
            ("a:bar", Err("invalid IP address in add-host: \"bar\"")),
            ("foo", Err("bad format for add-host: \"foo\"")),
        ];
        for (text, expected) in cases {
            assert_eq!(host(text).as_deref().map_err(String::as_str), expected, "{text}");
        }
    }

    #[test]
    fn exposed_ports() {
        assert_eq!(ports("80-82/udp").unwrap(), ["80/udp", "81/udp", "82/udp"]);
        assert_eq!(ports("80").unwrap(), ["80/tcp"]);
        assert!(ports("a").unwrap_err().to_string().starts_with("invalid range format for --expose: a, error"));
        assert!(ports("2-1").is_err() && ports("1/foo").is_err());
    }

    #[test]
    fn name_servers() {
        assert_eq!(address("1.1.1.1"), Ok("1.1.1.1".into()));
        assert_eq!(address("foo"), Err("IP address is not correctly formatted: foo".into()));
        assert_eq!(domain("."), Ok(".".into()));
        assert!(domain("a b").is_err() && domain("x..y").is_err());
    }
}
