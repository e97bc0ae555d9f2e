//! `--publish`, in all of Docker's forms and words.

use std::net::IpAddr;

use anyhow::Result;

use super::bad;
use crate::container::config::{PortBinding, PortBindings};
use crate::network::Protocol;

/// What several `--publish` come to.
///
/// # Errors
/// Docker's sentences.
pub fn bindings(texts: &[String]) -> Result<PortBindings> {
    let mut all = PortBindings::new();
    for text in texts {
        let short = if text.contains('=') { long_form(text)? } else { text.clone() };
        for (port, binding) in short_form(&short)? {
            let bindings = all.entry(port).or_default();
            // Twice the same would fight over the port.
            if !bindings.contains(&binding) {
                bindings.push(binding);
            }
        }
    }
    Ok(all)
}

/// `published=8080,target=80,protocol=tcp,mode=host`, to the short form.
fn long_form(text: &str) -> Result<String> {
    let (mut published, mut target, mut protocol, mut host) = ("", "", "tcp", String::new());
    for field in text.split(',') {
        let Some((name, value)) = field.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return bad(format!("invalid publish opts format (should be name=value but got '{field}')"));
        };
        match name {
            "published" => published = value,
            "target" => target = value,
            "protocol" => protocol = value,
            "host_ip" if value.contains(':') && !value.starts_with('[') => host = format!("[{value}]:"),
            "host_ip" => host = format!("{value}:"),
            // There is no swarm whose other machines could publish it.
            "mode" if matches!(value, "host" | "ingress") => {}
            "mode" => return bad(format!("invalid publish mode value ({value}): must be either 'ingress' or 'host'")),
            "name" => {}
            _ => return bad(format!("invalid field key {name}")),
        }
    }
    Ok(format!("{host}{published}:{target}/{protocol}"))
}

/// `[[ADDRESS:][HOST]:]CONTAINER[/PROTOCOL]`, HOST and CONTAINER a port or a range.
fn short_form(text: &str) -> Result<Vec<(String, PortBinding)>> {
    let mut parts = text.rsplitn(3, ':');
    let (container, host_ports, address) =
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (container, protocol) = container.split_once('/').unwrap_or((container, "tcp"));
    let Some(protocol) = Protocol::of(if protocol.is_empty() { "tcp" } else { protocol }) else {
        return bad(format!("invalid proto: {protocol}"));
    };
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
        return bad(format!("invalid IP address: {address}"));
    }
    if container.is_empty() {
        return bad(format!("no port specified: {text}<empty>"));
    }
    let Some((first, last)) = range(container).filter(|(first, _)| *first > 0) else {
        return bad(format!("invalid containerPort: {container}"));
    };
    let host = if host_ports.is_empty() {
        None
    } else {
        let Some((host_first, host_last)) = range(host_ports) else {
            return bad(format!("invalid hostPort: {host_ports}"));
        };
        if host_last - host_first != last - first && first != last {
            return bad(format!("invalid ranges specified for container and host Ports: {container} and {host_ports}"));
        }
        Some((host_first, host_last))
    };
    let binding = |port: u16| {
        let host_port = match host {
            None => String::new(),
            // Any of these, for one port.
            Some((host_first, host_last)) if first == last && host_first != host_last => {
                format!("{host_first}-{host_last}")
            }
            Some((host_first, _)) => (host_first + (port - first)).to_string(),
        };
        (format!("{port}/{}", protocol.as_str()), PortBinding { host_ip: bare.to_owned(), host_port })
    };
    Ok((first..=last).map(binding).collect())
}

/// `80` or `8000-8010`.
pub fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(texts: &[&str]) -> String {
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        let all = bindings(&texts).unwrap_or_else(|e| panic!("{texts:?}: {e}"));
        let one = |(port, bindings): (&String, &Vec<PortBinding>)| {
            let hosts: Vec<String> = bindings.iter().map(|b| format!("{}|{}", b.host_ip, b.host_port)).collect();
            format!("{port}={}", hosts.join(","))
        };
        all.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn all_forms() {
        for (text, expected) in [
            ("80", "80/tcp=|"),
            ("8080:80", "80/tcp=|8080"),
            ("8080:80/UDP", "80/udp=|8080"),
            ("127.0.0.1:8080:80/sctp", "80/sctp=127.0.0.1|8080"),
            ("127.0.0.1::80", "80/tcp=127.0.0.1|"),
            ("[::1]:8080:80", "80/tcp=::1|8080"),
            ("::1:8080:80", "80/tcp=::1|8080"),
            ("[::1]::80", "80/tcp=::1|"),
            ("8000-8002:80-82", "80/tcp=|8000 81/tcp=|8001 82/tcp=|8002"),
            ("8000-9000:80", "80/tcp=|8000-9000"),
            ("80-81", "80/tcp=| 81/tcp=|"),
            ("0:80", "80/tcp=|0"),
            ("published=8080,target=80", "80/tcp=|8080"),
            ("target=53,protocol=udp,mode=host,host_ip=::1", "53/udp=::1|"),
        ] {
            assert_eq!(shown(&[text]), expected, "{text}");
        }
        assert_eq!(shown(&["8080:80", "127.0.0.1:81:80", "8080:80"]), "80/tcp=|8080,127.0.0.1|81");
    }

    #[test]
    fn dockers_words() {
        for (text, expected) in [
            ("", "no port specified: <empty>"),
            ("8080:", "no port specified: 8080:<empty>"),
            ("a", "invalid containerPort: a"),
            ("0", "invalid containerPort: 0"),
            ("65536", "invalid containerPort: 65536"),
            ("a:80", "invalid hostPort: a"),
            ("90-80:80", "invalid hostPort: 90-80"),
            ("localhost:80:80", "invalid IP address: localhost"),
            ("80/foo", "invalid proto: foo"),
            ("80-82:80-81", "invalid ranges specified for container and host Ports: 80-81 and 80-82"),
            ("target=80,x", "invalid publish opts format (should be name=value but got 'x')"),
            ("target=80,foo=x", "invalid field key foo"),
            ("target=80,mode=x", "invalid publish mode value (x): must be either 'ingress' or 'host'"),
        ] {
            assert_eq!(bindings(&[text.to_owned()]).unwrap_err().to_string(), expected, "{text}");
        }
    }
}
