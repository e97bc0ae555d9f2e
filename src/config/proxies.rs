//! Proxies from the environment, as Go's programs and so Docker understand it (net/http,
//! `ProxyFromEnvironment`): `HTTP_PROXY` for `http`, `HTTPS_PROXY` for `https`, `ALL_PROXY` for both, in
//! either case of letters; `NO_PROXY` for what is reached directly.

use std::net::IpAddr;

use super::{in_network, is_loopback};

/// The proxy for a host, as the variable has it; `None`: it is reached directly. `scheme`: `http` or
/// `https`.
#[must_use]
pub fn choose(scheme: &str, host: &str, port: u16) -> Option<String> {
    choose_from(|name| std::env::var(name).ok(), scheme, host, port)
}

fn choose_from(get: impl Fn(&str) -> Option<String>, scheme: &str, host: &str, port: u16) -> Option<String> {
    let set = |name: &str| get(name).filter(|value| !value.is_empty());
    let either = |name: &str| set(name).or_else(|| set(&name.to_ascii_lowercase()));
    let proxy = either(if scheme == "https" { "HTTPS_PROXY" } else { "HTTP_PROXY" }).or_else(|| either("ALL_PROXY"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let is_direct = is_loopback(&host)
        || either("NO_PROXY").is_some_and(|list| list.split(',').any(|entry| names(entry.trim(), &host, port)));
    if is_direct {
        return None;
    }
    // A bare `host:port` is a proxy that speaks HTTP.
    Some(if proxy.contains("://") { proxy } else { format!("http://{proxy}") })
}

/// Whether an entry of `NO_PROXY` names a host: `*`, `example.com` (and what is below), `.example.com`
/// (what is below alone), an address, a network, each with a port perhaps.
fn names(entry: &str, host: &str, port: u16) -> bool {
    let entry = entry.to_ascii_lowercase();
    if entry.is_empty() || entry == "*" {
        return entry == "*";
    }
    let (name, wanted) = match entry.rsplit_once(':') {
        // An IPv6 address has colons of its own.
        Some((name, digits)) if entry.parse::<IpAddr>().is_err() && !entry.contains('/') => match digits.parse() {
            Ok(port) => (name.to_owned(), Some(port)),
            Err(_) => (entry.clone(), None),
        },
        _ => (entry.clone(), None),
    };
    if wanted.is_some_and(|wanted: u16| wanted != port) {
        return false;
    }
    let name = name.trim_start_matches('[').trim_end_matches(']');
    if in_network(host, name) || host == name {
        return true;
    }
    let name = name.strip_prefix('*').unwrap_or(name);
    match name.strip_prefix('.') {
        Some(_) => host.ends_with(name),
        None => host.strip_suffix(name).is_some_and(|below| below.ends_with('.')) && name.parse::<IpAddr>().is_err(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reached_directly_is_named_as_go_names_it() {
        for (entry, host, port, is) in [
            ("*", "x.io", 443, true),
            ("x.io", "x.io", 443, true),
            ("x.io", "a.x.io", 443, true),
            ("x.io", "ax.io", 443, false),
            (".x.io", "a.x.io", 443, true),
            (".x.io", "x.io", 443, false),
            ("*.x.io", "a.x.io", 443, true),
            ("X.io:5000", "x.io", 5000, true),
            ("x.io:5000", "x.io", 443, false),
            ("10.0.0.0/8", "10.9.9.9", 80, true),
            ("fd00::1", "fd00::1", 80, true),
            ("[fd00::1]:80", "fd00::1", 80, true),
            ("[fd00::1]:81", "fd00::1", 80, false),
            ("", "x.io", 443, false),
        ] {
            assert_eq!(names(entry, host, port), is, "{entry} {host}:{port}");
        }
    }

    #[test]
    fn the_variable_is_of_the_scheme() {
        let environment = |name: &str| match name {
            "https_proxy" => Some("p:3128".to_owned()),
            "HTTPS_PROXY" => Some(String::new()),
            "HTTP_PROXY" => Some("http://q:80".to_owned()),
            "NO_PROXY" => Some("a.io, b.io".to_owned()),
            _ => None,
        };
        let choose = |scheme, host| choose_from(environment, scheme, host, 443);
        assert_eq!(choose("https", "x.io").as_deref(), Some("http://p:3128"));
        assert_eq!(choose("http", "x.io").as_deref(), Some("http://q:80"));
        assert_eq!(choose("https", "b.io"), None);
        assert_eq!(choose("https", "127.0.0.1"), None);
        assert_eq!(
            choose_from(|name| (name == "all_proxy").then(|| "socks5://s".to_owned()), "http", "x", 1).as_deref(),
            Some("socks5://s")
        );
        assert_eq!(choose_from(|_| None, "https", "x.io", 443), None);
    }
}
